//! What a provider changes of a query.

use std::{borrow::Cow, fmt::Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a value may not hold as it is (RFC 3986 section 3.4, and what stands between parameters).
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b':')
    .remove(b'@')
    .remove(b'/')
    .remove(b'?')
    .remove(b'=');
/// As [`VALUE`], of a name.
const NAME: &AsciiSet = &VALUE.add(b'=');

/// A target whose query has these parameters and others not. Names are told from each other by what they mean: `%75ser` is
/// `user`.
pub(super) fn with_query(path: &str, query: Option<&str>, edits: &[(String, Option<String>)]) -> String {
    let names: Vec<_> = edits.iter().map(|(name, _)| (name.as_bytes(), meant(name))).collect();
    let edited = |part: &&str| {
        let key = meant(part.split_once('=').map_or(part, |(key, _)| key));
        names.iter().any(|(spelled, meant)| key == *meant || *key == **spelled)
    };
    let kept = query.unwrap_or_default().split('&').filter(|part| !part.is_empty() && !edited(part)).map(str::to_owned);
    let set = edits.iter().enumerate().filter_map(|(at, (name, value))| {
        // The last word on a name holds.
        let last = !names[at + 1..].iter().any(|(_, later)| *later == names[at].1);
        value.as_ref().filter(|_| last).map(|value| format!("{}={}", escaped(name, NAME), escaped(value, VALUE)))
    });
    let parts: Vec<String> = kept.chain(set).collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

fn meant(name: &str) -> Vec<u8> {
    let spaced: Cow<'_, str> = if name.contains('+') { name.replace('+', " ").into() } else { name.into() };
    percent_decode_str(&spaced).collect()
}

/// What is escaped already stays as it is.
fn escaped(text: &str, set: &'static AsciiSet) -> String {
    let mut pieces = text.split('%');
    let mut out = utf8_percent_encode(pieces.next().unwrap_or_default(), set).to_string();
    for piece in pieces {
        let is_escape = matches!(piece.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        out.push_str(if is_escape { "%" } else { "%25" });
        // Writing to a text does not fail.
        let _ = write!(out, "{}", utf8_percent_encode(piece, set));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> (String, Option<String>) {
        (name.to_owned(), Some(value.to_owned()))
    }

    fn gone(name: &str) -> (String, Option<String>) {
        (name.to_owned(), None)
    }

    #[test]
    fn a_query_is_edited_by_names() {
        assert_eq!(with_query("/a", Some("x=1&y=2&x=3&z"), &[gone("x"), set("u", "a b&c")]), "/a?y=2&z&u=a%20b%26c");
        assert_eq!(with_query("/a", None, &[set("u", "1"), set("u", "2")]), "/a?u=2");
        assert_eq!(with_query("/a", Some("x"), &[gone("x")]), "/a");
    }

    #[test]
    fn names_mean_the_same_however_they_are_spelled() {
        let query = Some("%75ser=root&us%65r&a+b=1&a%20b=2&%=3&%zz=4");
        assert_eq!(with_query("/a", query, &[gone("user"), gone("a b")]), "/a?%=3&%zz=4");
        assert_eq!(with_query("/a", query, &[gone("%75ser"), gone("a+b"), gone("%zz")]), "/a?%=3");
        assert_eq!(with_query("/a", Some("%2575ser=1"), &[gone("user")]), "/a?%2575ser=1");
        assert_eq!(with_query("/a", None, &[set("user", "1"), gone("%75ser")]), "/a");
    }

    #[test]
    fn only_what_a_query_may_not_hold_is_escaped() {
        let value = "a%20b 100%/?:@=;+%4g\u{e4}#[\"";
        let wanted = "/a?u=a%20b%20100%25/?:@=;+%254g%C3%A4%23%5B%22";
        assert_eq!(with_query("/a", None, &[set("u", value)]), wanted);
        assert_eq!(with_query("/a", None, &[set("a=b", "")]), "/a?a%3Db=");
    }
}
