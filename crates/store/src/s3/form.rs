//! Uploads by HTML forms: the fields, the policy that allows them, and the file at their end.
//!
//! Invariant: every field that is used was allowed by the signed policy, and the fields before the file are bounded.
//! Source: Amazon S3 API Reference, "POST Object", "POST policy".

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dh_policy::access::Decision;
use http::{HeaderName, HeaderValue, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;

use super::call::{Call, Slash, encode};
use super::fault::Fault;
use super::intake::Expected;
use super::job::{Access, Front, Job};
use super::payload::{Payload, Wrapping};
use super::put;
use super::reply::{Answer, parse_time};
use super::route::Op;
use super::sign::{form_signature_v2, sign_v4, signing_key};
use super::sse;
use super::visitor::{Visitor, verify_form};
use super::xml::Xml;
use super::{Strangers, acl, events, intake};
use crate::digest::unbase64;
use crate::{ChecksumKind, Condition};

/// All fields before the file, and what is around them.
const FIELDS_BYTES_MAX: usize = 64 << 10;

/// A field's name.
type Fields = Vec<(String, String)>;

/// Whether a request is a form.
pub(super) fn is_form(call: &Call) -> bool {
    call.method == http::Method::POST
        && call.bucket.is_some()
        && call.key.is_none()
        && call
            .header("content-type")
            .is_some_and(|value| value.to_ascii_lowercase().starts_with("multipart/form-data"))
}

fn malformed() -> Fault {
    Fault::new("MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.")
}

/// A form that is read: the fields, then the file piece by piece.
struct Reader {
    payload: Payload,
    buffer: BytesMut,
    /// What ends a part: a line break, two dashes, the boundary.
    end: Vec<u8>,
    done: bool,
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The value of a parameter of a header, as in `name="field"`.
fn parameter<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    header.split(';').map(str::trim).find_map(|part| {
        let (have, value) = part.split_once('=')?;
        have.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

impl Reader {
    /// Reads on until `what` is in the buffer; returns where it begins.
    async fn until(&mut self, what: &[u8]) -> Result<usize, Fault> {
        loop {
            if let Some(at) = find(&self.buffer, what) {
                return Ok(at);
            }
            if self.buffer.len() > FIELDS_BYTES_MAX {
                return Err(Fault::new(
                    "MaxPostPreDataLengthExceeded",
                    "Your POST request fields preceding the upload file were too large.",
                ));
            }
            let piece = self.payload.next().await?.ok_or_else(malformed)?;
            self.buffer.extend_from_slice(&piece);
        }
    }

    /// The fields up to the file; the file's bytes are next.
    async fn fields(&mut self) -> Result<(Fields, Option<String>), Fault> {
        let mut fields = Fields::new();
        let mut total = 0;
        // The first boundary has no line break before it.
        let first = self.end.get(2..).unwrap_or_default().to_vec();
        let at = self.until(&first).await?;
        let _preamble = self.buffer.split_to(at + first.len());
        loop {
            let at = self.until(b"\r\n").await?;
            let line = self.buffer.split_to(at + 2);
            if line.starts_with(b"--") {
                return Err(Fault::argument("POST requires exactly one file upload per request."));
            }
            let at = self.until(b"\r\n\r\n").await?;
            let head = self.buffer.split_to(at + 4);
            let head = std::str::from_utf8(&head).map_err(|_error| malformed())?;
            let (mut name, mut filename, mut kind) = (None, None, None);
            for line in head.split("\r\n") {
                let Some((header, value)) = line.split_once(':') else { continue };
                if header.trim().eq_ignore_ascii_case("content-disposition") {
                    name = parameter(value, "name").map(ToOwned::to_owned);
                    filename = parameter(value, "filename").map(ToOwned::to_owned);
                } else if header.trim().eq_ignore_ascii_case("content-type") {
                    kind = Some(value.trim().to_owned());
                }
            }
            let name = name.ok_or_else(malformed)?;
            if name.eq_ignore_ascii_case("file") {
                if let Some(filename) = filename {
                    for (_name, value) in &mut fields {
                        *value = value.replace("${filename}", &filename);
                    }
                }
                return Ok((fields, kind));
            }
            let end = self.end.clone();
            let at = self.until(&end).await?;
            let value = self.buffer.split_to(at);
            total += value.len() + name.len();
            if total > FIELDS_BYTES_MAX {
                return Err(Fault::new(
                    "MaxPostPreDataLengthExceeded",
                    "Your POST request fields preceding the upload file were too large.",
                ));
            }
            let value = String::from_utf8(value.to_vec()).map_err(|_error| malformed())?;
            let _boundary = self.buffer.split_to(end.len());
            fields.push((name, value));
        }
    }

    /// The next piece of the file; `None` behind its end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        while !self.done {
            if let Some(at) = find(&self.buffer, &self.end) {
                self.done = true;
                let last = self.buffer.split_to(at).freeze();
                // What follows the file is read and forgotten.
                while self.payload.next().await?.is_some() {}
                return Ok(Some(last).filter(|last| !last.is_empty()));
            }
            // All but what might be the beginning of the end.
            let safe = self.buffer.len().saturating_sub(self.end.len());
            if safe > 0 {
                return Ok(Some(self.buffer.split_to(safe).freeze()));
            }
            let piece = self.payload.next().await?.ok_or_else(malformed)?;
            self.buffer.extend_from_slice(&piece);
        }
        Ok(None)
    }
}

fn field<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    fields.iter().find(|(have, _value)| have.eq_ignore_ascii_case(name)).map(|(_name, value)| value.as_str())
}

/// The bytes that the policy allows for the file.
struct Sizes {
    least: u64,
    most: u64,
}

/// Checks fields against the policy; returns the sizes that it allows.
fn check_policy(policy: &[u8], fields: &Fields, bucket: &str, now_ms: u64) -> Result<Sizes, Fault> {
    let wrong = |what: &str| Fault::new("InvalidPolicyDocument", format!("Invalid Policy: {what}"));
    let denied = |what: &str| Fault::new("AccessDenied", format!("Invalid according to Policy: {what}"));
    let value: Value = serde_json::from_slice(policy).map_err(|_error| wrong("Invalid JSON."))?;
    let expiration =
        value.get("expiration").and_then(Value::as_str).ok_or_else(|| wrong("Policy missing expiration."))?;
    let end = parse_time(expiration).ok_or_else(|| wrong("Invalid 'expiration' value"))?;
    if end < now_ms {
        return Err(denied("Policy expired."));
    }
    let conditions =
        value.get("conditions").and_then(Value::as_array).ok_or_else(|| wrong("Policy missing conditions."))?;
    if conditions.is_empty() {
        return Err(wrong("Policy missing conditions."));
    }
    let mut sizes = Sizes { least: 0, most: u64::MAX };
    let mut covered: Vec<String> = Vec::new();
    let have = |name: &str| if name == "bucket" { Some(bucket) } else { field(fields, name) };
    for condition in conditions {
        match condition {
            Value::Object(map) => {
                if map.len() != 1 {
                    return Err(wrong(
                        "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.",
                    ));
                }
                for (name, want) in map {
                    let want =
                        want.as_str().ok_or_else(|| wrong("Invalid Simple-Condition: value must be a string"))?;
                    let name = name.to_ascii_lowercase();
                    if have(&name) != Some(want) {
                        return Err(denied(&format!("Policy Condition failed: [\"eq\", \"${name}\", \"{want}\"]")));
                    }
                    covered.push(name);
                }
            }
            Value::Array(list) => match list.as_slice() {
                [Value::String(operator), least, most] if operator.eq_ignore_ascii_case("content-length-range") => {
                    let number = |value: &Value| match value {
                        Value::Number(number) => number.as_i64(),
                        Value::String(text) => text.parse().ok(),
                        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
                    };
                    let (least, most) = (number(least), number(most));
                    let (Some(least), Some(most)) = (least, most) else {
                        return Err(wrong("content-length-range needs two numbers"));
                    };
                    let size = |value: i64| {
                        u64::try_from(value).map_err(|_negative| wrong("content-length-range needs positive numbers"))
                    };
                    sizes = Sizes { least: size(least)?, most: size(most)? };
                }
                [Value::String(operator), Value::String(name), Value::String(want)] => {
                    let name = name.strip_prefix('$').unwrap_or(name).to_ascii_lowercase();
                    let value = have(&name).unwrap_or_default();
                    let holds = match operator.to_ascii_lowercase().as_str() {
                        "eq" => value == want,
                        "starts-with" => value.starts_with(want.as_str()),
                        _other => return Err(wrong("Invalid condition operator")),
                    };
                    if !holds {
                        return Err(denied(&format!(
                            "Policy Condition failed: [\"{operator}\", \"${name}\", \"{want}\"]"
                        )));
                    }
                    covered.push(name);
                }
                _other => return Err(wrong("Invalid condition")),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(wrong("Invalid condition"));
            }
        }
    }
    for (name, _value) in fields {
        let name = name.to_ascii_lowercase();
        let free = ["awsaccesskeyid", "signature", "x-amz-signature", "policy", "file"].contains(&name.as_str())
            || name.starts_with("x-ignore-")
            || name.starts_with("x-amz-checksum-");
        if !free && !covered.contains(&name) {
            return Err(denied(&format!("Extra input fields: {name}")));
        }
    }
    Ok(sizes)
}

/// Who signed the form.
fn signer(front: &Front, fields: &Fields, now_ms: u64) -> Result<Visitor, Fault> {
    let need = |name: &'static str| {
        field(fields, name).ok_or_else(|| Fault::argument(format!("Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields.")))
    };
    let token = field(fields, "x-amz-security-token");
    let policy = field(fields, "policy").unwrap_or_default();
    if field(fields, "x-amz-algorithm").is_some() {
        let (credential, signature) = (need("x-amz-credential")?, need("x-amz-signature")?);
        let (key, scope) = credential.split_once('/').ok_or_else(|| Fault::argument("the credential is mal-formed"))?;
        return verify_form(&front.accounts, front.auth.as_ref(), key, token, now_ms, |secret| {
            super::sign::same(&sign_v4(&signing_key(secret, scope), policy), signature)
        });
    }
    let (key, signature) = (need("AWSAccessKeyId")?, need("signature")?);
    verify_form(&front.accounts, front.auth.as_ref(), key, token, now_ms, |secret| {
        form_signature_v2(secret, policy, signature)
    })
}

