//! What one proxy makes of single services and workloads, for those who explain the configuration to people. Every answer
//! is the compiler's own.

mod bytes;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

pub use bytes::{BytesRoute, BytesServer, TlsEnds};

use super::{
    authorization::holding::{self, HoldingPolicy},
    checks::{self, HoldingCheck},
    clusters::{self, Member},
    context::Context,
    destination_rules::{MergedRule, RuleLevel},
    gateways::{self, ServedPort},
    inbound, listeners, outbound,
    peer_authentication::WorkloadMtls,
    proxy::{Proxy, is_subset},
    selection::Workload,
    services::{Origin, ProtocolChoice},
    virtual_hosts::{self, Attached},
    virtual_services::{self, Bound},
    workloads::WorkloadFacts,
};
use crate::{
    api::{Gateway, Protocol, gateway::Server},
    host::HostPattern,
    resources::{Object, Resources},
    snapshot::Outbound,
    table::RouteTable,
    upstream::Cluster,
};

/// The configuration as one proxy sees it.
pub struct View<'a> {
    context: Context<'a>,
    bound: Vec<Bound<'a>>,
}

/// A service that the proxy sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ViewedService {
    /// Fully qualified, lower case.
    pub host: Arc<str>,
    /// Where it is.
    pub namespace: Arc<str>,
    /// Its TCP ports.
    pub ports: Vec<ViewedPort>,
}

/// One port of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ViewedPort {
    /// The service's port.
    pub number: u16,
    /// `None`: it is sniffed (HTTP/1.1 for a gateway).
    pub protocol: Option<Protocol>,
    /// What told the protocol.
    pub chosen_by: ProtocolChoice,
    /// Ready endpoints.
    pub endpoints: Vec<SocketAddr>,
}

/// A service's port of which a workload is an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeadingPort {
    /// The service, in full.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The workload's.
    pub workload_port: u16,
}

/// A port that the gateway opens.
pub struct GatewayPort<'a> {
    /// As the Gateways name it.
    pub number: u16,
    /// Oldest first.
    pub servers: Vec<GatewayServer<'a>>,
    /// Routes of all of its servers.
    pub routes: RouteTable,
}

/// One `Gateway.servers[]` entry that is served.
pub struct GatewayServer<'a> {
    /// Whose it is.
    pub gateway: &'a Object<Gateway>,
    /// As written.
    pub server: &'a Server,
    /// Plain requests are sent to https.
    pub redirects: bool,
    /// Hosts that no older Gateway took, each with the namespace whose VirtualServices it is for (`None`: any).
    hosts: Vec<(HostPattern, Option<String>)>,
}

impl<'a> View<'a> {
    /// The view of a proxy.
    pub fn new(resources: &'a Resources, proxy: &'a Proxy) -> Self {
        let context = Context::new(resources, proxy);
        let bound = virtual_services::visible(&context);
        Self { context, bound }
    }

    /// A host as an object of `namespace` writes it, in full.
    pub fn full_host(&self, host: &str, namespace: &str) -> String {
        self.context.full_host(host, namespace)
    }

    /// The namespace of what holds for the whole mesh.
    pub fn root_namespace(&self) -> &str {
        &self.context.proxy.root_namespace
    }

    /// A service by its host in full; `None`: there is none, or it is not exported to the proxy.
    pub fn service(&self, host: &str) -> Option<ViewedService> {
        let service = self.context.services.find(host)?;
        let ports = service.ports.iter().map(|port| {
            let instances = self.context.endpoints.of(&self.context, service, port);
            ViewedPort {
                number: port.number,
                protocol: port.protocol,
                chosen_by: port.chosen_by,
                endpoints: instances.iter().map(|instance| instance.address).collect(),
            }
        });
        Some(ViewedService { host: service.host.clone(), namespace: service.namespace.clone(), ports: ports.collect() })
    }

    /// The DestinationRule that holds for a service's host, and why this one.
    pub fn destination_rule(&self, host: &str) -> Option<(RuleLevel, &MergedRule<'a>)> {
        let service = self.context.services.find(host)?;
        self.context.destination_rules.with_level(&service.host, &service.namespace)
    }

    /// What requests to a port of a service, or to a subset of it, meet.
    pub fn cluster(&self, host: &str, port: u16, subset: Option<&str>) -> Option<Arc<Cluster>> {
        let service = self.context.services.find(host)?;
        let port = service.port(port)?;
        let subset = match subset {
            Some(name) => Some(self.destination_rule(host)?.1.subset(name)?),
            None => None,
        };
        let id = clusters::cluster(&self.context, &Member { service, port, subset });
        Some(self.context.clusters.get(id))
    }

