//! The values of Istio's charts that say how pods are injected, as they are written.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Texts;
use super::selector::Selector;

/// What is written and not known.
pub(super) type Other = Map<String, Value>;

/// The root.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Values {
    pub(super) revision: String,
    pub(super) revision_tags: Vec<String>,
    pub(super) global: Global,
    pub(super) sidecar_injector_webhook: Webhook,
    pub(super) mesh_config: Option<Value>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// `global`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Global {
    pub(super) hub: Option<String>,
    pub(super) tag: Option<Value>,
    pub(super) image_pull_policy: Option<String>,
    pub(super) image_pull_secrets: Vec<String>,
    pub(super) istio_namespace: Option<String>,
    pub(super) ca_address: Option<String>,
    pub(super) ca_name: Option<String>,
    pub(super) network: Option<String>,
    #[serde(rename = "meshID")]
    pub(super) mesh_id: Option<String>,
    pub(super) multi_cluster: MultiCluster,
    pub(super) native_sidecars: Option<Value>,
    pub(super) proxy: Proxy,
    #[serde(rename = "proxy_init")]
    pub(super) proxy_init: ProxyInit,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// `global.multiCluster`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MultiCluster {
    pub(super) cluster_name: Option<String>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// `global.proxy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Proxy {
    pub(super) image: Option<String>,
    pub(super) auto_inject: Option<String>,
    #[serde(rename = "includeIPRanges")]
    pub(super) include_ip_ranges: Option<String>,
    #[serde(rename = "excludeIPRanges")]
    pub(super) exclude_ip_ranges: Option<String>,
    pub(super) include_outbound_ports: Option<String>,
    pub(super) exclude_outbound_ports: Option<String>,
    pub(super) include_inbound_ports: Option<String>,
    pub(super) exclude_inbound_ports: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) status_port: Option<u16>,
    pub(super) resources: Option<Value>,
    pub(super) readiness_initial_delay_seconds: Option<u32>,
    pub(super) readiness_period_seconds: Option<u32>,
    pub(super) readiness_failure_threshold: Option<u32>,
    pub(super) startup_probe: StartupProbe,
    pub(super) seccomp_profile: Option<Value>,
    pub(super) lifecycle: Option<Value>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// `global.proxy.startupProbe`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct StartupProbe {
    pub(super) enabled: Option<bool>,
    pub(super) failure_threshold: Option<u32>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// `global.proxy_init`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ProxyInit {
    pub(super) image: Option<String>,
    pub(super) resources: Option<Value>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// `sidecarInjectorWebhook`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Webhook {
    pub(super) never_inject_selector: Vec<Selector>,
    pub(super) always_inject_selector: Vec<Selector>,
    pub(super) injected_annotations: Texts,
    #[serde(rename = "rewriteAppHTTPProbe")]
    pub(super) rewrite_app_http_probe: Option<bool>,
    pub(super) enable_namespaces_by_default: Option<bool>,
    pub(super) default_templates: Vec<String>,
    /// Of the webhook's configuration, which the chart writes.
    pub(super) reinvocation_policy: Option<String>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// What of the mesh configuration is about making pods.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Mesh {
    pub(super) root_namespace: Option<String>,
    pub(super) trust_domain: Option<String>,
    pub(super) enable_prometheus_merge: Option<bool>,
    pub(super) default_config: PodConfig,
}

/// What of `ProxyConfig` (`defaultConfig`, the annotation `proxy.istio.io/config`) is about making pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodConfig {
    pub(super) concurrency: Option<u16>,
    pub(super) hold_application_until_proxy_starts: Option<bool>,
    pub(super) proxy_metadata: Texts,
    pub(super) interception_mode: Option<String>,
    pub(super) status_port: Option<u16>,
}

impl PodConfig {
    /// With what a narrower level says on top; `proxyMetadata` is merged.
    pub(super) fn under(self, over: Self) -> Self {
        let mut proxy_metadata = self.proxy_metadata;
        proxy_metadata.extend(over.proxy_metadata);
        Self {
            concurrency: over.concurrency.or(self.concurrency),
            hold_application_until_proxy_starts: over
                .hold_application_until_proxy_starts
                .or(self.hold_application_until_proxy_starts),
            proxy_metadata,
            interception_mode: over.interception_mode.or(self.interception_mode),
            status_port: over.status_port.or(self.status_port),
        }
    }
}

impl Values {
    /// Paths of everything that is written and not known here.
    pub(super) fn unknown(&self) -> Vec<String> {
        let Global { multi_cluster, proxy, proxy_init, .. } = &self.global;
        let parts: [(&str, &Other); 7] = [
            ("", &self.other),
            ("global.", &self.global.other),
            ("global.multiCluster.", &multi_cluster.other),
            ("global.proxy.", &proxy.other),
            ("global.proxy.startupProbe.", &proxy.startup_probe.other),
            ("global.proxy_init.", &proxy_init.other),
            ("sidecarInjectorWebhook.", &self.sidecar_injector_webhook.other),
        ];
        let all = parts.into_iter().flat_map(|(path, other)| other.keys().map(move |key| format!("{path}{key}")));
        all.collect()
    }
}