pub(super) async fn serve(front: Arc<Front>, mut call: Call, body: Incoming) -> Answer {
    front.store.0.counters.request(Op::PostForm.name());
    let boundary = call.header("content-type").and_then(|value| parameter(value, "boundary")).ok_or_else(malformed)?;
    if boundary.is_empty() || boundary.len() > 200 {
        return Err(malformed());
    }
    let end = format!("\r\n--{boundary}").into_bytes();
    let length = call.header("content-length").and_then(|text| text.parse().ok());
    let payload = Payload::new(body, Wrapping::Plain, None, length);
    let mut reader = Reader { payload, buffer: BytesMut::new(), end, done: false };
    let (fields, file_type) = reader.fields().await?;
    let bucket = front.bucket(call.bucket()?).await?;
    let named = call.bucket()?.to_owned();
    let has_signature =
        ["policy", "signature", "x-amz-signature", "awsaccesskeyid"].iter().any(|name| field(&fields, name).is_some());
    let (visitor, sizes) = if has_signature {
        let policy = field(&fields, "policy")
            .ok_or_else(|| Fault::argument("Bucket POST must contain a field named 'policy'."))?;
        let visitor = signer(&front, &fields, call.now_ms)?;
        let decoded = unbase64(policy).ok_or_else(|| Fault::new("InvalidPolicyDocument", "the policy is no base64"))?;
        (visitor, check_policy(&decoded, &fields, &named, call.now_ms)?)
    } else if front.options.strangers == Strangers::Refused {
        return Err(Fault::denied());
    } else {
        (Visitor::anonymous(), Sizes { least: 0, most: u64::MAX })
    };
    let key = field(&fields, "key").filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| {
        Fault::argument(
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
        )
    })?;
    call.key = Some(key.to_owned());
    // What fields say is what headers say in other requests.
    call.headers.remove("content-type");
    for (name, value) in &fields {
        let lower = name.to_ascii_lowercase();
        let name = match lower.as_str() {
            "acl" => "x-amz-acl",
            "tagging" => "x-amz-tagging",
            name => name,
        };
        let taken = name.starts_with("x-amz-")
            || ["cache-control", "content-type", "content-disposition", "content-encoding", "expires"].contains(&name);
        if !taken || ["x-amz-signature", "x-amz-credential", "x-amz-date", "x-amz-algorithm"].contains(&name) {
            continue;
        }
        let value = if name == "x-amz-tagging" { form_tags(value)? } else { value.clone() };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            call.headers.insert(name, value);
        }
    }
    if !call.headers.contains_key("content-type")
        && let Some(Ok(kind)) = file_type.map(HeaderValue::try_from)
    {
        call.headers.insert("content-type", kind);
    }
    let Reader { payload, buffer, end, done } = reader;
    let job = Job { front, call, visitor, bucket: Some(bucket), payload, op: Op::PostForm, object: None };
    let access = Access {
        action: Op::PostForm.action(),
        grantable: Op::PostForm.grantable(),
        bucket: job.bucket.as_deref(),
        key: job.call.key.as_deref(),
        object: None,
    };
    if job.decide(access, &job.context(None)) != Decision::Allow {
        return Err(Fault::denied());
    }
    store(job, FormBody { buffer, end, done, sizes }, &fields).await
}

