//! The sockets of a gateway, with the certificates and the routes behind them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    certificates,
    context::Context,
    gateways::{self, Served, ServedPort, ServerHost},
    opaque,
    proxy::is_subset,
    report::REJECTED_REFERENCE,
    server_tls,
    virtual_hosts::{self, Attached},
    virtual_services::{self, Bound, MESH},
    workloads::{WorkloadFacts, pod_facts},
};
use crate::{
    acme::Ordered,
    api::service::ServicePort,
    host::{HostMap, HostPattern},
    resources::Kind,
    snapshot::{Content, Listener, TlsServer, TlsServers},
};

/// The listeners, and the certificates to order for them.
pub(super) fn compile(context: &Context<'_>) -> (Vec<Listener>, Vec<Arc<Ordered>>) {
    let ports = gateways::select(context);
    let opened = opened(context, &ports);
    let ordered = certificates::compile(context, &opened);
    let bound = virtual_services::visible(context);
    let mut attached = Attached::default();
    let mut listeners: Vec<Listener> = Vec::new();
    for (port, bind_port) in opened {
        let routes = Arc::new(virtual_hosts::compile(context, port, &bound, &mut attached));
        let bytes = opaque::plain(context, port, &bound, &mut attached);
        let tls = port.tls.then(|| {
            let contents = opaque::contents(context, port, &bound, &mut attached);
            tls_servers(context, port, contents, &ordered)
        });
        listeners.push(Listener { bind: port.bind, port: port.number, bind_port, tls, routes, bytes });
    }
    report_unattached(context, &ports, &bound, &attached);
    (listeners, ordered)
}

