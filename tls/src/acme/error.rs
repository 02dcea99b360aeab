//! What goes wrong between us and a CA, in words for whoever runs the gateway.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::authorization::ChallengeKind;
use super::order::OrderStatus;

/// Why a call to a CA gave no result; the message is a sentence that names the CA's host and carries its own words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory's URL cannot be used.
    #[error("`{0}` is not the URL of an ACME directory: it has to look like https://ca.example/directory")]
    Server(String),
    /// The certificates that the CA's own one has to chain to cannot be used.
    #[error("the CA's HTTPS certificate cannot be checked: {0}")]
    Roots(Box<crate::Error>),
    /// The CA answered with an error.
    #[error("the CA at {host} refused: {problem}")]
    Refused {
        /// Host and port of the URL that was asked.
        host: String,
        /// The CA's words.
        problem: Problem,
        /// The CA asks not to come back earlier.
        retry_after: Option<Duration>,
    },
    /// No answer: no address, no connection, or none in time.
    #[error("the CA at {host} cannot be reached: {why}")]
    Unreachable {
        /// Host and port of the URL that was asked.
        host: String,
        /// The innermost cause.
        why: String,
    },
    /// The CA's HTTPS certificate is not trusted, so nothing was sent.
    #[error("the CA at {host} is not trusted: {why}")]
    Untrusted {
        /// Host and port of the URL that was asked.
        host: String,
        /// What is wrong with the certificate, and what to do.
        why: String,
    },
    /// The CA's answer is not what RFC 8555 says.
    #[error("the CA at {host} does not answer as an ACME server: {what}")]
    Protocol {
        /// Host and port of the URL that was asked.
        host: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// The account's key cannot be used.
    #[error("the account key cannot be used: {0}")]
    Key(String),
    /// The account kept earlier cannot be used.
    #[error("the ACME account that was kept cannot be used: {0}")]
    Credentials(String),
    /// A certificate to revoke, to replace or to look up cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(Box<crate::Error>),
    /// The order has no such authorization, or the CA has no such challenge for it.
    #[error("the CA offers no {} for {host}", challenge.name())]
    NotOffered {
        /// The name to prove, with `*.` for a wildcard.
        host: String,
        /// The challenge that was wanted.
        challenge: ChallengeKind,
    },
    /// A certificate was asked for before the order is valid.
    #[error("the order has no certificate: it is {}", .0.name())]
    NoCertificate(OrderStatus),
}

impl Error {
    /// What the CA said, when it answered with an error.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// How long the CA asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The same call may work soon, with nothing changed: the CA could not be reached, has an error of its own, or
    /// rejected one nonce after the other. Rate limits are none of these.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { problem, .. } => {
                matches!(problem.kind.as_str(), BAD_NONCE | SERVER_INTERNAL)
                    || problem.status.is_some_and(|status| status >= 500 || status == 408)
            }
            _ => false,
        }
    }

    /// What instant-acme says; `retry_after` is what the last answer asked for.
    pub(super) fn from_acme(error: instant_acme::Error, host: &str, retry_after: Option<Duration>) -> Self {
        let protocol = |what: String| Self::Protocol { host: host.to_owned(), what };
        match error {
            instant_acme::Error::Api(problem) => {
                Self::Refused { host: host.to_owned(), problem: Problem::from(&problem), retry_after }
            }
            instant_acme::Error::Other(other) => match other.downcast::<Self>() {
                Ok(error) => *error,
                Err(other) => protocol(clean(&other.to_string())),
            },
            instant_acme::Error::Json(error) => protocol(format!("its JSON is not as expected ({error})")),
            instant_acme::Error::Crypto => Self::Key("signing with it failed".to_owned()),
            instant_acme::Error::KeyRejected => Self::Key("it is not an ECDSA key on P-256 in PKCS#8".to_owned()),
            other => protocol(clean(&other.to_string())),
        }
    }
}

