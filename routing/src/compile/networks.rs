//! Networks that do not reach each other. An endpoint of another one is reached through that network's gateways, which pass mesh
//! TLS on by its server name (AUTO_PASSTHROUGH).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    context::Context,
    endpoints::{Instance, Owner, SIDECAR, is_elsewhere},
    proxy::{Proxy, Role},
    upstream_tls,
};
use crate::{
    api::{Service, mesh_networks::NetworkGateway},
    locality::Locality,
    mesh,
    resources::{Object, Resources},
    snapshot::Workload,
    unix,
};

/// Label of workloads: their network. Of Services: the network that they are a gateway of.
pub(super) const NETWORK: &str = "topology.istio.io/network";
/// Label of such a Service: the port, if it is another one than [`PORT`].
const GATEWAY_PORT: &str = "networking.istio.io/gatewayPort";
/// Istio's port between networks.
const PORT: u16 = 15443;

/// The network of a proxy that was told none: its label's, else its WorkloadEntry's.
pub(super) fn of_proxy(resources: &Resources, proxy: &Proxy) -> String {
    let entry = || match &proxy.role {
        Role::Sidecar { namespace, workload } => {
            resources.workload_entries.get(namespace, workload)?.spec.network.clone()
        }
        Role::Gateway => None,
    };
    proxy.labels.get(NETWORK).cloned().or_else(entry).unwrap_or_default()
}

/// The networks of which gateways are known.
pub(super) struct Networks {
    gateways: BTreeMap<String, Vec<Way>>,
    /// Addresses that tell their network.
    blocks: Vec<(IpNet, String)>,
}

/// A gateway as it is written: an IP address or a name.
pub(super) struct Way {
    host: String,
    port: u16,
}

/// What goes to the endpoints.
#[derive(Clone, Copy)]
pub(super) struct Passing {
    /// Mesh TLS of our own.
    pub(super) mesh: bool,
    /// Mesh TLS of somebody else: its network's gateway is this proxy, and it does not leave it again.
    pub(super) sealed: bool,
}

impl Networks {
    /// `None`: no network has a gateway, so that there is one network only.
    pub(super) fn new(resources: &Resources, proxy: &Proxy) -> Option<Self> {
        let mut gateways: BTreeMap<String, Vec<Way>> = BTreeMap::new();
        let mut blocks = Vec::new();
        let written = mesh::document(resources, proxy).map(|found| &found.spec.networks.networks);
        for (name, network) in written.into_iter().flatten() {
            for gateway in &network.gateways {
                gateways.entry(name.clone()).or_default().extend(written_ways(resources, proxy, gateway));
            }
            let own = network.endpoints.iter().filter_map(|endpoints| endpoints.from_cidr.as_deref()?.parse().ok());
            blocks.extend(own.map(|block: IpNet| (block, name.clone())));
        }
        for service in &resources.services {
            if let Some(network) = service.meta.labels.get(NETWORK).filter(|network| !network.is_empty()) {
                let port = service.meta.labels.get(GATEWAY_PORT).and_then(|port| port.parse().ok()).unwrap_or(PORT);
                if service.spec.spec.ports.iter().any(|declared| declared.port == port) {
                    gateways.entry(network.clone()).or_default().extend(external(service, port));
                }
            }
        }
        gateways.retain(|_, ways| !ways.is_empty());
        (!gateways.is_empty()).then_some(Self { gateways, blocks })
    }

    /// Whether a network has a gateway.
    pub(super) fn has(&self, network: &str) -> bool {
        self.gateways.contains_key(network)
    }

