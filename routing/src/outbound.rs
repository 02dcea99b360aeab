//! What has to be seen of a connection that a sidecar's own workload opens.

use std::net::{IpAddr, SocketAddr};

use crate::{opaque::Demand, snapshot::Outbound};

/// The address that a connection was meant for. `None`: a port that applications connect to themselves stands for a port of
/// services, and for no address.
pub fn known_ip(address: SocketAddr) -> Option<IpAddr> {
    Some(address.ip().to_canonical()).filter(|ip| !ip.is_unspecified())
}

impl Outbound {
    /// What has to be seen of a connection before it is known where it goes. `original`: where it was meant to go; `None` when
    /// it was not captured.
    pub fn demand(&self, original: Option<SocketAddr>) -> Demand {
        let Some(original) = original else { return Demand::Protocol };
        let table = self.opaque.get(&original.port());
        let own = table.and_then(|table| table.demand(known_ip(original))).unwrap_or_default();
        // An address that a service has for bytes has no requests, whatever else the port is for.
        let claimed = table.zip(known_ip(original)).is_some_and(|(table, ip)| table.claims(ip));
        let http = self.by_port.contains_key(&original.port());
        if http && !claimed { Demand::Protocol } else { own }
    }
}
