//! Routes in words: on which Gateways a service is exposed, and how requests inside of the mesh find it.

mod bytes;
mod phrase;

use std::sync::Arc;

use routing::{
    api::gateway::ServerTlsMode,
    compile::{GatewayServer, View, ViewedService},
    host::HostPattern,
    rule::{Action, Destinations, Rule},
    table::{RouteList, RouteTable},
};

use super::report::{Exposure, Mesh, MeshHost, Route};

/// The servers of one gateway through which a service (its host in full) is reached.
pub(super) fn exposures(view: &View<'_>, host: &str) -> Vec<Exposure> {
    let mut found: Vec<Exposure> = Vec::new();
    for port in view.gateway_ports() {
        for (domain, virtual_host) in port.routes.hosts.iter() {
            let routes = virtual_host.routes.routes().iter().enumerate();
            for (position, route) in routes.filter(|(_, route)| leads_to(&route.rule, host)) {
                for server in view.servers_of(&port, &route.rule.source, domain) {
                    let exposure = exposure(port.number, server);
                    let at = found.iter().position(|known| is_same(known, &exposure)).unwrap_or_else(|| {
                        found.push(exposure);
                        found.len() - 1
                    });
                    let described = phrase::route((position, route), Some(phrase::Address::of(&port, server, domain)));
                    found[at].routes.push(described);
                }
            }
        }
    }
    found.extend(bytes::exposures(view, host));
    found
}

fn is_same(a: &Exposure, b: &Exposure) -> bool {
    (&a.gateway, a.port, &a.hosts, &a.protocol) == (&b.gateway, b.port, &b.hosts, &b.protocol)
}

fn exposure(port: u16, server: &GatewayServer<'_>) -> Exposure {
    let terminates = server.server.tls.as_ref().filter(|_| is_tls(server));
    Exposure {
        gateway: format!("{}/{}", server.gateway.namespace(), server.gateway.name()),
        port,
        protocol: server
            .server
            .port
            .as_ref()
            .and_then(|port| port.protocol)
            .map(|it| it.to_string())
            .unwrap_or_default(),
        hosts: server.server.hosts.clone(),
        tls: terminates.map(|tls| mode(tls.mode).to_owned()),
        credentials: terminates
            .map(|tls| tls.credential_name.iter().chain(&tls.credential_names).cloned().collect())
            .unwrap_or_default(),
        redirects_to_https: server.redirects,
        checks: Vec::new(),
        routes: Vec::new(),
    }
}

fn is_tls(server: &GatewayServer<'_>) -> bool {
    server.server.port.as_ref().and_then(|port| port.protocol).is_some_and(|protocol| protocol.is_tls())
}

fn mode(mode: ServerTlsMode) -> &'static str {
    match mode {
        ServerTlsMode::Passthrough => "PASSTHROUGH",
        ServerTlsMode::Simple => "SIMPLE",
        ServerTlsMode::Mutual => "MUTUAL",
        ServerTlsMode::AutoPassthrough => "AUTO_PASSTHROUGH",
        ServerTlsMode::IstioMutual => "ISTIO_MUTUAL",
        ServerTlsMode::OptionalMutual => "OPTIONAL_MUTUAL",
    }
}

/// How one client inside of the mesh is routed: by the service's own host, and by other hosts with routes to it. `clients`
/// is left empty.
pub(super) fn mesh(view: &View<'_>, service: &ViewedService) -> Mesh {
    let outbound = view.outbound();
    let mut numbers: Vec<u16> = outbound.by_port.keys().copied().collect();
    numbers.sort_unstable();
    let own = service.ports.iter().filter_map(|port| {
        let list = &outbound.by_port.get(&port.number)?.host(&service.host)?.routes;
        Some((port.number, list.clone()))
    });
    let own: Vec<(u16, Arc<RouteList>)> = own.collect();
    let mut hosts: Vec<MeshHost> = Vec::new();
    for (port, list) in &own {
        let written = list.routes().iter().enumerate().filter(|(_, route)| !route.rule.source.is_empty());
        add(&mut hosts, service.host.to_string(), *port, written.map(|it| phrase::route(it, None)).collect());
    }
    for port in numbers {
        for (domain, list) in others(view, &outbound.by_port[&port], service) {
            if !own.iter().any(|(number, known)| *number == port && Arc::ptr_eq(known, &list)) {
                let leading =
                    list.routes().iter().enumerate().filter(|(_, route)| leads_to(&route.rule, &service.host));
                add(&mut hosts, domain.to_string(), port, leading.map(|it| phrase::route(it, None)).collect());
            }
        }
    }
    bytes::mesh(view, service, &mut hosts);
    Mesh { clients: Vec::new(), hosts }
}

/// Ports of a host with the same routes stand together.
fn add(hosts: &mut Vec<MeshHost>, host: String, port: u16, routes: Vec<Route>) {
    match hosts.iter_mut().find(|known| known.host == host && known.routes == routes) {
        Some(known) => known.ports.push(port),
        None => hosts.push(MeshHost { host, ports: vec![port], routes }),
    }
}

/// Hosts of a port, other than the service's own, that a VirtualService leads to it; of a service's many names the full one.
fn others(view: &View<'_>, table: &RouteTable, service: &ViewedService) -> Vec<(HostPattern, Arc<RouteList>)> {
    let mut found: Vec<(HostPattern, Arc<RouteList>)> = Vec::new();
    for (domain, virtual_host) in table.hosts.iter() {
        let list = &virtual_host.routes;
        let mut routes = list.routes().iter();
        if !routes.any(|route| !route.rule.source.is_empty() && leads_to(&route.rule, &service.host)) {
            continue;
        }
        let full = |domain: &HostPattern| view.service(&domain.to_string()).is_some();
        match found.iter_mut().find(|(_, known)| Arc::ptr_eq(known, list)) {
            Some((known, _)) if full(domain) && !full(known) => *known = domain.clone(),
            // Names of the same service share their routes; so may hosts of one VirtualService that are no services.
            Some((known, _)) if full(known) => {}
            _ => found.push((domain.clone(), list.clone())),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Whether requests of a rule go, or would go, to a host in full.
fn leads_to(rule: &Rule, host: &str) -> bool {
    match &rule.action {
        Action::Route(to) => lead_to(to, host),
        Action::Redirect(_) | Action::Direct(_) => false,
    }
}

fn lead_to(to: &Destinations, host: &str) -> bool {
    to.all.iter().any(|to| phrase::Target::of(&to.cluster_name).host == host)
}
