//! Istio `PeerAuthentication` (security.istio.io).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::destination_rule::LabelSelector;

/// Istio `PeerAuthentication`: whether workloads demand mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PeerAuthentication {
    /// The workloads; the whole namespace when unset, the whole mesh in the root namespace.
    pub selector: Option<LabelSelector>,
    /// For every port.
    pub mtls: Option<MutualTls>,
    /// By port of the workload, which is the container's port and not the Service's.
    #[schemars(with = "Option<BTreeMap<String, MutualTls>>")]
    pub port_level_mtls: Option<BTreeMap<u16, MutualTls>>,
}

/// Istio `PeerAuthentication.MutualTLS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MutualTls {
    /// The mode.
    pub mode: MutualTlsMode,
}

/// Istio `PeerAuthentication.MutualTLS.Mode`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// What the wider policy says; PERMISSIVE when none does.
    #[default]
    Unset,
    /// Plaintext only.
    Disable,
    /// Mutual TLS and plaintext.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
