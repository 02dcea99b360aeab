//! The hosts that an order is to prove, and the ways to prove them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{AuthorizationState, Challenge, ChallengeType, Identifier};

use super::error::Problem;

/// One host that an order is to prove.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authorization {
    /// The host, without `*.`.
    pub host: String,
    /// The order is for `*.` and the host.
    pub wildcard: bool,
    /// How far it is.
    pub status: AuthorizationStatus,
    /// The ways to prove it that we know.
    pub offers: Vec<Offer>,
    /// Why its challenge failed.
    pub error: Option<Problem>,
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorizationStatus {
    /// To be proved.
    Pending,
    /// Proved.
    Valid,
    /// Failed.
    Invalid,
    /// Expired, revoked or given up.
    Other,
}

/// One way to prove a host.
#[derive(Clone, Eq, PartialEq)]
pub struct Offer {
    /// Which.
    pub kind: ChallengeKind,
    /// The challenge's name, the last part of the path in http-01.
    pub token: String,
    /// What proves it in http-01 and tls-alpn-01 (RFC 8555 section 8.1).
    pub key_authorization: String,
    /// What proves it in dns-01: the TXT record's value.
    pub dns_value: String,
}

impl Authorization {
    pub(super) fn new(state: &AuthorizationState, thumbprint: &str) -> Self {
        let (host, wildcard) = name(state);
        Self {
            host,
            wildcard,
            status: match state.status {
                instant_acme::AuthorizationStatus::Pending => AuthorizationStatus::Pending,
                instant_acme::AuthorizationStatus::Valid => AuthorizationStatus::Valid,
                instant_acme::AuthorizationStatus::Invalid => AuthorizationStatus::Invalid,
                _ => AuthorizationStatus::Other,
            },
            offers: state.challenges.iter().filter_map(|challenge| Offer::new(challenge, thumbprint)).collect(),
            error: state.challenges.iter().find_map(|challenge| challenge.error.as_ref()).map(Problem::from),
        }
    }
}

impl Offer {
    /// RFC 8555 section 8.1 and 8.4; `None` for a kind we do not know.
    pub(super) fn new(challenge: &Challenge, thumbprint: &str) -> Option<Self> {
        let kind = ChallengeKind::from_acme(&challenge.r#type)?;
        let key_authorization = format!("{}.{thumbprint}", challenge.token);
        let dns_value = URL_SAFE_NO_PAD.encode(digest(&SHA256, key_authorization.as_bytes()));
        Some(Self { kind, token: challenge.token.clone(), key_authorization, dns_value })
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How a CA checks that a host is ours.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ChallengeKind {
    /// A file on port 80 (RFC 8555 section 8.3).
    Http01,
    /// A certificate on port 443 (RFC 8737).
    TlsAlpn01,
    /// A TXT record (RFC 8555 section 8.4).
    Dns01,
}

impl ChallengeKind {
    /// As in RFC 8555: `http-01`, `tls-alpn-01`, `dns-01`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    fn from_acme(kind: &ChallengeType) -> Option<Self> {
        match kind {
            ChallengeType::Http01 => Some(Self::Http01),
            ChallengeType::TlsAlpn01 => Some(Self::TlsAlpn01),
            ChallengeType::Dns01 => Some(Self::Dns01),
            _ => None,
        }
    }

    pub(super) fn to_acme(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Dns01 => ChallengeType::Dns01,
        }
    }
}

/// The host without `*.`, and whether the order is for the wildcard.
pub(super) fn name(state: &AuthorizationState) -> (String, bool) {
    let authorized = state.identifier();
    match authorized.identifier {
        Identifier::Dns(host) => (host.clone(), authorized.wildcard),
        other => (other.authorized(false).to_string(), false),
    }
}
