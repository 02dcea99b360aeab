//! What is known of one connection on its way. Each field says who sets it.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use routing::{connections::Connections, snapshot::Snapshot};
use tokio::time::Instant;

use super::ending::Ending;
use crate::{
    http::h1::body::Body,
    live::Installed,
    net::{
        connection::Connection,
        course::{Course, Way},
        facts::{Arrival, Facts},
    },
    upstream::{
        endpoints::{Picked, Upstream},
        gate::Permit,
    },
};

/// One connection on its way.
pub(super) struct Passage {
    /// The configuration this connection lives under, from its first byte to its log line (`new`).
    pub(super) installed: Arc<Installed>,
    /// Which way it goes (`new`).
    pub(super) way: Way,
    /// The client's side (`new`).
    pub(super) facts: Rc<Facts>,
    /// When it was received, wall clock (`new`).
    pub(super) start: SystemTime,
    /// When it was received (`new`).
    pub(super) started: Instant,
    /// The destination that the rule chose (`attempt`).
    pub(super) destination: Option<usize>,
    /// The endpoint's cluster (`attempt`).
    pub(super) cluster: Option<Arc<Upstream>>,
    /// What the application may be given at once (`attempt`).
    pub(super) pool: Option<Arc<Upstream>>,
    /// The endpoint of the last try (`attempt`).
    pub(super) picked: Option<Picked>,
    /// Its place among the connections that the cluster may have (`attempt`).
    pub(super) permit: Option<Permit>,
    /// The endpoint is a proxy that was asked by POST, and its bytes are the rest of this body (`attempt`).
    pub(super) posted: Option<Body>,
    /// Endpoints tried so far (`attempt`).
    pub(super) tried: Vec<SocketAddr>,
    /// The connection to the endpoint (`carry`).
    pub(super) upstream: Option<Facts>,
    /// Bytes from the client (`carry`).
    pub(super) received: u64,
    /// Bytes to the client (`carry`).
    pub(super) sent: u64,
    /// It counts as opened (`carry`).
    pub(super) is_counted: bool,
    /// How it ended (`serve`).
    pub(super) ending: Ending,
}

impl Passage {
    /// A connection that begins now.
    pub(super) fn new(client: &Connection, course: Course) -> Self {
        Self {
            installed: course.installed,
            way: course.way,
            facts: Rc::clone(&client.facts),
            start: SystemTime::now(),
            started: Instant::now(),
            destination: None,
            cluster: None,
            pool: None,
            picked: None,
            permit: None,
            posted: None,
            tried: Vec::new(),
            upstream: None,
            received: 0,
            sent: 0,
            is_counted: false,
            ending: Ending::Done,
        }
    }

    /// Where the client meant to go, as far as it was captured. A port of ours that it connected to is no place to go to: that
    /// would be a loop.
    pub(super) fn original(&self) -> Option<SocketAddr> {
        let Arrival::Outbound { original } = self.facts.arrival else { return None };
        original.filter(|original| !is_own(&self.installed.snapshot, *original))
    }

    /// Without a byte for this time it ends; `None` = never.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        let settings = self.settings();
        Some(settings.and_then(|settings| settings.idle).unwrap_or(Connections::IDLE))
    }

    /// How old it may get.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.settings()?.lifetime
    }

    /// What its DestinationRule says of connections.
    fn settings(&self) -> Option<&Connections> {
        self.cluster.as_ref().or(self.pool.as_ref())?.cluster.connections.as_deref()
    }
}

/// Whether an address is a port that the sidecar itself has for its application (`Sidecar.egress`), or stands for one.
fn is_own(snapshot: &Snapshot, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_here = || {
        let mut ours = snapshot.inbound.iter().flat_map(|inbound| &inbound.addresses);
        ip.is_loopback() || ours.any(|own| *own == ip)
    };
    let doors = snapshot.outbound.iter().flat_map(|outbound| &outbound.doors);
    ip.is_unspecified()
        || doors
            .map(|door| door.at)
            .any(|at| at.port() == address.port() && (at.ip() == ip || (at.ip().is_unspecified() && is_here())))
}

#[cfg(test)]
mod tests {
    use routing::{
        inbound::Inbound,
        snapshot::{Outbound, OutboundDoor},
    };

    use super::*;

    #[test]
    fn what_is_our_own_is_no_place_to_go_to() {
        let door = |bind: &str, port| OutboundDoor { at: SocketAddr::new(bind.parse().unwrap(), port), port };
        let doors = vec![door("127.0.0.9", 3306), door("0.0.0.0", 5432)];
        let inbound = Inbound { addresses: vec!["10.0.0.7".parse().unwrap()], ..Inbound::default() };
        let outbound = Outbound { doors, ..Outbound::default() };
        let snapshot = Snapshot { inbound: Some(inbound), outbound: Some(outbound), ..Snapshot::default() };
        for (address, own) in [
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("127.0.0.9:3306", true),
            ("127.0.0.8:3306", false),
            ("127.0.0.8:5432", true),
            ("10.0.0.7:5432", true),
            ("10.0.0.7:3306", false),
            ("10.0.0.8:5432", false),
        ] {
            assert_eq!(is_own(&snapshot, address.parse().unwrap()), own, "{address}");
        }
    }
}
