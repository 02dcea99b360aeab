//! One try of a request: its peer, its deadlines, and whether another one may follow.

use std::{sync::atomic::Ordering, time::Duration};

use pingora::{Error, ErrorSource, ErrorType, RetryType, proxy::Session, upstreams::peer::HttpPeer};
use routing::rule::Retries;
use tokio::time::Instant;

use super::{
    admit::{authority, target_h2},
    exchange::{Exchange, Target},
    failure::Failure,
};
use crate::{
    net::facts::{Arrival, Facts},
    upstream::endpoints::NoEndpoint,
};

/// Envoy's base interval between tries.
const BACK_OFF: Duration = Duration::from_millis(25);
/// Envoy's longest interval between tries.
const BACK_OFF_MAX: Duration = Duration::from_millis(250);

/// Marks the errors that stand for a response status which the route wants retried.
pub(crate) const RETRY_STATUS: ErrorType = ErrorType::new("RetryStatus");

/// Waits before a retry: uniformly in `[0, min(B*2^(n-1), 10*B))`.
pub(crate) async fn back_off(exchange: &Exchange) {
    let Some(retry) = exchange.attempts.checked_sub(1) else { return };
    let longest = BACK_OFF.saturating_mul(1 << retry.min(4)).min(BACK_OFF_MAX);
    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
}

/// The peer of the next try.
///
/// # Errors
/// [`Failure`] when there is none.
pub(crate) fn next_peer(exchange: &mut Exchange, session: &Session) -> Result<Box<HttpPeer>, Failure> {
    if exchange.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(Failure::RouteTimeout);
    }
    exchange.attempts += 1;
    let rule = exchange.rule.clone();
    let destination = exchange.destination();
    let rewritten = rule.as_ref().zip(destination).and_then(|(rule, destination)| rule.authority(destination)).cloned();
    let host = rewritten.as_ref().and_then(|value| value.to_str().ok());
    let host = host.unwrap_or_else(|| authority(session.req_header()));
    let deadline = exchange.deadline;
    let inbound = matches!(exchange.arrival(), Arrival::Inbound { .. });
    let target = exchange.target.as_mut().ok_or(Failure::Internal("a request without target"))?;
    let h2 = target_h2(target, session.is_http2());
    let mut peer = match target {
        Target::Direct { address, .. } => {
            let dials = if inbound { &exchange.installed.application } else { &exchange.installed.direct };
            let dial = dials.get(false, h2).ok_or(Failure::Internal("no plain dial"))?;
            dial.peer(*address, host)
        }
        Target::Cluster { upstream, picked, .. } => {
            if picked.is_none() {
                let fresh = upstream.pick(&exchange.tried, || fastrand::u32(..)).map_err(|none| match none {
                    NoEndpoint::Unhealthy => Failure::NoHealthyEndpoint,
                    NoEndpoint::Overflow => Failure::Overflow,
                })?;
                *picked = Some(fresh);
            }
            let index = picked.as_ref().map_or(0, |picked| picked.endpoint);
            let endpoint = &upstream.cluster.endpoints[index];
            let dial = upstream.dial(endpoint.tls, h2).ok_or(Failure::Internal("the cluster has no such dial"))?;
            dial.peer(endpoint.address, host)
        }
    };
    if let Some(deadline) = deadline {
        peer.options.total_connection_timeout = Some(deadline.saturating_duration_since(Instant::now()));
    }
    Ok(peer)
}

/// The request is on this connection now. Starts its deadlines when its body is already complete.
pub(crate) fn connected(exchange: &mut Exchange, facts: Option<&std::sync::Arc<Facts>>, body_done: bool) {
    exchange.sent = Some(Instant::now());
    let Some(facts) = facts else { return };
    facts.deadline.disarm();
    facts.busy.store(true, Ordering::Relaxed);
    let number = facts.requests.fetch_add(1, Ordering::Relaxed) + 1;
    exchange.upstream = Some((std::sync::Arc::clone(facts), number));
    if body_done {
        start_deadlines(exchange);
    }
}

/// The request is complete: from now on the route's timeouts run (Envoy starts them with the end of the request).
pub(crate) fn start_deadlines(exchange: &mut Exchange) {
    let Some(rule) = &exchange.rule else { return };
    if exchange.upgrade {
        return;
    }
    let now = Instant::now();
    if exchange.deadline.is_none() {
        exchange.deadline = rule.timeout.map(|timeout| now + timeout);
    }
    let per_try = rule.retries.per_try_timeout.map(|timeout| now + timeout);
    let first = [exchange.deadline, per_try].into_iter().flatten().min();
    if let (Some(at), Some((facts, _))) = (first, &exchange.upstream) {
        facts.deadline.arm_at(at);
    }
}

