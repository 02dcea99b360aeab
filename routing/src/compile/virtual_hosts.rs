//! One listener's route table: which VirtualServices attach to which hosts of its servers.

use std::sync::Arc;

use super::{
    context::Context,
    gateways::{Served, ServedContent, ServedPort, ServerHost},
    memory::{self, Recipe},
    routes::{self, Binding},
    virtual_services::Bound,
};
use crate::{
    hashed::{HashMap, HashSet},
    host::{HostMap, HostPattern},
    table::{Route, RouteList, RouteTable, VirtualHost},
};

/// Hosts of VirtualServices that found a server: (number of the VirtualService, index in `spec.hosts`).
#[derive(Default)]
pub(super) struct Attached(HashSet<(usize, usize)>);

impl Attached {
    pub(super) fn contains(&self, service: usize, host: usize) -> bool {
        self.0.contains(&(service, host))
    }

    pub(super) fn insert(&mut self, service: usize, host: usize) {
        self.0.insert((service, host));
    }
}

pub(super) fn compile<'a>(
    context: &Context<'a>,
    port: &ServedPort<'a>,
    bound: &[Bound<'a>],
    attached: &mut Attached,
) -> RouteTable {
    let gateways = by_gateway(port, |served| served.content == ServedContent::Http);
    let mut domains: HostMap<Vec<usize>> = HostMap::default();
    let mut lists =
        RouteLists { context, bound, port: port.number, bindings: HashMap::default(), shared: HashMap::default() };
    for (number, service) in bound.iter().enumerate().filter(|(_, service)| service.has_http()) {
        let own: Vec<String> =
            service.gateways.iter().filter(|name| gateways.contains_key(name.as_str())).cloned().collect();
        for (host, index) in &service.hosts {
            for gateway in &own {
                for domain in gateways[gateway.as_str()].intersect(host, service.object.namespace()) {
                    attached.0.insert((number, *index));
                    let services = domains.get_or_insert_with(&domain, Vec::new);
                    if services.last() != Some(&number) {
                        services.push(number);
                    }
                }
            }
        }
        if !own.is_empty() {
            lists.bindings.insert(number, own);
        }
    }
    let redirects = redirecting(port);
    let mut hosts = domains.map(|domain, services| VirtualHost {
        domain: domain.to_string().into(),
        https_redirect: redirects.covering(domain).next().copied().unwrap_or(false),
        routes: lists.merged(services),
    });
    // A host that nobody attached to still redirects.
    for (domain, _) in redirects.iter().filter(|(_, redirects)| **redirects) {
        hosts.get_or_insert_with(domain, || VirtualHost {
            domain: domain.to_string().into(),
            https_redirect: true,
            routes: Arc::default(),
        });
    }
    RouteTable { hosts }
}

fn redirecting(port: &ServedPort<'_>) -> HostMap<bool> {
    let mut redirects = HostMap::default();
    for served in &port.servers {
        for host in &served.hosts {
            redirects.get_or_insert_with(&host.pattern, || served.redirects());
        }
    }
    redirects
}

/// The server hosts of one Gateway on one port, found from either side.
#[derive(Default)]
pub(super) struct GatewayHosts<'s> {
    by_pattern: HostMap<Vec<&'s ServerHost>>,
    /// Text of each host backwards, sorted: everything below a domain stands together.
    backwards: Vec<(String, &'s ServerHost)>,
}

pub(super) fn by_gateway<'s, 'a>(
    port: &'s ServedPort<'a>,
    counts: impl Fn(&Served<'a>) -> bool,
) -> HashMap<&'s str, GatewayHosts<'s>> {
    let mut gateways: HashMap<&str, GatewayHosts<'_>> = HashMap::default();
    for served in port.servers.iter().filter(|served| counts(served)) {
        let hosts = gateways.entry(&served.gateway_name).or_default();
        for host in &served.hosts {
            hosts.by_pattern.get_or_insert_with(&host.pattern, Vec::new).push(host);
            let text = match &host.pattern {
                HostPattern::Any => continue,
                HostPattern::Exact(text) | HostPattern::Suffix(text) => text,
            };
            hosts.backwards.push((reversed(text), host));
        }
    }
    for hosts in gateways.values_mut() {
        hosts.backwards.sort_by(|a, b| a.0.cmp(&b.0));
    }
    gateways
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

impl GatewayHosts<'_> {
    /// The domains that a VirtualService's host and the server hosts have in common: the more specific of each two.
    pub(super) fn intersect(&self, host: &HostPattern, namespace: &str) -> Vec<HostPattern> {
        let admits = |server: &ServerHost| server.namespace.as_deref().is_none_or(|only| only == namespace);
        let mut domains = Vec::new();
        if self.by_pattern.covering(host).flatten().any(|server| admits(server)) {
            domains.push(host.clone());
        }
        let below = match host {
            HostPattern::Exact(_) => return domains,
            HostPattern::Any => &self.backwards[..],
            HostPattern::Suffix(rest) => self.below(&reversed(rest)),
        };
        let narrower = below.iter().map(|(_, server)| *server).filter(|server| server.pattern != *host);
        let narrower = narrower.filter(|server| host.covers(&server.pattern) && admits(server));
        domains.extend(narrower.map(|server| server.pattern.clone()));
        domains
    }

    fn below(&self, backwards: &str) -> &[(String, &ServerHost)] {
        let begin = self.backwards.partition_point(|(text, _)| text.as_str() < backwards);
        let count = self.backwards[begin..].partition_point(|(text, _)| text.starts_with(backwards));
        &self.backwards[begin..begin + count]
    }
}

/// Routes by VirtualService, and their merged lists, each made once.
struct RouteLists<'s, 'a> {
    context: &'s Context<'a>,
    bound: &'s [Bound<'a>],
    port: u16,
    /// The gateways of this port that a VirtualService binds to.
    bindings: HashMap<usize, Vec<String>>,
    shared: HashMap<Vec<usize>, Arc<RouteList>>,
}

impl RouteLists<'_, '_> {
    /// Routes of all VirtualServices of a domain, oldest first; those that match everything go to the end, so that the
    /// catch-all of one does not hide the routes of the next.
    fn merged(&mut self, services: Vec<usize>) -> Arc<RouteList> {
        if let Some(known) = self.shared.get(&services) {
            return known.clone();
        }
        let gateways = |number| self.bindings.get(number).map(Vec::as_slice).unwrap_or_default();
        let mut recipe = Recipe::new(self.port);
        services.iter().for_each(|number| recipe.add(self.bound[*number].object, gateways(number)));
        let list = memory::list(self.context, recipe, || {
            let mut routes: Vec<Route> = Vec::new();
            for number in &services {
                let binding = Binding { gateways: gateways(number), port: self.port };
                routes.extend(routes::compile(self.context, &self.bound[*number], &binding));
            }
            routes.sort_by_key(|route| route.when.is_catch_all());
            routes
        });
        self.shared.insert(services, list.clone());
        list
    }
}
