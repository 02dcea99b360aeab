//! What the data path reads: immutable, swapped whole, pinned once per request.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    acme::Ordered,
    api::proxy_config::ForwardClientCert,
    guard::Guard,
    inbound::Inbound,
    mesh::Mesh,
    opaque::{OpaqueRule, OpaqueTable},
    table::RouteTable,
    telemetry::Telemetry,
    upstream::{Cluster, ClusterId},
};

/// One compiled configuration of one proxy.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Content hash of the resources and of the proxy it was compiled from: same input, same digest.
    pub digest: u64,
    /// Gateway role: one per (bind address, port).
    pub listeners: Vec<Listener>,
    /// Every cluster that a route can name; [`ClusterId`] indexes it. Some may be vacant, see [`Cluster::is_vacant`] and
    /// [`Self::named_clusters`].
    pub clusters: Vec<Arc<Cluster>>,
    /// Sidecar role: what this workload accepts.
    pub inbound: Option<Inbound>,
    /// Sidecar role: where this workload's own requests go.
    pub outbound: Option<Outbound>,
    /// What is asked of whoever comes to this workload; `None` = nothing.
    pub guard: Option<Box<Guard>>,
    /// What is told of requests otherwise than usual; `None` = nothing.
    pub telemetry: Option<Box<Telemetry>>,
    /// Host names among the endpoints that somebody with a resolver has to turn into addresses (sorted, unique).
    pub names: Vec<String>,
    /// Gateway role: the certificates to order, sorted by Secret.
    pub ordered: Vec<Arc<Ordered>>,
    /// How this proxy describes itself in metrics.
    pub workload: Workload,
    /// Gateway role: who stands in front.
    pub topology: Topology,
    /// What holds for the whole mesh.
    pub mesh: Arc<Mesh>,
}

impl Snapshot {
    /// The clusters that are not vacant.
    pub fn named_clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.iter().filter(|cluster| !cluster.is_vacant())
    }

    /// The cluster a route names. Ids come from the same compilation, so the index always exists.
    pub fn cluster(&self, id: ClusterId) -> &Arc<Cluster> {
        &self.clusters[id.0 as usize]
    }
}

/// Who stands in front of a gateway (Istio `gatewayTopology`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Topology {
    /// Proxies whose word about a client is believed.
    pub trusted_proxies: u32,
    /// What becomes of a client's `x-forwarded-client-cert`; `SANITIZE_SET` when nothing is said.
    pub forward_client_cert: ForwardClientCert,
    /// Whether each connection begins with a PROXY header.
    pub proxy_protocol: bool,
}

/// A socket that the gateway listens on, with everything behind it.
#[derive(Debug)]
pub struct Listener {
    /// Istio `Server.bind`; `None` = the address the proxy was told to bind.
    pub bind: Option<IpAddr>,
    /// The port as the Gateway names it (before any port map), 1 to 65535. What `match.port` compares with.
    pub port: u16,
    /// The port to bind: the Service's `targetPort` for [`Self::port`] where one selects this proxy, else the same.
    pub bind_port: u16,
    /// `None`: plain HTTP, or plain bytes ([`Self::bytes`]). `Some`: TLS, the server chosen by SNI.
    pub tls: Option<TlsServers>,
    /// Routes of **all** servers of this port: the host decides, never the server that the SNI chose.
    pub routes: Arc<RouteTable>,
    /// `Some`: plain bytes that are no HTTP, all of which follow the only route of this table.
    pub bytes: Option<Arc<OpaqueTable>>,
}

/// The TLS servers of one listener and how an SNI finds its own.
#[derive(Debug, Default)]
pub struct TlsServers {
    /// Every server, in configuration order; the indexes below point here.
    pub servers: Vec<TlsServer>,
    /// Which server an SNI belongs to: exact before wildcard, longest wildcard first, then `*`.
    pub by_sni: crate::host::HostMap<usize>,
}

impl TlsServers {
    /// The server for those who name no host: there is no choice when only one is opened.
    pub fn only(&self) -> Option<usize> {
        let mut opened = self.servers.iter().enumerate().filter(|(_, server)| !server.is_rejected());
        match (opened.next(), opened.next()) {
            (Some((index, _)), None) => Some(index),
            _ => None,
        }
    }
}

