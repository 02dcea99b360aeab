//! Pods get their sidecar. A Pod goes in as JSON; out come a verdict with its reason, and the Pod with a proxy in it.
//!
//! ```text
//! values, mesh configuration --Settings::read--> Settings <-- ProxyConfigs
//!                                                   |
//! AdmissionReview --admission::answer--> decide --> inject --> JSON patch (RFC 6902)
//! manifests -------manifest::inject--------/           |
//!                                               previous: what an earlier injection left is taken out
//!                                               wishes: annotations of the pod, checked
//!                                               sidecar, gateway: the two templates
//!                                               capture, probes, metrics: what belongs to them
//!                                               overrides: what the pod says of the proxy's container itself
//! ```
//!
//! The names are Istio's: container `istio-proxy`, init container `istio-init`, annotations and labels, so that tools which look
//! for a sidecar find it.

pub mod admission;
mod capture;
mod decision;
mod environment;
mod gateway;
mod json;
pub mod manifest;
mod metrics;
mod overrides;
mod previous;
mod probes;
mod proxy_config;
mod selector;
mod settings;
mod sidecar;
mod status;
mod template;
mod values;
mod volumes;
mod wishes;
mod workload;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use decision::{Reason, Verdict, decide};
/// Variable that tells a proxy where its application's metrics are.
pub use metrics::VARIABLE as METRICS_VARIABLE;
/// Variable that tells a proxy which probes of its application it answers.
pub use probes::VARIABLE as PROBES_VARIABLE;
pub use settings::Settings;

/// Name of the proxy's container.
pub const PROXY: &str = "istio-proxy";
/// Name of the init container that captures traffic.
pub const INIT: &str = "istio-init";
/// Annotation that an injected pod carries: what was put into it.
pub const STATUS: &str = "sidecar.istio.io/status";
/// Annotation of a pod that asks for a sidecar by itself and gets none: why.
pub const SKIPPED: &str = "sidecar.sluice.dev/injection";
/// Namespaces whose pods never get a sidecar: the cluster itself has to start without one.
pub const IGNORED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Labels or annotations.
pub(crate) type Texts = BTreeMap<String, String>;

/// What is known beside the pod itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Settings of the mesh.
    pub settings: &'a Settings,
    /// Where the pod will be; the API server leaves it out of pods that have a name to be generated.
    pub namespace: &'a str,
    /// Environment of the proxy that the webhook's path asks for.
    pub parameters: &'a Texts,
}

/// A pod with its proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The whole pod.
    pub pod: Value,
    /// What of the pod's wishes is not honoured, or may not be as meant: sentences.
    pub warnings: Vec<String>,
}

/// Why a pod cannot get its proxy: a sentence that names the field and says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Puts the proxy into a pod. A pod that has been through this before gets the same again.
///
/// # Errors
/// The pod asks for something that cannot be had; without it, it would not be what its owner means.
pub fn inject(pod: &Value, context: Context<'_>) -> Result<Injected, Refusal> {
    if !pod["spec"]["containers"].is_array() {
        return Err(Refusal("spec.containers is missing; a pod has at least one container".to_owned()));
    }
    let mut pod = previous::without(pod);
    let mut warnings = Vec::new();
    let wishes = wishes::Wishes::read(&pod, context, &mut warnings)?;
    let own = overrides::take(&mut pod);
    let workload = workload::Workload::of(&pod);
    let draft = template::Draft { context, wishes: &wishes, workload: &workload };
    for name in &wishes.templates {
        match name.as_str() {
            template::SIDECAR => sidecar::apply(&mut pod, draft, &mut warnings)?,
            _ => gateway::apply(&mut pod, draft),
        }
    }
    overrides::put_back(&mut pod, &own);
    status::write(&mut pod, draft, &own);
    json::prune(&mut pod);
    Ok(Injected { pod, warnings })
}

/// What makes one pod of the other, as a JSON patch.
pub fn patch(before: &Value, after: &Value) -> Vec<Value> {
    let patch = json_patch::diff(before, after);
    patch.0.iter().map(|operation| serde_json::to_value(operation).unwrap_or_default()).collect()
}

/// A pod after a JSON patch.
///
/// # Errors
/// The patch is none, or does not fit.
pub fn patched(pod: &Value, patch: &[Value]) -> Result<Value, String> {
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(patch.to_vec())).map_err(|error| error.to_string())?;
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).map_err(|error| error.to_string())?;
    Ok(pod)
}
