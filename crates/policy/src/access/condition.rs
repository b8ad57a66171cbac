//! Operators of conditions.
//!
//! A condition compares the request's values of one key with the policy's. Numbers and times are compared as integers
//! (billionths, seconds), so no rounding decides. Source: AWS IAM User Guide, "IAM JSON policy elements: Condition
//! operators" and "Multivalued context keys".

use std::net::IpAddr;

use super::pattern::{Case, Filled, Pattern, Variables};
use super::{Context, PolicyError};

/// What is compared, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Text(Case),
    Like,
    Arn,
    Number(Order),
    Date(Order),
    Bool,
    Binary,
    Address,
}

/// How two numbers must stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    const fn holds(self, have: i128, want: i128) -> bool {
        match self {
            Self::Equal => have == want,
            Self::Less => have < want,
            Self::LessOrEqual => have <= want,
            Self::Greater => have > want,
            Self::GreaterOrEqual => have >= want,
        }
    }
}

/// Whether the operator is the opposite of its comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    Positive,
    Negated,
}

/// How several values of the request count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// Any value of the request; for negated operators, none of them may match.
    Plain,
    All,
    Any,
}

/// What a key that the request lacks means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// What the operator says: positive ones fail, negated ones hold.
    Decides,
    /// `IfExists`: the condition holds.
    Holds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    Null,
    Comparison { compare: Compare, sense: Sense, quantifier: Quantifier, missing: Missing },
}

/// One line of a `Condition` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    operator: Operator,
    key: String,
    values: Vec<Pattern>,
}

/// Operators by name.
const OPERATORS: &[(&str, Compare, Sense)] = &[
    ("StringEquals", Compare::Text(Case::Matters), Sense::Positive),
    ("StringNotEquals", Compare::Text(Case::Matters), Sense::Negated),
    ("StringEqualsIgnoreCase", Compare::Text(Case::Ignored), Sense::Positive),
    ("StringNotEqualsIgnoreCase", Compare::Text(Case::Ignored), Sense::Negated),
    ("StringLike", Compare::Like, Sense::Positive),
    ("StringNotLike", Compare::Like, Sense::Negated),
    ("NumericEquals", Compare::Number(Order::Equal), Sense::Positive),
    ("NumericNotEquals", Compare::Number(Order::Equal), Sense::Negated),
    ("NumericLessThan", Compare::Number(Order::Less), Sense::Positive),
    ("NumericLessThanEquals", Compare::Number(Order::LessOrEqual), Sense::Positive),
    ("NumericGreaterThan", Compare::Number(Order::Greater), Sense::Positive),
    ("NumericGreaterThanEquals", Compare::Number(Order::GreaterOrEqual), Sense::Positive),
    ("DateEquals", Compare::Date(Order::Equal), Sense::Positive),
    ("DateNotEquals", Compare::Date(Order::Equal), Sense::Negated),
    ("DateLessThan", Compare::Date(Order::Less), Sense::Positive),
    ("DateLessThanEquals", Compare::Date(Order::LessOrEqual), Sense::Positive),
    ("DateGreaterThan", Compare::Date(Order::Greater), Sense::Positive),
    ("DateGreaterThanEquals", Compare::Date(Order::GreaterOrEqual), Sense::Positive),
    ("Bool", Compare::Bool, Sense::Positive),
    ("BinaryEquals", Compare::Binary, Sense::Positive),
    ("IpAddress", Compare::Address, Sense::Positive),
    ("NotIpAddress", Compare::Address, Sense::Negated),
    ("ArnEquals", Compare::Arn, Sense::Positive),
    ("ArnLike", Compare::Arn, Sense::Positive),
    ("ArnNotEquals", Compare::Arn, Sense::Negated),
    ("ArnNotLike", Compare::Arn, Sense::Negated),
];

fn operator(name: &str) -> Option<Operator> {
    if name.eq_ignore_ascii_case("Null") {
        return Some(Operator::Null);
    }
    let (quantifier, rest) = match name.split_once(':') {
        None => (Quantifier::Plain, name),
        Some((all, rest)) if all.eq_ignore_ascii_case("ForAllValues") => (Quantifier::All, rest),
        Some((any, rest)) if any.eq_ignore_ascii_case("ForAnyValue") => (Quantifier::Any, rest),
        Some(_other) => return None,
    };
    let (missing, rest) = rest.strip_suffix("IfExists").map_or((Missing::Decides, rest), |rest| (Missing::Holds, rest));
    let (_name, compare, sense) = OPERATORS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(rest))?;
    Some(Operator::Comparison { compare: *compare, sense: *sense, quantifier, missing })
}