/// One `Gateway.servers[]` entry that a ClientHello may be meant for.
#[derive(Debug)]
pub struct TlsServer {
    /// `namespace/gateway/port name`, for messages and logs.
    pub name: Arc<str>,
    /// What to present and what to demand.
    pub settings: ServerTls,
    /// What follows the ClientHello.
    pub content: Content,
}

/// What follows a ClientHello.
#[derive(Clone, Debug, Default)]
pub enum Content {
    /// A handshake with us, then HTTP.
    #[default]
    Http,
    /// A handshake with us, then bytes. Those of clients without SNI follow the first route when none is for them.
    Bytes(Arc<OpaqueTable>),
    /// `PASSTHROUGH`: nothing of ours, all bytes go on.
    Passed(Arc<OpaqueTable>),
    /// `AUTO_PASSTHROUGH`: the same, by the SNI of the mesh's proxies, for whoever offers one of their protocols.
    Mesh(Arc<OpaqueTable>),
}

impl Content {
    /// Whether TLS ends elsewhere.
    pub fn is_passed(&self) -> bool {
        matches!(self, Self::Passed(_) | Self::Mesh(_))
    }
}

impl TlsServer {
    /// Whether it is not opened: it only keeps its hosts from others.
    pub fn is_rejected(&self) -> bool {
        self.settings.certificate == CertificateSource::Rejected
    }
}

/// Istio `ServerTLSSettings`, with its Secrets looked up.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ServerTls {
    /// Where the certificate comes from.
    pub certificate: CertificateSource,
    /// What is demanded of clients.
    pub client: ClientAuth,
    /// Lowest accepted version.
    pub min_version: TlsVersion,
    /// Highest accepted version.
    pub max_version: TlsVersion,
    /// OpenSSL names as written; empty = the proxy's default.
    pub cipher_suites: Vec<String>,
    /// BoringSSL names as written; empty = the proxy's default.
    pub curves: Vec<String>,
}

/// A server's certificate.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum CertificateSource {
    /// Istio `credentialName(s)`: the Secrets found (one, or two of different key types).
    Secrets(Vec<CertificateSecret>),
    /// Istio `serverCertificate` and `privateKey`, or `tlsCertificates`: files that somebody who may do I/O has to read (one
    /// pair, or two of different key types).
    Files(Vec<CertificateFiles>),
    /// The proxy's own workload certificate (`ISTIO_MUTUAL`).
    Workload,
    /// None: TLS ends elsewhere ([`Content::Passed`]).
    Elsewhere,
    /// The Secret (named here) does not exist or lacks its keys: handshakes are refused until it does.
    Missing(String),
    /// The server was rejected, with a problem that says why: its hosts are refused, whatever wildcard there is beside it.
    Rejected,
    /// An issuer will fill the Secret, which is not there yet: see [`Ordered`].
    Pending {
        /// `namespace/name`.
        secret: String,
        /// Name of the issuer.
        issuer: String,
        /// Whether a self-signed certificate serves meanwhile; else handshakes are refused.
        placeholder: bool,
        /// The hosts of the certificate, as in [`Ordered::hosts`].
        hosts: Vec<String>,
    },
}

/// Certificate and key in files.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CertificateFiles {
    /// Path of the PEM chain.
    pub certificate: String,
    /// Path of the PEM key.
    pub key: String,
}

/// Certificate and key out of a Secret.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct CertificateSecret {
    /// `namespace/name`.
    pub name: String,
    /// PEM chain.
    pub chain: Arc<[u8]>,
    /// PEM key.
    pub key: Arc<[u8]>,
    /// DER OCSP staple (`tls.ocsp-staple`).
    pub ocsp: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for CertificateSecret {
    /// Names the Secret and prints nothing of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a server demands of its clients.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ClientAuth {
    /// `SIMPLE`: nothing.
    None,
    /// `MUTUAL`: a certificate that chains to the CA, with one of the SANs when any are given.
    Required(ClientCa),
    /// `OPTIONAL_MUTUAL`: verified when sent.
    Optional(ClientCa),
    /// `insecureSkipVerify`: a certificate is asked for, and what it says is not believed.
    Unverified {
        /// Whether there must be one.
        required: bool,
    },
    /// `ISTIO_MUTUAL`: a mesh identity of one of these trust domains (empty = of any).
    Mesh {
        /// Accepted trust domains.
        trust_domains: Vec<String>,
        /// Istio `subjectAltNames`: one of these exactly; empty = any.
        sans: Vec<String>,
    },
}

