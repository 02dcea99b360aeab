//! What a sidecar accepts for its own workload.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    snapshot::{ServerTls, TlsRange},
    upstream::{Cluster, UpstreamProtocol},
};

/// The inbound side of one workload.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Addresses of the workload as others reach it (pod IPs).
    pub addresses: Vec<IpAddr>,
    /// Ports by workload (container) port number.
    pub ports: BTreeMap<u16, InboundPort>,
    /// For ports that no Service and no container declares.
    pub default_mtls: MtlsMode,
    /// Trust domains whose identities may come in.
    pub trust_domains: Vec<String>,
    /// What their TLS may use.
    pub tls: TlsRange,
}

impl Inbound {
    /// The effective PeerAuthentication mode of a port.
    pub fn mtls(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).map_or(self.default_mtls, |found| found.mtls)
    }
}

/// One port of the workload.
#[derive(Clone, Debug)]
pub struct InboundPort {
    /// Workload port.
    pub port: u16,
    /// Effective mode: port level, then workload, namespace, mesh, PERMISSIVE.
    pub mtls: MtlsMode,
    /// What the bytes are.
    pub protocol: InboundProtocol,
    /// What the application speaks, for HTTP.
    pub application: UpstreamProtocol,
    /// The service this port belongs to, for metrics; empty = none.
    pub service_host: Arc<str>,
    /// Short name.
    pub service_name: Arc<str>,
    /// Namespace.
    pub service_namespace: Arc<str>,
    /// Service port (not the workload port); 0 = none.
    pub service_port: u16,
    /// Where the application is.
    pub to: Application,
    /// Where the sidecar listens for it besides what is captured.
    pub bind: Option<IpAddr>,
    /// TLS of the port's own, for clients outside of the mesh: nothing else is taken.
    pub tls: Option<Box<OwnTls>>,
    /// What the application may be given at once, as a cluster without endpoints; `None` = anything.
    pub pool: Option<Arc<Cluster>>,
}

/// Istio `Sidecar.ingress[].tls`.
#[derive(Clone, Debug)]
pub struct OwnTls {
    /// For people: `shop/web/https`, as of a Gateway's server.
    pub name: Arc<str>,
    /// Whom it lets in, and as whom it shows itself.
    pub settings: ServerTls,
}

/// Istio `Sidecar.ingress[].defaultEndpoint`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Application {
    /// Where the client meant to go.
    #[default]
    AsMeant,
    /// On this port of the workload's own address.
    OwnAddress(u16),
    /// On this port of the loopback address; `true`: of IPv6.
    Loopback(bool, u16),
    /// On this port of the address that the command line gives; where it gives none, the sidecar itself is in its place.
    Given(u16),
    /// A unix socket, by the address that stands for it ([`crate::unix`]).
    Socket(SocketAddr),
    /// Nowhere that can be reached.
    Nowhere,
}

/// Istio `PeerAuthentication.mtls.mode` after inheritance.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MtlsMode {
    /// Plain text only.
    Disable,
    /// Both, told apart by the first bytes.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// Declared protocol of an inbound port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InboundProtocol {
    /// HTTP family.
    Http,
    /// Opaque bytes.
    Tcp,
    /// Sniffed.
    #[default]
    Auto,
}