    /// What PeerAuthentications say about a workload.
    pub fn mutual_tls(&self, namespace: &str, labels: &BTreeMap<String, String>) -> WorkloadMtls<'a> {
        self.context.peer_authentications.of(namespace, labels)
    }

    /// The AuthorizationPolicies that hold for a workload.
    pub fn authorization(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<HoldingPolicy<'a>> {
        let workload = Workload::new(self.root_namespace(), namespace, labels);
        holding::all(self.context.resources, &workload)
    }

    /// The RequestAuthentications and RateLimits that hold for a workload.
    pub fn checks(&self, workload: &WorkloadFacts) -> Vec<HoldingCheck<'a>> {
        checks::of_workload(&self.context, workload)
    }

    /// The same of a gateway, for the hosts of a Gateway (`namespace/name`) and the routes of these VirtualServices.
    pub fn gateway_checks(&self, gateway: &str, sources: &[&str]) -> Vec<HoldingCheck<'a>> {
        checks::of_gateway(&self.context, gateway, sources)
    }

    /// The ports of services that lead to a workload.
    pub fn leading_to(&self, workload: &WorkloadFacts) -> Vec<LeadingPort> {
        let mut found = Vec::new();
        for service in self.context.services.iter() {
            let targets = service.ports.iter();
            let targets = targets.filter_map(|port| Some((port.number, inbound::own_port(workload, service, port)?)));
            let leading = |(port, workload_port)| LeadingPort { host: service.host.clone(), port, workload_port };
            found.extend(targets.map(leading));
        }
        found
    }

    /// The workload port behind a service's port: what `targetPort` means for this workload.
    pub fn target_port(&self, workload: &WorkloadFacts, host: &str, port: u16) -> Option<u16> {
        let service = self.context.services.find(host)?;
        let port = service.port(port)?;
        match port.origin {
            Origin::Kubernetes(_, declared) => workload.target_port(declared.target_port.as_ref(), port.number),
            Origin::Entry(_, declared) => {
                let written = if declared.target_port == 0 { port.number } else { declared.target_port };
                inbound::own_port(workload, service, port).or(Some(written))
            }
        }
    }

    /// A gateway's ports, with the routes behind them.
    pub fn gateway_ports(&self) -> Vec<GatewayPort<'a>> {
        let ports = gateways::select(&self.context);
        let opened = listeners::opened(&self.context, &ports);
        let mut attached = Attached::default();
        let opened = opened.into_iter().map(|(port, _)| GatewayPort {
            number: port.number,
            servers: servers(port),
            routes: virtual_hosts::compile(&self.context, port, &self.bound, &mut attached),
        });
        opened.collect()
    }

    /// The servers of a port through which a VirtualService (`namespace/name`) is reached under a domain.
    pub fn servers_of<'p>(
        &self,
        port: &'p GatewayPort<'a>,
        virtual_service: &str,
        domain: &HostPattern,
    ) -> Vec<&'p GatewayServer<'a>> {
        let own = self
            .bound
            .iter()
            .find(|bound| virtual_service.split_once('/') == Some((bound.object.namespace(), bound.object.name())));
        let Some(own) = own else { return Vec::new() };
        let serves = |server: &&GatewayServer<'_>| {
            let gateway = format!("{}/{}", server.gateway.namespace(), server.gateway.name());
            own.binds(&gateway) && server.admits(domain, own.object.namespace())
        };
        port.servers.iter().filter(serves).collect()
    }

    /// Where a sidecar's own workload can go.
    pub fn outbound(&self) -> Outbound {
        outbound::compile(&self.context)
    }

    /// The gateways that a VirtualService binds to, as (namespace, name); none when the proxy does not see it.
    pub fn gateways_of(&self, namespace: &str, name: &str) -> Vec<(&str, &str)> {
        let own = self.bound.iter().filter(|it| it.object.namespace() == namespace && it.object.name() == name);
        own.flat_map(|bound| &bound.gateways).filter_map(|gateway| gateway.split_once('/')).collect()
    }
}

fn servers<'a>(port: &ServedPort<'a>) -> Vec<GatewayServer<'a>> {
    let servers = port.servers.iter().map(|served| GatewayServer {
        gateway: served.gateway,
        server: served.server,
        redirects: served.redirects(),
        hosts: served.hosts.iter().map(|host| (host.pattern.clone(), host.namespace.clone())).collect(),
    });
    servers.collect()
}

impl GatewayServer<'_> {
    fn admits(&self, domain: &HostPattern, namespace: &str) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.any(|(host, only)| host.covers(domain) && only.as_deref().is_none_or(|only| only == namespace))
    }
}

/// Whether a selector picks labels. An empty selector picks everything.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    is_subset(selector, labels)
}
