//! Istio `Sidecar` (networking.istio.io).

use schemars::JsonSchema;
use serde::Deserialize;

use super::destination_rule::ConnectionPool;
use super::gateway::{Port, ServerTls};
use super::mesh_config::OutboundMode;
use super::scalar::non_empty;
use super::service_entry::WorkloadSelector;
use super::virtual_service::Destination;

/// Istio `Sidecar`: what the proxies beside workloads accept and what they know.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Sidecar {
    /// The workloads; all of the namespace when unset, all of the mesh in the root namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// What is accepted; by the services of the workload when empty.
    pub ingress: Vec<IngressListener>,
    /// What is known; everything when empty.
    pub egress: Vec<EgressListener>,
    /// Limits of connections from clients, for every port.
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// What becomes of hosts that are not known; as the mesh says when unset.
    pub outbound_traffic_policy: Option<SidecarOutboundPolicy>,
}

/// Istio `IstioIngressListener`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IngressListener {
    /// The workload's port. Required.
    #[schemars(extend("x-required" = true))]
    pub port: Option<Port>,
    /// IP address to listen on.
    #[serde(deserialize_with = "non_empty")]
    pub bind: Option<String>,
    /// How connections get there.
    pub capture_mode: CaptureMode,
    /// Where the application listens: `127.0.0.1:PORT`, `0.0.0.0:PORT` for the workload's own address, or `unix:///path`.
    #[serde(deserialize_with = "non_empty")]
    pub default_endpoint: Option<String>,
    /// TLS of the port's own, for clients outside of the mesh.
    pub tls: Option<ServerTls>,
    /// Limits of connections from clients.
    pub connection_pool: Option<ConnectionPool>,
}

/// Istio `IstioEgressListener`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct EgressListener {
    /// The port that applications connect to; every port of the hosts when unset.
    pub port: Option<Port>,
    /// IP address to listen on.
    #[serde(deserialize_with = "non_empty")]
    pub bind: Option<String>,
    /// How connections get there.
    pub capture_mode: CaptureMode,
    /// `namespace/host`, where namespace is `*`, `.`, `~` or a name; `~namespace/host` leaves out. At least one.
    #[schemars(extend("x-required" = true))]
    pub hosts: Vec<String>,
}

/// Istio `CaptureMode`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMode {
    /// As the pod is set up.
    #[default]
    Default,
    /// By iptables.
    Iptables,
    /// Applications connect to the listener themselves.
    None,
}

/// Istio `OutboundTrafficPolicy` of `Sidecar`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SidecarOutboundPolicy {
    /// A block without a mode means REGISTRY_ONLY.
    pub mode: OutboundMode,
    /// Where to send what is not known.
    pub egress_proxy: Option<Destination>,
}