/// A connection could not be made. Decides on a retry.
pub(crate) fn connect_failed(exchange: &mut Exchange, error: &mut Error) {
    let timed_out = *error.etype() == ErrorType::ConnectTimedout;
    let late = exchange.deadline.is_some_and(|deadline| deadline <= Instant::now());
    exchange.failure = Some(match timed_out {
        true if late => Failure::RouteTimeout,
        true => Failure::ConnectTimeout,
        false => Failure::Connect(reason(error)),
    });
    let retry = !late && may_retry(exchange, |retries| retries.connect_failure || retries.server_errors);
    decide(exchange, error, retry);
}

/// A try broke after its connection was there. Decides on a retry.
pub(crate) fn broke(exchange: &mut Exchange, session: &Session, error: &mut Error, reused: bool) {
    let downstream = *error.esource() == ErrorSource::Downstream;
    let failure = classify(exchange, error, downstream);
    let replayable = !exchange.responding && !downstream && !session.as_ref().retry_buffer_truncated();
    // A kept connection that the endpoint closed at the same moment: nothing was wrong with the request.
    let stale = reused
        && matches!(failure, Failure::UpstreamClosed)
        && session.req_header().method.is_idempotent()
        && exchange.attempts <= 8;
    let refused = matches!(failure, Failure::UpstreamReset) && error.retry();
    let retry = replayable
        && (stale
            || may_retry(exchange, |retries| match &failure {
                Failure::UpstreamClosed => retries.reset || retries.server_errors,
                Failure::UpstreamReset => (refused && retries.refused_stream) || retries.reset || retries.server_errors,
                Failure::PerTryTimeout => retries.reset || retries.gateway_errors || retries.server_errors,
                Failure::Connect(_) => *error.etype() == RETRY_STATUS,
                _ => false,
            }));
    exchange.failure = Some(failure);
    decide(exchange, error, retry);
}

/// Whether a response head makes the route want another try, and another try is left.
pub(crate) fn wants_other_answer(exchange: &Exchange, status: u16, grpc_status: Option<u16>) -> bool {
    may_retry(exchange, |retries| {
        (retries.server_errors && status >= 500)
            || (retries.gateway_errors && (502..=504).contains(&status))
            || retries.statuses.contains(&status)
            || grpc_status.is_some_and(|status| retries.grpc_statuses.iter().any(|one| u16::from(*one) == status))
    })
}

fn may_retry(exchange: &Exchange, condition: impl FnOnce(&Retries) -> bool) -> bool {
    match &exchange.rule {
        Some(rule) => exchange.attempts <= rule.retries.attempts && condition(&rule.retries),
        None => exchange.attempts <= 2 && condition(&Retries::default()),
    }
}

fn decide(exchange: &mut Exchange, error: &mut Error, retry: bool) {
    error.retry = RetryType::Decided(retry);
    exchange.release_upstream();
    if !retry {
        return;
    }
    if let Some(Target::Cluster { upstream, picked, .. }) = &mut exchange.target
        && let Some(picked) = picked.take()
    {
        exchange.tried.push(upstream.cluster.endpoints[picked.endpoint].address);
    }
}

fn classify(exchange: &Exchange, error: &Error, downstream: bool) -> Failure {
    if downstream {
        return match error.etype() {
            ErrorType::InvalidHTTPHeader | ErrorType::Custom(_) => Failure::BadRequest("the request body is malformed"),
            _ if io_kind(error) == Some(std::io::ErrorKind::InvalidData) => {
                Failure::BadRequest("the request body is malformed")
            }
            _ => Failure::DownstreamClosed,
        };
    }
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => timeout_kind(exchange),
        kind if *kind == RETRY_STATUS => Failure::Connect("the route retries this status".into()),
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade | ErrorType::Custom(_) => {
            Failure::UpstreamProtocol(reason(error))
        }
        ErrorType::H2Error => Failure::UpstreamReset,
        _ if io_kind(error) == Some(std::io::ErrorKind::TimedOut) => timeout_kind(exchange),
        _ => Failure::UpstreamClosed,
    }
}

/// Our own streams report a passed deadline and bad framing as I/O errors.
fn io_kind(error: &Error) -> Option<std::io::ErrorKind> {
    error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}

fn timeout_kind(exchange: &Exchange) -> Failure {
    let late = exchange.deadline.is_some_and(|deadline| deadline <= Instant::now() + Duration::from_millis(1));
    if late { Failure::RouteTimeout } else { Failure::PerTryTimeout }
}

/// The cause in words, without pingora's own framing.
fn reason(error: &Error) -> String {
    match &error.context {
        Some(context) => context.as_str().to_owned(),
        None => error.etype().as_str().to_owned(),
    }
}

/// An error that no hook has explained: the client broke off, or a defect of ours.
pub(crate) fn unexplained(error: &Error) -> Failure {
    if *error.esource() == ErrorSource::Downstream {
        return Failure::DownstreamClosed;
    }
    Failure::Internal("the proxy failed")
}
