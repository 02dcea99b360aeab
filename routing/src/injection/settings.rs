//! How pods are injected: what the values and the mesh configuration say, with Istio's defaults.

use serde_json::{Value, json};

use super::selector::Selector;
use super::values::{Mesh, PodConfig, Values};
use super::{Refusal, Texts};
use crate::api::ProxyConfig;
use crate::resources::{Table, read_yaml};

/// Settings of the injection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Revision of this control plane; `default` without one.
    pub revision: String,
    pub(super) tags: Vec<String>,
    /// Image of the proxy.
    pub(super) image: String,
    /// The same of the init container, which needs what gives rules to the kernel.
    pub(super) init_image: String,
    pub(super) pull_policy: Option<String>,
    pub(super) pull_secrets: Vec<String>,
    pub(super) ca_address: String,
    pub(super) ca_name: Option<String>,
    pub(super) cluster: String,
    pub(super) network: Option<String>,
    pub(super) mesh_id: Option<String>,
    pub(super) trust_domain: Option<String>,
    pub(super) enabled: bool,
    pub(super) by_default: bool,
    pub(super) never: Vec<Selector>,
    pub(super) always: Vec<Selector>,
    pub(super) annotations: Texts,
    pub(super) templates: Vec<String>,
    pub(super) rewrite_probes: bool,
    pub(super) merge_metrics: bool,
    /// `None`: where every node can.
    pub(super) native: Option<bool>,
    /// Minor version of the oldest kubelet, where it is known.
    pub(super) kubelet: Option<u32>,
    pub(super) traffic: Traffic,
    pub(super) resources: Value,
    pub(super) init_resources: Option<Value>,
    pub(super) status_port: u16,
    pub(super) readiness: Readiness,
    /// Tries of the startup probe; `None`: there is no such probe.
    pub(super) startup: Option<u32>,
    pub(super) seccomp: Option<Value>,
    pub(super) lifecycle: Option<Value>,
    pub(super) log_level: Option<String>,
    pub(super) pod: PodConfig,
    pub(super) root_namespace: String,
    pub(super) proxy_configs: Table<ProxyConfig>,
}

/// What is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) include_ranges: String,
    pub(super) exclude_ranges: String,
    pub(super) include_outbound: String,
    pub(super) exclude_outbound: String,
    pub(super) include_inbound: String,
    pub(super) exclude_inbound: String,
}

/// The readiness probe of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) initial_delay: u32,
    pub(super) period: u32,
    pub(super) failures: u32,
}

/// The first kubelets on which a native sidecar is stable.
const NATIVE_SINCE: u32 = 33;

impl Settings {
    /// From YAML or JSON: the values, named as in Istio's charts, and the mesh configuration; either may be empty. Beside the
    /// settings: sentences about what of the values has no effect.
    ///
    /// # Errors
    /// They cannot be understood.
    pub fn read(values: &str, mesh: &str) -> Result<(Self, Vec<String>), Refusal> {
        let values: Values = parsed(values, "the values")?;
        // What the chart is told of the mesh stands among the values.
        let mesh = match &values.mesh_config {
            Some(told) if mesh.trim().is_empty() => serde_json::from_value(told.clone())
                .map_err(|why| Refusal(format!("meshConfig of the values cannot be understood: {why}")))?,
            _ => parsed(mesh, "the mesh configuration")?,
        };
        let said = values.unknown().into_iter().map(|path| format!("value `{path}` has no effect"));
        let said = said.collect();
        let settings = Self::new(values, mesh)?;
        Ok((settings, said))
    }

