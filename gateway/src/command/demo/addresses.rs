//! Which loopback addresses a demo uses, so that every workload has the usual ports for itself.
//!
//! ```text
//! 127.10.0.K   gateway K: admin 15000, readiness 15021, metrics 15090
//! 127.10.N.1   pod N: its sidecar, on the pod's own ports and on 15000, 15001, 15006, 15021, 15090; without one, its
//!              application
//! 127.10.N.2   pod N: its application behind the sidecar
//! 127.0.0.1    the edge: 8443 for 443, 8080 for 80, or free ports
//! ```
//!
//! Pods whose traffic is captured have addresses of their own network instead, one each for both.
//!
//! Another demo on the same machine gets another second number.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context as _, bail};

use super::{
    network::Network,
    plan::{GatewayPlan, Plan},
};
use crate::net::holder;

/// The addresses of one demo.
#[derive(Debug)]
pub(crate) struct Addresses {
    block: u8,
    /// The network of the pods, where there is one.
    captured: Option<Network>,
    /// For each gateway: port of its Gateways -> port on [`EDGE`].
    pub(crate) edge: Vec<BTreeMap<u16, u16>>,
    /// Sockets that nobody connects to. Sluice's own can share a port with those of another demo (`SO_REUSEPORT`), so that
    /// two demos that start at once would not notice each other; these cannot, and go with the process.
    _claims: Vec<TcpListener>,
    /// Which well-known ports of the edge others have.
    pub(crate) notes: Vec<String>,
}

impl Addresses {
    /// Finds addresses whose ports nobody uses.
    ///
    /// # Errors
    /// A sentence with the port that is taken, or with what the system forbids.
    pub(crate) fn choose(plan: &Plan, captured: Option<Network>) -> anyhow::Result<Self> {
        let (block, claim) = free_block(plan, captured.is_some())?;
        let (mut claims, mut notes) = (vec![claim], Vec::new());
        Ok(Self { block, captured, edge: edge_ports(plan, &mut claims, &mut notes)?, _claims: claims, notes })
    }

    /// Whether there are addresses for all of it.
    ///
    /// # Errors
    /// A sentence: there are too many pods.
    pub(crate) fn suffice(plan: &Plan) -> anyhow::Result<()> {
        let count = plan.pods.len();
        anyhow::ensure!(
            count <= MOST_PODS,
            "the folder asks for {count} pods, and a demo runs {MOST_PODS} at most; lower `replicas`"
        );
        Ok(())
    }

    /// Where gateway number `index` has its own pages.
    pub(crate) fn gateway(&self, index: usize) -> IpAddr {
        Self::address(self.block, 0, index + 1)
    }

    /// Where others reach pod number `index`: its sidecar, or the application itself.
    pub(crate) fn pod(&self, index: usize) -> IpAddr {
        self.captured.as_ref().map_or_else(|| Self::address(self.block, index + 1, 1), |network| network.pod(index))
    }

    /// Where the application of pod number `index` listens behind its sidecar.
    pub(crate) fn app(&self, index: usize) -> IpAddr {
        self.captured.as_ref().map_or_else(|| Self::address(self.block, index + 1, 2), |network| network.pod(index))
    }

    /// Where a gateway listens: one that pods look for, where they find it.
    pub(crate) fn bind(&self, gateway: &GatewayPlan) -> IpAddr {
        let found = self.captured.as_ref().filter(|_| !gateway.services.is_empty());
        found.map_or(EDGE, Network::machine)
    }

    /// A process in the network namespace of pod number `index`; `None`: its traffic is not captured.
    pub(crate) fn namespace(&self, index: usize) -> Option<u32> {
        self.captured.as_ref().map(|network| network.process(index))
    }

    fn address(block: u8, third: usize, fourth: usize) -> IpAddr {
        // MOST_PODS bounds both; a folder with more gateways than that would fail to bind and say so.
        let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        IpAddr::V4(Ipv4Addr::new(127, block, byte(third), byte(fourth)))
    }

