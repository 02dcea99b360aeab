//! Where requests can go: clusters and their endpoints, as compiled from Services, ServiceEntries and DestinationRules.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    balance::{ConsistentHash, Warmup},
    connections::Connections,
    outlier::Outliers,
    reach::Reach,
    retry_budget::RetryBudget,
    snapshot::{RootsSource, TlsRange, Workload},
};

/// Index into [`crate::snapshot::Snapshot::clusters`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClusterId(pub u32);

/// One subset of one port of one service (Envoy's word; Istio names it `outbound|port|subset|host`).
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `outbound|8080|v1|reviews.default.svc.cluster.local`. Stable over reloads: pools and counters are keyed by it.
    pub name: Arc<str>,
    /// Fully qualified service host.
    pub host: Arc<str>,
    /// Short service name, for metrics.
    pub service_name: Arc<str>,
    /// Namespace of the service, for metrics.
    pub service_namespace: Arc<str>,
    /// Service port.
    pub port: u16,
    /// What the endpoints speak.
    pub protocol: UpstreamProtocol,
    /// TLS towards endpoints with [`Endpoint::tls`]; `None` = never.
    pub tls: Option<Arc<ClientTls>>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Istio `warmup`; `None` = a new endpoint takes its full share at once.
    pub warmup: Option<Box<Warmup>>,
    /// Istio `outlierDetection`; `None` = no endpoint is ejected.
    pub outliers: Option<Box<Outliers>>,
    /// The localities of the endpoints, where they share by locality; else empty. [`Endpoint::group`] indexes it.
    pub groups: Vec<Group>,
    /// Istio `connectionPool.tcp.connectTimeout`, default 10 s.
    pub connect_timeout: Duration,
    /// Istio `connectionPool.http.idleTimeout`, default 1 h.
    pub idle_timeout: Duration,
    /// Istio `connectionPool` limits.
    pub limits: Limits,
    /// What else is said about connections; `None` = nothing.
    pub connections: Option<Arc<Connections>>,
    /// `retryBudget`, `connectionPool.http.maxRetries`, or the default.
    pub retry_budget: RetryBudget,
    /// Of a sidecar's clusters for bytes: connections go to the endpoint that the client meant, be it listed or not (headless
    /// Services, `resolution: NONE`).
    pub original: bool,
    /// How its endpoints are found.
    pub reach: Reach,
    /// Ready endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl Cluster {
    /// Istio's default of `connectionPool.tcp.connectTimeout`.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Istio's default of `connectionPool.http.idleTimeout`.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
}

impl Cluster {
    /// Whether it only keeps a number free that clusters of before had: nothing leads to it.
    pub fn is_vacant(&self) -> bool {
        self.name.is_empty()
    }
}

impl Default for Cluster {
    /// What holds where no DestinationRule says anything; it has no endpoints yet.
    fn default() -> Self {
        Self {
            name: Arc::default(),
            host: Arc::default(),
            service_name: Arc::default(),
            service_namespace: Arc::default(),
            port: 0,
            protocol: UpstreamProtocol::default(),
            tls: None,
            balance: Balance::default(),
            warmup: None,
            outliers: None,
            groups: Vec::new(),
            connect_timeout: Self::CONNECT_TIMEOUT,
            idle_timeout: Self::IDLE_TIMEOUT,
            limits: Limits::default(),
            connections: None,
            retry_budget: RetryBudget::default(),
            original: false,
            reach: Reach::default(),
            endpoints: Vec::new(),
        }
    }
}

/// Istio `connectionPool` circuit breakers; `None` = unlimited.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// `http.http2MaxRequests`: requests in flight, whatever the protocol.
    pub max_requests: Option<u32>,
    /// `http.maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<u32>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1: the default.
    #[default]
    Http1,
    /// HTTP/2: ports declared HTTP2 or GRPC, or `h2UpgradePolicy: UPGRADE`.
    Http2,
    /// As the downstream speaks (`useClientProtocol`, sniffed ports in a sidecar).
    Downstream,
    /// Bytes that nobody looks at: what `tls` and `tcp` routes lead to, and ports that are no HTTP.
    Opaque,
}

/// One address behind a cluster.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Relative share, at least 1.
    pub weight: u32,
    /// Whether [`Cluster::tls`] applies here: always when a DestinationRule says so, else (auto mTLS) when the endpoint
    /// has a sidecar (`security.istio.io/tlsMode: istio`).
    pub tls: bool,
    /// 0 = is used first; others as far as those before them fail.
    pub priority: u8,
    /// Index into [`Cluster::groups`].
    pub group: u16,
    /// For metrics.
    pub workload: Arc<Workload>,
}

/// The endpoints of one locality.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Group {
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
    /// Its share beside the others (Istio `distribute`); `None` = as much as its endpoints weigh.
    pub share: Option<u32>,
}

impl Endpoint {
    /// A plain endpoint of weight 1 that nothing is known of.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: 1, tls: false, priority: 0, group: 0, workload: Arc::default() }
    }
}

/// TLS towards an upstream (Istio `ClientTLSSettings`). Equal values may share one client configuration.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientTls {
    /// What the server must chain to.
    pub roots: ClientRoots,
    /// PEM revocation list that covers its chain.
    pub crl: Option<RootsSource>,
    /// What the server must be named.
    pub names: ServerNames,
    /// What we present.
    pub certificate: ClientCertificate,
    /// What we ask for.
    pub sni: Sni,
    /// True for `ISTIO_MUTUAL`: offer Istio's ALPN names before the plain ones.
    pub mesh: bool,
    /// Which cipher suites and groups may be used; `None` = the proxy's own.
    pub range: Option<Arc<TlsRange>>,
}

/// Roots towards an upstream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ClientRoots {
    /// The mesh roots of the workload identity.
    Mesh,
    /// The operating system's.
    System,
    /// Given; [`RootsSource::Missing`] fails every connection rather than trusting anybody.
    Given(RootsSource),
    /// `insecureSkipVerify`.
    Insecure,
}

/// Name check towards an upstream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ServerNames {
    /// One of these SANs exactly.
    Sans(Vec<String>),
    /// The name asked for (SNI, else Host).
    Host,
    /// Only the chain.
    Any,
}

/// Client certificate towards an upstream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ClientCertificate {
    /// None.
    None,
    /// The workload's.
    Workload,
    /// From the configuration.
    Given(crate::snapshot::CertificateSource),
}

/// SNI towards an upstream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Sni {
    /// This one.
    Fixed(Arc<str>),
    /// The (rewritten) Host header without its port.
    Host,
}

/// Load balancing policy (Istio `LoadBalancerSettings`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// The less loaded of two endpoints, the next in turn and a random one: the default.
    #[default]
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// The same endpoint for the same key.
    Hash(Box<ConsistentHash>),
}