    fn new(values: Values, mesh: Mesh) -> Result<Self, Refusal> {
        let Values { revision, revision_tags, global, sidecar_injector_webhook: webhook, .. } = values;
        let (proxy, init) = (global.proxy, global.proxy_init);
        let namespace = global.istio_namespace.unwrap_or_else(|| "istio-system".to_owned());
        let place = (global.hub.as_deref(), global.tag.as_ref());
        let startup = proxy.startup_probe.enabled.unwrap_or(true);
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            revision: if revision.is_empty() { DEFAULT.to_owned() } else { revision },
            tags: revision_tags,
            image: image(place, proxy.image.as_deref().unwrap_or("sluice")),
            init_image: image(place, given(init.image).as_deref().unwrap_or("sluice-init")),
            pull_policy: given(global.image_pull_policy),
            pull_secrets: global.image_pull_secrets,
            ca_address: given(global.ca_address).unwrap_or_else(|| format!("sluice-control.{namespace}.svc:15012")),
            ca_name: given(global.ca_name),
            cluster: given(global.multi_cluster.cluster_name).unwrap_or_else(|| "Kubernetes".to_owned()),
            network: given(global.network),
            mesh_id: given(global.mesh_id),
            trust_domain: given(mesh.trust_domain),
            enabled: switch(proxy.auto_inject.as_deref())?,
            by_default: webhook.enable_namespaces_by_default.unwrap_or(false),
            never: webhook.never_inject_selector,
            always: webhook.always_inject_selector,
            annotations: webhook.injected_annotations,
            templates: Some(webhook.default_templates)
                .filter(|it| !it.is_empty())
                .unwrap_or_else(|| vec![super::template::SIDECAR.to_owned()]),
            rewrite_probes: webhook.rewrite_app_http_probe.unwrap_or(true),
            merge_metrics: mesh.enable_prometheus_merge.unwrap_or(true),
            native: native(global.native_sidecars.as_ref())?,
            kubelet: None,
            traffic: Traffic {
                include_ranges: proxy.include_ip_ranges.unwrap_or_else(|| "*".to_owned()),
                exclude_ranges: proxy.exclude_ip_ranges.unwrap_or_default(),
                include_outbound: proxy.include_outbound_ports.unwrap_or_default(),
                exclude_outbound: proxy.exclude_outbound_ports.unwrap_or_default(),
                include_inbound: proxy.include_inbound_ports.unwrap_or_else(|| "*".to_owned()),
                exclude_inbound: proxy.exclude_inbound_ports.unwrap_or_default(),
            },
            resources: proxy.resources.unwrap_or_else(resources),
            init_resources: init.resources,
            status_port: proxy.status_port.unwrap_or(15020),
            readiness: Readiness {
                initial_delay: proxy.readiness_initial_delay_seconds.unwrap_or(0),
                period: proxy.readiness_period_seconds.unwrap_or(15),
                failures: proxy.readiness_failure_threshold.unwrap_or(4),
            },
            startup: startup.then(|| proxy.startup_probe.failure_threshold.unwrap_or(600)),
            seccomp: proxy.seccomp_profile.filter(|it| it.as_object().is_some_and(|it| !it.is_empty())),
            lifecycle: proxy.lifecycle.filter(|it| it.as_object().is_some_and(|it| !it.is_empty())),
            log_level: given(proxy.log_level),
            pod: mesh.default_config,
            root_namespace: given(mesh.root_namespace).unwrap_or(namespace),
            proxy_configs: Table::default(),
        })
    }

    /// With the minor version of the cluster's oldest kubelet, which says whether native sidecars are to be had.
    #[must_use]
    pub fn with_kubelet(self, minor: Option<u32>) -> Self {
        Self { kubelet: minor, ..self }
    }

    /// With these objects between the mesh and its pods.
    #[must_use]
    pub fn with_proxy_configs(self, objects: Table<ProxyConfig>) -> Self {
        Self { proxy_configs: objects, ..self }
    }

    /// With this trust domain, where one is said beside the mesh configuration.
    #[must_use]
    pub fn with_trust_domain(self, domain: Option<String>) -> Self {
        Self { trust_domain: domain.or(self.trust_domain), ..self }
    }

    /// Whether sidecars are native: init containers that go on running.
    pub(super) fn is_native(&self) -> bool {
        self.native.unwrap_or_else(|| self.kubelet.is_some_and(|minor| minor >= NATIVE_SINCE))
    }

    /// Whether this control plane serves what names no revision.
    pub(super) fn is_default(&self) -> bool {
        self.serves(DEFAULT)
    }

    /// Whether this control plane has this revision, or carries it as a tag.
    pub(super) fn serves(&self, revision: &str) -> bool {
        self.revision == revision || self.tags.iter().any(|tag| tag == revision)
    }
}

const DEFAULT: &str = "default";

impl Default for Settings {
    /// What holds when nothing is said.
    fn default() -> Self {
        Self::new(Values::default(), Mesh::default()).expect("defaults are no mistakes")
    }
}

fn parsed<T: serde::de::DeserializeOwned + Default>(text: &str, what: &str) -> Result<T, Refusal> {
    let value = read_yaml(text).map_err(|why| Refusal(format!("{what} cannot be read: {why}")))?;
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(value).map_err(|why| Refusal(format!("{what} cannot be understood: {why}")))
}

/// A name that is a path is the whole image.
fn image((hub, tag): (Option<&str>, Option<&Value>), name: &str) -> String {
    if name.contains(['/', ':']) {
        return name.to_owned();
    }
    let tag = match tag {
        Some(Value::String(tag)) if !tag.is_empty() => tag.clone(),
        Some(Value::Number(tag)) => tag.to_string(),
        _ => env!("CARGO_PKG_VERSION").to_owned(),
    };
    let hub = hub.filter(|hub| !hub.is_empty()).map(|hub| format!("{hub}/")).unwrap_or_default();
    format!("{hub}{name}:{tag}")
}

fn resources() -> Value {
    json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2000m", "memory": "1Gi"}})
}

fn switch(text: Option<&str>) -> Result<bool, Refusal> {
    match text {
        None | Some("" | "enabled") => Ok(true),
        Some("disabled") => Ok(false),
        Some(other) => {
            Err(Refusal(format!("global.proxy.autoInject cannot be `{other}`; write `enabled` or `disabled`")))
        }
    }
}

fn native(value: Option<&Value>) -> Result<Option<bool>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(it)) => Ok(Some(*it)),
        Some(Value::String(it)) if it.is_empty() || it == "auto" => Ok(None),
        Some(other) => Err(Refusal(format!("global.nativeSidecars cannot be `{other}`; write true, false or auto"))),
    }
}
