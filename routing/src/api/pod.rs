//! Kubernetes `Pod` (v1).

use serde::{Deserialize, Deserializer};

/// Kubernetes `Pod`, as far as routing reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pod {
    /// `spec`.
    pub spec: PodSpec,
    /// `status`.
    pub status: PodStatus,
}

/// Kubernetes `PodSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Service account; `default` when empty.
    pub service_account_name: String,
    /// Deprecated form of `serviceAccountName`.
    pub service_account: String,
    /// Containers.
    pub containers: Vec<Container>,
    /// Whether the pod uses the node's network.
    pub host_network: bool,
    /// Node that it runs on; empty when it runs nowhere yet.
    pub node_name: String,
}

impl PodSpec {
    /// The service account, with Kubernetes' default.
    pub fn account(&self) -> &str {
        match (self.service_account_name.as_str(), self.service_account.as_str()) {
            ("", "") => "default",
            ("", old) => old,
            (name, _) => name,
        }
    }
}

/// Kubernetes `Container`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Name.
    pub name: String,
    /// Declared ports.
    pub ports: Vec<ContainerPort>,
}

/// Kubernetes `ContainerPort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name that a Service's `targetPort` may use.
    pub name: String,
    /// The number.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`; TCP when empty.
    pub protocol: String,
}

/// Kubernetes `PodStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// As `Running`; empty when unknown.
    pub phase: String,
    /// Address of the pod; empty when unknown.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// `conditions` say `Ready: False`. Nothing else of them is kept: they change often.
    #[serde(rename = "conditions", deserialize_with = "says_unready")]
    pub unready: bool,
}

/// Kubernetes `PodCondition`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

fn says_unready<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let conditions = Option::<Vec<Condition>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(conditions.iter().any(|condition| condition.r#type == "Ready" && condition.status == "False"))
}
