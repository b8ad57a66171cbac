//! Encryption of objects as requests ask for it: by the store's keys, a key service's, or the client's own.
//!
//! Source: Amazon S3 User Guide, "Protecting data with server-side encryption".

use std::sync::Arc;

use super::bucket::{Bucket, document};
use super::call::Call;
use super::fault::Fault;
use super::job::Job;
use super::reply::Reply;
use super::xml::Node;
use crate::crypto::{Cipher, KEY_BYTES, KeyRing, KeyService as _, new_object_key, unwrap, wrap};
use crate::digest::{base64, md5, unbase64};
use crate::{ObjectInfo, Sse};

/// Where the client's own key stands: of the object that a request is about, or of the source of a copy.
pub(super) const CUSTOMER: &str = "x-amz-server-side-encryption-customer";
pub(super) const COPY_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer";

const HEADER: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";

/// The scheme of a client's own key in rows.
const SSE_C: &str = "SSE-C";

/// A client's key.
pub(super) struct CustomerKey {
    key: Vec<u8>,
    md5: String,
}

/// How a new object is to be encrypted.
pub(super) enum Wish {
    No,
    Customer(CustomerKey),
    Managed,
    Service { scheme: String, key_id: String, context: String },
}

/// What a new object is encrypted with, and what its row says of that.
#[derive(Default)]
pub(super) struct Sealing {
    pub(super) sse: Option<Sse>,
    pub(super) cipher: Option<Arc<Cipher>>,
}

/// The client's key of a request, if it sends one.
fn customer(call: &Call, prefix: &str) -> Result<Option<CustomerKey>, Fault> {
    let part = |name: &str| call.header(&format!("{prefix}-{name}"));
    let (algorithm, key, said) = (part("algorithm"), part("key"), part("key-md5"));
    let Some(algorithm) = algorithm else {
        return match (key, said) {
            (None, None) => Ok(None),
            (Some(_) | None, Some(_) | None) => Err(Fault::argument(
                "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.",
            )),
        };
    };
    if algorithm != "AES256" {
        return Err(Fault::new(
            "InvalidEncryptionAlgorithmError",
            "The encryption request you specified is not valid. Supported value: AES256.",
        ));
    }
    let key = key.ok_or_else(|| Fault::argument("Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key."))?;
    let said = said.ok_or_else(|| Fault::argument("Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key."))?;
    let key = unbase64(key).filter(|key| key.len() == KEY_BYTES);
    let key = key.ok_or_else(|| Fault::argument("The secret key was invalid for the specified algorithm."))?;
    let computed = base64(&md5(&key));
    if computed != said {
        return Err(Fault::argument("The calculated MD5 hash of the key did not match the hash that was provided."));
    }
    Ok(Some(CustomerKey { key, md5: computed }))
}

/// Whether a request names an encryption.
pub(super) fn is_named(call: &Call) -> bool {
    call.header(HEADER).is_some() || call.header(&format!("{CUSTOMER}-algorithm")).is_some()
}

/// Algorithm and key of a bucket's default.
fn default(bucket: &Bucket) -> Result<Option<(String, Option<String>)>, Fault> {
    let Some(bytes) = bucket.document(document::ENCRYPTION) else { return Ok(None) };
    let root = Node::parse(bytes)?;
    let rule = root.child("Rule").and_then(|rule| rule.child("ApplyServerSideEncryptionByDefault"));
    Ok(rule.map(|rule| {
        (rule.get("SSEAlgorithm").unwrap_or_default().to_owned(), rule.get("KMSMasterKeyID").map(ToOwned::to_owned))
    }))
}

/// Refuses configurations that the store could not follow.
pub(super) fn check_configuration(root: &Node) -> Result<(), Fault> {
    let mut rules = root.all("Rule");
    let (Some(rule), None) = (rules.next(), rules.next()) else {
        return Err(Fault::malformed("an encryption configuration has one rule"));
    };
    let Some(default) = rule.child("ApplyServerSideEncryptionByDefault") else { return Ok(()) };
    match default.need("SSEAlgorithm")? {
        "AES256" if default.get("KMSMasterKeyID").is_some() => {
            Err(Fault::argument("a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms"))
        }
        "AES256" | "aws:kms" | "aws:kms:dsse" => Ok(()),
        _other => Err(Fault::malformed("`SSEAlgorithm` is AES256 or aws:kms")),
    }
}

