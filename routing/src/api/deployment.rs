//! Kubernetes `Deployment`, `StatefulSet` and `DaemonSet` (apps/v1): what their pods will look like.

use serde::Deserialize;

use super::meta::ObjectMeta;
use super::pod::PodSpec;

/// Kubernetes `Deployment`, `StatefulSet` or `DaemonSet`, as far as routing reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Deployment {
    /// `spec`.
    pub spec: DeploymentSpec,
}

/// Kubernetes `DeploymentSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// How many pods are wanted; 1 when unset. Routing counts the pods that exist; who plays a cluster reads this.
    pub replicas: Option<u32>,
    /// What every pod is made from.
    pub template: PodTemplate,
}

/// Kubernetes `PodTemplateSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations of the pods; name and namespace are empty.
    pub metadata: ObjectMeta,
    /// Spec of the pods.
    pub spec: PodSpec,
}
