//! Policies against an evaluator that reads the JSON itself, step by step, as the guide's words go.

use dh_policy::access::{Caller, Context, Kind, Policy, Rank, Request, User, Verdict};
use serde_json::Value;

const ACTIONS: &[&str] = &["s3:GetObject", "s3:PutObject", "s3:ListBucket"];
const RESOURCES: &[&str] = &["arn:aws:s3:::b", "arn:aws:s3:::b/k", "arn:aws:s3:::b/ann/k", "arn:aws:s3:::c/k"];

/// Every caller, action and resource of a small world gets the same answer from both.
pub(super) fn policies(bytes: &[u8]) {
    for kind in [Kind::Resource, Kind::Identity] {
        let Ok(policy) = Policy::parse(bytes, kind) else { continue };
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { continue };
        drop(policy.check_resources(|name| name.starts_with("arn:aws:s3:::b")));
        let reach = policy.reach();
        assert_eq!(policy.reach(), reach);
        for caller in callers() {
            for action in ACTIONS {
                for resource in RESOURCES {
                    for context in contexts() {
                        let request = Request { caller: &caller, action, resource, context: &context };
                        let want = reference(&value, &request);
                        if let Some(want) = want {
                            assert_eq!(policy.verdict(&request), want, "{request:?} of {value}");
                        }
                    }
                }
            }
        }
    }
}

fn callers() -> [Caller; 3] {
    let user = |account: &str, name: &str, rank| {
        Caller::User(User {
            arn: format!("arn:aws:iam::{account}:user/{name}"),
            aliases: Vec::new(),
            account: account.to_owned(),
            canonical: format!("c-{account}"),
            rank,
        })
    };
    [user("1", "ann", Rank::Member), user("2", "eve", Rank::Root), Caller::Anonymous]
}

fn contexts() -> [Context; 3] {
    let (mut one, mut two) = (Context::default(), Context::default());
    one.add("aws:username", "ann");
    one.add("s3:prefix", "ann/");
    two.add("s3:prefix", "x");
    two.add("s3:prefix", "ann/");
    [Context::default(), one, two]
}

/// `None` where the document uses what this evaluator does not know.
fn reference(policy: &Value, request: &Request<'_>) -> Option<Verdict> {
    let filled = policy.get("Version").and_then(Value::as_str) == Some("2012-10-17");
    let statements = list(policy.get("Statement")?);
    let mut verdict = Verdict::Silent;
    for statement in statements {
        if applies(statement, request, filled)? {
            if statement.get("Effect")?.as_str()? == "Deny" {
                verdict = Verdict::Deny;
            } else if verdict == Verdict::Silent {
                verdict = Verdict::Allow;
            }
        }
    }
    Some(verdict)
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |all| all.iter().collect())
}

fn applies(statement: &Value, request: &Request<'_>, filled: bool) -> Option<bool> {
    let named = |field: &str, text: &str, exact: bool| -> Option<Option<bool>> {
        let Some(value) = statement.get(field) else { return Some(None) };
        let mut any = false;
        for one in list(value) {
            // Numbers and variables are left to the other tests.
            let pattern = one.as_str()?;
            if filled && pattern.contains("${") {
                return None;
            }
            let low = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
            let plain = |text: &str| text.chars().collect::<Vec<_>>();
            // What letters of other alphabets are in capitals is not what is compared here.
            if !pattern.is_ascii() && !exact {
                return None;
            }
            any |= if exact { glob(&plain(pattern), &plain(text)) } else { glob(&low(pattern), &low(text)) };
        }
        Some(Some(any))
    };
    let mut all = true;
    for (field, text, exact) in [("Action", request.action, false), ("Resource", request.resource, true)] {
        all &= named(field, text, exact)?.unwrap_or(true);
        all &= named(&format!("Not{field}"), text, exact)?.is_none_or(|matched| !matched);
    }
    if let Some(principal) = statement.get("Principal") {
        all &= is(principal, request.caller)?;
    }
    if let Some(principal) = statement.get("NotPrincipal") {
        all &= !is(principal, request.caller)?;
    }
    for (operator, keys) in statement.get("Condition").and_then(Value::as_object).into_iter().flatten() {
        for (key, values) in keys.as_object()? {
            all &= condition(operator, request.context.values(key), &list(values))?;
        }
    }
    Some(all)
}

fn is(principal: &Value, caller: &Caller) -> Option<bool> {
    if principal.as_str() == Some("*") {
        return Some(true);
    }
    let mut any = false;
    for (kind, names) in principal.as_object()? {
        for name in list(names) {
            let name = name.as_str()?;
            let user = match caller {
                Caller::User(user) => Some(user),
                Caller::Anonymous | Caller::Service(_) => None,
            };
            any |= match (kind.as_str(), name) {
                ("AWS", "*") => true,
                ("AWS", name) => user.is_some_and(|user| {
                    let root = format!("arn:aws:iam::{}:root", user.account);
                    [&user.arn, &user.account, &root].iter().any(|have| *have == name)
                }),
                ("CanonicalUser", name) => user.is_some_and(|user| user.canonical == name),
                ("Federated" | "Service", _) => false,
                (_other, _) => return None,
            };
        }
    }
    Some(any)
}

fn condition(operator: &str, have: &[String], want: &[&Value]) -> Option<bool> {
    let mut wanted = Vec::new();
    for one in want {
        let text = one.as_str()?;
        if text.contains("${") {
            return None;
        }
        wanted.push(text);
    }
    let equal = |have: &String| wanted.contains(&have.as_str());
    let like = |have: &String| {
        let text: Vec<char> = have.chars().collect();
        wanted.iter().any(|want| glob(&want.chars().collect::<Vec<_>>(), &text))
    };
    // Equality takes a wildcard for the character that it is; so does the one other operator whose words are as plain.
    match operator {
        "StringEquals" | "ForAnyValue:StringEquals" => Some(have.iter().any(equal)),
        "StringNotEquals" => Some(!have.iter().any(equal)),
        "StringEqualsIfExists" => Some(have.is_empty() || have.iter().any(equal)),
        "ForAllValues:StringEquals" => Some(have.iter().all(equal)),
        "StringLike" => Some(have.iter().any(like)),
        "StringNotLike" => Some(!have.iter().any(like)),
        _other => None,
    }
}

/// A wildcard by the table of its definition.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let mut reached: Vec<bool> = (0..=text.len()).map(|at| at == 0).collect();
    for piece in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reached.get(at).copied().unwrap_or(false);
            let previous = at.checked_sub(1).and_then(|at| Some((reached.get(at).copied()?, text.get(at)?)));
            *slot = match piece {
                '*' => here || before,
                '?' => previous.is_some_and(|(reached, _char)| reached),
                one => previous.is_some_and(|(reached, char)| reached && char == one),
            };
            before = *slot;
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}