impl Condition {
    pub(super) fn new(
        operator_name: &str,
        key: &str,
        values: &[String],
        variables: Variables,
    ) -> Result<Self, PolicyError> {
        let operator = operator(operator_name)
            .ok_or_else(|| PolicyError::new(format!("`{operator_name}` is no condition operator")))?;
        let this = Self {
            operator,
            key: key.to_ascii_lowercase(),
            values: values.iter().map(|value| Pattern::new(value, variables)).collect(),
        };
        for value in values {
            this.check(value)?;
        }
        Ok(this)
    }

    /// Refuses a fixed value that can never be compared.
    fn check(&self, value: &str) -> Result<(), PolicyError> {
        if value.contains("${") {
            return Ok(());
        }
        let readable = match self.operator {
            Operator::Null | Operator::Comparison { compare: Compare::Bool, .. } => boolean(value).is_some(),
            Operator::Comparison { compare: Compare::Number(_), .. } => decimal(value).is_some(),
            Operator::Comparison { compare: Compare::Date(_), .. } => date(value).is_some(),
            Operator::Comparison { compare: Compare::Address, .. } => network(value).is_some(),
            Operator::Comparison {
                compare: Compare::Text(_) | Compare::Like | Compare::Arn | Compare::Binary, ..
            } => true,
        };
        if readable {
            Ok(())
        } else {
            Err(PolicyError::new(format!("`{value}` is no value for the condition on `{}`", self.key)))
        }
    }

    /// The key in small letters.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether it limits a value to a fixed list: what makes a policy for everybody not a public one.
    pub(super) fn pins(&self) -> bool {
        matches!(
            self.operator,
            Operator::Comparison {
                sense: Sense::Positive,
                quantifier: Quantifier::Plain | Quantifier::Any,
                missing: Missing::Decides,
                ..
            }
        ) && !self.values.is_empty()
            && self.values.iter().all(|value| {
                value.is_fixed()
                    && value
                        .fill(&Context::default())
                        .is_some_and(|value| !matches!(value.text().as_str(), "0.0.0.0/0" | "::/0"))
            })
    }

    /// Whether it holds for a request.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let have = context.values(&self.key);
        let Operator::Comparison { compare, sense, quantifier, missing } = self.operator else {
            let wants_missing = self.values.iter().find_map(|value| boolean(&value.fill(context)?.text()));
            return wants_missing.is_some_and(|missing| missing == have.is_empty());
        };
        if have.is_empty() {
            return match (missing, quantifier, sense) {
                (Missing::Holds, ..) | (_, Quantifier::All, _) | (_, Quantifier::Plain, Sense::Negated) => true,
                (Missing::Decides, Quantifier::Any, _) | (Missing::Decides, Quantifier::Plain, Sense::Positive) => {
                    false
                }
            };
        }
        let wanted: Vec<Filled> = self.values.iter().filter_map(|value| value.fill(context)).collect();
        let matches = |have: &String| wanted.iter().any(|want| compare.matches(have, want));
        match (quantifier, sense) {
            (Quantifier::Plain | Quantifier::Any, Sense::Positive) => have.iter().any(matches),
            (Quantifier::Plain | Quantifier::All, Sense::Negated) => !have.iter().any(matches),
            (Quantifier::All, Sense::Positive) => have.iter().all(matches),
            (Quantifier::Any, Sense::Negated) => !have.iter().all(matches),
        }
    }
}

