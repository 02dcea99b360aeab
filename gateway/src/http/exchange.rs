//! What the hooks of one request share. Each field says who sets it.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use routing::{
    inbound::InboundPort,
    rule::{Action, Destination, Rule},
};
use tokio::time::Instant;

use super::failure::Failure;
use crate::{
    live::Installed,
    net::facts::{Arrival, Facts},
    upstream::endpoints::{Picked, Upstream},
};

/// One request on its way.
pub(crate) struct Exchange {
    /// The configuration this request lives under, from its first byte to its log line (`new_ctx`).
    pub(crate) installed: Arc<Installed>,
    /// When the head was complete, wall clock (`new_ctx`).
    pub(crate) start: SystemTime,
    /// When the head was complete (`new_ctx`).
    pub(crate) started: Instant,
    /// The connection it came on (`early_request_filter`).
    pub(crate) facts: Option<Arc<Facts>>,
    /// True for `content-type: application/grpc` (`admit`).
    pub(crate) grpc: bool,
    /// True for a WebSocket upgrade (`admit`).
    pub(crate) upgrade: bool,
    /// The id that goes upstream and into the log (`admit`).
    pub(crate) request_id: Option<HeaderValue>,
    /// `x-forwarded-for` as sent upstream (`forward`).
    pub(crate) forwarded_for: Option<HeaderValue>,
    /// The route, for requests that have one (`admit`).
    pub(crate) rule: Option<Arc<Rule>>,
    /// Where it goes (`admit`).
    pub(crate) target: Option<Target>,
    /// When [`Rule::timeout`] passes; set once the request body is complete (`attempt`).
    pub(crate) deadline: Option<Instant>,
    /// Tries so far (`attempt`).
    pub(crate) attempts: u32,
    /// Endpoints tried so far (`attempt`).
    pub(crate) tried: Vec<SocketAddr>,
    /// Connection of the current try, and which request on it this is (`connected_to_upstream`).
    pub(crate) upstream: Option<(Arc<Facts>, u64)>,
    /// When the current try was sent (`connected_to_upstream`).
    pub(crate) sent: Option<Instant>,
    /// From there to the response head (`upstream_response_filter`).
    pub(crate) service_time: Option<Duration>,
    /// A response head went to the client (`response_filter`, `reply`).
    pub(crate) responding: bool,
    /// Why the proxy answers itself, or why the answer broke off.
    pub(crate) failure: Option<Failure>,
    /// Status, flags and details of a local reply that is no failure: redirect, direct response.
    pub(crate) local: Option<&'static str>,
    /// gRPC status seen in headers or trailers.
    pub(crate) grpc_status: Option<u16>,
}

/// Where a request goes.
pub(crate) enum Target {
    /// To an endpoint of a cluster.
    Cluster {
        /// The cluster.
        upstream: Arc<Upstream>,
        /// Index of the destination in the rule.
        destination: usize,
        /// The endpoint of the next or current try.
        picked: Option<Picked>,
    },
    /// To one address: a sidecar's application, or an original destination that no service claims.
    Direct {
        /// Address.
        address: SocketAddr,
        /// Speak HTTP/2 there.
        h2: bool,
        /// `inbound|8080||` or `PassthroughCluster`.
        cluster: Arc<str>,
        /// The workload's port, for inbound requests.
        port: Option<InboundPort>,
    },
}

impl Exchange {
    /// A request that begins now.
    pub(crate) fn new(installed: Arc<Installed>) -> Self {
        Self {
            installed,
            start: SystemTime::now(),
            started: Instant::now(),
            facts: None,
            grpc: false,
            upgrade: false,
            request_id: None,
            forwarded_for: None,
            rule: None,
            target: None,
            deadline: None,
            attempts: 0,
            tried: Vec::new(),
            upstream: None,
            sent: None,
            service_time: None,
            responding: false,
            failure: None,
            local: None,
            grpc_status: None,
        }
    }

    /// The door the connection came through.
    pub(crate) fn arrival(&self) -> Arrival {
        self.facts.as_ref().map_or(Arrival::Outbound { original: None }, |facts| facts.arrival)
    }

    /// The destination that was chosen among the rule's.
    pub(crate) fn destination(&self) -> Option<&Destination> {
        let Some(Target::Cluster { destination, .. }) = &self.target else { return None };
        match &self.rule.as_ref()?.action {
            Action::Route(destinations) => destinations.all.get(*destination),
            Action::Redirect(_) | Action::Direct(_) => None,
        }
    }

    /// The last try's connection is nobody's business any more.
    pub(crate) fn release_upstream(&mut self) {
        if let Some((facts, number)) = &self.upstream
            && facts.requests.load(Ordering::Relaxed) == *number
        {
            facts.deadline.disarm();
            facts.busy.store(false, Ordering::Relaxed);
        }
    }
}