struct FormBody {
    buffer: BytesMut,
    end: Vec<u8>,
    done: bool,
    sizes: Sizes,
}

/// A form's tags are a document; headers write them as a query.
fn form_tags(text: &str) -> Result<String, Fault> {
    let tags = super::documents::tags(&super::xml::Node::root(text.as_bytes(), "Tagging")?)?;
    super::object_docs::check_tags(&tags, 10)?;
    let pairs =
        tags.iter().map(|(name, value)| format!("{}={}", encode(name, Slash::Encoded), encode(value, Slash::Encoded)));
    Ok(pairs.collect::<Vec<_>>().join("&"))
}

async fn store(mut job: Job, form: FormBody, fields: &Fields) -> Answer {
    let expected = Expected::new(&job.call)?;
    let mut meta = put::meta(&job)?;
    if let Some(name) = field(fields, "acl") {
        let bucket = job.bucket()?;
        let owner = meta.owner.clone().unwrap_or_else(|| bucket.owner.clone());
        let list = acl::from_name(name, &owner, &bucket.owner)?;
        acl::check(bucket, &list)?;
    }
    let sealing = sse::start(&job, sse::wish(&job.call, job.bucket()?)?)?;
    meta.sse.clone_from(&sealing.sse);
    let writer = job.store().body_with(expected.named().unwrap_or(ChecksumKind::Crc64Nvme));
    let mut writer = intake::sealed_with(writer, sealing.cipher);
    let FormBody { buffer, end, done, sizes } = form;
    let payload = job.payload;
    let mut reader = Reader { payload, buffer, end, done };
    let mut size = 0_u64;
    while let Some(piece) = reader.piece().await? {
        size += piece.len() as u64;
        if size > sizes.most {
            return Err(Fault::new("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"));
        }
        writer.write(piece).await?;
    }
    if size < sizes.least {
        return Err(Fault::new("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"));
    }
    let sealed = writer.finish().await?;
    expected.check(&sealed, &reader.payload)?;
    job.payload = reader.payload;
    let (bucket, key) = (job.call.bucket()?.to_owned(), job.call.key()?.to_owned());
    let info = job.store().put_sealed(&bucket, &key, sealed, meta, Condition::Always).await?;
    job.object = Some(info.clone());
    let place = format!("/{bucket}/{}", encode(&key, Slash::Kept));
    let mut reply = put::written(&job, &info).with("location", &place);
    let redirect = field(fields, "success_action_redirect").or_else(|| field(fields, "redirect"));
    if let Some(target) = redirect.and_then(|target| target.parse::<http::Uri>().ok()) {
        let joint = if target.query().is_some() { '&' } else { '?' };
        let etag = encode(&format!("\"{}\"", info.etag), Slash::Encoded);
        let target = format!(
            "{target}{joint}bucket={}&key={}&etag={etag}",
            encode(&bucket, Slash::Encoded),
            encode(&key, Slash::Kept)
        );
        reply.set("location", target);
        let response = reply.status(StatusCode::SEE_OTHER).empty();
        events::notify(&job, &response);
        return Ok(response);
    }
    let response = match field(fields, "success_action_status") {
        Some("200") => reply.empty(),
        Some("201") => reply.status(StatusCode::CREATED).xml({
            let mut xml = Xml::document();
            xml.element("PostResponse", |xml| {
                xml.leaf("Location", &place);
                xml.leaf("Bucket", &bucket);
                xml.leaf("Key", &key);
                xml.leaf("ETag", format!("\"{}\"", info.etag));
            });
            xml.finish()
        }),
        Some(_) | None => reply.status(StatusCode::NO_CONTENT).empty(),
    };
    events::notify(&job, &response);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_allows_what_it_names_and_nothing_else() {
        let policy = br#"{"expiration":"2030-01-01T00:00:00Z","conditions":[{"bucket":"b"},["starts-with","$key","a/"],["content-length-range",1,10]]}"#;
        let fields = |list: &[(&str, &str)]| {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Fields>()
        };
        let check = |list: &[(&str, &str)], bucket: &str| {
            check_policy(policy, &fields(list), bucket, 0)
                .map(|sizes| (sizes.least, sizes.most))
                .map_err(|fault| fault.code)
        };
        assert_eq!(check(&[("Key", "a/x")], "b"), Ok((1, 10)));
        assert_eq!(check(&[("key", "b/x")], "b"), Err("AccessDenied"));
        assert_eq!(check(&[("key", "a/x")], "c"), Err("AccessDenied"));
        assert_eq!(check(&[("key", "a/x"), ("acl", "public-read")], "b"), Err("AccessDenied"));
        assert_eq!(check(&[("key", "a/x"), ("x-ignore-this", "1")], "b"), Ok((1, 10)));
        assert_eq!(
            check_policy(policy, &fields(&[("key", "a/x")]), "b", u64::MAX)
                .map(|_sizes| ())
                .map_err(|fault| fault.code),
            Err("AccessDenied")
        );
        assert_eq!(
            check_policy(b"{}", &Fields::new(), "b", 0).map(|_sizes| ()).map_err(|fault| fault.code),
            Err("InvalidPolicyDocument")
        );
    }

    #[test]
    fn parameters_of_headers_are_found() {
        assert_eq!(parameter(" form-data; name=\"key\"; filename=\"a b\"", "filename"), Some("a b"));
        assert_eq!(parameter("multipart/form-data; boundary=xyz", "boundary"), Some("xyz"));
        assert_eq!(parameter("form-data", "name"), None);
    }
}
