//! Which tokens of requests are checked, where they are looked for, and what becomes of them: Istio's
//! `RequestAuthentication`, compiled.

mod found;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use serde_json::{Map, Value};

pub use found::{Found, Place, without_cookie, without_param};

/// The rules of one workload.
#[derive(Debug, Default)]
pub struct Tokens {
    /// One for each issuer, sorted by it.
    pub rules: Vec<TokenRule>,
    /// There is an object that nobody can understand: no token is known to be right.
    pub closed: bool,
    /// Headers that tokens alone may set (sorted, unique).
    pub cleared: Vec<HeaderName>,
}

/// One issuer.
#[derive(Debug)]
pub struct TokenRule {
    /// `namespace/name` of its object.
    pub object: Arc<str>,
    /// `iss` of its tokens; empty = any.
    pub issuer: Box<str>,
    /// Whom a token may be for; anybody when empty.
    pub audiences: Vec<Box<str>>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Headers that hold tokens.
    pub headers: Vec<TokenHeader>,
    /// Query parameters that hold tokens.
    pub params: Vec<Box<str>>,
    /// Cookies that hold tokens.
    pub cookies: Vec<Box<str>>,
    /// Whether the token goes on to the workload.
    pub forward: bool,
    /// What gets the whole payload.
    pub payload_header: Option<HeaderName>,
    /// What gets single claims.
    pub claims: Vec<ClaimHeader>,
    /// Claims that are lists with spaces between their items, besides [`LISTS`].
    pub lists: Vec<Box<str>>,
    /// The same number: the same is made of a payload.
    pub reading: u64,
}

/// Where keys come from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum KeySource {
    /// They are here.
    Inline(Arc<str>),
    /// `jwksUri`.
    Remote {
        /// Where they are.
        uri: Arc<str>,
        /// How long a fetch may take.
        timeout: Duration,
    },
    /// Where the issuer's OpenID configuration says.
    Discovered {
        /// The issuer.
        issuer: Arc<str>,
        /// How long each fetch may take.
        timeout: Duration,
    },
}

/// A header that holds a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenHeader {
    /// Its name.
    pub name: HeaderName,
    /// What stands in front of the token.
    pub prefix: Box<str>,
}

impl TokenHeader {
    /// RFC 6750 section 2.1.
    pub fn bearer() -> Self {
        Self { name: AUTHORIZATION, prefix: "Bearer ".into() }
    }
}

/// A header that gets a claim.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClaimHeader {
    /// Its name.
    pub header: HeaderName,
    /// Name of the claim, from the outermost one.
    pub path: Vec<Box<str>>,
}

/// Claims that Istio reads as lists whatever a rule says.
const LISTS: [&str; 2] = ["scope", "permission"];

/// Claims that say what a token is (RFC 7519 section 4.1, and `azp`), which are texts and numbers whatever a rule says.
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "azp", "exp", "nbf", "iat"];

impl Tokens {
    /// What a rule for tokens in the usual places looks at, when nobody knows what was meant.
    pub fn usual() -> TokenRule {
        TokenRule {
            object: "".into(),
            issuer: "".into(),
            audiences: Vec::new(),
            keys: KeySource::Inline("".into()),
            headers: vec![TokenHeader::bearer()],
            params: vec!["access_token".into()],
            cookies: Vec::new(),
            forward: false,
            payload_header: None,
            claims: Vec::new(),
            lists: Vec::new(),
            reading: 0,
        }
    }
}

impl TokenRule {
    /// Whether tokens of this issuer are its own.
    pub fn takes(&self, issuer: &str) -> bool {
        self.issuer.is_empty() || *self.issuer == *issuer
    }

    /// Whether a token for these may be used here.
    pub fn admits<'t>(&self, mut audiences: impl Iterator<Item = &'t str>) -> bool {
        self.audiences.is_empty() || audiences.any(|one| self.audiences.iter().any(|own| **own == *one))
    }

    /// Headers that get single claims, in order. A claim that is no value for a header sets none.
    pub fn claim_headers(&self, claims: &Map<String, Value>) -> Vec<(HeaderName, HeaderValue)> {
        let value = |path: &[Box<str>]| {
            let (first, rest) = path.split_first()?;
            let claim = rest.iter().try_fold(claims.get(&**first)?, |at, name| at.as_object()?.get(&**name))?;
            HeaderValue::from_bytes(text_of(claim)?.as_bytes()).ok()
        };
        self.claims.iter().filter_map(|it| Some((it.header.clone(), value(&it.path)?))).collect()
    }

    /// Makes lists of the claims that are lists by convention.
    pub fn split_lists(&self, claims: &mut Map<String, Value>) {
        // What a token is checked by has one form.
        let own = self.lists.iter().map(|name| &**name).filter(|name| !REGISTERED.contains(name));
        for name in LISTS.iter().copied().chain(own) {
            if let Some(claim) = claims.get_mut(name)
                && let Value::String(text) = claim
            {
                *claim = text.split(' ').filter(|item| !item.is_empty()).map(Value::from).collect();
            }
        }
    }
}

/// A claim as a header has it: scalars as they are, lists and objects as JSON in base64, as Envoy does.
fn text_of(claim: &Value) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(claim.to_string())),
    }
}
