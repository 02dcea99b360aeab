//! Who may do what: Istio's `AuthorizationPolicy`, compiled.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::request::RequestView;

/// What policies look at: one request, or one connection whose bytes nobody looks at.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The peer's SPIFFE id, as its verified certificate has it; empty = none.
    pub peer: &'a str,
    /// Where the packets come from (`source.ip`).
    pub source: IpAddr,
    /// Who the client is where proxies in front are trusted to say so (`remote.ip`).
    pub remote: IpAddr,
    /// Where it was received: our address, and the port that is bound, or the workload's (`destination.ip`,
    /// `destination.port`).
    pub local: SocketAddr,
    /// The server name that the client asked for; empty = none.
    pub sni: &'a str,
    /// The request, with its verified token; `None` for bytes.
    pub request: Option<RequestView<'a>>,
}

/// What policies say of an access.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Judgement {
    /// `Some`: it is denied, by the rule of this id (`ns[..]-policy[..]-rule[..]`), or by none that allows it (`none`).
    pub denied: Option<Arc<str>>,
}

/// The policies of one workload.
#[derive(Debug, Default)]
pub struct Authorization {}

impl Authorization {
    /// What the policies say.
    pub fn judge(&self, _access: &Access<'_>) -> Judgement {
        Judgement::default()
    }
}
