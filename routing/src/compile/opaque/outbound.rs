//! A sidecar's way out for connections that are no HTTP: a table for each port of the services that it sees.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{Binding, CONFLICT, rule, straight};
use crate::{
    api::{
        Protocol,
        virtual_service::{TcpMatch, TlsMatch},
    },
    compile::{
        clusters::{Carries, Member},
        context::Context,
        services::{Origin, Service, ServicePort},
        view::BytesRoute,
        virtual_services::{Bound, MESH},
    },
    host::{HostMap, HostPattern},
    opaque::{OpaqueRoute, OpaqueTable, Subnet, Taken},
};

/// The tables by port. `bound`: the VirtualServices for the mesh, in order; `http`: the ports that have requests, too.
pub(in crate::compile) fn compile<'a>(
    context: &Context<'a>,
    bound: &[Bound<'a>],
    http: &BTreeSet<u16>,
) -> HashMap<u16, Arc<OpaqueTable>> {
    let build = Build::of(context, bound, http);
    report_unfollowed(context, bound);
    build.ports.into_iter().map(|(number, port)| (number, Arc::new(port.table))).collect()
}

/// The routes in these tables with the services whose connections they are for, by port and in order.
pub(in crate::compile) fn owned<'a>(
    context: &Context<'a>,
    bound: &[Bound<'a>],
    http: &BTreeSet<u16>,
) -> Vec<BytesRoute> {
    let build = Build::of(context, bound, http);
    let mut found = Vec::new();
    for (number, known) in &build.ports {
        let mut positions: HashMap<usize, usize> = HashMap::new();
        for (route, &owner) in known.table.routes().iter().zip(&known.owners) {
            let Some(service) = context.services.iter().nth(owner) else { continue };
            let Some(port) = service.port(*number) else { continue };
            let own = build.subnets(service, port).unwrap_or_default();
            let position = positions.entry(owner).or_default();
            found.push(BytesRoute {
                port: *number,
                host: service.host.clone(),
                position: *position,
                tls: port.protocol.is_some_and(Protocol::is_tls),
                sniffed: route.sniffed,
                names: route.names.clone(),
                subnets: if route.subnets == own { Vec::new() } else { route.subnets.clone() },
                rule: route.rule.clone(),
            });
            *position += 1;
        }
    }
    found.sort_by(|a, b| (a.port, &a.host, a.position).cmp(&(b.port, &b.host, b.position)));
    found
}

/// The VirtualServices with routes for bytes, by host.
fn by_host(bound: &[Bound<'_>]) -> HostMap<Vec<usize>> {
    let mut by_host = HostMap::default();
    for (number, service) in bound.iter().enumerate() {
        let spec = &service.object.spec;
        if spec.tls.is_empty() && spec.tcp.is_empty() {
            continue;
        }
        for (host, _) in &service.hosts {
            by_host.get_or_insert_with(host, Vec::new).push(number);
        }
    }
    by_host
}

/// Routes for the mesh of hosts that no service has on a port which is no HTTP.
fn report_unfollowed(context: &Context<'_>, bound: &[Bound<'_>]) {
    for service in bound {
        let spec = &service.object.spec;
        let fits = |port: &ServicePort<'_>| match port.protocol {
            Some(protocol) if protocol.is_tls() => !spec.tls.is_empty(),
            Some(protocol) => !protocol.is_plain_http() && !spec.tcp.is_empty(),
            None => !spec.tcp.is_empty(),
        };
        if spec.tls.is_empty() && spec.tcp.is_empty() {
            continue;
        }
        for (host, index) in &service.hosts {
            let mut services = context.services.iter();
            let found = services
                .any(|known| known.host.parse().is_ok_and(|own| host.covers(&own)) && known.ports.iter().any(fits));
            if !found {
                let message = format!(
                    "`{host}` is no service with a port of protocol TLS or HTTPS (for tls routes) or TCP (for tcp routes), so \
                     sidecars do not follow these routes for it; write a ServiceEntry"
                );
                context.report.warning(service.object, "no-effect", &format!("spec.hosts[{index}]"), message);
            }
        }
    }
}

#[derive(Default)]
struct Port {
    table: OpaqueTable,
    /// The services of its routes, in their order.
    owners: Vec<usize>,
}

struct Build<'s, 'a> {
    context: &'s Context<'a>,
    bound: &'s [Bound<'a>],
    by_host: HostMap<Vec<usize>>,
    http: &'s BTreeSet<u16>,
    ports: HashMap<u16, Port>,
}

