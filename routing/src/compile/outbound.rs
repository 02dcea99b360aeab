//! Where a sidecar's own workload can go: a route table for each service port.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    clusters::{self, Member},
    context::Context,
    listeners::report_unknown_gateways,
    memory::{self, Recipe},
    retries::retries,
    routes::{self, Binding},
    services::{Origin, Service, ServicePort},
    virtual_services::{self, Bound, MESH},
};
use crate::{
    api::{mesh_config::OutboundMode, service_entry::Resolution},
    host::{HostMap, HostPattern},
    pattern::RouteMatch,
    rule::{Action, Destination, Destinations, Rule},
    snapshot::{Outbound, Unclaimed},
    table::{Route, RouteList, RouteTable, VirtualHost},
};

/// VirtualServices whose hosts are no services are served on this port alone, as in Istio.
const UNOWNED_PORT: u16 = 80;

pub(super) fn compile(context: &Context<'_>) -> Outbound {
    let all = virtual_services::visible(context);
    for service in &all {
        report_unknown_gateways(context, service);
    }
    let bound: Vec<Bound<'_>> = all.into_iter().filter(|service| service.binds(MESH)).collect();
    let by_host = first_of_each_host(&bound);
    let mut build = Build { context, bound: &bound, mesh: vec![MESH.to_owned()], shared: HashMap::new() };
    let mut tables: HashMap<u16, RouteTable> = HashMap::new();
    for service in context.services.iter() {
        // An alias is served at the ports of what it leads to, under its own names.
        let behind = context.services.behind(service);
        for port in behind.ports.iter().filter(|port| port.is_http() && has_addresses(port)) {
            let routes = build.of_service((service, behind), port, &by_host);
            let table = tables.entry(port.number).or_default();
            for domain in domains(context, service) {
                table.hosts.get_or_insert_with(&domain, || virtual_host(&domain, &routes));
            }
        }
    }
    for (host, &number) in by_host.iter().filter(|(host, _)| !context.services.any_matches(host)) {
        let table = tables.entry(UNOWNED_PORT).or_default();
        let routes = build.of_virtual_service(number, UNOWNED_PORT);
        table.hosts.get_or_insert_with(host, || virtual_host(host, &routes));
    }
    let by_port = tables.into_iter().map(|(port, table)| (port, Arc::new(table))).collect();
    let unclaimed = match context.proxy.mesh.outbound() {
        OutboundMode::RegistryOnly => Unclaimed::Refuse,
        OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => Unclaimed::Pass,
    };
    Outbound { by_port, unclaimed }
}

fn virtual_host(domain: &HostPattern, routes: &Arc<RouteList>) -> VirtualHost {
    VirtualHost { domain: domain.to_string().into(), https_redirect: false, routes: routes.clone() }
}

/// In sidecars VirtualServices are not merged: for each host the first one counts.
fn first_of_each_host(bound: &[Bound<'_>]) -> HostMap<usize> {
    let mut by_host = HostMap::default();
    for (number, service) in bound.iter().enumerate() {
        for (host, _) in &service.hosts {
            by_host.get_or_insert_with(host, || number);
        }
    }
    by_host
}

/// A ServiceEntry without resolution has no endpoints to give: its requests are left to where the workload sent them.
fn has_addresses(port: &ServicePort<'_>) -> bool {
    match port.origin {
        Origin::Kubernetes(..) => true,
        Origin::Entry(object, _) => !matches!(object.spec.resolution, Resolution::None | Resolution::DynamicDns),
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

    fn straight(&self, service: &Service<'a>, port: &ServicePort<'a>) -> Arc<RouteList> {
        let cluster = clusters::cluster(self.context, &Member { service, port, subset: None });
        let destination = Destination::new(Some(cluster), clusters::name(port.number, "", &service.host));
        let mut rule = Rule::new("default", Arc::default(), Action::Route(Destinations::one(destination)));
        if let Some(mesh) = self.context.proxy.mesh.retries() {
            rule.retries = retries(mesh);
        }
        Arc::new(RouteList::new(vec![Route { when: RouteMatch::default(), rule: Arc::new(rule) }]))
    }
}
