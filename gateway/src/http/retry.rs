//! Whether another try of a request follows: what its route wants, what is left, what its cluster bears.

use std::{borrow::Cow, net::SocketAddr};

use http::HeaderName;
use routing::{
    request::Headers as _,
    retries::{Fault, Retries},
};
use tokio::time::Instant;

use super::{
    exchange::{Exchange, Target},
    failure::{Failure, RESET_REASON},
    flow::Broken,
    head::Head,
};
use crate::{
    telemetry::{metrics::Metrics, outcomes::Retry},
    upstream::{endpoints::Priorities, retries::Retrying},
};

const MISDIRECTED: u16 = 421;
/// Roots may change again between the answer and the next connection's handshake.
const MISDIRECTIONS: u8 = 2;
const RATELIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// The tries of one request.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// So far.
    pub(crate) count: u32,
    /// It was sent again because a kept connection had ended meanwhile, or could not carry it any more.
    pub(crate) refreshed: bool,
    /// So often an endpoint has said that its connection cannot carry it.
    misdirected: u8,
    /// It was sent again because the connection after such an answer ended without a word.
    parted: bool,
    /// Endpoints tried so far.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Their priorities.
    pub(crate) priorities: Priorities,
    /// The retry that is under way, as its cluster counts it.
    retrying: Option<Retrying>,
    /// The route's mirrors had their draw.
    pub(crate) mirrored: bool,
    /// Why no other one followed the last one, although the route wants one.
    pub(crate) stopped: Option<Stopped>,
}

impl Tries {
    /// A connection ended without a byte of an answer to an idempotent request: whether that is sent again, which is no retry.
    ///
    /// Once, when the connection was kept and the endpoint closed it at the same moment; and once, when the endpoint had just
    /// refused to serve it, and so is about to end connections: nobody has run the request before.
    fn refresh(&mut self, reused: bool) -> bool {
        let again = if reused && !self.refreshed {
            true
        } else {
            self.misdirected > 0 && !std::mem::replace(&mut self.parted, true)
        };
        self.again(again)
    }

    /// An endpoint has refused to serve it on that connection: whether it is sent again on another one.
    fn redirect(&mut self) -> bool {
        let again = self.misdirected < MISDIRECTIONS;
        self.misdirected += u8::from(again);
        self.again(again)
    }

    fn again(&mut self, again: bool) -> bool {
        if again {
            self.refreshed = true;
            self.count -= 1;
        }
        again
    }
}

/// See [`Tries::stopped`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stopped {
    /// `retries.attempts` are used up.
    Exhausted,
    /// The cluster bears no more.
    Overflow,
}

