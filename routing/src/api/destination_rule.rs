//! Istio `DestinationRule` (networking.istio.io).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{ProtoDuration, non_empty};
use super::virtual_service::PortSelector;

/// Istio `DestinationRule`: what happens to traffic once its destination is chosen.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DestinationRule {
    /// Service name, short, full or `*.suffix`. Required.
    #[schemars(extend("x-required" = true))]
    pub host: String,
    /// For every subset and port that says nothing else.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of the service.
    pub subsets: Vec<Subset>,
    /// Namespaces that see this object: `.`, `*` or names; everywhere when empty.
    pub export_to: Vec<String>,
    /// Which client workloads it applies to; all when unset.
    pub workload_selector: Option<LabelSelector>,
}

/// Istio `WorkloadSelector` in its `matchLabels` form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that a workload must have, all of them.
    pub match_labels: BTreeMap<String, String>,
}

/// Istio `Subset`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Subset {
    /// A DNS label, unique in the rule. Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// Labels of the endpoints; every endpoint when empty.
    pub labels: BTreeMap<String, String>,
    /// Replaces the rule's blocks that it names.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// Istio `TrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is picked.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the endpoints.
    pub tls: Option<ClientTls>,
    /// An entry replaces everything above for its port.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Wrap TCP in HTTP CONNECT or POST.
    pub tunnel: Option<Tunnel>,
    /// Send a PROXY header first.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limit of retries in flight.
    pub retry_budget: Option<RetryBudget>,
}

/// Istio `TrafficPolicy.PortTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// The service's port. Required.
    pub port: Option<PortSelector>,
    /// How an endpoint is picked.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the endpoints.
    pub tls: Option<ClientTls>,
}

/// Istio `TrafficPolicy.TunnelSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Tunnel {
    /// `CONNECT` (default) or `POST`.
    #[serde(deserialize_with = "non_empty")]
    pub protocol: Option<String>,
    /// Host that the tunnel ends at. Required.
    pub target_host: String,
    /// Its port. Required.
    pub target_port: u16,
}

/// Istio `TrafficPolicy.ProxyProtocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Form of the header.
    pub version: ProxyProtocolVersion,
}

/// Istio `TrafficPolicy.ProxyProtocol.VERSION`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProxyProtocolVersion {
    /// Text.
    #[default]
    V1,
    /// Binary.
    V2,
}

/// Istio `TrafficPolicy.RetryBudget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RetryBudget {
    /// Share of active requests that may be retries, 0 to 100; 20 when unset.
    pub percent: Option<f64>,
    /// Retries that are always allowed; 3 when unset.
    pub min_retry_concurrency: Option<u32>,
    /// Time over which the budget is counted.
    pub budget_interval: Option<ProtoDuration>,
}

/// Istio `LoadBalancerSettings`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// One of the simple algorithms; excludes `consistentHash`.
    pub simple: Option<SimpleLb>,
    /// The same endpoint for the same key.
    pub consistent_hash: Option<ConsistentHash>,
    /// Preference and shares of localities.
    pub locality_lb_setting: Option<LocalityLb>,
    /// Preference of the own zone; excludes `localityLbSetting`.
    pub zone_aware_lb_setting: Option<ZoneAwareLb>,
    /// Deprecated form of `warmup`.
    pub warmup_duration_secs: Option<ProtoDuration>,
    /// Less traffic for new endpoints.
    pub warmup: Option<Warmup>,
    /// Weights from load that endpoints report.
    pub backend_utilization: Option<BackendUtilization>,
}

/// Istio `LoadBalancerSettings.SimpleLB`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// Istio's default: `LEAST_REQUEST`.
    #[default]
    Unspecified,
    /// Deprecated name of `LEAST_REQUEST`.
    LeastConn,
    /// Any endpoint.
    Random,
    /// The address that the client meant.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The less busy of two random endpoints.
    LeastRequest,
}