/// The ports that can be opened, each with the port to bind. Of two that would be the same socket the first has it.
pub(super) fn opened<'p, 'a>(context: &Context<'a>, ports: &'p [ServedPort<'a>]) -> Vec<(&'p ServedPort<'a>, u16)> {
    let mut opened: Vec<(&ServedPort<'a>, u16)> = Vec::new();
    for port in ports {
        let bind_port = target_port(context, port.number);
        let clash = opened.iter().find(|(other, bound)| other.bind == port.bind && *bound == bind_port);
        if let Some((other, _)) = clash {
            let message = format!(
                "port {} leads to the proxy's port {bind_port}, which serves port {} already, so it is not opened; give \
                 them different targetPorts in the gateway's Service",
                port.number, other.number
            );
            let gateway = port.servers[0].gateway;
            context.report.error(gateway, "port-conflict", "spec.servers", message);
            continue;
        }
        opened.push((port, bind_port));
    }
    opened
}

fn tls_servers(
    context: &Context<'_>,
    port: &ServedPort<'_>,
    contents: Vec<Content>,
    ordered: &[Arc<Ordered>],
) -> TlsServers {
    let mut servers = Vec::new();
    let mut by_sni = HostMap::default();
    for (served, content) in port.servers.iter().zip(contents) {
        let Some(mut settings) = served.tls.clone() else { continue };
        if let Some(pending) = certificates::pending(context, served, ordered) {
            settings.certificate = pending;
        }
        for host in &served.hosts {
            by_sni.insert(&host.pattern, servers.len());
        }
        let port_name = served.server.port.as_ref().map_or("", |port| &port.name);
        servers.push(TlsServer { name: format!("{}/{port_name}", served.gateway_name).into(), settings, content });
    }
    let mut shut: HashMap<&str, usize> = HashMap::new();
    for (host, name) in &port.shut {
        let index = *shut.entry(name).or_insert_with(|| {
            let settings = server_tls::rejected(name);
            servers.push(TlsServer { name: name.as_str().into(), settings, content: Content::Http });
            servers.len() - 1
        });
        by_sni.insert(host, index);
    }
    TlsServers { servers, by_sni }
}

/// Where the gateway's Service sends a port: its `targetPort`, else the port itself.
fn target_port(context: &Context<'_>, port: u16) -> u16 {
    let proxy = context.proxy;
    let services = context.resources.services.in_namespace(&proxy.namespace).iter();
    let own = services.filter(|service| {
        let selector = &service.spec.spec.selector;
        !selector.is_empty()
            && is_subset(selector, &proxy.labels)
            && !service.meta.labels.contains_key("experimental.istio.io/disable-gateway-port-translation")
    });
    // Over UDP, HTTP/3 has the same number.
    let tcp = |declared: &&ServicePort| matches!(declared.protocol.as_str(), "" | "TCP");
    let ports = own.flat_map(|service| &service.spec.spec.ports).filter(tcp);
    let mut declared = ports.filter(|declared| declared.port == port);
    declared.find_map(|declared| own_facts(context).target_port(declared.target_port.as_ref(), port)).unwrap_or(port)
}

/// The gateway's own container ports, by which a Service may name them: those of its workload, or, where only pods are
/// known, of a pod with its labels.
fn own_facts(context: &Context<'_>) -> WorkloadFacts {
    let proxy = context.proxy;
    super::workload(context.resources, &proxy.namespace, &proxy.name).unwrap_or_else(|| {
        let pods = context.resources.pods.in_namespace(&proxy.namespace);
        let own = pods.iter().find(|pod| !proxy.labels.is_empty() && is_subset(&proxy.labels, &pod.meta.labels));
        own.map(|pod| pod_facts(context.resources, pod)).unwrap_or_default()
    })
}

/// VirtualServices that name a gateway that does not exist, or hosts that none of their gateways here serves.
fn report_unattached(context: &Context<'_>, ports: &[ServedPort<'_>], bound: &[Bound<'_>], attached: &Attached) {
    let served: HashSet<&str> =
        ports.iter().flat_map(|port| &port.servers).map(|served| served.gateway_name.as_str()).collect();
    for (number, service) in bound.iter().enumerate() {
        report_unknown_gateways(context, service);
        let own: Vec<&str> =
            service.gateways.iter().map(String::as_str).filter(|gateway| served.contains(gateway)).collect();
        if own.is_empty() {
            continue;
        }
        for (pattern, index) in &service.hosts {
            if !attached.contains(number, *index) {
                let field = format!("spec.hosts[{index}]");
                if let Some(why) = unopened(context, ports, &own, pattern) {
                    let message = format!("{why}, so `{pattern}` is not served there");
                    context.report.warning(service.object, REJECTED_REFERENCE, &field, message);
                    continue;
                }
                let message = misfit(ports, service, &own, pattern);
                context.report.warning(service.object, "host-not-in-gateway", &field, message);
            }
        }
    }
}

/// Why none of the servers here is for a host of a VirtualService, and what to do.
fn misfit(ports: &[ServedPort<'_>], service: &Bound<'_>, own: &[&str], host: &HostPattern) -> String {
    let namespace = service.object.namespace();
    let fits = |served: &Served<'_>| {
        let admits = |server: &ServerHost| server.namespace.as_deref().is_none_or(|only| only == namespace);
        own.contains(&served.gateway_name.as_str())
            && served.hosts.iter().any(|server| admits(server) && server.pattern.intersect(host).is_some())
    };
    let gateways = own.join(", ");
    if !ports.iter().flat_map(|port| &port.servers).any(fits) {
        return format!(
            "no server of Gateway {gateways} has a host that fits `{host}` (and admits namespace `{namespace}`), so it is not \
             served there; add the host to a server"
        );
    }
    let spec = &service.object.spec;
    let needs = [
        (!spec.http.is_empty(), "http routes need protocol HTTP, or HTTPS and a mode that ends TLS"),
        (!spec.tls.is_empty(), "tls routes need mode PASSTHROUGH"),
        (!spec.tcp.is_empty(), "tcp routes need protocol TCP, or TLS and a mode that ends TLS"),
    ];
    let needs: Vec<&str> = needs.into_iter().filter(|(given, _)| *given).map(|(_, need)| need).collect();
    let needs = needs.join("; ");
    format!(
        "the servers of Gateway {gateways} for `{host}` are not for these routes, so it is not served there: {needs}"
    )
}

/// Where the server is that would serve a host, if it could be opened.
fn unopened(context: &Context<'_>, ports: &[ServedPort<'_>], own: &[&str], host: &HostPattern) -> Option<String> {
    let is_open = |name: &str, index: usize| {
        let mut servers = ports.iter().flat_map(|port| &port.servers);
        servers.any(|served| served.gateway_name == name && served.index == index)
    };
    let fits = |written: &String| {
        let written = written.rsplit('/').next().unwrap_or(written);
        written.parse::<HostPattern>().is_ok_and(|pattern| pattern.intersect(host).is_some())
    };
    own.iter().find_map(|name| {
        let (namespace, bare) = name.split_once('/')?;
        let gateway = context.resources.gateways.get(namespace, bare)?;
        let servers = gateway.spec.servers.iter().enumerate();
        let (index, _) =
            servers.into_iter().find(|(index, server)| server.hosts.iter().any(fits) && !is_open(name, *index))?;
        let place = gateway.place(&format!("spec.servers[{index}]"));
        let place = place.map(|place| format!(" in {}:{}", place.file, place.line)).unwrap_or_default();
        Some(format!("servers[{index}] of Gateway {name}{place} is not opened"))
    })
}

/// Names of gateways that no Gateway has.
pub(super) fn report_unknown_gateways(context: &Context<'_>, service: &Bound<'_>) {
    for (index, gateway) in service.gateways.iter().enumerate() {
        let known = gateway == MESH
            || gateway.split_once('/').is_some_and(|(ns, name)| context.resources.gateways.get(ns, name).is_some());
        if !known {
            let field = format!("spec.gateways[{index}]");
            let name = gateway.split_once('/').unwrap_or(("", gateway));
            let absence = context.absent(service.object, "unknown-gateway", Kind::Gateway, name);
            let rest = match absence.code {
                "unknown-gateway" => "; name one as `namespace/name`, or `mesh` for sidecars",
                _ => ", so nothing is served through it",
            };
            context.report.absent(service.object, &field, absence, rest);
        }
    }
}
