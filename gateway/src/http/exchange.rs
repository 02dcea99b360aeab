//! What is known of one request on its way. Each field says who sets it.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Context,
    time::{Duration, SystemTime},
};

use routing::{
    authorization::Judgement,
    inbound::InboundPort,
    rule::{Action, Destination, Rule},
    token::Token,
};
use tokio::time::Instant;

use super::{
    affinity::Affinity,
    external::{HeldBody, verdict::Grant},
    failure::Failure,
    flow::{Clock, Fault, Flow, Sink, Source, Waits},
    head::Head,
    limit::{Puts, Told},
    mirror::Copying,
    name::Name,
    origin::Origin,
    retry::Tries,
    side::Up,
    trace::Trace,
    wire::Moved,
};
use crate::{
    live::Installed,
    net::{
        coalescing::OnItsWay,
        facts::{Arrival, Facts},
    },
    upstream::endpoints::{Picked, Upstream},
};

/// One request on its way.
pub(crate) struct Exchange {
    /// The configuration this request lives under, from its first byte to its log line (`new`).
    pub(crate) installed: Arc<Installed>,
    /// When the head was complete, wall clock (`new`).
    pub(crate) start: SystemTime,
    /// When the head was complete (`new`).
    pub(crate) started: Instant,
    /// The connection it came on (`new`).
    pub(crate) facts: Rc<Facts>,
    /// Who the client is and what it speaks, where proxies in front are trusted to say so (`admit`).
    pub(crate) origin: Option<Box<Origin>>,
    /// The token that came with it and was verified (`tokens`).
    pub(crate) token: Option<Arc<Token>>,
    /// What policies say of it, where some are only tried (`guard`).
    pub(crate) tried: Option<Box<Judgement>>,
    /// What a provider that was asked wants changed (`external`).
    pub(crate) granted: Option<Box<Grant>>,
    /// The head that routes are chosen by, where it is not the request's any more (`external`).
    pub(crate) routed: Option<Box<Head>>,
    /// The beginning of its body, where somebody was shown that (`external`).
    pub(crate) held: Option<Box<HeldBody>>,
    /// Its `x-request-id`, where that was told before it went on (`external`).
    pub(crate) id: Option<uuid::Uuid>,
    /// The trace that it belongs to, where requests are traced (`new`).
    pub(crate) trace: Option<Trace>,
    /// True for `content-type: application/grpc` (`admit`).
    pub(crate) grpc: bool,
    /// The route, for requests that have one (`admit`).
    pub(crate) rule: Option<Arc<Rule>>,
    /// Where it goes (`admit`).
    pub(crate) target: Option<Target>,
    /// What keeps it with its endpoint, for clusters with keys (`admit`).
    pub(crate) affinity: Option<Box<Affinity>>,
    /// When [`Rule::timeout`] passes; set once the request body is complete (`forward`).
    pub(crate) deadline: Option<Instant>,
    /// What was tried so far (`attempt`, `retry`).
    pub(crate) tries: Tries,
    /// The copy for the route's mirrors, until it is whole (`forward`).
    pub(crate) mirror: Option<Box<Copying>>,
    /// Connection of the current try (`forward`).
    pub(crate) upstream: Option<Rc<Facts>>,
    /// That one speaks HTTP/2 (`forward`).
    pub(crate) upstream_h2: bool,
    /// When the current try was sent (`forward`).
    pub(crate) sent: Option<Instant>,
    /// When the head of the answer was complete (`forward`).
    pub(crate) answered: Option<Instant>,
    /// From [`Self::sent`] to there (`forward`).
    pub(crate) service_time: Option<Duration>,
    /// Status that went to the client; 0 = none (`forward`, `reply`).
    pub(crate) status: u16,
    /// Why the proxy answers itself, or why the answer broke off.
    pub(crate) failure: Option<Failure>,
    /// Details of a local reply that is no failure: redirect, direct response (`reply`).
    pub(crate) local: Option<&'static str>,
    /// gRPC status seen in headers or trailers.
    pub(crate) grpc_status: Option<u16>,
    /// It was held back on purpose, until then (`intercept`).
    pub(crate) delayed: Option<Instant>,
    /// What the answer says of rate limits (`limit`).
    pub(crate) told: Option<Box<Told>>,
    /// What local limits have counted, as long as a service may refuse it (`limit`).
    pub(crate) taken: Option<Box<Puts>>,
    /// A page asks that may read the answer (`intercept`).
    pub(crate) cross_origin: bool,
    /// The request's body (`forward`).
    pub(crate) request: Flow,
    /// The response's body (`forward`, `reply`).
    pub(crate) response: Flow,
    /// What followed that, where somebody is told of it (`forward`).
    pub(crate) trailers: Option<Box<Head>>,
    /// What connections have moved for it, where somebody is told of it (`serve`, `forward`).
    pub(crate) moved: Option<Box<Moved>>,
    /// Until its answer begins (`forward`): what follows may go on for hours, and has nothing to do with how long others wait.
    pub(crate) on_its_way: Option<OnItsWay>,
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
        /// The cluster's name, for logs.
        cluster: DirectCluster,
        /// The workload's port, for inbound requests.
        port: Option<InboundPort>,
        /// What the application may be given at once; `None` = anything.
        pool: Option<Arc<Upstream>>,
    },
}

