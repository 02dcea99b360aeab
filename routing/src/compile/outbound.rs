//! Where a sidecar's own workload can go: a route table for each service port.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    clusters::{self, Carries, Member},
    context::Context,
    listeners::report_unknown_gateways,
    memory::{self, Recipe},
    opaque,
    report::UNKNOWN_HOST,
    retries::retries,
    routes::{self, Binding},
    scope::Listener,
    services::{Service, ServicePort},
    virtual_services::{self, Bound, MESH},
};
use crate::{
    api::{self, Sidecar, mesh_config::OutboundMode},
    host::{HostMap, HostPattern},
    opaque::OpaqueRule,
    pattern::RouteMatch,
    resources::Object,
    rule::{Action, Destination, Destinations, Rule},
    snapshot::{Outbound, OutboundDoor, Unclaimed},
    table::{Route, RouteList, RouteTable, VirtualHost},
    upstream::ClusterId,
};

/// VirtualServices whose hosts are no services are served on this port alone, as in Istio.
const UNOWNED_PORT: u16 = 80;

pub(super) fn compile(context: &Context<'_>) -> Outbound {
    let all = virtual_services::visible(context);
    for service in &all {
        report_unknown_gateways(context, service);
    }
    let bound: Vec<Bound<'_>> = all.into_iter().filter(|service| service.binds(MESH)).collect();
    let mut by_host = ByHost { bound: &bound, context, known: HashMap::new() };
    let mut build = Build { context, bound: &bound, mesh: vec![MESH.to_owned()], shared: HashMap::new() };
    let mut tables: HashMap<u16, RouteTable> = HashMap::new();
    for service in context.services.iter() {
        // An alias is served at the ports of what it leads to, under its own names.
        let behind = context.services.behind(service);
        for port in behind.ports.iter().filter(|port| port.is_http()) {
            if !context.scope.knows(&service.host, &service.namespace, port.number) {
                continue;
            }
            let routes = build.of_service((service, behind), port, by_host.on(port.number));
            let table = tables.entry(port.number).or_default();
            for domain in domains(context, service) {
                table.hosts.get_or_insert_with(&domain, || virtual_host(&domain, &routes));
            }
        }
    }
    for (host, &number) in by_host.on(UNOWNED_PORT).iter().filter(|(host, _)| !context.services.any_matches(host)) {
        let table = tables.entry(UNOWNED_PORT).or_default();
        let routes = build.of_virtual_service(number, UNOWNED_PORT);
        table.hosts.get_or_insert_with(host, || virtual_host(host, &routes));
    }
    let (unclaimed, fallback, fallback_bytes) = build.unclaimed();
    let http: BTreeSet<u16> = tables.keys().copied().collect();
    let by_port = tables.into_iter().map(|(port, table)| (port, Arc::new(table))).collect();
    let opaque = opaque::outbound(context, &bound, &http);
    Outbound { by_port, opaque, unclaimed, fallback, fallback_bytes, doors: doors(context) }
}

/// Where applications connect to the sidecar themselves.
fn doors(context: &Context<'_>) -> Vec<OutboundDoor> {
    let bound = context.scope.bound();
    let door = |listener: &Listener| match listener.socket {
        Some(at) => Some(OutboundDoor { at, port: if listener.bytes { first_bytes(context, listener)? } else { 0 } }),
        None => Some(OutboundDoor { at: SocketAddr::new(listener.bind?, listener.port?), port: listener.port? }),
    };
    bound.filter_map(door).collect()
}

/// The port of the first service of a unix socket's hosts that carries bytes: they have no host to choose another by.
fn first_bytes(context: &Context<'_>, listener: &Listener) -> Option<u16> {
    let known = context.services.iter().filter(|service| listener.holds(&service.host, &service.namespace));
    let mut ports = known.flat_map(|service| &service.ports);
    ports.find(|port| !port.is_http()).map(|port| port.number)
}

