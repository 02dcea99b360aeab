//! Where connections are taken.

use std::{collections::BTreeMap, net::SocketAddr};

use routing::{
    inbound::{InboundPort, InboundProtocol},
    snapshot::{Listener, Snapshot},
};

use crate::admin::schema::listeners::{self as schema, Listeners};

/// Port that a Gateway names -> port that is bound instead (`--port-map`).
pub(crate) type Ports = BTreeMap<u16, u16>;

/// All of them, and what could not be bound.
pub(crate) fn listeners(snapshot: &Snapshot, ports: &Ports, failures: Vec<String>) -> Listeners {
    let mut listeners: Vec<_> = snapshot.listeners.iter().map(|it| gateway(it, ports)).collect();
    let own = snapshot.inbound.iter().flat_map(|inbound| inbound.ports.values());
    listeners.extend(own.map(inbound));
    if let Some(outbound) = &snapshot.outbound {
        let mut http: Vec<_> =
            outbound.by_port.iter().map(|(port, table)| (*port, "http", table.hosts.len())).collect();
        let opaque = outbound.opaque.keys().filter(|port| !outbound.by_port.contains_key(*port));
        http.extend(opaque.map(|port| (*port, "tcp", 0)));
        http.sort_unstable();
        listeners.extend(http.into_iter().map(|(port, protocol, hosts)| schema::Listener {
            side: "outbound",
            port,
            bound: None,
            tls: "plain".to_owned(),
            protocol,
            hosts,
        }));
    }
    Listeners { listeners, failures }
}

/// The port that is bound for a listener.
pub(super) fn bound(listener: &Listener, ports: &Ports) -> u16 {
    ports.get(&listener.port).copied().unwrap_or(listener.bind_port)
}

fn gateway(listener: &Listener, ports: &Ports) -> schema::Listener {
    let port = bound(listener, ports);
    let bound = listener.bind.map(|bind| SocketAddr::new(bind, port).to_string());
    schema::Listener {
        side: "gateway",
        port: listener.port,
        bound: Some(bound.unwrap_or_else(|| format!("*:{port}"))),
        tls: if listener.tls.is_some() { "tls" } else { "plain" }.to_owned(),
        protocol: if listener.bytes.is_some() { "tcp" } else { "http" },
        hosts: listener.routes.hosts.len(),
    }
}

fn inbound(port: &InboundPort) -> schema::Listener {
    schema::Listener {
        side: "inbound",
        port: port.port,
        bound: port.bind.map(|bind| SocketAddr::new(bind, port.port).to_string()),
        tls: format!("{:?}", port.mtls).to_uppercase(),
        protocol: match port.protocol {
            InboundProtocol::Http => "http",
            InboundProtocol::Tcp => "tcp",
            InboundProtocol::Auto => "auto",
        },
        hosts: usize::from(!port.service_host.is_empty()),
    }
}
