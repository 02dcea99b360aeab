//! Istio `MeshConfig`: what holds for the whole mesh. It stands in the `mesh` entry of the ConfigMap `istio`, or in a file of
//! its own.

use schemars::JsonSchema;
use serde::Deserialize;

use super::destination_rule::{LocalityLb, TcpKeepalive};
use super::extension_provider::ExtensionProvider;
use super::gateway::TlsVersion;
use super::mesh_networks::MeshNetworks;
use super::proxy_config::MeshProxyConfig;
use super::scalar::{ProtoDuration, non_empty};
use super::virtual_service::HttpRetry;

/// One document of mesh configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshDocument {
    /// What it says.
    pub mesh: MeshConfig,
    /// Path of [`Self::mesh`] in its document: `data.mesh` in a ConfigMap, empty in a file of its own.
    pub root: &'static str,
    /// What the ConfigMap says of networks beside it.
    pub networks: MeshNetworks,
}

impl MeshDocument {
    /// Whether it is a file of its own, and no ConfigMap.
    pub fn is_file(&self) -> bool {
        self.root.is_empty()
    }

    /// The path of a field of the mesh configuration in its document.
    pub fn field(&self, below: &str) -> String {
        if self.root.is_empty() { below.to_owned() } else { format!("{}.{below}", self.root) }
    }
}

/// Istio `MeshConfig`, as far as it is honoured. What stands beside these fields is told of by
/// [`super::check::mesh_config`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfig {
    /// Domain of the identities of the mesh; `cluster.local` when unset.
    #[serde(deserialize_with = "non_empty")]
    pub trust_domain: Option<String>,
    /// Other domains whose identities are as good.
    pub trust_domain_aliases: Vec<String>,
    /// Namespace of what holds for the whole mesh; `istio-system` when unset.
    #[serde(deserialize_with = "non_empty")]
    pub root_namespace: Option<String>,
    /// What sidecars do with hosts that no service has; ALLOW_ANY when unset.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Where sidecars send what comes in for ports without a service; PASSTHROUGH when unset.
    pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
    /// The one form that paths are brought into; BASE when unset.
    pub path_normalization: Option<PathNormalization>,
    /// Retries of routes that say nothing about them.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// Settings of every proxy.
    pub default_config: Option<MeshProxyConfig>,
    /// Where the access log goes, as `/dev/stdout`; none when empty.
    pub access_log_file: Option<String>,
    /// Its lines; Istio's own when unset.
    #[serde(deserialize_with = "non_empty")]
    pub access_log_format: Option<String>,
    /// Their form.
    pub access_log_encoding: Option<AccessLogEncoding>,
    /// Preference and shares of localities, for DestinationRules that say nothing about it.
    pub locality_lb_setting: Option<LocalityLb>,
    /// Whether sidecars are spoken to in mutual TLS without a DestinationRule; true when unset.
    pub enable_auto_mtls: Option<bool>,
    /// `exportTo` of Services and ServiceEntries without one.
    pub default_service_export_to: Vec<String>,
    /// `exportTo` of VirtualServices without one.
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of DestinationRules without one.
    pub default_destination_rule_export_to: Vec<String>,
    /// `connectTimeout` of DestinationRules without one; 10 s when unset.
    pub connect_timeout: Option<ProtoDuration>,
    /// `tcpKeepalive` of DestinationRules without one.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// What `h2UpgradePolicy: DEFAULT` means.
    pub h2_upgrade_policy: MeshH2Upgrade,
    /// How long a proxy waits for the first bytes that tell the protocol; 0 and unset: see the README.
    pub protocol_detection_timeout: Option<ProtoDuration>,
    /// TLS other than that of the mesh.
    pub tls_defaults: Option<MeshTls>,
    /// TLS of the mesh.
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<MeshTls>,
    /// How often names of endpoints are asked for; see the README when unset.
    pub dns_refresh_rate: Option<ProtoDuration>,
    /// Services that stay within the cluster.
    pub service_settings: Vec<ServiceSettings>,
    /// Services that are asked or told of requests, by name: policies and telemetry say when.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Whether requests are traced, when somebody takes their spans; true when unset.
    pub enable_tracing: Option<bool>,
    /// Those of them that are told where no Telemetry names any.
    pub default_providers: Option<DefaultProviders>,
}

/// Istio `MeshConfig.DefaultProviders`: names of extension providers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefaultProviders {
    /// Traces.
    pub tracing: Vec<String>,
    /// Metrics.
    pub metrics: Vec<String>,
    /// Access logs.
    pub access_logging: Vec<String>,
}

/// Istio `MeshConfig.OutboundTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutboundTrafficPolicy {
    /// A block without a mode means REGISTRY_ONLY.
    pub mode: OutboundMode,
}

/// Istio `OutboundTrafficPolicy.Mode`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundMode {
    /// They are refused.
    #[default]
    RegistryOnly,
    /// They go where the application meant them to go.
    AllowAny,
    /// As `ALLOW_ANY`, and names are looked up by the proxy.
    AllowAnyDynamicDns,
}

/// Istio `MeshConfig.InboundTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InboundTrafficPolicy {
    /// Where to.
    pub mode: InboundMode,
}

/// Istio `InboundTrafficPolicy.Mode`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InboundMode {
    /// To the address that was connected to.
    #[default]
    Passthrough,
    /// To the loopback address.
    Localhost,
}

/// Istio `MeshConfig.ProxyPathNormalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathNormalization {
    /// Which one.
    pub normalization: Normalization,
}

/// Istio `ProxyPathNormalization.NormalizationType`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// `BASE`.
    #[default]
    Default,
    /// Paths stay as they are.
    None,
    /// RFC 3986.
    Base,
    /// And `//` is `/`.
    MergeSlashes,
    /// And `%2F` and `%5C` are slashes.
    DecodeAndMergeSlashes,
}

/// Istio `MeshConfig.AccessLogEncoding`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogEncoding {
    /// Words.
    #[default]
    Text,
    /// An object per line.
    Json,
}

/// Istio `MeshConfig.H2UpgradePolicy`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeshH2Upgrade {
    /// HTTP/1.1 stays HTTP/1.1.
    #[default]
    DoNotUpgrade,
    /// HTTP/1.1 requests travel as HTTP/2.
    Upgrade,
}

/// Istio `MeshConfig.TLSConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshTls {
    /// Lowest version.
    pub min_protocol_version: TlsVersion,
    /// Names of curves, as in a Gateway.
    pub ecdh_curves: Vec<String>,
    /// OpenSSL's names, as in a Gateway.
    pub cipher_suites: Vec<String>,
}

/// Istio `MeshConfig.ServiceSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSettings {
    /// What holds for the hosts.
    pub settings: Option<ServiceSetting>,
    /// Hosts, or `*.suffix`.
    pub hosts: Vec<String>,
}

/// Istio `MeshConfig.ServiceSettings.Settings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSetting {
    /// Only endpoints of the own cluster count.
    pub cluster_local: bool,
}
