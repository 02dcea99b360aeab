//! What keeps requests with an endpoint, and where keys lead (Istio `consistentHash`).

use http::HeaderName;
use twox_hash::XxHash64;

use super::HashCookie;
use crate::request::Headers;

/// Istio `ConsistentHashLB`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// How a key finds its endpoint.
    pub table: HashTable,
}

/// What of a request is hashed.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HashKey {
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie(HashCookie),
    /// The client's address.
    Source,
    /// A parameter of the query.
    Query(Box<str>),
    /// Nobody says what: any endpoint.
    Nothing,
}

/// How a key finds its endpoint.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HashTable {
    /// A ring of at least so many points.
    Ring {
        /// Istio `minimumRingSize`.
        minimum: u64,
    },
    /// A table of so many places, a prime.
    Maglev {
        /// Istio `tableSize`.
        size: u64,
    },
}

impl HashTable {
    /// Istio's default of `minimumRingSize`.
    pub const RING: u64 = 1024;
    /// Istio's default of `tableSize`.
    pub const MAGLEV: u64 = 65_537;
}

/// The hash of a text: xxHash64, as in Envoy.
pub fn of_bytes(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

impl HashKey {
    /// The key of a request, if it has what is asked for. `source`: the client's address.
    pub fn of(&self, headers: &dyn Headers, query: &str, source: &str) -> Option<u64> {
        match self {
            Self::Header(name) => header(headers, name),
            Self::Cookie(cookie) => cookie.value(headers).map(of_bytes),
            Self::Source => Some(of_bytes(source.as_bytes())),
            Self::Query(name) => parameter(query, name).map(|value| of_bytes(value.as_bytes())),
            Self::Nothing => None,
        }
    }

    /// The key of a connection that is not looked into: its client's address is all there is.
    pub fn of_connection(&self, source: &str) -> Option<u64> {
        matches!(self, Self::Source).then(|| of_bytes(source.as_bytes()))
    }
}

/// Several fields count in the order of their values, so that it does not matter who sent them in which order.
fn header(headers: &dyn Headers, name: &HeaderName) -> Option<u64> {
    let first = headers.nth(name, 0)?;
    if headers.nth(name, 1).is_none() {
        return Some(of_bytes(first));
    }
    let mut values: Vec<&[u8]> = (0..).map_while(|number| headers.nth(name, number)).collect();
    values.sort_unstable();
    Some(values.into_iter().fold(0, XxHash64::oneshot))
}

/// The first parameter of a name, as it was sent.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then_some(value)
    })
}
