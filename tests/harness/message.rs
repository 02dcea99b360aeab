//! What a story says and hears, in whichever HTTP version: one form of requests and answers for all of them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The HTTP version of one side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// Every combination: of the client, of the endpoint.
pub const COMBINATIONS: [(Version, Version); 4] = [
    (Version::One, Version::One),
    (Version::One, Version::Two),
    (Version::Two, Version::One),
    (Version::Two, Version::Two),
];

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Fields.
    pub headers: HeaderMap,
    /// Body; `None` = there is none, and none is announced.
    pub body: Option<Bytes>,
    /// The body is sent so many times, one behind the other.
    pub times: usize,
    /// Trailers; empty = none.
    pub trailers: HeaderMap,
    /// Sends `expect: 100-continue`, and the body when it is asked for.
    pub expects: bool,
}

impl Ask {
    /// A request without a body.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            headers: HeaderMap::new(),
            body: None,
            times: 1,
            trailers: HeaderMap::new(),
            expects: false,
        }
    }

    /// `GET path`.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// `POST path` with this body.
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..Self::new("POST", path) }
    }

    /// With one more field.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    /// With one more trailer.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.trailers.append(name, HeaderValue::from_static(value));
        self
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Interim answers before it.
    pub interim: Vec<(u16, HeaderMap)>,
    /// Status.
    pub status: u16,
    /// Fields.
    pub headers: HeaderMap,
    /// Body; of a HEAD what it would be.
    pub body: Bytes,
    /// Trailers; empty = none.
    pub trailers: HeaderMap,
    /// How the body ended before its end; empty = it is whole.
    pub cut: String,
}

impl Answer {
    /// An answer with this body.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    /// With one more field.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// With one more trailer.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &str) -> Self {
        append(&mut self.trailers, name, value);
        self
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Every value of a field, in the order they came.
pub fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

fn append(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
}