fn virtual_host(domain: &HostPattern, routes: &Arc<RouteList>) -> VirtualHost {
    VirtualHost { domain: domain.to_string().into(), https_redirect: false, routes: routes.clone() }
}

/// In sidecars VirtualServices are not merged: for each host the first one counts. A `Sidecar` may know others on some ports.
struct ByHost<'s, 'a> {
    bound: &'s [Bound<'a>],
    context: &'s Context<'a>,
    /// By entry of `egress`.
    known: HashMap<Option<usize>, HostMap<usize>>,
}

impl ByHost<'_, '_> {
    fn on(&mut self, port: u16) -> &HostMap<usize> {
        let (bound, scope) = (self.bound, &self.context.scope);
        self.known.entry(scope.listener(port)).or_insert_with(|| {
            let mut by_host = HostMap::default();
            for (number, service) in bound.iter().enumerate().filter(|(_, service)| service.has_http()) {
                for host in scope.known_hosts(service, port) {
                    by_host.get_or_insert_with(host, || number);
                }
            }
            by_host
        })
    }
}

/// Every name that a service has for this workload. The short one is only for workloads of the same namespace.
fn domains(context: &Context<'_>, service: &Service<'_>) -> BTreeSet<HostPattern> {
    let host = &service.host;
    let mut names = vec![host.to_string(), format!("{host}.")];
    if service.kubernetes {
        let (name, namespace) = (&service.name, &service.namespace);
        names.extend([format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")]);
        if **namespace == *context.proxy.namespace {
            names.push(name.to_string());
        }
        if service.headless {
            names.push(format!("*.{host}"));
        }
    }
    let addresses = service.addresses.iter().flat_map(|address| {
        let bracketed = address.contains(':').then(|| format!("[{address}]"));
        bracketed.into_iter().chain([(*address).to_owned()])
    });
    names.extend(addresses);
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Route lists under way; services and names with the same routes share them.
struct Build<'s, 'a> {
    context: &'s Context<'a>,
    bound: &'s [Bound<'a>],
    mesh: Vec<String>,
    shared: HashMap<(usize, u16), Arc<RouteList>>,
}

impl<'a> Build<'_, 'a> {
    /// The routes of the VirtualService for a service's host, when it has any for this port; for an alias, else of the one
    /// for what it leads to; else straight to the service.
    fn of_service(
        &mut self,
        (named, service): (&Service<'a>, &Service<'a>),
        port: &ServicePort<'a>,
        by_host: &HostMap<usize>,
    ) -> Arc<RouteList> {
        for host in [&named.host, &service.host] {
            let own = by_host.get(host).copied().map(|number| self.of_virtual_service(number, port.number));
            if let Some(own) = own.filter(|routes| !routes.routes().is_empty()) {
                return own;
            }
        }
        self.straight(service, port)
    }

    fn of_virtual_service(&mut self, number: usize, port: u16) -> Arc<RouteList> {
        let (context, bound, mesh) = (self.context, &self.bound[number], &self.mesh);
        let make = || {
            let mut recipe = Recipe::new(port);
            recipe.add(bound.object, mesh);
            memory::list(context, recipe, || routes::compile(context, bound, &Binding { gateways: mesh, port }))
        };
        self.shared.entry((number, port)).or_insert_with(make).clone()
    }

    /// What becomes of hosts that nothing here knows: as the workload's Sidecar says, else as the mesh does.
    fn unclaimed(&self) -> (Unclaimed, Option<Arc<RouteTable>>, Option<Arc<OpaqueRule>>) {
        let own = self.context.scope.sidecar.and_then(|sidecar| {
            let policy = sidecar.spec.outbound_traffic_policy.as_ref()?;
            Some((sidecar, policy))
        });
        let mode = own.map_or_else(|| self.context.proxy.mesh.outbound(), |(_, policy)| policy.mode);
        let unclaimed = match mode {
            OutboundMode::RegistryOnly => Unclaimed::Refuse,
            OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => Unclaimed::Pass,
        };
        let proxy = own.filter(|_| unclaimed == Unclaimed::Pass);
        let proxy = proxy.and_then(|(sidecar, policy)| self.egress_proxy(sidecar, policy.egress_proxy.as_ref()?));
        let (requests, bytes) = proxy.unzip();
        (unclaimed, requests, bytes)
    }

    /// Istio's `egressProxy`: every host, and every connection that is no HTTP, leads to one service.
    fn egress_proxy(
        &self,
        sidecar: &Object<Sidecar>,
        to: &api::virtual_service::Destination,
    ) -> Option<(Arc<RouteTable>, Arc<OpaqueRule>)> {
        let wanted = Wanted { port: to.port.map(|port| port.number), subset: to.subset.as_deref() };
        let found = wanted.find(self.context, &to.host, sidecar.namespace());
        let (cluster, bytes, name) = match found {
            Ok((cluster, bytes, name)) => (Some(cluster), Some(bytes), name),
            Err(why) => {
                let field = "spec.outboundTrafficPolicy.egressProxy";
                let message = format!("{why}, so requests to hosts that nothing else knows get 503");
                self.context.report.error(sidecar, UNKNOWN_HOST, field, message);
                (None, None, clusters::name(wanted.port.unwrap_or(0), "", &to.host))
            }
        };
        let to = Destinations::one(Destination::new(bytes, Arc::clone(&name)));
        let through = Arc::new(OpaqueRule { source: Arc::default(), to });
        let action = Action::Route(Destinations::one(Destination::new(cluster, name)));
        let rule = Rule::new("allow_any", Arc::default(), action);
        let routes = RouteList::new(vec![Route { when: RouteMatch::default(), rule: Arc::new(rule) }]);
        let mut table = RouteTable::default();
        table.hosts.insert(&HostPattern::Any, virtual_host(&HostPattern::Any, &Arc::new(routes)));
        Some((Arc::new(table), through))
    }

    fn straight(&self, service: &Service<'a>, port: &ServicePort<'a>) -> Arc<RouteList> {
        let cluster = clusters::cluster(self.context, &Member { service, port, subset: None });
        let destination = Destination::new(Some(cluster), clusters::name(port.number, "", &service.host));
        let mut rule = Rule::new("default", Arc::default(), Action::Route(Destinations::one(destination)));
        if let Some(mesh) = self.context.proxy.mesh.retries() {
            rule.retries = retries(mesh).boxed();
        }
        let routes = vec![Route { when: RouteMatch::default(), rule: Arc::new(rule) }];
        self.context.memory.tallies.list(&("straight", &service.host, port.number), routes)
    }
}

/// A destination that is no route's.
struct Wanted<'s> {
    port: Option<u16>,
    subset: Option<&'s str>,
}

impl Wanted<'_> {
    fn find(
        &self,
        context: &Context<'_>,
        host: &str,
        namespace: &str,
    ) -> Result<(ClusterId, ClusterId, Arc<str>), String> {
        let host = context.full_host(host, namespace);
        let service = context.services.find(&host).ok_or_else(|| format!("no service has the host `{host}`"))?;
        let port = match self.port {
            Some(number) => service.port(number),
            None => service.ports.first().filter(|_| service.ports.len() == 1),
        };
        let ports = || format!("`{host}` has no such port; its ports are {}", service.ports_in_words());
        let port = port.ok_or_else(ports)?;
        let subset = match self.subset {
            None => None,
            Some(name) => {
                let rule = context.destination_rules.of(&service.host, &service.namespace);
                let found = rule.and_then(|rule| rule.subset(name));
                Some(found.ok_or_else(|| format!("no DestinationRule has the subset `{name}` of `{host}`"))?)
            }
        };
        let member = Member { service, port, subset };
        let (cluster, bytes) =
            (clusters::cluster(context, &member), clusters::carrying(context, &member, Carries::Bytes));
        Ok((cluster, bytes, clusters::name(port.number, self.subset.unwrap_or_default(), &service.host)))
    }
}