/// Istio `LoadBalancerSettings.ConsistentHashLB`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsistentHash {
    /// Key: a request header.
    #[serde(deserialize_with = "non_empty")]
    pub http_header_name: Option<String>,
    /// Key: a cookie.
    pub http_cookie: Option<HttpCookie>,
    /// Key: the client's address.
    pub use_source_ip: Option<bool>,
    /// Key: a query parameter.
    #[serde(deserialize_with = "non_empty")]
    pub http_query_parameter_name: Option<String>,
    /// Deprecated form of `ringHash.minimumRingSize`.
    pub minimum_ring_size: Option<u64>,
    /// Ring hash (ketama).
    pub ring_hash: Option<RingHash>,
    /// Maglev.
    pub maglev: Option<Maglev>,
}

/// Istio `ConsistentHashLB.HTTPCookie`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpCookie {
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// Path attribute of a cookie that is made.
    #[serde(deserialize_with = "non_empty")]
    pub path: Option<String>,
    /// A cookie with this lifetime is made when the request has none, 0s for a session cookie; none when unset.
    pub ttl: Option<ProtoDuration>,
    /// Further attributes.
    pub attributes: Vec<CookieAttribute>,
}

/// Istio `HTTPCookie.Attribute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CookieAttribute {
    /// As `SameSite`.
    pub name: String,
    /// As `Lax`.
    pub value: String,
}

/// Istio `ConsistentHashLB.RingHash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RingHash {
    /// Lowest number of points on the ring; 1024 when unset.
    pub minimum_ring_size: Option<u64>,
}

/// Istio `ConsistentHashLB.MagLev`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Maglev {
    /// A prime below 5000011; 65537 when unset.
    pub table_size: Option<u64>,
}

/// Istio `LocalityLoadBalancerSetting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LocalityLb {
    /// Shares by locality of the client.
    pub distribute: Vec<Distribute>,
    /// Where to go when a region fails.
    pub failover: Vec<Failover>,
    /// Labels in the order of their weight for preference.
    pub failover_priority: Vec<String>,
    /// The mesh's setting when unset.
    pub enabled: Option<bool>,
}

/// Istio `LocalityLoadBalancerSetting.Distribute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Distribute {
    /// `region/zone/subzone` of the client, with `*`.
    pub from: String,
    /// Percent by locality, 100 in all.
    pub to: BTreeMap<String, u32>,
}

/// Istio `LocalityLoadBalancerSetting.Failover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Failover {
    /// Region that fails.
    pub from: String,
    /// Region that takes over.
    pub to: String,
}

/// Istio `ZoneAwareLoadBalancerSetting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ZoneAwareLb {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// Where to go when a region fails.
    pub failover: Vec<Failover>,
    /// Labels in the order of their weight for preference.
    pub failover_priority: Vec<String>,
    /// Lowest number of endpoints for it to work.
    pub min_cluster_size: Option<u32>,
}

/// Istio `WarmupConfiguration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Warmup {
    /// How long an endpoint counts as new. Required.
    pub duration: Option<ProtoDuration>,
    /// Share at the beginning, at most 100; 10 when unset.
    pub minimum_percent: Option<f64>,
    /// How fast the share grows, above 0; 1 (linear) when unset.
    pub aggression: Option<f64>,
}

/// Istio `BackendUtilization`: weights from load that endpoints report (ORCA).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct BackendUtilization {
    /// Metrics that count as utilisation.
    pub metric_names_for_computing_utilization: Vec<String>,
    /// How much errors count.
    pub error_utilization_penalty_percent: Option<u32>,
    /// Time between two updates.
    pub weight_update_period: Option<ProtoDuration>,
    /// Time until the first weight is believed.
    pub weight_stabilization_period: Option<ProtoDuration>,
    /// Time until a weight is forgotten.
    pub weight_expiration_period: Option<ProtoDuration>,
}

/// Istio `ConnectionPoolSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ConnectionPool {
    /// For every connection.
    pub tcp: Option<TcpPool>,
    /// For HTTP on top.
    pub http: Option<HttpPool>,
}

/// Istio `ConnectionPoolSettings.TCPSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpPool {
    /// Connections to the cluster; unlimited when 0.
    pub max_connections: i32,
    /// 10 s when unset.
    pub connect_timeout: Option<ProtoDuration>,
    /// Kernel keep-alive; off when unset.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Lifetime of a connection; unlimited when unset.
    pub max_connection_duration: Option<ProtoDuration>,
    /// 1 h when unset, 0s for none.
    pub idle_timeout: Option<ProtoDuration>,
}