    /// The endpoints as they are reached from here: those of other networks by gateways, each of which weighs what is behind it.
    pub(super) fn reach<'i>(
        &self,
        context: &Context<'_>,
        instances: impl Iterator<Item = &'i Instance>,
        passing: Passing,
    ) -> Vec<Instance> {
        let ways = self.resolved(context);
        // What any number of gateways divides evenly.
        let scale = ways.values().map(|ways| u32::try_from(ways.len()).unwrap_or(1)).fold(1, least_common_multiple);
        let (mut found, mut apart): (Vec<Instance>, BTreeMap<(SocketAddr, &Locality), u32>) = Default::default();
        for instance in instances {
            let network = self.network_of(instance);
            let weight = instance.weight.saturating_mul(scale);
            let own = network.is_empty() || context.proxy.network.is_empty() || network == context.proxy.network;
            match ways.get(network).filter(|_| !own) {
                None if is_elsewhere(instance.address) || (!own && passing.sealed) => {}
                None => found.push(Instance { weight, ..instance.clone() }),
                // Without mesh TLS there is no server name to lead on by.
                Some(_) if passing.sealed || !passing.mesh || !upstream_tls::takes_mesh_tls(context, instance) => {}
                Some(ways) => {
                    let share = weight / u32::try_from(ways.len()).unwrap_or(1).max(1);
                    for way in ways {
                        let sum = apart.entry((*way, &instance.owner.locality)).or_default();
                        *sum = sum.saturating_add(share);
                    }
                }
            }
        }
        let gateway = |((address, locality), weight): ((SocketAddr, &Locality), u32)| Instance {
            address,
            weight,
            owner: Rc::new(behind(locality)),
        };
        found.extend(apart.into_iter().map(gateway));
        found
    }

    /// Gateways by network, as addresses. One whose only gateway has a name that nobody knows stays, with none: what is there
    /// cannot be reached.
    fn resolved(&self, context: &Context<'_>) -> BTreeMap<&str, Vec<SocketAddr>> {
        let addresses = |way: &Way| {
            let ips = match way.host.parse::<IpAddr>() {
                Ok(ip) => vec![ip],
                Err(_) => context.endpoints.resolve(context, &way.host),
            };
            ips.into_iter().map(|ip| SocketAddr::new(ip, way.port)).collect::<Vec<_>>()
        };
        let of = |ways: &Vec<Way>| {
            let mut all: Vec<SocketAddr> = ways.iter().flat_map(addresses).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        self.gateways.iter().map(|(name, ways)| (name.as_str(), of(ways))).collect()
    }

    fn network_of<'n>(&'n self, instance: &'n Instance) -> &'n str {
        match instance.owner.network() {
            // Its address is made up, and is in nobody's block.
            "" if unix::is_unix(instance.address) => "",
            "" => {
                let ip = instance.address.ip();
                self.blocks.iter().find(|(block, _)| block.contains(&ip)).map_or("", |(_, name)| name)
            }
            said => said,
        }
    }
}

/// The gateway that is written, as far as it has addresses.
pub(super) fn written_ways(resources: &Resources, proxy: &Proxy, gateway: &NetworkGateway) -> Vec<Way> {
    let port = gateway.port;
    if let Some(address) = &gateway.address {
        return vec![Way { host: address.clone(), port }];
    }
    let host = gateway.registry_service_name.as_deref().unwrap_or_default();
    let suffix = format!(".svc.{}", proxy.cluster_domain);
    let Some((name, namespace)) = host.strip_suffix(&suffix).and_then(|rest| rest.split_once('.')) else {
        return Vec::new();
    };
    resources.services.get(namespace, name).map(|service| external(service, port)).unwrap_or_default()
}

/// How a Service is reached from other networks.
fn external(service: &Object<Service>, port: u16) -> Vec<Way> {
    let balancers = service.spec.status.load_balancer.ingress.iter();
    let balancers = balancers.map(|one| if one.ip.is_empty() { &one.hostname } else { &one.ip });
    let hosts = service.spec.spec.external_ips.iter().chain(balancers).filter(|host| !host.is_empty());
    hosts.map(|host| Way { host: host.clone(), port }).collect()
}

/// Whoever is behind a gateway.
fn behind(locality: &Locality) -> Owner {
    Owner {
        namespace: String::new(),
        labels: BTreeMap::from([SIDECAR].map(|(name, value)| (name.to_owned(), value.to_owned()))),
        principal: None,
        workload: Arc::<Workload>::default(),
        locality: locality.clone(),
        node: String::new(),
        network: None,
        apart: true,
    }
}

fn least_common_multiple(one: u32, other: u32) -> u32 {
    let (mut divisor, mut rest) = (one.max(1), other.max(1));
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (one.max(1) / divisor).saturating_mul(other.max(1))
}

#[cfg(test)]
mod tests;
