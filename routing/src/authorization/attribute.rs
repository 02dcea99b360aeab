//! What of an access a policy compares, as text or as an address.

use std::{borrow::Cow, net::IpAddr};

use http::HeaderName;
use serde_json::Value;

use super::Access;
use crate::{host::strip_port, request::RequestView, token::Token};

/// A text.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Attribute {
    /// The peer's SPIFFE id without `spiffe://`.
    Principal,
    /// What stands behind `/ns/` in it: the namespace, a slash and the rest.
    Namespace,
    /// The trust domain in it.
    TrustDomain,
    /// The server name that the client asked for.
    Sni,
    /// The authority in lower case, with its port if it has one; where its host ends with a dot, also without that.
    Host,
    /// The authority as it is, and without that dot.
    Authority,
    /// The method.
    Method,
    /// `http` or `https`.
    Scheme,
    /// The normalised path.
    Path,
    /// The same with its query.
    PathAndQuery,
    /// All fields of a name, with commas between them.
    Header(HeaderName),
    /// Who issued the token.
    Issuer,
    /// Whom the token is about.
    Subject,
    /// Whom the token is for, each.
    Audience,
    /// Who may present the token.
    Presenter,
    /// A claim of the token by its path: a text, or each text of a list.
    Claim(Box<[Box<str>]>),
}

/// An address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Address {
    /// Where the packets come from.
    Source,
    /// Who the client is.
    Remote,
    /// Where it was received.
    Destination,
}

impl Address {
    pub(super) fn of(self, access: &Access<'_>) -> IpAddr {
        match self {
            Self::Source => access.source,
            Self::Remote => access.remote,
            Self::Destination => access.local.ip(),
        }
    }
}

const SPIFFE: &str = "spiffe://";

impl Attribute {
    /// Of `request.headers[...]`: HTTP/2's own names are headers, too. `None`: no header can have this name.
    pub(crate) fn of_header(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":path" => Self::PathAndQuery,
            ":authority" | "host" => Self::Authority,
            name => Self::Header(name.parse().ok()?),
        })
    }

    /// Shows the texts of an access, until one is taken; whether one was.
    pub(super) fn any(&self, access: &Access<'_>, mut take: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Principal => principal(access).is_some_and(take),
            Self::Namespace => namespaces(access).any(take),
            Self::TrustDomain => principal(access).and_then(|it| Some(it.split_once('/')?.0)).is_some_and(take),
            Self::Sni => take(access.sni),
            _ => access.request.as_ref().is_some_and(|request| self.any_of_request(request, take)),
        }
    }

    fn any_of_request(&self, request: &RequestView<'_>, mut take: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Host if request.authority.bytes().any(|b| b.is_ascii_uppercase()) => {
                any_spelling(&request.authority.to_ascii_lowercase(), take)
            }
            Self::Host | Self::Authority => any_spelling(request.authority, take),
            Self::Method => take(request.method),
            Self::Scheme => take(request.scheme),
            Self::Path => take(request.path),
            Self::PathAndQuery if !request.query.is_empty() => take(&format!("{}?{}", request.path, request.query)),
            Self::PathAndQuery => take(request.path),
            Self::Header(name) => fields(request, name).any(|value| take(&value)),
            _ => request.token.is_some_and(|token| self.any_of_token(token, take)),
        }
    }

    fn any_of_token(&self, token: &Token, take: impl FnMut(&str) -> bool) -> bool {
        let claim = |name: &str| token.claims.get(name);
        match self {
            Self::Issuer => claim("iss").and_then(Value::as_str).is_some_and(take),
            Self::Subject => claim("sub").and_then(Value::as_str).is_some_and(take),
            Self::Audience => any_text(claim("aud"), take),
            Self::Presenter => any_text(claim("azp"), take),
            Self::Claim(path) => any_text(token.claim(path.iter().map(|name| &**name)), take),
            _ => false,
        }
    }
}

fn principal<'a>(access: &Access<'a>) -> Option<&'a str> {
    access.peer.strip_prefix(SPIFFE).filter(|id| !id.is_empty())
}

/// What stands behind each `/ns/`: of an id in Istio's form that is one.
fn namespaces<'a>(access: &Access<'a>) -> impl Iterator<Item = &'a str> {
    access.peer.match_indices("/ns/").map(|(at, it)| &access.peer[at + it.len()..])
}

/// An authority, and without the dot behind its host: routes take both for one, so a policy must.
fn any_spelling(authority: &str, mut take: impl FnMut(&str) -> bool) -> bool {
    let host = strip_port(authority);
    take(authority)
        || host.strip_suffix('.').is_some_and(|bare| match &authority[host.len()..] {
            "" => take(bare),
            port => take(&format!("{bare}{port}")),
        })
}

/// Every field of a name: as one text they would hide from a rule that denies one of them.
fn fields<'a>(request: &RequestView<'a>, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
    let headers = request.headers;
    (0..).map_while(move |number| headers.nth(name, number)).map(String::from_utf8_lossy)
}

/// A text, or the texts of a list.
fn any_text(value: Option<&Value>, mut take: impl FnMut(&str) -> bool) -> bool {
    match value {
        Some(Value::String(text)) => take(text),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).any(take),
        _ => false,
    }
}
