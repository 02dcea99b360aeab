//! Istio `PolicyTargetReference` (type.istio.io): what a policy is attached to, instead of labels.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::non_empty;

/// The group of Kubernetes' Gateway API.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Kinds that a policy may be attached to, with their groups.
const KINDS: [(&str, &str); 4] =
    [(GATEWAY_API, "Gateway"), (GATEWAY_API, "GatewayClass"), ("", "Service"), ("networking.istio.io", "ServiceEntry")];

/// Istio `PolicyTargetReference`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetReference {
    /// Group of the target, as `gateway.networking.k8s.io`; empty for the core group.
    pub group: String,
    /// Kind of the target. Required.
    #[schemars(extend("x-required" = true))]
    pub kind: String,
    /// Name of the target. Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// Must be unset: the target is in the policy's own namespace.
    #[serde(deserialize_with = "non_empty")]
    pub namespace: Option<String>,
}

impl TargetReference {
    /// Whether a policy may be attached to its kind.
    pub(crate) fn is_attachable(&self) -> bool {
        KINDS.contains(&(self.group.as_str(), self.kind.as_str()))
    }

    /// Whether it is a Gateway of Kubernetes' Gateway API, whose proxies carry its name in a label.
    pub fn is_gateway(&self) -> bool {
        self.group == GATEWAY_API && self.kind == "Gateway"
    }
}
