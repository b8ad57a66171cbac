//! The token of an `Authorization: Bearer ...` header (RFC 6750, section 2.1). Pure; no allocation.

/// The token in `header_value` if its scheme is `Bearer` in any case; `None` for other schemes, an empty token or one with
/// blanks or control characters inside.
pub fn bearer_of(header_value: &str) -> Option<&str> {
    let (scheme, rest) = header_value.trim_matches(' ').split_once(' ')?;
    let token = rest.trim_start_matches(' ');
    let whole = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && whole).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::bearer_of;

    #[test]
    fn only_a_whole_bearer_token_is_read() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   abc  ", Some("abc")),
            ("Bearer dh-model-x_y-z=", Some("dh-model-x_y-z=")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("Bearer a b", None),
            ("Bearer a\tb", None),
            ("Bearer \u{e9}", None),
            ("", None),
        ] {
            assert_eq!(bearer_of(header), token, "{header:?}");
        }
    }
}
