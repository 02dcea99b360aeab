//! A gateway's port: which connections go where that are no HTTP, or whose TLS ends elsewhere.
//!
//! As in Istio a gateway looks at `sniHosts`, `port` and `gateways` of a match, and at nothing else.

use std::sync::Arc;

use super::{Binding, CONFLICT, rule, straight};
use crate::{
    compile::{
        clusters::{Carries, Member},
        context::Context,
        gateways::{Served, ServedContent, ServedPort},
        virtual_hosts::{Attached, by_gateway},
        virtual_services::Bound,
    },
    host::HostPattern,
    opaque::{OpaqueRoute, OpaqueRule, OpaqueTable, Taken, service_name},
    snapshot::Content,
};

/// What follows the ClientHello of each server of a TLS port, in order.
pub(in crate::compile) fn contents<'a>(
    context: &Context<'a>,
    port: &ServedPort<'a>,
    bound: &[Bound<'a>],
    attached: &mut Attached,
) -> Vec<Content> {
    let is = |content| port.servers.iter().any(|served| served.content == content);
    // Of all PASSTHROUGH servers together: the name decides, never the server.
    let passed = is(ServedContent::Passed).then(|| Arc::new(passed(context, port, bound, attached)));
    let contents = port.servers.iter().map(|served| match served.content {
        ServedContent::Http => Content::Http,
        ServedContent::Bytes => Content::Bytes(Arc::new(bytes(context, (port, served), bound, attached))),
        ServedContent::Passed => Content::Passed(passed.clone().unwrap_or_default()),
        ServedContent::Mesh => Content::Mesh(Arc::new(mesh(context, served))),
    });
    contents.collect()
}

/// The route of a plain port that is no HTTP: the first that fits of the first VirtualService that attaches.
pub(in crate::compile) fn plain<'a>(
    context: &Context<'a>,
    port: &ServedPort<'a>,
    bound: &[Bound<'a>],
    attached: &mut Attached,
) -> Option<Arc<OpaqueTable>> {
    let served = port.servers.first().filter(|served| !port.tls && served.content == ServedContent::Bytes)?;
    let mut table = OpaqueTable::default();
    for (number, service, _) in attaching(port, served, bound, attached) {
        let Some(rule) = first_tcp(context, service, (served, port.number)) else { continue };
        let route = OpaqueRoute { subnets: Vec::new(), names: Vec::new(), sniffed: false, rule };
        if let [(first, ..)] = table.add(route)[..] {
            let message = format!(
                "port {} has no names to tell connections apart, and all of them follow VirtualService {}, which comes first; use \
                 another port",
                port.number,
                table.routes()[first].rule.source
            );
            context.report.warning(bound[number].object, CONFLICT, "spec.tcp", message);
        }
    }
    Some(Arc::new(table))
}

/// The VirtualServices with `tcp` routes that attach to a server: number, itself, the domains that both have.
fn attaching<'s, 'a>(
    port: &ServedPort<'a>,
    served: &Served<'a>,
    bound: &'s [Bound<'a>],
    attached: &mut Attached,
) -> Vec<(usize, &'s Bound<'a>, Vec<HostPattern>)> {
    let hosts = by_gateway(port, |other| std::ptr::eq(other, served));
    let Some(hosts) = hosts.get(served.gateway_name.as_str()) else { return Vec::new() };
    let mut found = Vec::new();
    let with_tcp = bound.iter().enumerate().filter(|(_, service)| !service.object.spec.tcp.is_empty());
    for (number, service) in with_tcp.filter(|(_, service)| service.binds(&served.gateway_name)) {
        let mut domains = Vec::new();
        for (host, index) in &service.hosts {
            let common = hosts.intersect(host, service.object.namespace());
            if !common.is_empty() {
                attached.insert(number, *index);
            }
            domains.extend(common);
        }
        if !domains.is_empty() {
            found.push((number, service, domains));
        }
    }
    found
}

fn first_tcp<'a>(
    context: &Context<'a>,
    service: &Bound<'a>,
    (served, port): (&Served<'a>, u16),
) -> Option<Arc<OpaqueRule>> {
    let binding = Binding { gateway: &served.gateway_name, port };
    let namespace = service.object.namespace();
    let mut routes = service.object.spec.tcp.iter().enumerate();
    let (index, route) = routes.find(|(_, route)| {
        route.matches.is_empty() || route.matches.iter().any(|when| binding.fits_tcp(when, namespace))
    })?;
    Some(rule(context, service, &route.route, (&format!("spec.tcp[{index}]"), port)))
}

