//! Answers that a CA gives on bad days.

use std::time::Duration;

use serde_json::json;

/// An answer that does not come from the CA.
#[derive(Clone, Debug)]
pub struct Canned {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
}

impl Canned {
    /// A problem document (RFC 8555 section 6.7); `kind` is the last part of its URN.
    pub fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let kind = format!("{PROBLEM}{kind}");
        let body = json!({"type": kind, "detail": detail, "status": status}).to_string();
        Self { status, headers: vec![("content-type", "application/problem+json".to_owned())], body }
    }

    /// 429 `rateLimited`, as Let's Encrypt words it.
    pub fn rate_limited(retry_after: Duration) -> Self {
        let detail = "too many certificates (50) already issued for this exact set of identifiers in the last 168h0m0s";
        Self::problem(429, "rateLimited", detail).retry_after(retry_after)
    }

    /// 503 without a body.
    pub fn unavailable() -> Self {
        Self { status: 503, headers: Vec::new(), body: String::new() }
    }

    /// 502 with a page of HTML, from whatever stands in front of the CA.
    pub fn bad_gateway() -> Self {
        let body = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>".to_owned();
        Self { status: 502, headers: vec![("content-type", "text/html".to_owned())], body }
    }

    /// The same with Retry-After, in whole seconds.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.headers.push(("retry-after", pause.as_secs().to_string()));
        self
    }
}

/// What the types of ACME's problems begin with (RFC 8555 section 6.7).
pub(crate) const PROBLEM: &str = "urn:ietf:params:acme:error:";