/// Istio `TCPSettings.TcpKeepalive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Probes without answer until the connection counts as dead; the kernel's default when 0.
    pub probes: u32,
    /// Idle time until the first probe.
    pub time: Option<ProtoDuration>,
    /// Time between probes.
    pub interval: Option<ProtoDuration>,
}

/// Istio `ConnectionPoolSettings.HTTPSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpPool {
    /// Requests that wait for a connection; unlimited when 0.
    pub http1_max_pending_requests: i32,
    /// Requests in flight; unlimited when 0.
    pub http2_max_requests: i32,
    /// Requests on one connection; unlimited when 0.
    pub max_requests_per_connection: i32,
    /// Retries in flight; unlimited when 0.
    pub max_retries: i32,
    /// 1 h when unset.
    pub idle_timeout: Option<ProtoDuration>,
    /// Whether HTTP/1.1 requests travel as HTTP/2.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// The client's protocol is spoken to the service too.
    pub use_client_protocol: bool,
    /// Streams on one HTTP/2 connection; the service's own limit when 0.
    pub max_concurrent_streams: i32,
    /// HTTP/2 pings.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// Istio `HTTPSettings.H2UpgradePolicy`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// The mesh's setting.
    #[default]
    Default,
    /// Never.
    DoNotUpgrade,
    /// Always.
    Upgrade,
}

/// Istio `HTTPSettings.HTTP2KeepAlive`: both required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Http2KeepAlive {
    /// Time between pings.
    pub interval: Option<ProtoDuration>,
    /// Time for the answer.
    pub timeout: Option<ProtoDuration>,
}

/// Istio `OutlierDetection`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Deprecated form of `consecutive5xxErrors`.
    pub consecutive_errors: i32,
    /// Whether failures to connect are counted apart.
    pub split_external_local_origin_errors: bool,
    /// Failures to connect until ejection, when counted apart; 5 when unset.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503 and 504 answers until ejection; off when unset or 0.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx answers until ejection; 5 when unset, off when 0.
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between two looks; 10 s when unset.
    pub interval: Option<ProtoDuration>,
    /// Time away for the first ejection; 30 s when unset.
    pub base_ejection_time: Option<ProtoDuration>,
    /// Highest share of ejected endpoints; 10 when 0.
    pub max_ejection_percent: i32,
    /// Share of healthy endpoints below which ejection is ignored; never when 0.
    pub min_health_percent: i32,
    /// Statuses that count as errors.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// Istio `ClientTLSSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientTls {
    /// What is spoken to the endpoints.
    pub mode: ClientTlsMode,
    /// Path of the client certificate file.
    #[serde(deserialize_with = "non_empty")]
    pub client_certificate: Option<String>,
    /// Path of the private key file.
    #[serde(deserialize_with = "non_empty")]
    pub private_key: Option<String>,
    /// Path of the file with the CA certificates for the server; the system's when unset.
    #[serde(deserialize_with = "non_empty")]
    pub ca_certificates: Option<String>,
    /// Name of a Secret with certificate, key and CA; gateways only.
    #[serde(deserialize_with = "non_empty")]
    pub credential_name: Option<String>,
    /// Names of which the server certificate must hold one.
    pub subject_alt_names: Vec<String>,
    /// Server name to send.
    #[serde(deserialize_with = "non_empty")]
    pub sni: Option<String>,
    /// Accept any server certificate.
    pub insecure_skip_verify: Option<bool>,
    /// Path of a certificate revocation list.
    #[serde(deserialize_with = "non_empty")]
    pub ca_crl: Option<String>,
}

/// Istio `ClientTLSSettings.TLSmode`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// No TLS.
    #[default]
    Disable,
    /// TLS without client certificate.
    Simple,
    /// TLS with the client certificate that is named here.
    Mutual,
    /// TLS with the workload's mesh certificate.
    IstioMutual,
}