/// What a CA says about an error: a problem document (RFC 7807, RFC 8555 section 6.7). Display is a sentence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Problem {
    /// The last part of the URN, such as `rateLimited` or `accountDoesNotExist`; empty when the CA named none.
    pub kind: String,
    /// The CA's explanation; never empty when read from an answer.
    pub detail: String,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The parts of it that concern one identifier each (RFC 8555 section 6.7.1).
    pub subproblems: Vec<Subproblem>,
}

/// What a CA says about one identifier.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Subproblem {
    /// The identifier.
    pub host: Option<String>,
    /// As [`Problem::kind`].
    pub kind: String,
    /// As [`Problem::detail`].
    pub detail: String,
}

impl Problem {
    /// Reads an error answer; one that is no problem document is described by its status.
    pub(super) fn read(body: &[u8], status: http::StatusCode, content_type: Option<&str>) -> Self {
        let Ok(Value::Object(document)) = serde_json::from_slice(body) else {
            return Self::without_document(status, content_type);
        };
        if !document.contains_key("type") && !document.contains_key("detail") {
            return Self::without_document(status, content_type);
        }
        let document = Value::Object(document);
        let subproblems = document["subproblems"].as_array().into_iter().flatten();
        Self {
            kind: kind(document["type"].as_str()),
            detail: detail(document["detail"].as_str()),
            status: Some(status.as_u16()),
            subproblems: subproblems
                .map(|sub| Subproblem {
                    host: sub["identifier"]["value"].as_str().map(clean),
                    kind: kind(sub["type"].as_str()),
                    detail: detail(sub["detail"].as_str()),
                })
                .collect(),
        }
    }

    fn without_document(status: http::StatusCode, content_type: Option<&str>) -> Self {
        let kind = match status.as_u16() {
            429 => RATE_LIMITED,
            500.. => SERVER_INTERNAL,
            _ => "",
        };
        let body = content_type.map_or_else(|| "nothing".to_owned(), |kind| format!("a body of type {}", clean(kind)));
        Self {
            kind: kind.to_owned(),
            detail: format!("HTTP status {status} with {body} instead of an ACME problem document"),
            status: Some(status.as_u16()),
            subproblems: Vec::new(),
        }
    }
}

impl From<&instant_acme::Problem> for Problem {
    fn from(problem: &instant_acme::Problem) -> Self {
        Self {
            kind: kind(problem.r#type.as_deref()),
            detail: detail(problem.detail.as_deref()),
            status: problem.status,
            subproblems: problem
                .subproblems
                .iter()
                .map(|sub| Subproblem {
                    host: sub.identifier.as_ref().map(|identifier| clean(&identifier.authorized(false).to_string())),
                    kind: kind(sub.r#type.as_deref()),
                    detail: detail(sub.detail.as_deref()),
                })
                .collect(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.detail, &self.kind)?;
        for sub in &self.subproblems {
            write!(f, "; for {}: ", sub.host.as_deref().unwrap_or("an identifier without name"))?;
            write_part(f, &sub.detail, &sub.kind)?;
        }
        Ok(())
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, detail: &str, kind: &str) -> fmt::Result {
    f.write_str(detail)?;
    if kind.is_empty() { Ok(()) } else { write!(f, " ({kind})") }
}

pub(super) const BAD_NONCE: &str = "badNonce";
const RATE_LIMITED: &str = "rateLimited";
const SERVER_INTERNAL: &str = "serverInternal";

/// `urn:ietf:params:acme:error:rateLimited` is `rateLimited`; `about:blank` says nothing (RFC 7807 section 4.2).
fn kind(urn: Option<&str>) -> String {
    let urn = urn.filter(|urn| *urn != "about:blank").unwrap_or_default();
    clean(urn.rsplit([':', '/']).next().unwrap_or_default())
}

fn detail(text: Option<&str>) -> String {
    let text = clean(text.unwrap_or_default());
    if text.is_empty() { "no reason given".to_owned() } else { text }
}

/// A CA's words must not write lines into our log, nor fill it.
pub(super) fn clean(text: &str) -> String {
    const LONGEST: usize = 1024;
    let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.trim().chars().take(LONGEST).map(printable).collect()
}
