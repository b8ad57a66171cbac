//! A policy document: read from JSON, asked about requests.
//!
//! Invariant: what cannot be understood whole is refused; an element that were ignored might be the one that denies.
//! Source: AWS IAM User Guide, "Grammar of the IAM JSON policy language".

use serde_json::{Map, Value};

use super::condition::Condition;
use super::pattern::{Case, Pattern, Variables};
use super::{Caller, PolicyError, Request, Verdict};

/// The largest document; AWS allows 20 KiB for a bucket's.
pub const POLICY_BYTES_MAX: usize = 20 << 10;

/// The deepest nesting of a document. The language needs five.
const DEPTH_MAX: usize = 12;

/// Statements of one document.
const STATEMENTS_MAX: usize = 512;

/// Whether a document says of whom it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Attached to a resource: each statement names principals.
    Resource,
    /// Attached to an identity or a session: no statement does.
    Identity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// Whether a list says what is meant or what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listed<T> {
    These(Vec<T>),
    AllBut(Vec<T>),
}

impl<T> Listed<T> {
    fn holds(&self, mut matches: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::These(list) => list.iter().any(matches),
            Self::AllBut(list) => !list.iter().any(&mut matches),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Principal {
    Everybody,
    Aws(String),
    Canonical(String),
    Federated(String),
    Service(String),
}

impl Principal {
    fn matches(&self, caller: &Caller) -> bool {
        match (self, caller) {
            (Self::Everybody, _) => true,
            (Self::Aws(name), Caller::User(user)) => {
                *name == user.arn
                    || user.aliases.contains(name)
                    || *name == user.account
                    || name.strip_prefix("arn:aws:iam::").and_then(|name| name.strip_suffix(":root"))
                        == Some(user.account.as_str())
            }
            (Self::Canonical(id), Caller::User(user)) => *id == user.canonical,
            (Self::Federated(name), Caller::User(user)) => user.aliases.contains(name),
            (Self::Service(name), Caller::Service(service)) => name == service,
            (Self::Aws(_) | Self::Canonical(_) | Self::Federated(_), Caller::Anonymous | Caller::Service(_))
            | (Self::Service(_), Caller::Anonymous | Caller::User(_)) => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    effect: Effect,
    principals: Option<Listed<Principal>>,
    actions: Listed<Pattern>,
    resources: Option<Listed<Pattern>>,
    conditions: Vec<Condition>,
}

/// A policy that was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// Whether a policy lets everybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Some statement allows something to everybody, without a condition that pins who or from where.
    Public,
    /// Only to those it names.
    Private,
}

fn wrong<T>(what: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError::new(what))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// One text or a list of them. Numbers and booleans stand for their text, as conditions write them.
fn texts(value: &Value, what: &str) -> Result<Vec<String>, PolicyError> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => wrong(format!("`{what}` holds something else than text")),
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        Value::Null | Value::Object(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(vec![one(value)?]),
    }
}

impl Policy {
    /// Reads a document.
    /// # Errors
    /// [`PolicyError`] says what cannot be understood.
    pub fn parse(text: &[u8], kind: Kind) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return wrong(format!("a policy has at most {POLICY_BYTES_MAX} bytes"));
        }
        let value: Value =
            serde_json::from_slice(text).map_err(|error| PolicyError::new(format!("this is no JSON: {error}")))?;
        if depth(&value) > DEPTH_MAX {
            return wrong("the policy is nested too deeply");
        }
        let Value::Object(map) = value else { return wrong("a policy is a JSON object") };
        let mut variables = Variables::Literal;
        for (name, value) in &map {
            match (name.as_str(), value) {
                ("Version", Value::String(version)) if version == "2012-10-17" => variables = Variables::Filled,
                ("Version", Value::String(version)) if version == "2008-10-17" => {}
                ("Version", _) => return wrong("`Version` is neither 2012-10-17 nor 2008-10-17"),
                ("Id", Value::String(_)) | ("Statement", Value::Array(_) | Value::Object(_)) => {}
                (name, _) => return wrong(format!("`{name}` does not belong into a policy")),
            }
        }
        let statements = match map.get("Statement") {
            Some(Value::Array(list)) => {
                list.iter().map(|one| statement(one, kind, variables)).collect::<Result<_, _>>()?
            }
            Some(one) => vec![statement(one, kind, variables)?],
            None => return wrong("the policy has no `Statement`"),
        };
        if statements.len() > STATEMENTS_MAX {
            return wrong(format!("a policy has at most {STATEMENTS_MAX} statements"));
        }
        if statements.is_empty() {
            return wrong("the policy has no statement");
        }
        Ok(Self { statements })
    }

