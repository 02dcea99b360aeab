//! What a DestinationRule says about connections: limits, times, and what stands at their beginning.

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use super::destination_rules::Policy;
use crate::{
    api::destination_rule::{self as api, ConnectionPool, HttpPool, ProxyProtocolVersion, TcpKeepalive, TcpPool},
    connections::{Connections, Keepalive, Pings, Preamble, ProxyVersion, Tunnel},
};

/// `None` when neither a policy nor the mesh (`tcpKeepalive`) says anything of it.
pub(super) fn compile(policy: &Policy<'_>, mesh: Option<TcpKeepalive>) -> Option<Arc<Connections>> {
    found(Connections { preamble: preamble(policy), ..Connections::default() }, policy.connection_pool, mesh)
}

/// As [`compile`], of a pool alone.
pub(super) fn of_pool(pool: &ConnectionPool, mesh: Option<TcpKeepalive>) -> Option<Arc<Connections>> {
    found(Connections::default(), Some(pool), mesh)
}

fn found(
    mut found: Connections,
    pool: Option<&ConnectionPool>,
    mesh: Option<TcpKeepalive>,
) -> Option<Arc<Connections>> {
    if let Some(pool) = pool {
        if let Some(tcp) = &pool.tcp {
            of_tcp(&mut found, tcp);
        }
        if let Some(http) = &pool.http {
            of_http(&mut found, http);
        }
    }
    let own = pool.and_then(|pool| pool.tcp.as_ref()?.tcp_keepalive);
    found.keepalive = keepalive(own, mesh);
    (found != Connections::default()).then(|| Arc::new(found))
}

/// Istio's numbers are unlimited when they are 0; negative ones are refused before.
pub(super) fn limit(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|&number| number > 0)
}

fn of_tcp(found: &mut Connections, tcp: &TcpPool) {
    found.most = limit(tcp.max_connections);
    found.lifetime = tcp.max_connection_duration.map(Duration::from);
    found.idle = tcp.idle_timeout.map(Duration::from);
}

/// What a DestinationRule leaves open the mesh says, field by field.
fn keepalive(own: Option<TcpKeepalive>, mesh: Option<TcpKeepalive>) -> Option<Keepalive> {
    if own.is_none() && mesh.is_none() {
        return None;
    }
    let (own, mesh) = (own.unwrap_or_default(), mesh.unwrap_or_default());
    let probes = if own.probes > 0 { own.probes } else { mesh.probes };
    Some(Keepalive {
        probes: Some(probes).filter(|&probes| probes > 0),
        time: own.time.or(mesh.time).map(Duration::from),
        interval: own.interval.or(mesh.interval).map(Duration::from),
    })
}

fn of_http(found: &mut Connections, http: &HttpPool) {
    found.pending = limit(http.http1_max_pending_requests);
    found.streams = limit(http.max_concurrent_streams);
    found.pings = http.http2_keep_alive.and_then(|pings| {
        Some(Pings { interval: Duration::from(pings.interval?), timeout: Duration::from(pings.timeout?) })
    });
}

/// Istio allows one of the two.
fn preamble(policy: &Policy<'_>) -> Option<Preamble> {
    let proxy = policy.proxy_protocol.map(|proxy| match proxy.version {
        ProxyProtocolVersion::V1 => Preamble::Proxy(ProxyVersion::V1),
        ProxyProtocolVersion::V2 => Preamble::Proxy(ProxyVersion::V2),
    });
    proxy.or_else(|| policy.tunnel.map(tunnel))
}

fn tunnel(tunnel: &api::Tunnel) -> Preamble {
    let post = tunnel.protocol.as_deref() == Some("POST");
    let (host, port) = (&tunnel.target_host, tunnel.target_port);
    let bare = host.parse::<Ipv6Addr>().is_ok();
    let target = if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Preamble::Tunnel(Tunnel { post, target: target.into() })
}