    /// Everything that will be listened on in one block.
    fn needed(block: u8, plan: &Plan, captured: bool) -> Vec<SocketAddr> {
        let mut needed = Vec::new();
        for index in 0..plan.gateways.len() {
            let own = Self::address(block, 0, index + 1);
            needed.extend([ports::ADMIN, ports::STATUS, ports::STATS].map(|port| SocketAddr::new(own, port)));
        }
        for (index, pod) in plan.pods.iter().enumerate().filter(|_| !captured) {
            let (sidecar, app) = (Self::address(block, index + 1, 1), Self::address(block, index + 1, 2));
            needed.extend(ports::SIDECAR.map(|port| SocketAddr::new(sidecar, port)));
            for (_, port) in &pod.ports {
                needed.extend([SocketAddr::new(sidecar, *port), SocketAddr::new(app, *port)]);
            }
        }
        needed
    }
}

/// The first block that no demo has claimed and whose ports are free.
fn free_block(plan: &Plan, captured: bool) -> anyhow::Result<(u8, TcpListener)> {
    let mut taken = None;
    for block in BLOCKS {
        let Ok(claim) = TcpListener::bind((Addresses::address(block, 255, 254), CLAIM_PORT)) else { continue };
        let needed = Addresses::needed(block, plan, captured);
        match needed.iter().find_map(|address| TcpListener::bind(address).err().map(|error| (address, error))) {
            None => return Ok((block, claim)),
            Some((address, error)) if error.kind() == io::ErrorKind::AddrInUse => {
                taken.get_or_insert((*address, error));
            }
            Some((address, error)) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "port {} may not be bound by this user; use container ports from 1024 on, or run the demo as root",
                address.port()
            ),
            Some((address, error)) => return Err(error).with_context(|| {
                format!("cannot listen on {address}: the demo gives every workload an address of 127.0.0.0/8, as Linux allows")
            }),
        }
    }
    match taken {
        Some((address, error)) => {
            let advice = holder::advice(&error, address, "run the demo in a network namespace of its own");
            bail!("port {} is taken on every loopback address; {advice}", address.port())
        }
        None => bail!(
            "no loopback address is left for this demo; end some of the others, or use a system that has 127.0.0.0/8"
        ),
    }
}

/// Well-known ports where they are free, ports that look like them else.
fn edge_ports(
    plan: &Plan,
    claims: &mut Vec<TcpListener>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<BTreeMap<u16, u16>>> {
    // Of two gateways of one demo only one can have a port, which is no news.
    let own = format!("process {} ", std::process::id());
    let mut choose = |wanted: u16| -> anyhow::Result<u16> {
        let mut taken = None;
        for port in candidates(wanted) {
            let claim = TcpListener::bind((EDGE_CLAIMS, port));
            if let (Ok(claim), Ok(_)) = (claim, TcpListener::bind((EDGE, port))) {
                claims.push(claim);
                if let Some(taken) = taken.filter(|taken: &String| !taken.starts_with(&own)) {
                    notes.push(format!("port {port} stands for port {wanted}, since {taken}"));
                }
                return Ok(port);
            }
            let holder = [EDGE, EDGE_CLAIMS].into_iter().find_map(|ip| holder::of(SocketAddr::new(ip, port)));
            taken.get_or_insert_with(|| match holder {
                Some(holder) => format!("{holder} has {port}"),
                None => format!("{port} cannot be had"),
            });
        }
        let taken = taken.unwrap_or_default();
        bail!("no port on {EDGE} is free for the Gateway's port {wanted} ({taken}); end what listens there")
    };
    plan.gateways.iter().map(|gateway| gateway.ports.iter().map(|port| Ok((*port, choose(*port)?))).collect()).collect()
}

/// 8443, 9443, 10443... for 443. Below the ports that the kernel gives to outgoing connections.
fn candidates(wanted: u16) -> impl Iterator<Item = u16> {
    let near = match wanted {
        443 => 8443,
        80 => 8080,
        other if other < FIRST_UNPRIVILEGED => 10_000 + other,
        other => other,
    };
    let further =
        (1..60).filter_map(move |step: u16| near.checked_add(step * 1000)).filter(|port| *port < FIRST_EPHEMERAL);
    std::iter::once(near).chain(further)
}

/// Istio's ports.
pub(crate) mod ports {
    /// Admin pages.
    pub(crate) const ADMIN: u16 = 15000;
    /// A sidecar's outbound side.
    pub(crate) const OUTBOUND: u16 = 15001;
    /// A sidecar's inbound side.
    pub(crate) const INBOUND: u16 = 15006;
    /// Readiness.
    pub(crate) const STATUS: u16 = 15021;
    /// Metrics.
    pub(crate) const STATS: u16 = 15090;
    /// All that a sidecar listens on by itself.
    pub(crate) const SIDECAR: [u16; 5] = [ADMIN, OUTBOUND, INBOUND, STATUS, STATS];
}

/// Where the gateways listen.
pub(crate) const EDGE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Second number of the addresses: 127.10.x.x first.
const BLOCKS: std::ops::RangeInclusive<u8> = 10..=63;

/// Where a block is claimed, on an address of it that nothing else uses.
const CLAIM_PORT: u16 = 15000;

/// Where the ports of [`EDGE`] are claimed.
const EDGE_CLAIMS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 255, 254));