impl Compare {
    fn matches(self, have: &str, want: &Filled) -> bool {
        match self {
            Self::Text(Case::Matters) => have == want.text(),
            Self::Text(Case::Ignored) => have.to_lowercase() == want.text().to_lowercase(),
            Self::Like => want.matches(have, Case::Matters),
            Self::Arn => arn_matches(have, want),
            Self::Number(order) => both(decimal(have), decimal(&want.text()), order),
            Self::Date(order) => both(date(have), date(&want.text()), order),
            Self::Bool => boolean(have).is_some() && boolean(have) == boolean(&want.text()),
            Self::Binary => have.trim_end_matches('=') == want.text().trim_end_matches('='),
            Self::Address => match (have.parse::<IpAddr>(), network(&want.text())) {
                (Ok(have), Some(network)) => inside(have, network),
                (Ok(_) | Err(_), _) => false,
            },
        }
    }
}

fn both(have: Option<i128>, want: Option<i128>, order: Order) -> bool {
    matches!((have, want), (Some(have), Some(want)) if order.holds(have, want))
}

/// Each part of an ARN for itself, so that no wildcard reaches over a colon of the first five.
fn arn_matches(have: &str, want: &Filled) -> bool {
    let have: Vec<&str> = have.splitn(6, ':').collect();
    let want = want.arn_parts();
    have.len() == 6 && want.len() == 6 && have.iter().zip(&want).all(|(have, want)| want.matches(have, Case::Matters))
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A decimal number in billionths.
fn decimal(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty()
        || whole.len() > 20
        || fraction.len() > 9
        || !plain(whole)
        || !plain(fraction)
    {
        return None;
    }
    let value: i128 = format!("0{whole}{fraction:0<9}").parse().ok()?;
    Some(if negative { -value } else { value })
}

/// A time in seconds of the Unix epoch: ISO 8601, or the number itself.
fn date(text: &str) -> Option<i128> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        // Four digits are a year.
        if text.len() != 4 {
            return Some(seconds.into());
        }
    }
    let (day, time) = text.split_once(['T', 't']).unwrap_or((text, ""));
    let mut numbers = day.split('-').map(str::parse::<i64>);
    let year = numbers.next()?.ok()?;
    let month = numbers.next().unwrap_or(Ok(1)).ok()?;
    let day = numbers.next().unwrap_or(Ok(1)).ok()?;
    if numbers.next().is_some()
        || !(0..=9_999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    // Days since 1970-01-01 in the proleptic Gregorian calendar, counted in eras of 400 years from March on.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(i128::from(days * 86_400 + clock(time)?))
}

/// Seconds since midnight in UTC of `hh:mm[:ss[.f]]` with `Z` or an offset.
fn clock(time: &str) -> Option<i64> {
    if time.is_empty() {
        return Some(0);
    }
    let (time, offset) = if let Some(time) = time.strip_suffix(['Z', 'z']) {
        (time, 0)
    } else if let Some((time, offset)) = time.rsplit_once('+') {
        (time, minutes(offset)?)
    } else if let Some((time, offset)) = time.rsplit_once('-') {
        (time, -minutes(offset)?)
    } else {
        (time, 0)
    };
    let mut parts = time.split(':');
    let hour: i64 = parts.next()?.parse().ok()?;
    let minute: i64 = parts.next().unwrap_or("0").parse().ok()?;
    let second: i64 = parts.next().unwrap_or("0").split('.').next()?.parse().ok()?;
    let fits = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    (fits && parts.next().is_none()).then(|| hour * 3_600 + minute * 60 + second - offset * 60)
}

fn minutes(offset: &str) -> Option<i64> {
    let digits: String = offset.chars().filter(|char| *char != ':').collect();
    let number: i64 = digits.parse().ok()?;
    (digits.len() == 4 && (0..=1_400).contains(&number)).then(|| number / 100 * 60 + number % 100)
}

/// A network: an address and how many of its bits count.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then_some((address, bits))
}