/// The CA that client certificates must chain to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientCa {
    /// Where the PEM roots come from. `Missing` refuses every handshake: a server never opens without its client
    /// authentication.
    pub roots: RootsSource,
    /// PEM revocation list out of the Secret.
    pub crl: Option<Arc<[u8]>>,
    /// Istio `caCrl`: a file with another one.
    pub crl_file: Option<String>,
    /// Istio `subjectAltNames`: one of these exactly; empty = any.
    pub sans: Vec<String>,
    /// Certificates that are named by their digest.
    pub pins: Pins,
}

/// SHA-256 digests of which a client's certificate must have one, in either list; both empty = any certificate.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Pins {
    /// Istio `verifyCertificateSpki`: of the public key.
    pub keys: Vec<[u8; 32]>,
    /// Istio `verifyCertificateHash`: of the certificate.
    pub certificates: Vec<[u8; 32]>,
}

/// PEM roots from somewhere.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum RootsSource {
    /// Already read, from the named Secret.
    Pem(Arc<[u8]>),
    /// A file to read.
    File(String),
    /// The Secret (named here) does not exist or holds no CA.
    Missing(String),
}

/// TLS protocol version.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// What TLS may use where nothing narrower says it (Istio `MeshConfig.TLSConfig`).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct TlsRange {
    /// Lowest accepted version.
    pub min_version: TlsVersion,
    /// OpenSSL names as written; empty = the proxy's default.
    pub cipher_suites: Vec<String>,
    /// BoringSSL names as written; empty = the proxy's default.
    pub curves: Vec<String>,
}

/// A sidecar's outbound side.
#[derive(Debug, Default)]
pub struct Outbound {
    /// Route table by service port, as a captured connection's original destination or the Host header names it.
    pub by_port: HashMap<u16, Arc<RouteTable>>,
    /// What is no HTTP, by the same port.
    pub opaque: HashMap<u16, Arc<OpaqueTable>>,
    /// What becomes of hosts and connections that no service claims.
    pub unclaimed: Unclaimed,
    /// Istio `egressProxy`: where hosts that no service claims go instead of where the application meant them to go.
    pub fallback: Option<Arc<RouteTable>>,
    /// The same of connections that are no HTTP.
    pub fallback_bytes: Option<Arc<OpaqueRule>>,
    /// Sockets for applications that connect to the sidecar themselves.
    pub doors: Vec<OutboundDoor>,
}

/// An entry of `Sidecar.egress` that is not captured: a connection to it means its port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutboundDoor {
    /// Where to listen: an IP address, or a unix socket by the address that stands for it ([`crate::unix`]).
    pub at: SocketAddr,
    /// Which port of a service is meant; 0 = the one that the request's host names, as of unix sockets, which have none.
    pub port: u16,
}

/// Istio `outboundTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Unclaimed {
    /// ALLOW_ANY: they go where the application meant them to go (`PassthroughCluster`).
    #[default]
    Pass,
    /// REGISTRY_ONLY: requests get 502 (`block_all`), connections are reset (`BlackHoleCluster`).
    Refuse,
}

/// How a proxy or an endpoint describes its workload in metrics (istio-proxy labels, Istio standard metrics).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Workload {
    /// Owner's name (Deployment...), else the pod's; empty = unknown.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, `app`, workload name.
    pub canonical_service: Arc<str>,
    /// `service.istio.io/canonical-revision`, else `app.kubernetes.io/version`, `version`, `latest`.
    pub canonical_revision: Arc<str>,
    /// Label `app`; empty when absent.
    pub app: Arc<str>,
    /// Label `version`; empty when absent.
    pub version: Arc<str>,
    /// Istio's `CLUSTER_ID`; empty = the proxy's own.
    pub cluster: Arc<str>,
    /// SPIFFE id; empty = none.
    pub principal: Arc<str>,
}