impl<'s, 'a> Build<'s, 'a> {
    fn of(context: &'s Context<'a>, bound: &'s [Bound<'a>], http: &'s BTreeSet<u16>) -> Self {
        let mut build = Self { context, bound, by_host: by_host(bound), http, ports: HashMap::new() };
        for service in context.services.iter().filter(|service| service.alias.is_none()) {
            for port in &service.ports {
                build.service(service, port);
            }
        }
        build
    }

    fn service(&mut self, service: &Service<'a>, port: &ServicePort<'a>) {
        let (tls, sniffed) = match port.protocol {
            Some(Protocol::Udp) => return,
            Some(protocol) if protocol.is_plain_http() => return,
            Some(protocol) => (protocol.is_tls(), false),
            None => (false, true),
        };
        if !self.context.scope.knows(&service.host, &service.namespace, port.number) {
            return;
        }
        let Some(subnets) = self.subnets(service, port) else { return };
        // Requests find an undeclared port by their host. Other bytes have an address alone to be told by.
        if sniffed && subnets.is_empty() {
            return;
        }
        let scope = &self.context.scope;
        if !scope.knows(&service.host, &service.namespace, port.number) {
            return;
        }
        let Ok(host) = service.host.parse::<HostPattern>() else { return };
        let mut numbers: Vec<usize> = self.by_host.covering(&host).flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|&number| {
            scope.known_hosts(&self.bound[number], port.number).into_iter().any(|known| known.covers(&host))
        });
        let own = Own { port, subnets, sniffed };
        let mut routes = if tls { self.of_tls(&own, &numbers) } else { Vec::new() };
        if !tls {
            self.of_tcp(&mut routes, &own, &numbers);
        }
        if routes.last().is_none_or(|last| !last.ends) && (!tls || routes.is_empty()) {
            let rule = straight(self.context, &Member { service, port, subset: None }, Carries::Bytes);
            // An address tells the service, a block or none does not.
            let names = if tls && !own.is_told_by_address() { vec![host] } else { Vec::new() };
            routes
                .push(Found { route: OpaqueRoute { subnets: own.subnets.clone(), names, sniffed, rule }, ends: true });
        }
        for found in routes {
            self.add(service, port, found.route);
        }
    }

    /// The addresses that lead to a service's port; empty = all. `None`: nobody can mean it.
    fn subnets(&self, service: &Service<'a>, port: &ServicePort<'a>) -> Option<Vec<Subnet>> {
        if service.headless {
            let instances = self.context.endpoints.of(self.context, service, port);
            let pods: Vec<Subnet> = instances.iter().map(|instance| Subnet::of(instance.address.ip())).collect();
            return (!pods.is_empty()).then_some(pods);
        }
        let mut found: Vec<Subnet> = match port.origin {
            Origin::Kubernetes(..) => service.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            Origin::Entry(..) => {
                let entries = service.declared(port).map(|(object, _)| object);
                entries.flat_map(|object| &object.spec.addresses).filter_map(|text| text.parse().ok()).collect()
            }
        };
        found.dedup();
        Some(found)
    }

    fn of_tls(&self, own: &Own<'_, 'a>, numbers: &[usize]) -> Vec<Found> {
        let binding = Binding { gateway: MESH, port: own.port.number };
        let mut found = Vec::new();
        for bound in numbers.iter().map(|&number| &self.bound[number]) {
            let namespace = bound.object.namespace();
            for (index, route) in bound.object.spec.tls.iter().enumerate() {
                let mut made = None;
                let fits = |when: &&TlsMatch| {
                    binding.fits_tls(when, namespace)
                        && self.is_from_here(&when.source_labels, when.source_namespace.as_deref())
                };
                for when in route.matches.iter().filter(fits) {
                    let field = format!("spec.tls[{index}]");
                    let new = || rule(self.context, bound, &route.route, (&field, own.port.number));
                    let rule = made.get_or_insert_with(new).clone();
                    let names = when.sni_hosts.iter().filter_map(|name| name.parse().ok()).collect();
                    let subnets = given_or(&when.destination_subnets, &own.subnets);
                    found.push(Found { route: OpaqueRoute { subnets, names, sniffed: false, rule }, ends: false });
                }
            }
        }
        found
    }

    /// The `tcp` routes up to the first that all connections to the service follow.
    fn of_tcp(&self, found: &mut Vec<Found>, own: &Own<'_, 'a>, numbers: &[usize]) {
        let binding = Binding { gateway: MESH, port: own.port.number };
        for bound in numbers.iter().map(|&number| &self.bound[number]) {
            let namespace = bound.object.namespace();
            for (index, route) in bound.object.spec.tcp.iter().enumerate() {
                let fits = |when: &&TcpMatch| {
                    binding.fits_tcp(when, namespace)
                        && self.is_from_here(&when.source_labels, when.source_namespace.as_deref())
                };
                let fitting: Vec<&TcpMatch> = route.matches.iter().filter(fits).collect();
                if fitting.is_empty() && !route.matches.is_empty() {
                    continue;
                }
                let ends = fitting.iter().any(|when| when.destination_subnets.is_empty()) || route.matches.is_empty();
                let narrowed = fitting.iter().flat_map(|when| &when.destination_subnets);
                let subnets = match ends {
                    true => own.subnets.clone(),
                    false => narrowed.filter_map(|text| text.parse().ok()).collect(),
                };
                let rule = rule(self.context, bound, &route.route, (&format!("spec.tcp[{index}]"), own.port.number));
                let route = OpaqueRoute { subnets, names: Vec::new(), sniffed: own.sniffed, rule };
                found.push(Found { route, ends });
                if ends {
                    return;
                }
            }
        }
    }

    fn is_from_here(&self, labels: &std::collections::BTreeMap<String, String>, namespace: Option<&str>) -> bool {
        let proxy = self.context.proxy;
        proxy.selected_by(labels) && namespace.is_none_or(|namespace| namespace == proxy.namespace)
    }

    fn add(&mut self, service: &Service<'a>, port: &ServicePort<'a>, route: OpaqueRoute) {
        let anywhere = route.subnets.is_empty() && route.names.is_empty();
        let known = self.ports.entry(port.number).or_default();
        let taken = known.table.add(route);
        known.owners.resize(known.table.routes().len(), service.index);
        for (taken, other) in taken.iter().map(|taken| (taken, self.ports[&port.number].owners[taken.0])) {
            if other != service.index {
                self.tell_taken(service, port, taken, other);
            }
        }
        if anywhere && !is_unplaced(service) && self.http.contains(&port.number) {
            let message = format!(
                "port {0} has services that speak HTTP, too, and without an address every connection to it has to be looked at \
                 first: a server that has the first word is not heard; give it an address, or another port",
                port.number
            );
            self.tell(service, port, message);
        }
    }

    fn tell_taken(&self, service: &Service<'a>, port: &ServicePort<'a>, (_, subnet, name): &Taken, other: usize) {
        let Some(other) = self.context.services.iter().nth(other) else { return };
        if subnet.is_none() && (is_unplaced(service) || is_unplaced(other)) {
            return;
        }
        let what = match (subnet, name) {
            (Some(subnet), HostPattern::Any) => format!("{subnet}:{}", port.number),
            (None, HostPattern::Any) => format!("port {} without an address", port.number),
            (_, name) => format!("the server name `{name}` on port {}", port.number),
        };
        let message = format!(
            "{what} is `{}` for sidecars, which comes first: connections cannot be told apart, so none leads to `{}`; give each \
             an address of its own",
            other.host, service.host
        );
        self.tell(service, port, message);
    }

    fn tell(&self, service: &Service<'a>, port: &ServicePort<'a>, message: String) {
        let place = |ports: usize| format!("spec.ports[{ports}]");
        match port.origin {
            Origin::Kubernetes(object, declared) => {
                let index = object.spec.spec.ports.iter().position(|one| std::ptr::eq(one, declared)).unwrap_or(0);
                self.context.report.warning(object, CONFLICT, &place(index), message);
            }
            Origin::Entry(object, declared) => {
                let index = object.spec.ports.iter().position(|one| std::ptr::eq(one, declared)).unwrap_or(0);
                let message =
                    if service.entries.len() > 1 { format!("`{}`: {message}", service.host) } else { message };
                self.context.report.warning(object, CONFLICT, &place(index), message);
            }
        }
    }
}

/// A Service as people write it: the cluster will give it an address of its own.
fn is_unplaced(service: &Service<'_>) -> bool {
    service.kubernetes && !service.headless && service.addresses.is_empty()
}

/// What a service's port is by itself.
struct Own<'p, 'a> {
    port: &'p ServicePort<'a>,
    subnets: Vec<Subnet>,
    sniffed: bool,
}

impl Own<'_, '_> {
    fn is_told_by_address(&self) -> bool {
        !self.subnets.is_empty() && self.subnets.iter().all(Subnet::is_address)
    }
}

/// A route, and whether nothing that follows it can be reached.
struct Found {
    route: OpaqueRoute,
    ends: bool,
}

fn given_or(given: &[String], own: &[Subnet]) -> Vec<Subnet> {
    if given.is_empty() { own.to_vec() } else { given.iter().filter_map(|text| text.parse().ok()).collect() }
}