/// What a request that makes an object wants.
pub(super) fn wish(call: &Call, bucket: &Bucket) -> Result<Wish, Fault> {
    let own = customer(call, CUSTOMER)?;
    let key_id = call.header(KMS_KEY).map(ToOwned::to_owned);
    let service = |scheme: &str, key_id: Option<String>| {
        let key_id = key_id.filter(|key| !key.is_empty()).unwrap_or_else(|| "aws/s3".to_owned());
        let context = call.header(CONTEXT).unwrap_or_default().to_owned();
        Ok(Wish::Service { scheme: scheme.to_owned(), key_id, context })
    };
    let named = call.header(HEADER);
    if key_id.is_some() && named.is_none_or(|scheme| scheme == "AES256") {
        return Err(Fault::argument("a KMS key id goes with aws:kms only"));
    }
    match (named, own) {
        (Some(_), Some(_)) => Err(Fault::argument(
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
        )),
        (None, Some(own)) => Ok(Wish::Customer(own)),
        (Some("AES256"), None) => Ok(Wish::Managed),
        (Some(scheme @ ("aws:kms" | "aws:kms:dsse")), None) => service(scheme, key_id),
        (Some(_other), None) => {
            Err(Fault::argument("The encryption method specified is not supported").with("ArgumentName", HEADER))
        }
        (None, None) => match default(bucket)? {
            None => Ok(Wish::No),
            Some((scheme, key_id)) if scheme.starts_with("aws:kms") => service(&scheme, key_id),
            Some(_aes) => Ok(Wish::Managed),
        },
    }
}

/// Makes an object's key and wraps it as wished.
pub(super) fn start(job: &Job, wish: Wish) -> Result<Sealing, Fault> {
    let wish = match (wish, job.front.options.encryption) {
        (Wish::No, super::DefaultEncryption::Managed) => Wish::Managed,
        (wish, super::DefaultEncryption::Managed | super::DefaultEncryption::None) => wish,
    };
    if matches!(wish, Wish::No) {
        return Ok(Sealing::default());
    }
    let key = new_object_key()?;
    let inner = key.expose();
    let sse = match wish {
        Wish::No => return Ok(Sealing::default()),
        Wish::Customer(own) => Sse {
            scheme: SSE_C.to_owned(),
            key_md5: Some(own.md5),
            wrapped: wrap(&own.key, inner, SSE_C.as_bytes())?,
            ..Sse::default()
        },
        Wish::Managed => Sse {
            scheme: "AES256".to_owned(),
            key_id: Some(job.front.ring.current().to_owned()),
            wrapped: job.front.ring.wrap(inner)?,
            ..Sse::default()
        },
        Wish::Service { scheme, key_id, context } => {
            let service = job.front.key_service();
            let missing = |_error| Fault::new("KMS.NotFoundException", "the key service does not have the key");
            let wrapped = service.wrap(&key_id, inner, &context).map_err(missing)?;
            Sse { scheme, key_id: Some(key_id), context: Some(context), wrapped, ..Sse::default() }
        }
    };
    Ok(Sealing { sse: Some(sse), cipher: Some(Arc::new(Cipher::new(inner)?)) })
}

/// Refuses reads that ask for what only writes can ask for.
pub(super) fn check_read(call: &Call, info: &ObjectInfo) -> Result<(), Fault> {
    if call.header(HEADER).is_some() {
        return Err(Fault::argument("x-amz-server-side-encryption header is not supported for this operation."));
    }
    let encrypted = info.meta.sse.as_ref().is_some_and(|sse| sse.scheme == SSE_C);
    if !encrypted && customer(call, CUSTOMER)?.is_some() {
        return Err(Fault::request("The encryption parameters are not applicable to this object."));
    }
    Ok(())
}

/// What decrypts an object or encrypts the parts of an upload.
pub(super) fn open(
    ring: &Arc<KeyRing>,
    call: &Call,
    sse: Option<&Sse>,
    prefix: &str,
) -> Result<Option<Arc<Cipher>>, Fault> {
    let Some(sse) = sse else { return Ok(None) };
    let lost = || {
        tracing::error!(scheme = sse.scheme, key = sse.key_id, "an object's key cannot be unwrapped");
        Fault::new("InternalError", "the object's key cannot be unwrapped")
    };
    let inner = match sse.scheme.as_str() {
        SSE_C => {
            let own = customer(call, prefix)?.ok_or_else(|| {
                Fault::request("The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.")
            })?;
            let wrong = || Fault::request("The provided encryption parameters did not match the ones used originally.");
            unwrap(&own.key, &sse.wrapped, SSE_C.as_bytes()).ok_or_else(wrong)?
        }
        "AES256" => ring.unwrap(sse.key_id.as_deref().unwrap_or_default(), &sse.wrapped).ok_or_else(lost)?,
        _service => {
            let service = super::job::local_service(ring, sse.key_id.iter().cloned().collect());
            let key_id = sse.key_id.as_deref().unwrap_or_default();
            service.unwrap(key_id, &sse.wrapped, sse.context.as_deref().unwrap_or_default()).map_err(|_error| lost())?
        }
    };
    Ok(Some(Arc::new(Cipher::new(inner.expose())?)))
}

/// Sets the headers that tell how an object is encrypted.
pub(super) fn show(reply: &mut Reply, sse: Option<&Sse>) {
    let Some(sse) = sse else { return };
    if sse.scheme == SSE_C {
        reply.set(&format!("{CUSTOMER}-algorithm"), "AES256");
        reply.set(&format!("{CUSTOMER}-key-md5"), sse.key_md5.as_deref().unwrap_or_default());
        return;
    }
    reply.set(HEADER, &sse.scheme);
    if sse.scheme.starts_with("aws:kms")
        && let Some(key_id) = &sse.key_id
    {
        reply.set(KMS_KEY, key_id);
    }
}
