//! Cross-origin requests: what browsers are told that pages of other origins may do.
//!
//! Source: Fetch standard, "CORS protocol"; Amazon S3 User Guide, "Using cross-origin resource sharing".

use http::{HeaderValue, Method, Response};

use super::bucket::document;
use super::call::Call;
use super::fault::Fault;
use super::reply::{Answer, Body, Reply};
use super::xml::Node;
use crate::Store;

/// Rules of one document; S3's own limit.
const RULES_MAX: usize = 100;

/// Refuses documents that S3 does not take.
pub(super) fn check(root: &Node) -> Result<(), Fault> {
    let rules: Vec<&Node> = root.all("CORSRule").collect();
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(Fault::malformed("a CORS document has 1 to 100 rules"));
    }
    for rule in rules {
        if rule.all("AllowedOrigin").next().is_none() || rule.all("AllowedMethod").next().is_none() {
            return Err(Fault::malformed("a rule allows at least one origin and one method"));
        }
        for method in rule.all("AllowedMethod") {
            if !["GET", "PUT", "HEAD", "POST", "DELETE"].contains(&method.text.trim()) {
                return Err(Fault::request(format!(
                    "Found unsupported HTTP method in CORS config. Unsupported method is {}",
                    method.text
                )));
            }
        }
        for name in ["AllowedOrigin", "AllowedHeader"] {
            if rule.all(name).any(|node| node.text.matches('*').count() > 1) {
                return Err(Fault::request(format!("{name} can not have more than one wildcard.")));
            }
        }
        if rule.get("MaxAgeSeconds").is_some_and(|text| text.parse::<i64>().is_err()) {
            return Err(Fault::malformed("`MaxAgeSeconds` is no number"));
        }
    }
    Ok(())
}

fn star(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    }
}

/// The rule that lets this origin do this, if there is one.
fn rule<'r>(root: &'r Node, origin: &str, method: &str, headers: &[String]) -> Option<&'r Node> {
    root.all("CORSRule").find(|rule| {
        rule.all("AllowedOrigin").any(|pattern| star(pattern.text.trim(), origin))
            && rule.all("AllowedMethod").any(|allowed| allowed.text.trim() == method)
            && headers.iter().all(|header| {
                rule.all("AllowedHeader").any(|pattern| star(&pattern.text.trim().to_ascii_lowercase(), header))
            })
    })
}

fn headers(rule: &Node, origin: &str) -> Vec<(&'static str, String)> {
    let open = rule.all("AllowedOrigin").any(|pattern| pattern.text.trim() == "*");
    let join = |name: &str| rule.all(name).map(|node| node.text.trim().to_owned()).collect::<Vec<_>>().join(", ");
    let mut all = vec![
        ("access-control-allow-origin", if open { "*".to_owned() } else { origin.to_owned() }),
        ("access-control-allow-methods", join("AllowedMethod")),
        ("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method".to_owned()),
    ];
    if !open {
        all.push(("access-control-allow-credentials", "true".to_owned()));
    }
    let exposed = join("ExposeHeader");
    if !exposed.is_empty() {
        all.push(("access-control-expose-headers", exposed));
    }
    if let Some(age) = rule.get("MaxAgeSeconds") {
        all.push(("access-control-max-age", age.to_owned()));
    }
    all
}

async fn configuration(store: &Store, bucket: &str) -> Result<Option<Node>, Fault> {
    let bytes = store.document(bucket, document::CORS).await?;
    bytes.map(|bytes| Node::parse(&bytes)).transpose()
}

/// Answers the question that a browser asks before the request itself.
pub(super) async fn preflight(store: &Store, call: &Call) -> Answer {
    let origin = call
        .header("origin")
        .ok_or_else(|| Fault::new("BadRequest", "Insufficient information. Origin request header needed."))?;
    let method = call
        .header("access-control-request-method")
        .ok_or_else(|| Fault::new("BadRequest", "Invalid Access-Control-Request-Method: null"))?;
    let asked: Vec<String> = call
        .header("access-control-request-headers")
        .unwrap_or_default()
        .split(',')
        .map(|header| header.trim().to_ascii_lowercase())
        .filter(|header| !header.is_empty())
        .collect();
    let root = configuration(store, call.bucket()?).await?;
    let denied = || {
        let mut fault = Fault::new("AccessForbidden", "CORSResponse: This CORS request is not allowed.");
        fault.status = http::StatusCode::FORBIDDEN;
        fault
    };
    let root = root.ok_or_else(denied)?;
    let rule = rule(&root, origin, method, &asked).ok_or_else(denied)?;
    let mut reply = Reply::ok();
    for (name, value) in headers(rule, origin) {
        reply.set(name, value);
    }
    if !asked.is_empty() {
        reply.set("access-control-allow-headers", asked.join(", "));
    }
    Ok(reply.empty())
}

/// Adds to an answer what a page of `origin` may see of it.
pub(super) async fn dress(store: &Store, bucket: &str, origin: &str, method: &Method, response: &mut Response<Body>) {
    let Ok(Some(root)) = configuration(store, bucket).await else { return };
    let Some(rule) = rule(&root, origin, method.as_str(), &[]) else { return };
    for (name, value) in headers(rule, origin) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
}
