//! What a sidecar's application may be given at once: limits and times of the connections to it.

use std::{sync::Arc, time::Duration};

use super::{connections, context::Context};
use crate::{
    api::destination_rule::ConnectionPool,
    inbound::InboundPort,
    upstream::{Cluster, Limits},
};

/// Applications close kept connections early; ask them not to wait for ours.
const IDLE: Duration = Duration::from_secs(60);

/// Limits of a port, from the first that says any: the Sidecar's listener, the Sidecar, and the DestinationRule that holds for
/// the service in its own namespace, for the port and as a whole. It is a cluster without endpoints; `None`: nobody says
/// anything.
pub(super) fn of(context: &Context<'_>, port: &InboundPort) -> Option<Arc<Cluster>> {
    let sidecar = context.scope.sidecar.map(|sidecar| &sidecar.spec);
    let listened = sidecar.and_then(|spec| {
        let number = |listener: &&crate::api::sidecar::IngressListener| {
            listener.port.as_ref().is_some_and(|declared| declared.number == port.port)
        };
        spec.ingress.iter().find(number)?.connection_pool.as_ref()
    });
    let own = listened.or_else(|| sidecar?.inbound_connection_pool.as_ref());
    let pool = own.or_else(|| of_rule(context, port))?;
    let http = pool.http.as_ref();
    let connect = pool.tcp.as_ref().and_then(|tcp| tcp.connect_timeout).map(Duration::from);
    Some(Arc::new(Cluster {
        name: format!("inbound|{}||", port.port).into(),
        host: Arc::clone(&port.service_host),
        port: port.service_port,
        protocol: port.application,
        connect_timeout: connect.unwrap_or_else(|| context.proxy.mesh.connect_timeout()),
        idle_timeout: http.and_then(|http| http.idle_timeout).map_or(IDLE, Duration::from),
        limits: limits(pool),
        connections: connections::of_pool(pool, context.proxy.mesh.config.tcp_keepalive),
        ..Cluster::default()
    }))
}

fn of_rule<'a>(context: &Context<'a>, port: &InboundPort) -> Option<&'a ConnectionPool> {
    if port.service_port == 0 {
        return None;
    }
    let rule = context.destination_rules.of(&port.service_host, &port.service_namespace)?;
    rule.policy(None, port.service_port).connection_pool
}

/// Limits of requests.
pub(super) fn limits(pool: &ConnectionPool) -> Limits {
    let http = pool.http.as_ref();
    Limits {
        max_requests: http.and_then(|http| connections::limit(http.http2_max_requests)),
        max_requests_per_connection: http.and_then(|http| connections::limit(http.max_requests_per_connection)),
    }
}
