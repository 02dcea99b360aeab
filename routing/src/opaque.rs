//! Connections whose bytes nobody looks at: by destination address and server name, which rule they follow.

mod subnet;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

pub use subnet::Subnet;

use crate::{
    host::{HostMap, HostPattern},
    rule::Destinations,
};

/// What a matched connection does: the compiled form of one Istio `TLSRoute` or `TCPRoute`, or the way straight to a service.
#[derive(Debug)]
pub struct OpaqueRule {
    /// `namespace/name` of the VirtualService; empty = straight to a service.
    pub source: Arc<str>,
    /// Where to.
    pub to: Destinations,
}

/// For which connections a rule is.
#[derive(Clone, Debug)]
pub struct OpaqueRoute {
    /// Destination addresses; empty = all, and those that are not known.
    pub subnets: Vec<Subnet>,
    /// Server names of the ClientHello; empty = all, and connections without one.
    pub names: Vec<HostPattern>,
    /// The port's protocol is not declared: first it has to be seen that it is not HTTP.
    pub sniffed: bool,
    /// What then.
    pub rule: Arc<OpaqueRule>,
}

/// What has to be known of a connection before its rule can be found, the least first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Demand {
    /// Its destination is enough: the server may have the first word.
    #[default]
    Nothing,
    /// The server name in its first bytes, if they are a ClientHello.
    Name,
    /// Whether it is HTTP.
    Protocol,
}

/// The routes of one port. Of those that hold for a connection the one with the narrowest destination subnet wins, then the
/// one with the most specific name, then the first: as Envoy chooses a filter chain.
///
/// The cost of a lookup depends on how many different lengths of subnets there are, and not on the number of routes.
#[derive(Debug, Default)]
pub struct OpaqueTable {
    routes: Vec<OpaqueRoute>,
    by_subnet: HashMap<Subnet, Names>,
    /// The lengths in it, longest first.
    lengths: Vec<u8>,
    anywhere: Names,
}

/// The routes of one subnet, as positions.
#[derive(Debug, Default)]
struct Names {
    by_name: HostMap<usize>,
    demand: Demand,
}

/// A place that an earlier route has: (position of that route, the subnet, the name).
pub type Taken = (usize, Option<Subnet>, HostPattern);

impl OpaqueTable {
    /// Adds a route behind the others. What it asked for and an earlier one has already is given back: it never gets that. One
    /// that would get nothing at all is left out.
    pub fn add(&mut self, route: OpaqueRoute) -> Vec<Taken> {
        let position = self.routes.len();
        let every = [HostPattern::Any];
        let names = if route.names.is_empty() { &every[..] } else { &route.names };
        let mut taken = Vec::new();
        let mut enter = |known: &mut Names, subnet: Option<Subnet>| {
            for name in names {
                match known.by_name.get_pattern(name) {
                    Some(&other) if other != position => taken.push((other, subnet, name.clone())),
                    Some(_) => {}
                    None => {
                        known.by_name.insert(name, position);
                        let needs = match name {
                            HostPattern::Any => Demand::Nothing,
                            HostPattern::Suffix(_) | HostPattern::Exact(_) => Demand::Name,
                        };
                        known.demand = known.demand.max(if route.sniffed { Demand::Protocol } else { needs });
                    }
                }
            }
        };
        if route.subnets.is_empty() {
            enter(&mut self.anywhere, None);
        }
        for subnet in &route.subnets {
            if let Err(place) = self.lengths.binary_search_by_key(&Reverse(subnet.length()), |&length| Reverse(length))
            {
                self.lengths.insert(place, subnet.length());
            }
            enter(self.by_subnet.entry(*subnet).or_default(), Some(*subnet));
        }
        if taken.len() < names.len() * route.subnets.len().max(1) {
            self.routes.push(route);
        }
        taken
    }

    /// The route of a connection. `destination`: where the client meant to go, when that is known. `name`: what its
    /// ClientHello asks for; empty = none, or it is no TLS.
    pub fn find(&self, destination: Option<IpAddr>, name: &str) -> Option<&OpaqueRoute> {
        self.covering(destination).find_map(|names| names.by_name.get(name)).map(|&position| &self.routes[position])
    }

    /// What has to be known of connections to a destination. `None`: no route is for it, whatever else is known.
    pub fn demand(&self, destination: Option<IpAddr>) -> Option<Demand> {
        let mut most = None;
        for names in self.covering(destination) {
            most = most.max(Some(names.demand));
            // Whatever the name, it is for this one.
            if names.by_name.get("").is_some() {
                break;
            }
        }
        most
    }

    /// Whether there is a route of just this address, or of a subnet with it.
    pub fn claims(&self, destination: IpAddr) -> bool {
        let destination = Subnet::of(destination);
        self.lengths
            .iter()
            .filter_map(|&length| destination.shortened(length))
            .any(|it| self.by_subnet.contains_key(&it))
    }

    /// The routes that could hold, by subnet, narrowest first.
    fn covering(&self, destination: Option<IpAddr>) -> impl Iterator<Item = &Names> {
        let destination = destination.map(Subnet::of);
        let narrowed = destination.into_iter().flat_map(move |address| {
            self.lengths.iter().filter_map(move |&length| self.by_subnet.get(&address.shortened(length)?))
        });
        narrowed.chain((!self.anywhere.by_name.is_empty()).then_some(&self.anywhere))
    }

    /// The rule of the first route: where there is nothing to choose by.
    pub fn first(&self) -> Option<&Arc<OpaqueRule>> {
        self.routes.first().map(|route| &route.rule)
    }

    /// Every route in order, for those who show the configuration.
    pub fn routes(&self) -> &[OpaqueRoute] {
        &self.routes
    }

    /// True without any route.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// SNI as Istio's gateways between networks route it: `outbound_.8080_.v1_.reviews.shop.svc.cluster.local`.
pub fn service_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// What of a pod's address and a connection's destination are the same place: the address, whatever the port, since a client
/// of a headless Service connects to the Service's port and the pod may have another one.
pub fn is_at(endpoint: SocketAddr, destination: SocketAddr) -> bool {
    endpoint.ip().to_canonical() == destination.ip().to_canonical()
}
