//! A request, as far as routes look at it.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::token::Token;

/// What of a request the rules can look at.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host header or `:authority`, with its port when it has one.
    pub authority: &'a str,
    /// Normalised path without query and fragment.
    pub path: &'a str,
    /// Query without `?`; empty = none.
    pub query: &'a str,
    /// Port of the Gateway server (gateways) or of the service (sidecars).
    pub port: u16,
    /// Headers.
    pub headers: &'a dyn Headers,
    /// The token that came with it and was verified.
    pub token: Option<&'a Token>,
}

/// Header fields as conditions look at them: a plain map, or whatever form the data path keeps a head in.
pub trait Headers: std::fmt::Debug + Sync {
    /// The value of the `number`th field of a name, from 0, in the order of the message.
    fn nth<'a>(&'a self, name: &HeaderName, number: usize) -> Option<&'a [u8]>;
}

impl Headers for HeaderMap {
    fn nth<'a>(&'a self, name: &HeaderName, number: usize) -> Option<&'a [u8]> {
        self.get_all(name).iter().nth(number).map(HeaderValue::as_bytes)
    }
}