/// One number of an address names the pod.
const MOST_PODS: usize = 250;

/// Linux' default `net.ipv4.ip_unprivileged_port_start`.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Linux' default start of `net.ipv4.ip_local_port_range`.
const FIRST_EPHEMERAL: u16 = 32_768;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::demo::plan::tests::{gateway, pod};

    fn plan() -> Plan {
        Plan { gateways: vec![gateway(&[80, 443])], pods: vec![pod("rating", 8080), pod("tariff", 8080)] }
    }

    #[test]
    fn demos_that_start_at_once_share_nothing() {
        let (one, other) = (Addresses::choose(&plan(), None).unwrap(), Addresses::choose(&plan(), None).unwrap());
        assert_ne!(one.block, other.block);
        assert!(one.edge[0].values().all(|port| !other.edge[0].values().any(|taken| taken == port)));
    }

    #[test]
    fn a_block_with_a_taken_port_is_left_out() {
        let (first, claim) = free_block(&plan(), false).unwrap();
        drop(claim);
        let _held = TcpListener::bind(SocketAddr::new(Addresses::address(first, 1, 1), ports::ADMIN)).unwrap();
        assert_ne!(free_block(&plan(), false).unwrap().0, first);
    }

    #[test]
    fn two_gateways_never_share_a_port() {
        let plan = Plan { gateways: vec![gateway(&[443]), gateway(&[443])], pods: Vec::new() };
        let mut notes = Vec::new();
        let chosen = edge_ports(&plan, &mut Vec::new(), &mut notes).unwrap();
        assert_ne!(chosen[0][&443], chosen[1][&443]);
        let own = format!("process {} ", std::process::id());
        assert!(!notes.iter().any(|note| note.contains(&own)), "a demo does not tell of itself: {notes:?}");
    }

    #[test]
    fn ports_look_like_those_of_the_gateway() {
        assert_eq!(candidates(443).take(3).collect::<Vec<_>>(), [8443, 9443, 10_443]);
        assert_eq!(candidates(80).next(), Some(8080));
        assert_eq!(candidates(25).next(), Some(10_025));
        assert_eq!(candidates(40_000).collect::<Vec<_>>(), [40_000]);
        assert!(candidates(65_535).count() == 1);
    }

    #[test]
    fn every_pod_has_its_ports_on_its_own_addresses() {
        let needed = Addresses::needed(10, &plan(), false);
        for address in ["127.10.1.1:8080", "127.10.1.2:8080", "127.10.2.1:8080", "127.10.2.1:15006", "127.10.0.1:15000"]
        {
            assert!(needed.contains(&address.parse().unwrap()), "{address}");
        }
    }
}
