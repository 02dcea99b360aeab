//! What a DestinationRule says about the connections to a cluster, beyond what every cluster has.

use std::{sync::Arc, time::Duration};

/// Istio `connectionPool`, `tunnel` and `proxyProtocol`. A cluster has one when its rule says any of it; `None` is no limit,
/// or the default.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Connections {
    /// `tcp.maxConnections`: open at once, of the whole process.
    pub most: Option<u32>,
    /// `http.http1MaxPendingRequests`: requests that wait for a connection, whatever the protocol.
    pub pending: Option<u32>,
    /// `http.maxConcurrentStreams`: of one HTTP/2 connection.
    pub streams: Option<u32>,
    /// `tcp.tcpKeepalive`.
    pub keepalive: Option<Keepalive>,
    /// `tcp.maxConnectionDuration`: a connection serves nothing new at this age.
    pub lifetime: Option<Duration>,
    /// `tcp.idleTimeout`, of connections that carry no HTTP: without a byte in either direction they end. Istio's default is
    /// one hour; zero is never.
    pub idle: Option<Duration>,
    /// `http.http2KeepAlive`.
    pub pings: Option<Pings>,
    /// What stands at the beginning of each connection.
    pub preamble: Option<Preamble>,
}

impl Connections {
    /// Istio's default of `tcp.idleTimeout`.
    pub const IDLE: Duration = Duration::from_secs(3600);

    /// Whether a process has to count for it.
    pub fn are_counted(&self) -> bool {
        self.most.is_some() || self.pending.is_some()
    }
}

/// Istio `TcpKeepalive`; what is `None` is as without it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Keepalive {
    /// Probes without answer until the connection counts as dead.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// Istio `HTTP2KeepAlive`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Pings {
    /// Time between PING frames, with requests or without.
    pub interval: Duration,
    /// A connection that does not answer within this time is dropped.
    pub timeout: Duration,
}

/// What an endpoint is told before anything else.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Preamble {
    /// Istio `proxyProtocol`: who the client is.
    Proxy(ProxyVersion),
    /// Istio `tunnel`, of connections that carry no HTTP: where the endpoint is to connect to.
    Tunnel(Tunnel),
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// Istio `TunnelSettings`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Tunnel {
    /// By POST, and not by CONNECT.
    pub post: bool,
    /// `host:port` that the tunnel ends at.
    pub target: Arc<str>,
}
