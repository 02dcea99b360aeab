//! Compiled conditions of a route: Istio's `StringMatch` and `HTTPMatchRequest`, decided for one request.

use std::borrow::Cow;

use http::HeaderName;
use serde_json::Value;

use crate::{
    re2::Expression,
    request::{Headers, RequestView},
};

/// Compiled Istio `StringMatch`.
#[derive(Clone, Debug)]
pub enum StringPattern {
    /// Whatever it is, as long as it is there: an empty `StringMatch`, or the regex `*`.
    Present,
    /// The same text.
    Exact(Box<str>),
    /// Begins with the text; a raw string prefix, not a path segment.
    Prefix(Box<str>),
    /// RE2 expression over the whole text.
    Regex(Expression),
}

impl StringPattern {
    /// Whether a text fulfils the pattern; case-sensitive. Headers need not be UTF-8.
    pub fn matches(&self, text: impl AsRef<[u8]>) -> bool {
        let text = text.as_ref();
        match self {
            Self::Present => true,
            Self::Exact(exact) => exact.as_bytes() == text,
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Compiled `HTTPMatchRequest.uri`.
#[derive(Clone, Debug, Default)]
pub struct PathPattern {
    /// What the path must be.
    pub kind: PathKind,
    /// Istio `ignoreUriCase`: for exact and prefix; ASCII only, as in Envoy.
    pub ignore_case: bool,
}

/// The three forms of a path condition and its absence.
#[derive(Clone, Debug, Default)]
pub enum PathKind {
    /// Every path.
    #[default]
    Any,
    /// This path.
    Exact(Box<str>),
    /// A raw string prefix: `/foo` matches `/foobar`.
    Prefix(Box<str>),
    /// RE2 expression over the whole path.
    Regex(Expression),
}

impl PathPattern {
    /// Whether a path (without query) fulfils the pattern.
    pub fn matches(&self, path: &str) -> bool {
        match &self.kind {
            PathKind::Any => true,
            PathKind::Exact(exact) if self.ignore_case => exact.eq_ignore_ascii_case(path),
            PathKind::Exact(exact) => **exact == *path,
            PathKind::Prefix(prefix) if self.ignore_case => {
                path.as_bytes().get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
            }
            PathKind::Prefix(prefix) => path.starts_with(&**prefix),
            PathKind::Regex(regex) => regex.is_match(path),
        }
    }
}

/// Where a header condition looks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeaderField {
    /// A header; several values are joined with `,` before matching.
    Name(HeaderName),
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority` and `host`: the same thing in HTTP/1.1 and HTTP/2.
    Authority,
    /// `:path`: the path with its query.
    Path,
    /// `@request.auth.claims`: a claim of the verified token, by its path; no header can stand for it.
    Claim(Box<[Box<str>]>),
}

/// One entry of `HTTPMatchRequest.headers` or `withoutHeaders`.
#[derive(Clone, Debug)]
pub struct HeaderCondition {
    /// Which header.
    pub field: HeaderField,
    /// What its value must be.
    pub pattern: StringPattern,
    /// `withoutHeaders`: fulfilled when the header is absent or does not match.
    pub inverted: bool,
}

/// One entry of `HTTPMatchRequest.queryParams`.
#[derive(Clone, Debug)]
pub struct QueryCondition {
    /// Name of the parameter; case-sensitive, not decoded.
    pub name: Box<str>,
    /// What its first value must be; not decoded.
    pub pattern: StringPattern,
}

/// One compiled `HTTPMatchRequest`: all of its conditions must hold. The default matches everything.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    /// `uri` and `ignoreUriCase`.
    pub path: PathPattern,
    /// Everything but the path; `None` when there is nothing else, which is the usual case.
    pub conditions: Option<Box<Conditions>>,
}

/// The conditions of an `HTTPMatchRequest` that do not look at the path.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// `scheme`.
    pub scheme: Option<StringPattern>,
    /// `method`.
    pub method: Option<StringPattern>,
    /// `authority`, port included.
    pub authority: Option<StringPattern>,
    /// `headers` and `withoutHeaders`.
    pub headers: Vec<HeaderCondition>,
    /// `queryParams`.
    pub query: Vec<QueryCondition>,
}

impl RouteMatch {
    /// Whether a request fulfils every condition.
    pub fn matches(&self, request: &RequestView<'_>) -> bool {
        self.path.matches(request.path) && self.conditions_hold(request)
    }

    /// Whether a request fulfils every condition but the path.
    pub fn conditions_hold(&self, request: &RequestView<'_>) -> bool {
        self.conditions.as_ref().is_none_or(|conditions| conditions.hold(request))
    }

    /// Whether every request fulfils this: no condition besides the prefix `/`, an empty prefix or the regex `.*`.
    pub fn is_catch_all(&self) -> bool {
        self.conditions.is_none()
            && match &self.path.kind {
                PathKind::Any => true,
                PathKind::Prefix(prefix) => matches!(&**prefix, "" | "/"),
                PathKind::Regex(regex) => regex.as_str() == ".*",
                PathKind::Exact(_) => false,
            }
    }
}

impl Conditions {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.query.is_empty()
    }

    fn hold(&self, request: &RequestView<'_>) -> bool {
        let fits = |pattern: &Option<StringPattern>, text: &str| pattern.as_ref().is_none_or(|p| p.matches(text));
        fits(&self.method, request.method)
            && fits(&self.scheme, request.scheme)
            && fits(&self.authority, request.authority)
            && self.headers.iter().all(|condition| condition.holds(request))
            && self.query.iter().all(|condition| condition.holds(request.query))
    }
}

impl HeaderCondition {
    fn holds(&self, request: &RequestView<'_>) -> bool {
        let matched = match &self.field {
            HeaderField::Name(name) => header_value(request.headers, name).is_some_and(|v| self.pattern.matches(&v)),
            HeaderField::Claim(path) => claim_matches(request, path, &self.pattern),
            HeaderField::Method => self.pattern.matches(request.method),
            HeaderField::Scheme => self.pattern.matches(request.scheme),
            HeaderField::Authority => self.pattern.matches(request.authority),
            HeaderField::Path if request.query.is_empty() => self.pattern.matches(request.path),
            HeaderField::Path => self.pattern.matches(format!("{}?{}", request.path, request.query)),
        };
        matched != self.inverted
    }
}

/// A text, or one of a list of texts; as in Istio, nothing else is compared.
fn claim_matches(request: &RequestView<'_>, path: &[Box<str>], pattern: &StringPattern) -> bool {
    let claim = request.token.and_then(|token| token.claim(path.iter().map(|name| &**name)));
    match claim {
        Some(Value::String(text)) => pattern.matches(text),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).any(|item| pattern.matches(item)),
        _ => false,
    }
}

/// The value of a header; several are joined with `,`.
pub(crate) fn header_value<'a>(headers: &'a dyn Headers, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = (0..).map_while(|number| headers.nth(name, number));
    let mut joined = Cow::Borrowed(values.next()?);
    for more in values {
        let text = joined.to_mut();
        text.push(b',');
        text.extend_from_slice(more);
    }
    Some(joined)
}

impl QueryCondition {
    fn holds(&self, query: &str) -> bool {
        let found = query.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (*name == *self.name).then_some(value)
        });
        found.is_some_and(|value| self.pattern.matches(value))
    }
}

#[cfg(test)]
mod tests;
