//! What the two templates have in common: the proxy's container but for its arguments.

use serde_json::{Value, json};

use super::settings::Readiness;
use super::wishes::Wishes;
use super::workload::Workload;
use super::{Context, PROXY, Refusal, environment, volumes};

/// A proxy beside an application.
pub(super) const SIDECAR: &str = "sidecar";
/// A proxy alone.
pub(super) const GATEWAY: &str = "gateway";

/// User and group of the proxy, which capturing leaves alone.
const USER: u32 = 1337;

/// What a proxy is made from.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) context: Context<'a>,
    pub(super) wishes: &'a Wishes,
    pub(super) workload: &'a Workload,
}

/// Environment that tells the network, also as the path of the webhook sets it.
pub(super) const NETWORK: &str = "ISTIO_META_NETWORK";

impl Draft<'_> {
    /// The network the pod is in, where it is known.
    pub(super) fn network(self) -> Option<String> {
        let asked = self.context.parameters.get(NETWORK).cloned();
        asked.or_else(|| self.context.settings.network.clone())
    }

    /// Kernel settings that the pod gets.
    pub(super) fn sysctls(self) -> Vec<&'static str> {
        let is_gateway = self.wishes.templates.iter().any(|it| it == GATEWAY);
        if is_gateway && !self.wishes.binds_low_ports { vec![super::status::LOW_PORTS] } else { Vec::new() }
    }
}

/// The names, when there are such templates.
pub(super) fn known(names: &[String]) -> Result<Vec<String>, Refusal> {
    if names.is_empty() {
        return Err(Refusal("annotation inject.istio.io/templates is empty; there are sidecar and gateway".to_owned()));
    }
    if let Some(unknown) = names.iter().find(|name| ![SIDECAR, GATEWAY].contains(&name.as_str())) {
        return Err(Refusal(format!(
            "annotation inject.istio.io/templates names `{unknown}`, which is not there; there are sidecar and gateway"
        )));
    }
    if names.len() > 1 {
        return Err(Refusal(format!(
            "annotation inject.istio.io/templates names {}; a pod has one proxy, choose one of them",
            names.join(" and ")
        )));
    }
    Ok(names.to_vec())
}

/// The container `istio-proxy`.
pub(super) fn proxy(draft: Draft<'_>, args: Vec<String>) -> Value {
    let (settings, wishes) = (draft.context.settings, draft.wishes);
    let mut container = json!({
        "name": PROXY,
        "image": wishes.image,
        "args": args,
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "env": environment::variables(draft),
        "resources": wishes.resources,
        "securityContext": security(settings.seccomp.as_ref()),
        "volumeMounts": volumes::mounts(draft),
        "readinessProbe": readiness(wishes.readiness),
    });
    if let Some(policy) = &settings.pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    if let Some(lifecycle) = &settings.lifecycle {
        container["lifecycle"] = lifecycle.clone();
    }
    container
}

/// Where Kubernetes asks whether the proxy is there.
pub(super) fn ready(more: Value) -> Value {
    let mut probe = json!({"httpGet": {"path": "/healthz/ready", "port": 15021}, "timeoutSeconds": 3});
    if let (Value::Object(probe), Value::Object(more)) = (&mut probe, more) {
        probe.extend(more);
    }
    probe
}

fn readiness(of: Readiness) -> Value {
    ready(json!({
        "initialDelaySeconds": of.initial_delay, "periodSeconds": of.period, "failureThreshold": of.failures,
    }))
}

fn security(seccomp: Option<&Value>) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": USER,
        "runAsNonRoot": true,
        "runAsUser": USER,
    });
    if let Some(profile) = seccomp {
        context["seccompProfile"] = profile.clone();
    }
    context
}

/// Adds the volumes that the proxy mounts, and the secrets that its image is pulled with.
pub(super) fn furnish(pod: &mut Value, draft: Draft<'_>) {
    let volumes = volumes::all(draft);
    extend(super::json::list(&mut pod["spec"], "volumes"), volumes);
    let secrets = draft.context.settings.pull_secrets.iter().map(|name| json!({"name": name})).collect();
    extend(super::json::list(&mut pod["spec"], "imagePullSecrets"), secrets);
}

/// Adds what has a name that is not there yet.
fn extend(to: &mut Vec<Value>, more: Vec<Value>) {
    for thing in more {
        if !to.iter().any(|it| it["name"] == thing["name"]) {
            to.push(thing);
        }
    }
}
