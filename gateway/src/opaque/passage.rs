//! What is known of one connection on its way. Each field says who sets it.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use routing::connections::Connections;
use tokio::time::Instant;

use super::ending::Ending;
use crate::{
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
    /// The endpoint of the last try (`attempt`).
    pub(super) picked: Option<Picked>,
    /// Its place among the connections that the cluster may have (`attempt`).
    pub(super) permit: Option<Permit>,
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
            picked: None,
            permit: None,
            tried: Vec::new(),
            upstream: None,
            received: 0,
            sent: 0,
            is_counted: false,
            ending: Ending::Done,
        }
    }

    /// Where the client meant to go, as far as it was captured.
    pub(super) fn original(&self) -> Option<SocketAddr> {
        match self.facts.arrival {
            Arrival::Outbound { original } => original,
            _ => None,
        }
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
        self.cluster.as_ref()?.cluster.connections.as_deref()
    }
}
