//! The cookie that keeps a client with an endpoint, as Envoy reads and makes it.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use http::header::COOKIE;

use super::of_bytes;
use crate::request::Headers;

/// Istio `ConsistentHashLB.HTTPCookie`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HashCookie {
    /// Name.
    pub name: Box<str>,
    /// `Path` of one that is made; empty = none.
    pub path: Box<str>,
    /// Lifetime of one that is made, 0 = until the browser ends; `None` = none is made.
    pub ttl: Option<Duration>,
    /// Further attributes of one that is made, such as (`SameSite`, `Lax`); without a value the name stands alone.
    pub attributes: Box<[(Box<str>, Box<str>)]>,
}

impl HashCookie {
    /// The value that a request has, without the quotes around it.
    pub fn value<'a>(&self, headers: &'a dyn Headers) -> Option<&'a [u8]> {
        named_cookie(headers, &self.name)
    }

    /// A value for a client that has none: streams of one connection that race get the same.
    pub fn fresh(&self, remote: SocketAddr, local: SocketAddr) -> Option<String> {
        self.ttl?;
        Some(format!("{:016x}", of_bytes(format!("{remote}{local}").as_bytes())))
    }

    /// The `Set-Cookie` that gives it to the client.
    pub fn set(&self, value: &str) -> String {
        let mut text = format!("{}=\"{value}\"", self.name);
        // Writing into a String cannot fail.
        if let Some(ttl) = self.ttl.filter(|ttl| ttl.as_secs() > 0) {
            let _ = write!(text, "; Max-Age={}", ttl.as_secs());
        }
        if !self.path.is_empty() {
            let _ = write!(text, "; Path={}", self.path);
        }
        for (name, value) in &self.attributes {
            let equals = if value.is_empty() { "" } else { "=" };
            let _ = write!(text, "; {name}{equals}{value}");
        }
        text.push_str("; HttpOnly");
        text
    }
}

/// The value of a cookie, without the quotes around it.
pub(crate) fn named_cookie<'a>(headers: &'a dyn Headers, wanted: &str) -> Option<&'a [u8]> {
    let mut fields = (0..).map_while(|number| headers.nth(&COOKIE, number));
    fields.find_map(|field| {
        field.split(|byte| *byte == b';').find_map(|pair| {
            let (name, value) = split_once(pair.trim_ascii_start())?;
            (name == wanted.as_bytes()).then(|| unquoted(value.trim_ascii_end()))
        })
    })
}

fn split_once(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..at], &pair[at + 1..]))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', within @ .., b'"'] => within,
        _ => value,
    }
}
