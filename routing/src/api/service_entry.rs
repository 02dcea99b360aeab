//! Istio `ServiceEntry` (networking.istio.io).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::protocol::Protocol;
use super::workload_entry::WorkloadEntry;

/// Istio `ServiceEntry`: a service that Kubernetes does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceEntry {
    /// DNS names; at least one.
    #[schemars(extend("x-required" = true))]
    pub hosts: Vec<String>,
    /// Virtual IPs or CIDRs.
    pub addresses: Vec<String>,
    /// Ports; unique names and numbers.
    pub ports: Vec<ServiceEntryPort>,
    /// Outside or inside the mesh.
    pub location: Location,
    /// How addresses are found.
    pub resolution: Resolution,
    /// The addresses; excludes `workloadSelector`.
    pub endpoints: Vec<WorkloadEntry>,
    /// Pods and WorkloadEntries of the same namespace that are the endpoints.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that see this object: `.`, `*`, `~` or names; everywhere when empty.
    pub export_to: Vec<String>,
    /// Names of which the server certificate must hold one.
    pub subject_alt_names: Vec<String>,
}

/// Istio `ServicePort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceEntryPort {
    /// 1 to 65535. Required.
    #[schemars(extend("x-required" = true))]
    pub number: u16,
    /// What is spoken on the port; TCP when unset.
    pub protocol: Option<Protocol>,
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// Port of the endpoints; `number` when 0.
    pub target_port: u16,
}

/// Istio `WorkloadSelector` in its `labels` form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that a workload must have, all of them.
    pub labels: BTreeMap<String, String>,
}

/// Istio `ServiceEntry.Location`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside: no mesh TLS unless a DestinationRule says so.
    #[default]
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// Istio `ServiceEntry.Resolution`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Resolution {
    /// The address that the client meant.
    #[default]
    #[serde(rename = "NONE")]
    None,
    /// The addresses in `endpoints`.
    #[serde(rename = "STATIC")]
    Static,
    /// Every address that DNS gives.
    #[serde(rename = "DNS")]
    Dns,
    /// The first address that DNS gives at the time.
    #[serde(rename = "DNS_ROUND_ROBIN")]
    DnsRoundRobin,
    /// The name that the request carries, looked up then.
    #[serde(rename = "DYNAMIC_DNS")]
    DynamicDns,
}