impl Stopped {
    /// Envoy's flags: why there was no other try, then what the last one met.
    pub(crate) fn flags(self, flag: &'static str) -> &'static str {
        match (self, flag) {
            (Self::Exhausted, "-") => "URX",
            (Self::Exhausted, "UF") => "URX,UF",
            (Self::Exhausted, "UC") => "URX,UC",
            (Self::Exhausted, "UR") => "URX,UR",
            (Self::Exhausted, "UT") => "URX,UT",
            (Self::Exhausted, "DC") => "URX,DC",
            (Self::Overflow, "-") => "UO",
            (Self::Overflow, "UF") => "UO,UF",
            (Self::Overflow, "UC") => "UO,UC",
            (Self::Overflow, "UR") => "UO,UR",
            (Self::Overflow, "UT") => "UO,UT",
            (Self::Overflow, "DC") => "UO,DC",
            (_, other) => other,
        }
    }
}

/// What a request's tries are repeated by.
pub(crate) fn policy(exchange: &Exchange) -> &Retries {
    match &exchange.rule {
        Some(rule) => rule.retries(),
        None => Retries::inbound(),
    }
}

/// Envoy says in the text that the failure is that of a retry.
pub(crate) fn explain(exchange: &Exchange, body: Cow<'static, str>) -> Cow<'static, str> {
    if exchange.tries.count < 2 || !body.contains(RESET_REASON) {
        return body;
    }
    body.replace(RESET_REASON, "retried and the latest reset reason: ").into()
}

/// No connection could be made. Whether another try follows.
pub(crate) fn after_no_connection(exchange: &mut Exchange, failure: &mut Failure, metrics: &Metrics) -> bool {
    let late = is_late(exchange);
    if late && *failure == Failure::ConnectTimeout {
        *failure = Failure::RouteTimeout;
    }
    let about_connecting = matches!(failure, Failure::Connect(_) | Failure::ConnectTimeout);
    let wanted = about_connecting && policy(exchange).want_after(Fault::NoConnection);
    another(exchange, metrics, wanted, Before::Unsent)
}

/// What a try was when it broke.
pub(crate) struct Tried {
    /// Its connection had carried requests before.
    pub(crate) reused: bool,
    /// Running the request twice is running it once (RFC 9110 section 9.2.2).
    pub(crate) idempotent: bool,
    /// All of the request that was sent can be sent again.
    pub(crate) replayable: bool,
}

/// A try broke before its answer began. Whether another one follows.
///
/// By itself only a request of which nothing can have been processed is repeated; what else is, the route says.
pub(crate) fn after_break(
    exchange: &mut Exchange,
    tried: &Tried,
    broken: &Broken,
    failure: &Failure,
    metrics: &Metrics,
) -> bool {
    let silent = tried.idempotent && tried.replayable && matches!(broken, Broken::Closed { untouched: true });
    if silent && exchange.tries.refresh(tried.reused) {
        return true;
    }
    let fault = match (failure, broken) {
        (Failure::PerTryTimeout, _) => Some(Fault::PerTryTimeout),
        (Failure::UpstreamReset, Broken::Reset { unseen: true }) => Some(Fault::Refused),
        (Failure::UpstreamReset | Failure::UpstreamClosed, _) => Some(Fault::Reset),
        (Failure::UpstreamSilent | Failure::UpstreamRefused(_), _) => Some(Fault::Reset),
        _ => None,
    };
    let wanted = fault.is_some_and(|fault| policy(exchange).want_after(fault));
    another(exchange, metrics, wanted, Before::Sent { replayable: tried.replayable })
}

/// An answer that says that the request was misdirected, as a connection that has outlived the mesh's roots gets:
/// nothing was processed, and another connection may do better, whatever the method (RFC 9110 section 15.5.20). It is no retry.
fn is_misdirected(exchange: &mut Exchange, head: &Head) -> bool {
    head.status == MISDIRECTED && exchange.tries.redirect()
}

/// An answer has begun. Whether another try follows instead. `aged`: what is asked of connections may have changed since;
/// `replayable`: as in [`Tried`].
pub(crate) fn after_answer(
    exchange: &mut Exchange,
    head: &Head,
    (aged, replayable): (bool, bool),
    metrics: &Metrics,
) -> bool {
    if aged && replayable && is_misdirected(exchange, head) {
        return true;
    }
    let ratelimited = || head.nth(&RATELIMITED, 0).is_some();
    let wanted = policy(exchange).want_other_than(head.status, exchange.grpc_status, ratelimited);
    if !wanted && let Some(retry) = exchange.tries.retrying.take() {
        retry.helped();
        metrics.retry(Retry::Helped);
    }
    wanted && another(exchange, metrics, true, Before::Sent { replayable })
}

fn is_late(exchange: &Exchange) -> bool {
    exchange.deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// What became of the request in the try before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    /// No endpoint was sent any of it.
    Unsent,
    /// An endpoint was.
    Sent {
        /// All of that can be sent again.
        replayable: bool,
    },
}

fn another(exchange: &mut Exchange, metrics: &Metrics, wanted: bool, before: Before) -> bool {
    // The retry before has its verdict.
    exchange.tries.retrying = None;
    let attempts = policy(exchange).attempts;
    if !wanted || attempts == 0 || is_late(exchange) {
        return false;
    }
    if exchange.tries.count > attempts {
        return stop(exchange, metrics, Stopped::Exhausted);
    }
    if before == (Before::Sent { replayable: false }) {
        metrics.retry(Retry::TooLarge);
        return false;
    }
    if let Some(Target::Cluster { upstream, picked, .. }) = &mut exchange.target {
        let Some(retrying) = upstream.retry(before != Before::Unsent) else {
            return stop(exchange, metrics, Stopped::Overflow);
        };
        exchange.tries.retrying = Some(retrying);
        // The next try has an endpoint of its own.
        if let Some(picked) = picked.take() {
            let endpoint = &upstream.cluster.endpoints[picked.endpoint];
            exchange.tries.addresses.push(endpoint.address);
            exchange.tries.priorities.add(usize::from(endpoint.priority));
        }
    }
    metrics.retry(Retry::Begun);
    true
}

fn stop(exchange: &mut Exchange, metrics: &Metrics, why: Stopped) -> bool {
    exchange.tries.stopped = Some(why);
    metrics.retry(match why {
        Stopped::Exhausted => Retry::Exhausted,
        Stopped::Overflow => Retry::Overflow,
    });
    false
}

/// Methods that RFC 9110 section 9.2.2 calls idempotent.
pub(crate) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried() -> Tries {
        Tries { count: 1, ..Tries::default() }
    }

    #[test]
    fn a_kept_connection_that_ended_is_forgiven_once() {
        let mut tries = tried();
        assert!(tries.refresh(true));
        assert_eq!((tries.count, tries.refreshed), (0, true));
        tries.count += 1;
        assert!(!tries.refresh(true));
        assert_eq!(tries.count, 1);
        assert!(!tried().refresh(false), "a new one may have run the request");
    }

    #[test]
    fn what_follows_a_misdirected_request_may_end_without_a_word_once() {
        let mut tries = tried();
        let mut next = |step: fn(&mut Tries) -> bool| {
            let again = step(&mut tries);
            tries.count = 1;
            again
        };
        assert!(next(Tries::redirect), "the kept connection has outlived the roots");
        assert!(next(|tries| tries.refresh(false)), "the new one was made in the same moment");
        assert!(!next(|tries| tries.refresh(false)));
        assert!(next(Tries::redirect), "the roots have changed again");
        assert!(!next(Tries::redirect), "this endpoint does not want it");
    }
}
