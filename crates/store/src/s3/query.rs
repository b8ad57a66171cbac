//! Users, keys, groups, policies and sessions over HTTP: the part of IAM and STS that clients and tests need.
//!
//! Requests are forms, answers XML. Whoever manages an account must be allowed `iam:<Action>` there; its root user is.
//! Source: AWS IAM API Reference; AWS STS API Reference.

use std::sync::Arc;

use dh_policy::access::{Caller, Context, Decision, Kind, Policy, PublicAccessBlock, Request, Rules, decide};
use http::{Method, Response};
use hyper::body::Incoming;

use super::call::{Call, decode};
use super::fault::Fault;
use super::iam;
use super::job::Front;
use super::payload::{Payload, Wrapping};
use super::reply::{Answer, Body, Reply};
use super::sign::{Claim, claim, sha256_hex};
use super::visitor::{Asked, Visitor, verify};
use super::xml::Xml;

/// Whether a request is for users and sessions.
pub(super) fn is_query(call: &Call) -> bool {
    call.method == Method::POST
        && call.bucket.is_none()
        && call.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

/// A refusal in the form of these services.
pub(super) fn refuse(fault: &Fault, id: &str) -> Response<Body> {
    Reply::new(fault.status).with("content-type", "text/xml").body(super::reply::full(fault.query_document(id)))
}

/// A request for users and sessions.
pub(super) struct Query {
    pub(super) front: Arc<Front>,
    pub(super) visitor: Visitor,
    pub(super) account: String,
    pub(super) action: String,
    fields: Vec<(String, String)>,
    pub(super) id: String,
    pub(super) now_ms: u64,
}

impl Query {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(have, _value)| have == name).map(|(_name, value)| value.as_str())
    }

    pub(super) fn need(&self, name: &str) -> Result<&str, Fault> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Fault::new("ValidationError", format!("the field `{name}` is needed")))
    }

    /// A policy that is well-formed.
    pub(super) fn policy(&self, name: &str) -> Result<String, Fault> {
        let text = self.need(name)?;
        Policy::parse(text.as_bytes(), Kind::Identity)
            .map_err(|error| Fault::new("MalformedPolicyDocument", error.to_string()))?;
        Ok(text.to_owned())
    }

    /// Lets the visitor do this, or not.
    pub(super) fn admit(&self, service: &str, resource: &str) -> Result<(), Fault> {
        let action = format!("{service}:{}", self.action);
        let context = Context::default();
        let request = Request { caller: &self.visitor.caller, action: &action, resource, context: &context };
        let rules = Rules {
            identity: &self.visitor.identity,
            session: &self.visitor.session,
            bucket: None,
            owner: Some(&self.account),
            granted: false,
            block: PublicAccessBlock::default(),
        };
        if decide(&request, &rules) == Decision::Allow {
            Ok(())
        } else {
            Err(Fault::new("AccessDenied", format!("not authorized to perform {action} on {resource}")))
        }
    }

    /// The answer of an action: `inside` is its result.
    #[expect(clippy::unnecessary_wraps, reason = "it is the last word of every action, and actions may fail")]
    pub(super) fn answer(&self, namespace: &str, inside: impl FnOnce(&mut Xml)) -> Answer {
        let action = &self.action;
        let mut xml = Xml::document();
        let root = format!("{action}Response");
        xml.attributed(&root, &format!("xmlns=\"{namespace}\""), |xml| {
            xml.element(&format!("{action}Result"), inside);
            xml.element("ResponseMetadata", |xml| xml.leaf("RequestId", &self.id));
        });
        Ok(Reply::ok().with("content-type", "text/xml").body(super::reply::full(xml.finish())))
    }
}

pub(super) async fn serve(front: Arc<Front>, call: Call, body: Incoming) -> Answer {
    let length = call.header("content-length").and_then(|text| text.parse().ok());
    let body = Payload::new(body, Wrapping::Plain, None, length).document().await?;
    let claim = claim(&call)?;
    if claim == Claim::None {
        return Err(Fault::new("MissingAuthenticationToken", "Request is missing Authentication Token"));
    }
    let (visitor, _chunks) =
        verify(&front.accounts, front.auth.as_ref(), &call, &claim, &sha256_hex(&body), Asked::Identities)?;
    let text = String::from_utf8(body).map_err(|_error| Fault::new("ValidationError", "the request is no UTF-8"))?;
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name, ' ')?, decode(value, ' ')?))
    };
    let fields = text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Option<Vec<_>>>();
    let fields = fields.ok_or_else(|| Fault::new("ValidationError", "the request is no UTF-8"))?;
    let action = fields.iter().find(|(name, _value)| name == "Action").map(|(_name, value)| value.clone());
    let action = action.ok_or_else(|| Fault::new("MissingAction", "the request names no action"))?;
    let account = match &visitor.caller {
        Caller::User(user) => user.account.clone(),
        Caller::Anonymous | Caller::Service(_) => return Err(Fault::denied()),
    };
    let query = Query { front, visitor, account, action, fields, id: call.id.clone(), now_ms: call.now_ms };
    iam::serve(&query).await
}