/// Envoy's names of clusters that Istio makes for addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DirectCluster {
    /// `inbound|8080||`.
    Inbound(u16),
    /// `PassthroughCluster`.
    Passthrough,
}

impl Exchange {
    /// A request that begins now.
    pub(crate) fn new(installed: Arc<Installed>, facts: Rc<Facts>) -> Self {
        let moments = installed.demands.moments;
        let moved = installed.demands.wire.then(Box::<Moved>::default);
        let flow = || Flow { clock: moments.then(Box::<Clock>::default), ..Flow::default() };
        Self {
            installed,
            start: SystemTime::now(),
            started: Instant::now(),
            facts,
            origin: None,
            token: None,
            tried: None,
            granted: None,
            routed: None,
            held: None,
            id: None,
            trace: None,
            grpc: false,
            rule: None,
            target: None,
            affinity: None,
            deadline: None,
            tries: Tries::default(),
            mirror: None,
            upstream: None,
            upstream_h2: false,
            sent: None,
            answered: None,
            service_time: None,
            status: 0,
            failure: None,
            local: None,
            grpc_status: None,
            delayed: None,
            told: None,
            taken: None,
            cross_origin: false,
            request: flow(),
            response: flow(),
            trailers: None,
            moved,
            on_its_way: Some(OnItsWay::begin()),
        }
    }

    /// `https` or `http`, as the client speaks it.
    pub(crate) fn scheme(&self) -> &'static str {
        let told = self.origin.as_ref().and_then(|origin| origin.scheme);
        told.unwrap_or_else(|| super::admit::scheme(&self.facts))
    }

    /// The client, as logs show it.
    pub(crate) fn remote(&self) -> SocketAddr {
        let told = self.origin.as_ref().and_then(|origin| origin.remote());
        told.unwrap_or(self.facts.remote)
    }

    /// The client's IP address as text.
    pub(crate) fn client(&self) -> &str {
        match &self.origin {
            Some(origin) if origin.address.is_some() => &origin.text,
            _ => &self.facts.remote_ip,
        }
    }

    /// The current try has a connection.
    pub(crate) fn goes_over(&mut self, facts: &Rc<Facts>, h2: bool) {
        self.upstream = Some(Rc::clone(facts));
        self.upstream_h2 = h2;
    }

    /// A try is over: what its connection has moved counts, where somebody is told of it.
    pub(crate) fn has_moved(&mut self, up: &Up) {
        if let Some(moved) = &mut self.moved {
            moved.up.add(up.wire());
        }
    }

    /// The door the connection came through.
    pub(crate) fn arrival(&self) -> Arrival {
        self.facts.arrival
    }

    /// Moves the request's body on, past whoever copies it. `seen` is shown every byte.
    ///
    /// # Errors
    /// As [`Flow::pump`].
    pub(crate) fn pump_request(
        &mut self,
        from: &mut impl Source,
        to: &mut impl Sink,
        cx: &mut Context<'_>,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Waits, Fault> {
        let Some(copy) = &mut self.mirror else { return self.request.pump(from, to, cx, seen) };
        let waits = self.request.pump(from, to, cx, |bytes| {
            seen(bytes);
            copy.add(bytes);
        });
        if self.request.done
            && let Some(copy) = self.mirror.take()
        {
            copy.send(from.trailers());
        }
        waits
    }

    /// The destination that was chosen among the rule's.
    pub(crate) fn destination(&self) -> Option<&Destination> {
        let Some(Target::Cluster { destination, .. }) = &self.target else { return None };
        match &self.rule.as_ref()?.action {
            Action::Route(destinations) => destinations.all.get(*destination),
            Action::Redirect(_) | Action::Direct(_) => None,
        }
    }
}

/// The heads of one exchange.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// As it came, with its path in one form.
    pub(crate) request: Head,
    /// As it goes upstream.
    pub(crate) sent: Head,
    /// As it goes to the client.
    pub(crate) response: Head,
}

impl Heads {
    /// The request as others are told of it: what the proxy answers by itself has not gone anywhere.
    pub(crate) fn told(&self) -> &Head {
        if self.sent.method().is_empty() { &self.request } else { &self.sent }
    }

    /// A request for a tunnel that came over HTTP/2 has no `Sec-WebSocket-Key`, which HTTP/1.1 asks for.
    pub(crate) fn complete_key(&mut self) {
        if self.sent.upgrade.is_some() && !self.sent.has(Name::SecWebSocketKey) {
            let key = tokio_tungstenite::tungstenite::handshake::client::generate_key();
            self.sent.append(Name::SecWebSocketKey, key.as_bytes());
        }
    }

    /// What one protocol says at the beginning of a tunnel and the other does not (RFC 8441 section 5): the answer to
    /// `Sec-WebSocket-Key`.
    pub(crate) fn complete_upgrade(&mut self, downstream_h2: bool) {
        if downstream_h2 || self.response.has(Name::SecWebSocketAccept) {
            return;
        }
        if let Some(key) = self.request.value(Name::SecWebSocketKey) {
            let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key);
            self.response.append(Name::SecWebSocketAccept, accept.as_bytes());
        }
    }
}
