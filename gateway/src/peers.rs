//! What proxies of a mesh tell each other about their workloads (Istio's metadata exchange), so that whoever is called knows
//! who calls: in headers of requests and answers, and before the first byte of connections that carry no HTTP.
//!
//! It is told to those alone who have proven an identity of the mesh, and believed of nobody else. What is told is a claim all
//! the same: the namespace is the one that the certificate proves, whatever is claimed, and each identity has room for few
//! descriptions, so that no client makes time series without end.

pub(crate) mod exchange;
mod heard;
mod metadata;
mod own;
mod table;

pub(crate) use self::{
    heard::Heard,
    own::{Kind, Own},
    table::Peers,
};

/// What came of what a peer told of its workload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// It is believed.
    Known,
    /// So it is, but for the namespace, which is another one than its certificate proves.
    Contradicted,
    /// It is no description, or one that is too long.
    Broken,
    /// Its identity has described too many workloads already.
    Crowded,
}

/// As the metric tells it, in the order of [`Claim`].
pub(crate) const CLAIM_RESULTS: [&str; 4] = ["known", "contradicted", "broken", "crowded"];

/// The namespace of an identity of Istio's form: `b` of `spiffe://a/ns/b/sa/c`.
pub(crate) fn namespace_of(principal: &str) -> Option<&str> {
    let (_, rest) = principal.strip_prefix("spiffe://")?.split_once("/ns/")?;
    rest.split('/').next().filter(|namespace| !namespace.is_empty())
}
