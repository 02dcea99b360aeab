//! Ways of connections that are no HTTP: `tls` and `tcp` routes, and servers of protocol TCP and TLS.

use std::sync::Arc;

use routing::{
    compile::{BytesRoute, TlsEnds, View, ViewedService},
    host::HostPattern,
    opaque::{OpaqueRule, Subnet},
};

use super::{add, exposure, lead_to, phrase};
use crate::command::describe::report::{Carries, Exposure, MeshHost, Route};

/// The servers of one gateway through which connections reach a service (its host in full).
pub(super) fn exposures(view: &View<'_>, host: &str) -> Vec<Exposure> {
    let mut found = Vec::new();
    for served in view.gateway_bytes() {
        let leading = served.routes.iter().filter(|(_, route)| lead_to(&route.rule.to, host));
        let routes: Vec<Route> = leading
            .map(|(position, route)| {
                let carries = if served.ends == TlsEnds::Behind { Carries::Tls } else { Carries::Tcp };
                let when = Bytes { carries, names: &route.names, subnets: &route.subnets, position: *position };
                let url = url(served.ends, &route.names, served.port);
                Route { url, ..described(&when, &route.rule) }
            })
            .collect();
        if !routes.is_empty() {
            found.push(Exposure { routes, ..exposure(served.port, &served.server) });
        }
    }
    found
}

/// How a client begins; `None`: only proxies of other networks know how.
fn url(ends: TlsEnds, names: &[HostPattern], port: u16) -> Option<String> {
    let host = match names.first() {
        None | Some(HostPattern::Any) => "<gateway>".to_owned(),
        Some(HostPattern::Exact(host)) => host.to_string(),
        Some(HostPattern::Suffix(rest)) => format!("any{rest}"),
    };
    match ends {
        TlsEnds::Nowhere => Some(format!("tcp://<gateway>:{port}")),
        TlsEnds::Here | TlsEnds::Behind => Some(format!("tls://{host}:{port}")),
        TlsEnds::AtTheMesh => None,
    }
}

/// Adds how connections inside of the mesh are routed: those to the service itself, and those to others that lead to it.
pub(super) fn mesh(view: &View<'_>, service: &ViewedService, hosts: &mut Vec<MeshHost>) {
    let routes = view.mesh_bytes();
    // By port and service.
    for group in routes.chunk_by(|a, b| (a.port, &a.host) == (b.port, &b.host)) {
        let own = group[0].host == service.host;
        let written = group.iter().filter(|route| !route.rule.source.is_empty());
        let leading = written.filter(|route| own || lead_to(&route.rule.to, &service.host));
        let described: Vec<Route> = leading.map(of_the_mesh).collect();
        // What is sniffed and has no route of its own is told of where its requests are.
        if (own && !group[0].sniffed) || !described.is_empty() {
            add(hosts, group[0].host.to_string(), group[0].port, described);
        }
    }
}

fn of_the_mesh(route: &BytesRoute) -> Route {
    let carries = if route.tls { Carries::Tls } else { Carries::Tcp };
    let when = Bytes { carries, names: &route.names, subnets: &route.subnets, position: route.position };
    described(&when, &route.rule)
}

/// For which connections a route is.
struct Bytes<'r> {
    carries: Carries,
    names: &'r [HostPattern],
    subnets: &'r [Subnet],
    position: usize,
}

fn described(when: &Bytes<'_>, rule: &Arc<OpaqueRule>) -> Route {
    let names: Vec<String> =
        when.names.iter().filter(|name| **name != HostPattern::Any).map(ToString::to_string).collect();
    let subnets: Vec<String> = when.subnets.iter().map(ToString::to_string).collect();
    let words = [("server name", names), ("destination", subnets)];
    let words = words.into_iter().filter(|(_, values)| !values.is_empty());
    Route {
        carries: when.carries,
        position: when.position,
        virtual_service: rule.source.to_string(),
        name: String::new(),
        url: None,
        when: words.map(|(what, values)| format!("{what} is {}", values.join(" or "))).collect(),
        rewrite: Vec::new(),
        destinations: phrase::destinations(&rule.to),
        answer: None,
    }
}