    /// What the policy says of a request. An explicit denial wins over everything.
    pub fn verdict(&self, request: &Request<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if statement.applies(request) {
                match statement.effect {
                    Effect::Deny => return Verdict::Deny,
                    Effect::Allow => verdict = Verdict::Allow,
                }
            }
        }
        verdict
    }

    /// Whether it lets everybody in.
    pub fn reach(&self) -> Reach {
        let public = self.statements.iter().any(|statement| {
            let everybody = match &statement.principals {
                Some(Listed::These(list)) => list.iter().any(|one| match one {
                    Principal::Everybody => true,
                    Principal::Aws(name) => Pattern::new(name, Variables::Literal).is_everything(),
                    Principal::Canonical(_) | Principal::Federated(_) | Principal::Service(_) => false,
                }),
                Some(Listed::AllBut(_)) => true,
                None => false,
            };
            statement.effect == Effect::Allow && everybody && !statement.conditions.iter().any(narrows)
        });
        if public { Reach::Public } else { Reach::Private }
    }

    /// Refuses resources outside of a bucket, for a policy that is attached to it.
    /// # Errors
    /// [`PolicyError`] names the resource.
    pub fn check_resources(&self, belongs: impl Fn(&str) -> bool) -> Result<(), PolicyError> {
        let context = super::Context::default();
        for statement in &self.statements {
            let Some(Listed::These(list) | Listed::AllBut(list)) = &statement.resources else {
                return wrong("each statement of a bucket's policy names a resource");
            };
            for resource in list {
                if let Some(text) = resource.fill(&context).map(|filled| filled.text())
                    && !belongs(&text)
                {
                    return wrong(format!("`{text}` is outside of the bucket"));
                }
            }
        }
        Ok(())
    }
}

/// Keys whose fixed value makes a statement for everybody one for few. Source: Amazon S3 User Guide, "Blocking public
/// access to your Amazon S3 storage", the meaning of public.
const NARROWING: &[&str] = &[
    "aws:sourceip",
    "aws:sourcearn",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:sourceowner",
    "aws:sourceaccount",
    "aws:userid",
    "aws:principalorgid",
    "aws:principalaccount",
    "aws:principalarn",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:dataaccesspointarn",
    "s3:dataaccesspointaccount",
];

fn narrows(condition: &Condition) -> bool {
    NARROWING.contains(&condition.key()) && condition.pins()
}

