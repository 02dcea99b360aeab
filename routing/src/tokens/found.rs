//! Where the tokens of a request are.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::TokenRule;
use crate::request::RequestView;
use http::{HeaderName, header::COOKIE};

/// A token as it stands in a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found<'r, 'v> {
    /// The token.
    pub token: Cow<'v, str>,
    /// Where it is.
    pub place: Place<'r>,
}

/// Where a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place<'r> {
    /// In a header.
    Header(&'r HeaderName),
    /// In a query parameter.
    Param(&'r str),
    /// In a cookie.
    Cookie(&'r str),
}

impl TokenRule {
    /// Every token in the places of this rule. Names that come several times give several: whoever reads them behind us may
    /// choose another one than we do.
    pub fn find<'r, 'v>(&'r self, request: &RequestView<'v>) -> Vec<Found<'r, 'v>> {
        let mut found = Vec::new();
        for header in &self.headers {
            for value in (0..).map_while(|number| request.headers.nth(&header.name, number)) {
                if let Some(token) = value.strip_prefix(header.prefix.as_bytes()) {
                    // What is no text is no token either, and is told so.
                    let token = std::str::from_utf8(token.trim_ascii()).unwrap_or("?");
                    found.push(Found { token: Cow::Borrowed(token), place: Place::Header(&header.name) });
                }
            }
        }
        for name in &self.params {
            for value in params(request.query).filter(|(given, _)| decoded(given) == **name).map(|(_, value)| value) {
                if !value.is_empty() {
                    found.push(Found { token: decoded(value), place: Place::Param(name) });
                }
            }
        }
        if !self.cookies.is_empty() {
            for line in (0..).map_while(|number| request.headers.nth(&COOKIE, number)) {
                self.in_cookies(line, &mut found);
            }
        }
        found
    }

    fn in_cookies<'r, 'v>(&'r self, line: &'v [u8], found: &mut Vec<Found<'r, 'v>>) {
        for pair in line.split(|byte| *byte == b';') {
            let Some((name, value)) = std::str::from_utf8(pair.trim_ascii()).ok().and_then(|it| it.split_once('='))
            else {
                continue;
            };
            let value = value.trim_matches('"');
            if let Some(own) = self.cookies.iter().find(|own| ***own == *name).filter(|_| !value.is_empty()) {
                found.push(Found { token: Cow::Borrowed(value), place: Place::Cookie(own) });
            }
        }
    }
}

fn params(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('%') {
        percent_decode_str(text).decode_utf8_lossy().into_owned().into()
    } else {
        Cow::Borrowed(text)
    }
}

/// A query without a parameter; empty = nothing is left.
pub fn without_param(query: &str, name: &str) -> String {
    let kept = query.split('&').filter(|pair| decoded(pair.split('=').next().unwrap_or_default()) != name);
    kept.collect::<Vec<_>>().join("&")
}

/// The value of a Cookie header without a cookie; empty = nothing is left. What else stands there, be it no text, stays as it is.
pub fn without_cookie(line: &[u8], name: &str) -> Vec<u8> {
    let is_it = |pair: &&[u8]| pair.split(|byte| *byte == b'=').next() == Some(name.as_bytes());
    let pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty() && !is_it(pair)).collect::<Vec<_>>().join(&b"; "[..])
}
