//! Kubernetes `EndpointSlice` (discovery.k8s.io/v1).

use serde::Deserialize;

/// Label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Kubernetes `EndpointSlice`, as far as routing reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Ports that every endpoint of the slice serves.
    pub ports: Vec<EndpointPort>,
}

/// Kubernetes `Endpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// Addresses of the same endpoint; the first is used.
    pub addresses: Vec<String>,
    /// State; ready when unset.
    pub conditions: EndpointConditions,
    /// The pod behind it.
    pub target_ref: Option<TargetRef>,
    /// Host name of the pod.
    pub hostname: Option<String>,
    /// Node of the pod.
    pub node_name: Option<String>,
    /// Zone of the node.
    pub zone: Option<String>,
}

/// Kubernetes `EndpointConditions`: unset means yes, except for `terminating`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointConditions {
    /// May get traffic.
    pub ready: Option<bool>,
    /// Can serve, also while it terminates.
    pub serving: Option<bool>,
    /// On its way out.
    pub terminating: Option<bool>,
}

/// Kubernetes `ObjectReference`, as far as routing reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetRef {
    /// As `Pod`.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Its namespace; the slice's own when empty.
    pub namespace: String,
}

/// Kubernetes `EndpointPort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointPort {
    /// The service port's name; empty when it has none.
    pub name: String,
    /// Port of the endpoints; every port when unset.
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`; TCP when empty.
    pub protocol: String,
    /// What is spoken.
    pub app_protocol: Option<String>,
}