fn statement(value: &Value, kind: Kind, variables: Variables) -> Result<Statement, PolicyError> {
    let Value::Object(map) = value else { return wrong("a statement is a JSON object") };
    for name in map.keys() {
        let known = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        if !known.contains(&name.as_str()) {
            return wrong(format!("`{name}` does not belong into a statement"));
        }
    }
    let effect = match map.get("Effect") {
        Some(Value::String(effect)) if effect == "Allow" => Effect::Allow,
        Some(Value::String(effect)) if effect == "Deny" => Effect::Deny,
        Some(_) | None => return wrong("`Effect` is `Allow` or `Deny`"),
    };
    let principals = listed(map, "Principal", "NotPrincipal", principals)?;
    if effect == Effect::Allow && matches!(principals, Some(Listed::AllBut(_))) {
        return wrong("`NotPrincipal` does not go with `Allow`: it would let in everybody else");
    }
    match (kind, &principals) {
        (Kind::Resource, None) => return wrong("a statement of a resource's policy names a principal"),
        (Kind::Identity, Some(_)) => return wrong("a statement of an identity's policy names no principal"),
        (Kind::Resource, Some(_)) | (Kind::Identity, None) => {}
    }
    let patterns = |value: &Value| {
        let texts = texts(value, "a list of a statement")?;
        if texts.is_empty() {
            return wrong("an empty list in a statement");
        }
        Ok(texts.iter().map(|text| Pattern::new(text, variables)).collect())
    };
    let actions = listed(map, "Action", "NotAction", |value| {
        let names = texts(value, "Action")?;
        for name in &names {
            if name != "*" && !name.contains(':') {
                return wrong(format!("`{name}` is no action: they are written service:Name"));
            }
        }
        patterns(value)
    })?;
    let Some(actions) = actions else { return wrong("a statement names `Action` or `NotAction`") };
    let resources = listed(map, "Resource", "NotResource", patterns)?;
    let conditions = match map.get("Condition") {
        None => Vec::new(),
        Some(Value::Object(operators)) => conditions(operators, variables)?,
        Some(_) => return wrong("`Condition` is a JSON object"),
    };
    Ok(Statement { effect, principals, actions, resources, conditions })
}

fn listed<T>(
    map: &Map<String, Value>,
    these: &str,
    all_but: &str,
    read: impl Fn(&Value) -> Result<Vec<T>, PolicyError>,
) -> Result<Option<Listed<T>>, PolicyError> {
    match (map.get(these), map.get(all_but)) {
        (Some(_), Some(_)) => wrong(format!("a statement has `{these}` or `{all_but}`, not both")),
        (Some(value), None) => Ok(Some(Listed::These(read(value)?))),
        (None, Some(value)) => Ok(Some(Listed::AllBut(read(value)?))),
        (None, None) => Ok(None),
    }
}

fn principals(value: &Value) -> Result<Vec<Principal>, PolicyError> {
    match value {
        Value::String(text) if text == "*" => Ok(vec![Principal::Everybody]),
        Value::Object(map) if !map.is_empty() => {
            let mut all = Vec::new();
            for (name, value) in map {
                for text in texts(value, "Principal")? {
                    all.push(match (name.as_str(), text.as_str()) {
                        ("AWS", "*") => Principal::Everybody,
                        ("AWS", _) => Principal::Aws(text),
                        ("CanonicalUser", _) => Principal::Canonical(text),
                        ("Federated", _) => Principal::Federated(text),
                        ("Service", _) => Principal::Service(text),
                        (name, _) => return wrong(format!("`{name}` is no kind of principal")),
                    });
                }
            }
            Ok(all)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            wrong("`Principal` is `*` or an object of lists")
        }
    }
}

fn conditions(operators: &Map<String, Value>, variables: Variables) -> Result<Vec<Condition>, PolicyError> {
    let mut all = Vec::new();
    for (operator, keys) in operators {
        let Value::Object(keys) = keys else { return wrong(format!("`{operator}` holds a JSON object of keys")) };
        for (key, values) in keys {
            all.push(Condition::new(operator, key, &texts(values, key)?, variables)?);
        }
    }
    Ok(all)
}

impl Statement {
    fn applies(&self, request: &Request<'_>) -> bool {
        let principal = self.principals.as_ref().is_none_or(|list| list.holds(|one| one.matches(request.caller)));
        let context = request.context;
        let matches = |pattern: &Pattern, text: &str, case| {
            pattern.fill(context).is_some_and(|filled| filled.matches(text, case))
        };
        principal
            && self.actions.holds(|pattern| matches(pattern, request.action, Case::Ignored))
            && self
                .resources
                .as_ref()
                .is_none_or(|list| list.holds(|pattern| matches(pattern, request.resource, Case::Matters)))
            && self.conditions.iter().all(|condition| condition.holds(context))
    }
}
