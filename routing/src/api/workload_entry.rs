//! Istio `WorkloadEntry` (networking.istio.io), also the form of `ServiceEntry.endpoints`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::non_empty;

/// Istio `WorkloadEntry`: one address of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadEntry {
    /// IP, DNS name or `unix:///path`. Required unless `network` is set.
    pub address: String,
    /// Ports by the name that the service gives them.
    pub ports: BTreeMap<String, u16>,
    /// Labels for subsets and selectors.
    pub labels: BTreeMap<String, String>,
    /// Network of the address; the mesh's own when unset.
    #[serde(deserialize_with = "non_empty")]
    pub network: Option<String>,
    /// `region/zone/subzone`.
    #[serde(deserialize_with = "non_empty")]
    pub locality: Option<String>,
    /// Share of the traffic; 0 counts as 1.
    pub weight: u32,
    /// Service account of the workload, for its identity.
    #[serde(deserialize_with = "non_empty")]
    pub service_account: Option<String>,
}
