//! Whole decisions: known cases, and random ones against a reference that follows the guide's words step by step.

use super::*;

fn policy(text: &str, kind: Kind) -> Policy {
    Policy::parse(text.as_bytes(), kind).unwrap()
}

fn user(account: &str, name: &str, rank: Rank) -> Caller {
    Caller::User(User {
        arn: format!("arn:aws:iam::{account}:user/{name}"),
        aliases: Vec::new(),
        account: account.to_owned(),
        canonical: format!("c-{account}"),
        rank,
    })
}

const NO_RULES: Rules<'static> = Rules {
    identity: &[],
    session: &[],
    bucket: None,
    owner: Some("1"),
    granted: false,
    block: PublicAccessBlock { block_acls: false, ignore_acls: false, block_policy: false, restrict_buckets: false },
};

fn ask(caller: &Caller, rules: &Rules<'_>, action: &str, resource: &str) -> Decision {
    decide(&Request { caller, action, resource, context: &Context::default() }, rules)
}

#[test]
fn the_guides_cases() {
    let allow = policy(
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::b/*"}}"#,
        Kind::Identity,
    );
    let deny = policy(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":"s3:PutObject","Resource":"*"}]}"#,
        Kind::Identity,
    );
    let public = policy(
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}]}"#,
        Kind::Resource,
    );
    let (member, root, stranger) =
        (user("1", "ann", Rank::Member), user("1", "root", Rank::Root), user("2", "bob", Rank::Root));
    let get = |caller: &Caller, rules: &Rules<'_>| ask(caller, rules, "s3:GetObject", "arn:aws:s3:::b/k");
    assert_eq!(get(&root, &NO_RULES), Decision::Allow);
    assert_eq!(get(&member, &NO_RULES), Decision::Implicit);
    assert_eq!(get(&member, &Rules { identity: std::slice::from_ref(&allow), ..NO_RULES }), Decision::Allow);
    assert_eq!(get(&member, &Rules { identity: &[allow.clone(), deny.clone()], ..NO_RULES }), Decision::Explicit);
    assert_eq!(get(&root, &Rules { session: std::slice::from_ref(&deny), ..NO_RULES }), Decision::Explicit);
    assert_eq!(get(&stranger, &NO_RULES), Decision::Implicit);
    assert_eq!(get(&stranger, &Rules { bucket: Some(&public), ..NO_RULES }), Decision::Allow);
    assert_eq!(get(&user("2", "eve", Rank::Member), &Rules { bucket: Some(&public), ..NO_RULES }), Decision::Implicit);
    assert_eq!(get(&Caller::Anonymous, &Rules { bucket: Some(&public), ..NO_RULES }), Decision::Allow);
    let block = PublicAccessBlock { restrict_buckets: true, ..PublicAccessBlock::default() };
    assert_eq!(get(&Caller::Anonymous, &Rules { bucket: Some(&public), block, ..NO_RULES }), Decision::Implicit);
    assert_eq!(get(&member, &Rules { bucket: Some(&public), block, ..NO_RULES }), Decision::Allow);
    assert_eq!(get(&Caller::Anonymous, &Rules { granted: true, ..NO_RULES }), Decision::Allow);
    // A session may do no more than its policies allow.
    assert_eq!(
        get(
            &member,
            &Rules {
                identity: std::slice::from_ref(&allow),
                session: &[policy(
                    r#"{"Statement":{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}}"#,
                    Kind::Identity
                )],
                ..NO_RULES
            }
        ),
        Decision::Implicit
    );
}

#[test]
fn variables_are_filled_in_and_are_no_wildcards() {
    let policy = policy(
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}/*"}}"#,
        Kind::Identity,
    );
    let caller = user("1", "ann", Rank::Member);
    let verdict = |name: Option<&str>, resource: &str| {
        let mut context = Context::default();
        if let Some(name) = name {
            context.add("aws:username", name);
        }
        policy.verdict(&Request { caller: &caller, action: "s3:GetObject", resource, context: &context })
    };
    assert_eq!(verdict(Some("ann"), "arn:aws:s3:::b/ann/k"), Verdict::Allow);
    assert_eq!(verdict(Some("*"), "arn:aws:s3:::b/ann/k"), Verdict::Silent);
    assert_eq!(verdict(None, "arn:aws:s3:::b/ann/k"), Verdict::Silent);
}

#[test]
fn what_cannot_be_understood_whole_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"Statement":[]}"#,
        r#"{"Statement":{"Effect":"allow","Action":"s3:*","Resource":"*"}}"#,
        r#"{"Statement":{"Effect":"Allow","Action":"s3:*","NotAction":"s3:*","Resource":"*"}}"#,
        r#"{"Statement":{"Effect":"Allow","Resource":"*"}}"#,
        r#"{"Statement":{"Effect":"Allow","Action":"GetObject","Resource":"*"}}"#,
        r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Principal":"*"}}"#,
        r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Comment":"x"}}"#,
        r#"{"Version":"2024-01-01","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
        r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"Maybe":{"k":"v"}}}}"#,
    ] {
        assert!(Policy::parse(text.as_bytes(), Kind::Identity).is_err(), "{text}");
    }
    let deep = format!(r#"{{"Statement":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    assert!(Policy::parse(deep.as_bytes(), Kind::Identity).is_err());
    let long = format!(r#"{{"Id":"{}","Statement":[]}}"#, "x".repeat(POLICY_BYTES_MAX));
    assert!(Policy::parse(long.as_bytes(), Kind::Identity).is_err());
}

#[test]
fn a_policy_is_public_unless_a_condition_pins_it() {
    let reach = |condition: &str| {
        policy(
            &format!(r#"{{"Statement":{{"Effect":"Allow","Principal":{{"AWS":"*"}},"Action":"s3:*","Resource":"*"{condition}}}}}"#),
            Kind::Resource,
        )
        .reach()
    };
    assert_eq!(reach(""), Reach::Public);
    assert_eq!(reach(r#","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#), Reach::Private);
    assert_eq!(reach(r#","Condition":{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}"#), Reach::Public);
    assert_eq!(reach(r#","Condition":{"StringEquals":{"s3:prefix":"x"}}"#), Reach::Public);
}

/// A seeded stream, `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn pick<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[usize::try_from(self.next() % list.len() as u64).unwrap()]
    }
}

/// A wildcard by recursion, the way its definition reads.
fn naive_match(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|skip| naive_match(rest, &text[skip..])),
        Some(('?', rest)) => !text.is_empty() && naive_match(rest, &text[1..]),
        Some((one, rest)) => text.first() == Some(one) && naive_match(rest, &text[1..]),
    }
}

#[test]
fn wildcards_match_as_their_definition() {
    let mut dice = Dice(1);
    for _round in 0..20_000 {
        let text = |dice: &mut Dice, letters: &[char], most: u64| {
            let length = dice.next() % most;
            (0..length).map(|_index| *dice.pick(letters)).collect::<Vec<char>>()
        };
        let pattern = text(&mut dice, &['a', 'b', '*', '?'], 7);
        let subject = text(&mut dice, &['a', 'b'], 9);
        let (shown, whole): (String, String) = (pattern.iter().collect(), subject.iter().collect());
        let filled = pattern::Pattern::new(&shown, pattern::Variables::Filled).fill(&Context::default()).unwrap();
        assert_eq!(filled.matches(&whole, pattern::Case::Matters), naive_match(&pattern, &subject), "{shown} {whole}");
    }
}

/// One statement of the reference: the same facts without the parser.
#[expect(clippy::struct_excessive_bools, reason = "each field of a statement has its opposite")]
#[derive(Debug, Clone)]
struct Plain {
    deny: bool,
    not_principal: bool,
    principal: &'static str,
    not_action: bool,
    action: &'static str,
    not_resource: bool,
    resource: &'static str,
    condition: Option<(&'static str, &'static str)>,
}

impl Plain {
    fn roll(dice: &mut Dice) -> Self {
        let coin = |dice: &mut Dice| dice.next().is_multiple_of(4);
        let deny = dice.next().is_multiple_of(3);
        Self {
            deny,
            not_principal: deny && coin(dice),
            principal: *dice.pick(&["*", "arn:aws:iam::1:user/ann", "arn:aws:iam::2:root", "2"]),
            not_action: coin(dice),
            action: *dice.pick(&["s3:*", "s3:Get*", "S3:getobject", "s3:PutObject", "*"]),
            not_resource: coin(dice),
            resource: *dice.pick(&["*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/k", "arn:aws:s3:::c/*"]),
            condition: coin(dice)
                .then(|| *dice.pick(&[("StringEquals", "x"), ("StringNotEquals", "x"), ("StringEqualsIfExists", "x")])),
        }
    }

    fn json(&self, kind: Kind) -> String {
        let not = |no: bool| if no { "Not" } else { "" };
        let principal = match (kind, self.principal) {
            (Kind::Identity, _) => String::new(),
            (Kind::Resource, "*") => format!(r#""{}Principal":"*","#, not(self.not_principal)),
            (Kind::Resource, name) => format!(r#""{}Principal":{{"AWS":["{name}"]}},"#, not(self.not_principal)),
        };
        let condition = self
            .condition
            .map_or(String::new(), |(operator, value)| format!(r#","Condition":{{"{operator}":{{"k":"{value}"}}}}"#));
        format!(
            r#"{{"Effect":"{}",{principal}"{}Action":"{}","{}Resource":"{}"{condition}}}"#,
            if self.deny { "Deny" } else { "Allow" },
            not(self.not_action),
            self.action,
            not(self.not_resource),
            self.resource
        )
    }

    fn applies(&self, kind: Kind, request: &Request<'_>) -> bool {
        let glob = |pattern: &str, text: &str| {
            naive_match(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
        };
        let principal = match request.caller {
            Caller::User(user) => {
                self.principal == "*"
                    || self.principal == user.arn
                    || self.principal == user.account
                    || self.principal == format!("arn:aws:iam::{}:root", user.account)
            }
            Caller::Anonymous | Caller::Service(_) => self.principal == "*",
        };
        let value = request.context.values("k").first().map(String::as_str);
        let condition = match self.condition {
            None => true,
            Some(("StringEquals", want)) => value == Some(want),
            Some(("StringNotEquals", want)) => value != Some(want),
            Some((_if_exists, want)) => value.is_none_or(|value| value == want),
        };
        (kind == Kind::Identity || principal != self.not_principal)
            && glob(&self.action.to_lowercase(), &request.action.to_lowercase()) != self.not_action
            && glob(self.resource, request.resource) != self.not_resource
            && condition
    }
}

fn reference(statements: &[Plain], kind: Kind, request: &Request<'_>) -> Verdict {
    let applying: Vec<&Plain> = statements.iter().filter(|one| one.applies(kind, request)).collect();
    if applying.iter().any(|one| one.deny) {
        Verdict::Deny
    } else if applying.is_empty() {
        Verdict::Silent
    } else {
        Verdict::Allow
    }
}

#[test]
fn random_policies_decide_as_the_reference() {
    let mut dice = Dice(7);
    let mut seen = [0_u32; 3];
    for round in 0..5_000 {
        let roll = |dice: &mut Dice| (0..=dice.next() % 3).map(|_index| Plain::roll(dice)).collect::<Vec<_>>();
        let (identity, bucket, session) = (roll(&mut dice), roll(&mut dice), roll(&mut dice));
        let read = |list: &[Plain], kind| {
            let statements: Vec<String> = list.iter().map(|one| one.json(kind)).collect();
            policy(&format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(",")), kind)
        };
        let callers = [
            user("1", "ann", Rank::Member),
            user("1", "bob", Rank::Root),
            user("2", "ann", Rank::Member),
            user("2", "eve", Rank::Root),
            Caller::Anonymous,
        ];
        let caller = dice.pick(&callers);
        let mut context = Context::default();
        match dice.next() % 3 {
            0 => context.add("K", "x"),
            1 => context.add("k", "y"),
            _none => {}
        }
        let action = *dice.pick(&["s3:GetObject", "s3:PutObject", "s3:GetBucketAcl"]);
        let resource = *dice.pick(&["arn:aws:s3:::b/k", "arn:aws:s3:::b/other", "arn:aws:s3:::c/k"]);
        let request = Request { caller, action, resource, context: &context };
        let limited = dice.next().is_multiple_of(4);
        let granted = dice.next().is_multiple_of(5);
        let said = [
            reference(&identity, Kind::Identity, &request),
            reference(&bucket, Kind::Resource, &request),
            if limited { reference(&session, Kind::Identity, &request) } else { Verdict::Allow },
        ];
        let want = if said.contains(&Verdict::Deny) {
            Decision::Explicit
        } else if said[2] == Verdict::Silent {
            Decision::Implicit
        } else {
            let theirs = match caller {
                Caller::User(user) => user.rank == Rank::Root || said[0] == Verdict::Allow,
                Caller::Anonymous | Caller::Service(_) => true,
            };
            let ours = granted || said[1] == Verdict::Allow;
            let same = matches!(caller, Caller::User(user) if user.account == "1");
            let anonymous_needs = !matches!(caller, Caller::Anonymous) || ours;
            if (if same { theirs || ours } else { theirs && ours }) && anonymous_needs {
                Decision::Allow
            } else {
                Decision::Implicit
            }
        };
        // Nobody's identity policies count for the anonymous caller.
        let identity_policies = match caller {
            Caller::Anonymous | Caller::Service(_) if said[0] == Verdict::Deny => continue,
            Caller::Anonymous | Caller::Service(_) | Caller::User(_) => [read(&identity, Kind::Identity)],
        };
        let session_policies = [read(&session, Kind::Identity)];
        let bucket_policy = read(&bucket, Kind::Resource);
        let rules = Rules {
            identity: &identity_policies,
            session: if limited { &session_policies } else { &[] },
            bucket: Some(&bucket_policy),
            granted,
            ..NO_RULES
        };
        let got = decide(&request, &rules);
        assert_eq!(got, want, "round {round}: {request:?} {identity:?} {bucket:?} {session:?}");
        seen[match got {
            Decision::Allow => 0,
            Decision::Implicit => 1,
            Decision::Explicit => 2,
        }] += 1;
    }
    assert!(seen.iter().all(|count| *count > 300), "{seen:?}");
}

#[test]
fn broken_documents_never_panic() {
    let good = r#"{"Version":"2012-10-17","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":["*","1"]},"Action":["s3:Get*"],"Resource":"arn:aws:s3:::b/${aws:username,'x'}/*","Condition":{"ForAllValues:StringLike":{"s3:prefix":["a*",""]},"DateLessThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}"#;
    let mut dice = Dice(3);
    let (mut read, mut refused) = (0, 0);
    for _round in 0..20_000 {
        let mut bytes = good.as_bytes().to_vec();
        for _change in 0..=dice.next() % 4 {
            let at = usize::try_from(dice.next() % bytes.len() as u64).unwrap();
            match dice.next() % 3 {
                0 => bytes[at] = dice.next().to_le_bytes()[0],
                1 => {
                    bytes.remove(at);
                }
                _insert => bytes.insert(at, *dice.pick::<u8>(b"{}[]\":,*?$\\0")),
            }
        }
        match Policy::parse(&bytes, Kind::Resource) {
            Ok(policy) => {
                read += 1;
                policy.reach();
                let context = Context::default();
                policy.verdict(&Request {
                    caller: &Caller::Anonymous,
                    action: "s3:GetObject",
                    resource: "x",
                    context: &context,
                });
            }
            Err(_error) => refused += 1,
        }
    }
    assert!(read > 500 && refused > 500, "{read} {refused}");
}
