//! Istio `WorkloadGroup` (networking.istio.io): what workloads outside of Kubernetes have in common.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::workload_entry::WorkloadEntry;

/// Istio `WorkloadGroup`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadGroup {
    /// Labels and annotations of each WorkloadEntry.
    pub metadata: Option<GroupMetadata>,
    /// What each WorkloadEntry is made from. Required.
    #[schemars(extend("x-required" = true))]
    pub template: Option<WorkloadEntry>,
    /// How the health of a workload is found out.
    pub probe: Option<BTreeMap<String, Value>>,
}

/// Istio `WorkloadGroup.ObjectMeta`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupMetadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}
