//! What every part of the compiler looks things up in.

use super::{
    absent::RejectedHosts, clusters::Clusters, cors::Policies, delegates::Roots, destination_rules::DestinationRules,
    endpoints::Endpoints, expressions::Expressions, limits::RouteNames, memory::Memory, networks::Networks,
    peer_authentication::PeerAuthentications, proxy::Proxy, report::Report, routes::Bodies, scope::Scope,
    services::Services,
};
use crate::resources::Resources;

/// One compilation: its input, indexes over it, and what is gathered on the way.
pub(super) struct Context<'a> {
    pub(super) resources: &'a Resources,
    pub(super) proxy: &'a Proxy,
    pub(super) report: Report,
    pub(super) services: Services<'a>,
    pub(super) scope: Scope<'a>,
    pub(super) destination_rules: DestinationRules<'a>,
    pub(super) peer_authentications: PeerAuthentications<'a>,
    pub(super) endpoints: Endpoints<'a>,
    /// `None`: everything reaches everything.
    pub(super) networks: Option<Networks>,
    pub(super) clusters: Clusters,
    pub(super) rejected_hosts: RejectedHosts<'a>,
    pub(super) expressions: Expressions,
    pub(super) memory: Memory,
    pub(super) cors: Policies,
    pub(super) bodies: Bodies,
    pub(super) roots: Roots,
    pub(super) route_names: RouteNames,
}

impl<'a> Context<'a> {
    pub(super) fn new(resources: &'a Resources, proxy: &'a Proxy) -> Self {
        Self::after(Memory::default(), resources, proxy)
    }

    /// With what the last compilation left.
    pub(super) fn after(memory: Memory, resources: &'a Resources, proxy: &'a Proxy) -> Self {
        let mut memory = memory.begin(proxy);
        Self {
            resources,
            proxy,
            report: Report::default(),
            services: Services::new(resources, proxy),
            scope: Scope::new(resources, proxy),
            destination_rules: DestinationRules::new(resources, proxy),
            peer_authentications: PeerAuthentications::new(resources, &proxy.root_namespace),
            endpoints: Endpoints::new(resources),
            networks: Networks::new(resources, proxy),
            clusters: Clusters::new(memory.places()),
            rejected_hosts: RejectedHosts::new(resources, &proxy.cluster_domain),
            expressions: Expressions::default(),
            memory,
            cors: Policies::default(),
            bodies: Bodies::default(),
            roots: Roots::default(),
            route_names: RouteNames::default(),
        }
    }

    /// A host as a VirtualService or DestinationRule of `namespace` writes it, in full: names without a dot are services of
    /// that namespace. In lower case.
    pub(super) fn full_host(&self, host: &str, namespace: &str) -> String {
        full_host(host, namespace, &self.proxy.cluster_domain)
    }
}

/// See [`Context::full_host`].
pub(super) fn full_host(host: &str, namespace: &str, cluster_domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    let short = !host.contains(['.', '*', ':']);
    if short { format!("{host}.{namespace}.svc.{cluster_domain}") } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_without_a_dot_are_completed() {
        let full = |host: &str| full_host(host, "shop", "cluster.local");
        assert_eq!(full("Cart"), "cart.shop.svc.cluster.local");
        assert_eq!(full("cart.other"), "cart.other");
        assert_eq!(full("*"), "*");
        assert_eq!(full("www.Example.com"), "www.example.com");
    }
}