fn inside(have: IpAddr, (network, bits): (IpAddr, u32)) -> bool {
    // An IPv4 address may come in IPv6 clothes from a socket that listens for both.
    let have = have.to_canonical();
    match (have, network) {
        (IpAddr::V4(have), IpAddr::V4(network)) => {
            let drop = 32 - bits;
            u32::from(have).checked_shr(drop).unwrap_or(0) == u32::from(network).checked_shr(drop).unwrap_or(0)
        }
        (IpAddr::V6(have), IpAddr::V6(network)) => {
            let drop = 128 - bits;
            u128::from(have).checked_shr(drop).unwrap_or(0) == u128::from(network).checked_shr(drop).unwrap_or(0)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, values: &[&str], have: &[&str]) -> bool {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let condition = Condition::new(operator, "Key", &values, Variables::Filled).unwrap();
        let mut context = Context::default();
        for value in have {
            context.add("key", *value);
        }
        condition.holds(&context)
    }

    #[test]
    fn operators_compare_as_the_guide_says() {
        for (operator, values, have, want) in [
            ("StringEquals", &["a", "b"][..], &["b"][..], true),
            ("StringEquals", &["a*"], &["ab"], false),
            ("StringNotEquals", &["a", "b"], &["b"], false),
            ("StringNotEquals", &["a"], &[], true),
            ("StringEquals", &["a"], &[], false),
            ("StringEqualsIfExists", &["a"], &[], true),
            ("StringEqualsIfExists", &["a"], &["b"], false),
            ("StringEqualsIgnoreCase", &["ABC"], &["abc"], true),
            ("StringLike", &["a?c*"], &["abcdef"], true),
            ("StringNotLike", &["a*"], &["abc"], false),
            ("NumericLessThan", &["10"], &["9.5"], true),
            ("NumericGreaterThanEquals", &["10"], &["9.999999999"], false),
            ("NumericEquals", &["7"], &["7.0"], true),
            ("NumericEquals", &["7"], &["seven"], false),
            ("DateGreaterThan", &["2020-01-01T00:00:00Z"], &["2020-01-01T00:00:01Z"], true),
            ("DateLessThan", &["2020-01-01T01:00:00+01:00"], &["1577836799"], true),
            ("DateEquals", &["1970-01-02"], &["86400"], true),
            ("Bool", &["true"], &["True"], true),
            ("Bool", &["false"], &["true"], false),
            ("BinaryEquals", &["QUJD"], &["QUJD"], true),
            ("IpAddress", &["10.0.0.0/8"], &["10.1.2.3"], true),
            ("IpAddress", &["10.0.0.0/8"], &["::ffff:10.1.2.3"], true),
            ("IpAddress", &["0.0.0.0/0"], &["1.2.3.4"], true),
            ("NotIpAddress", &["10.0.0.0/8"], &["11.1.2.3"], true),
            ("IpAddress", &["2001:db8::/32"], &["2001:db8:1::1"], true),
            ("ArnLike", &["arn:aws:s3:::b*"], &["arn:aws:s3:::bucket"], true),
            ("ArnLike", &["arn:*:b*"], &["arn:aws:s3:::bucket"], false),
            ("Null", &["true"], &[], true),
            ("Null", &["true"], &["x"], false),
            ("Null", &["false"], &["x"], true),
            ("ForAllValues:StringEquals", &["a", "b"], &["a", "b"], true),
            ("ForAllValues:StringEquals", &["a", "b"], &["a", "c"], false),
            ("ForAllValues:StringEquals", &["a"], &[], true),
            ("ForAnyValue:StringEquals", &["a"], &["c", "a"], true),
            ("ForAnyValue:StringEquals", &["a"], &[], false),
            ("ForAllValues:StringNotEquals", &["a"], &["b", "c"], true),
            ("ForAllValues:StringNotEquals", &["a"], &["b", "a"], false),
            ("ForAnyValue:StringNotEquals", &["a"], &["b", "a"], true),
            ("ForAnyValue:StringNotEquals", &["a"], &["a"], false),
        ] {
            assert_eq!(holds(operator, values, have), want, "{operator} {values:?} {have:?}");
        }
    }

    #[test]
    fn values_that_can_never_be_compared_are_refused() {
        for (operator, value) in [
            ("NumericEquals", "x"),
            ("DateEquals", "2020-13-01"),
            ("IpAddress", "10.0.0.0/33"),
            ("Bool", "yes"),
            ("Sounds", "x"),
        ] {
            assert!(Condition::new(operator, "key", &[value.to_owned()], Variables::Filled).is_err(), "{operator}");
        }
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-26T07:11:07Z", 1_795_677_067),
            ("1969-12-31T23:59:59Z", -1),
            ("2024", 1_704_067_200),
        ] {
            assert_eq!(date(text), Some(seconds), "{text}");
        }
    }
}