/// A server that ends TLS in front of bytes: for each of its names the first VirtualService.
fn bytes<'a>(
    context: &Context<'a>,
    (port, served): (&ServedPort<'a>, &Served<'a>),
    bound: &[Bound<'a>],
    attached: &mut Attached,
) -> OpaqueTable {
    let mut table = OpaqueTable::default();
    for (_, service, names) in attaching(port, served, bound, attached) {
        let Some(rule) = first_tcp(context, service, (served, port.number)) else { continue };
        let taken = table.add(OpaqueRoute { subnets: Vec::new(), names, sniffed: false, rule });
        tell_taken(context, service, (&table, port.number), "spec.tcp", taken);
    }
    table
}

/// Every `tls` route that attaches to a PASSTHROUGH server of the port, by the names in its matches.
fn passed<'a>(
    context: &Context<'a>,
    port: &ServedPort<'a>,
    bound: &[Bound<'a>],
    attached: &mut Attached,
) -> OpaqueTable {
    let gateways = by_gateway(port, |served| served.content == ServedContent::Passed);
    let mut table = OpaqueTable::default();
    for (number, service) in bound.iter().enumerate().filter(|(_, service)| !service.object.spec.tls.is_empty()) {
        let namespace = service.object.namespace();
        for gateway in &service.gateways {
            let Some(hosts) = gateways.get(gateway.as_str()) else { continue };
            for (host, index) in &service.hosts {
                if !hosts.intersect(host, namespace).is_empty() {
                    attached.insert(number, *index);
                }
            }
            let binding = Binding { gateway, port: port.number };
            for (index, route) in service.object.spec.tls.iter().enumerate() {
                let field = format!("spec.tls[{index}]");
                let mut made = None;
                let fitting = route.matches.iter().filter(|when| binding.fits_tls(when, namespace));
                for name in fitting.flat_map(|when| &when.sni_hosts) {
                    let Ok(name) = name.parse::<HostPattern>() else { continue };
                    let names = hosts.intersect(&name, namespace);
                    if names.is_empty() {
                        continue;
                    }
                    let new = || rule(context, service, &route.route, (&field, port.number));
                    let rule = made.get_or_insert_with(new).clone();
                    let taken = table.add(OpaqueRoute { subnets: Vec::new(), names, sniffed: false, rule });
                    tell_taken(context, service, (&table, port.number), &field, taken);
                }
            }
        }
    }
    table
}

/// Tells a VirtualService which server names earlier routes have.
fn tell_taken(
    context: &Context<'_>,
    service: &Bound<'_>,
    (table, port): (&OpaqueTable, u16),
    field: &str,
    taken: Vec<Taken>,
) {
    for (first, _, name) in taken {
        let source = &table.routes()[first].rule.source;
        let own = format!("{}/{}", service.object.namespace(), service.object.name());
        let whose = match **source == *own {
            true => "an earlier route of this VirtualService has".to_owned(),
            false => format!("VirtualService {source}, which comes first, has"),
        };
        let message = format!(
            "{whose} the server name `{name}` on port {port} already, so it is not followed here; remove one of them"
        );
        context.report.warning(service.object, CONFLICT, field, message);
    }
}

/// Every port and subset of the mesh's own services within the server's hosts, under the names that its proxies ask for.
fn mesh<'a>(context: &Context<'a>, served: &Served<'a>) -> OpaqueTable {
    let mut table = OpaqueTable::default();
    for service in context.services.iter().filter(|service| !service.external && service.alias.is_none()) {
        let Ok(host) = service.host.parse::<HostPattern>() else { continue };
        if !served.hosts.iter().any(|server| server.pattern.covers(&host)) {
            continue;
        }
        let rules = context.destination_rules.of(&service.host, &service.namespace);
        for port in &service.ports {
            let subsets = rules.into_iter().flat_map(|rule| rule.subsets()).map(Some);
            for subset in [None].into_iter().chain(subsets) {
                let name = subset.map_or("", |named| named.subset.name.as_str());
                let Ok(name) = service_name(port.number, name, &service.host).parse() else { continue };
                let rule = straight(context, &Member { service, port, subset }, Carries::MeshTls);
                table.add(OpaqueRoute { subnets: Vec::new(), names: vec![name], sniffed: false, rule });
            }
        }
    }
    table
}
