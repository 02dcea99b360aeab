//! One try of a request: which endpoint, over which connection.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use routing::{outlier::Outcome, reach::Reach, retries::Retries};
use tokio::time::Instant;

use super::{
    admit::target_h2,
    desk::Desk,
    exchange::{Exchange, Target},
    failure::Failure,
    h1,
    h2::{self, client::Opening},
    head::Head,
    limited::{self, Way},
    retry,
    side::Up,
};
use crate::{
    net::facts::Arrival,
    telemetry::metrics::Metrics,
    upstream::{
        breaker::Counted,
        connect::{NoConnection, To, connect},
        dial::Dial,
        endpoints::{NoEndpoint, Upstream},
        pool::{Place, Shared},
        reach,
        terms::Terms,
    },
};

/// Istio `maxRequestsPerConnection` below which HTTP/2 connections are made side by side.
pub(super) const FEW: u32 = 10;

/// A connection with room for a request.
pub(crate) struct Connected {
    /// The side towards the endpoint.
    pub(crate) up: Up,
    /// How it was reached.
    pub(crate) dial: Arc<Dial>,
    /// Where it is kept afterwards.
    pub(crate) place: Place,
    /// It has carried requests before.
    pub(crate) reused: bool,
    /// Counts the request, where the cluster limits them.
    pub(super) _counted: Option<Counted>,
}

impl Connected {
    /// A stream of a connection that others have used.
    pub(super) fn of(stream: h2::client::Stream, dial: Arc<Dial>, place: Place) -> Self {
        Self { up: Up::H2(Box::new(stream)), dial, place, reused: true, _counted: None }
    }

    /// What is asked of connections may have changed since its handshake: it was kept, or is the mesh's, whose roots change at any
    /// moment.
    pub(super) fn aged(&self) -> bool {
        self.reused || self.dial.mesh
    }
}

/// Waits before a retry as its route says, and not beyond the route's timeout.
pub(crate) async fn back_off(exchange: &Exchange) {
    if exchange.tries.count == 0 {
        return;
    }
    let end = Instant::now() + retry::policy(exchange).wait(exchange.tries.count, fastrand::f64());
    tokio::time::sleep_until(exchange.deadline.map_or(end, |deadline| deadline.min(end))).await;
}

/// Connects to the endpoint of the next try, or takes a kept connection.
///
/// # Errors
/// [`Failure`] when there is none.
pub(crate) async fn next(
    desk: &Desk,
    exchange: &mut Exchange,
    request: &Head,
    downstream_h2: bool,
) -> Result<Connected, Failure> {
    if exchange.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(Failure::RouteTimeout);
    }
    exchange.tries.count += 1;
    let rule = exchange.rule.clone();
    let (dial, address) = match reached_otherwise(exchange) {
        None => endpoint(exchange, downstream_h2)?,
        Some(upstream) => {
            let rewritten = rule.as_ref().zip(exchange.destination()).and_then(|(rule, to)| rule.authority(to));
            let host = rewritten.and_then(|value| value.to_str().ok()).unwrap_or_else(|| request.authority());
            let found = Box::pin(unlisted(exchange, &upstream, host, downstream_h2)).await?;
            if !exchange.tries.addresses.contains(&found.1) {
                exchange.tries.addresses.push(found.1);
            }
            found
        }
    };
    let rewritten = rule.as_ref().zip(exchange.destination()).and_then(|(rule, to)| rule.authority(to));
    let host = rewritten.and_then(|value| value.to_str().ok()).unwrap_or_else(|| request.authority());
    let place = Place::new(&dial, address, host, &exchange.facts);
    if let Some(Target::Cluster { upstream, .. } | Target::Direct { pool: Some(upstream), .. }) = &exchange.target
        && upstream.breaker.is_some()
    {
        let way = Way { upstream: Arc::clone(upstream), dial, place, address, host };
        return Box::pin(limited::next(desk, exchange, way)).await;
    }
    let deadline = exchange.deadline;
    if dial.h2 {
        if let Some(stream) = desk.shared.find(&place, h2::client::Connection::stream) {
            return Ok(Connected { up: Up::H2(Box::new(stream)), dial, place, reused: true, _counted: None });
        }
        // Apart, as dialling below: what is rarely needed takes no room in every request's future.
        let to = To { address, host, client: &exchange.facts };
        return Box::pin(shared(&desk.shared, desk.metrics(), dial, to, place, deadline)).await;
    }
    let mut cx = Context::from_waker(Waker::noop());
    // The second look at an endpoint that had ended a kept connection is at a new one.
    if !exchange.tries.refreshed
        && let Some(kept) =
            desk.idle.take(&place, exchange.started, |client: &mut Box<h1::client::Client>| client.is_quiet(&mut cx))
    {
        return Ok(Connected { up: Up::H1(kept), dial, place, reused: true, _counted: None });
    }
    let to = To { address, host, client: &exchange.facts };
    let connection = Box::pin(connect(&dial, &to, deadline, desk.metrics())).await.map_err(no_connection)?;
    let mut client = h1::client::Client::new(connection);
    client.terms = Terms::of(&dial, None, &exchange.facts);
    Ok(Connected { up: Up::H1(Box::new(client)), dial, place, reused: false, _counted: None })
}

/// A stream of a connection that requests share, which is made first if need be.
///
/// # Errors
/// [`Failure`] when there is none.
#[expect(clippy::too_many_arguments, reason = "a step of `next` with what that has found out")]
pub(crate) async fn shared(
    pool: &Shared<h2::client::Connection>,
    metrics: &Metrics,
    dial: Arc<Dial>,
    to: To<'_>,
    place: Place,
    deadline: Option<Instant>,
) -> Result<Connected, Failure> {
    let find = || pool.find(&place, h2::client::Connection::stream);
    let connected = |stream, reused| Connected {
        up: Up::H2(Box::new(stream)),
        dial: Arc::clone(&dial),
        place: place.clone(),
        reused,
        _counted: None,
    };
    let dialling = pool.dialling(&place);
    // Waiting for another request's dial counts as connecting, too.
    let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
    let limit = left.min(dial.connect_timeout);
    let work = async {
        // Where each connection serves few requests, nobody waits for another one's.
        let few = dial.requests.is_some_and(|limit| limit < FEW);
        let _only_one = if few { None } else { Some(dialling.lock().await) };
        if let Some(stream) = find() {
            return Ok(connected(stream, true));
        }
        let connection = connect(&dial, &to, deadline, metrics).await.map_err(no_connection)?;
        let opening = Opening { terms: Terms::of(&dial, None, to.client), ..Opening::of(&dial) };
        let mut open = h2::client::Connection::open(connection, opening)
            .await
            .map_err(|why| Failure::Connect(format!("HTTP/2: {why}")))?;
        let stream = open.stream().ok_or(Failure::Connect("HTTP/2: a new connection takes no stream".into()))?;
        pool.put(&place, &dial, open);
        Ok(connected(stream, false))
    };
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::ConnectTimeout))
}

pub(super) fn no_connection(why: NoConnection) -> Failure {
    match why {
        NoConnection::Failed(why) => Failure::Connect(why),
        NoConnection::TimedOut => Failure::ConnectTimeout,
    }
}

/// The cluster, when its endpoints are not in the configuration.
fn reached_otherwise(exchange: &Exchange) -> Option<Arc<Upstream>> {
    match &exchange.target {
        Some(Target::Cluster { upstream, .. }) if upstream.cluster.reach != Reach::Endpoints => {
            Some(Arc::clone(upstream))
        }
        _ => None,
    }
}

/// Where the next try goes, when that is not in the configuration.
async fn unlisted(
    exchange: &Exchange,
    upstream: &Upstream,
    host: &str,
    downstream_h2: bool,
) -> Result<(Arc<Dial>, SocketAddr), Failure> {
    let target = exchange.target.as_ref().ok_or(Failure::Internal("a request without target"))?;
    let h2 = target_h2(target, downstream_h2);
    let found =
        reach::find(&exchange.installed.lookups, &upstream.cluster, (&exchange.facts, host), &exchange.tries.addresses)
            .await;
    let address = found.map_err(|why| why.map_or(Failure::NoHealthyEndpoint, Failure::Connect))?;
    let dial = upstream.dial(upstream.cluster.tls.is_some(), h2);
    Ok((Arc::clone(dial.ok_or(Failure::Internal("the cluster has no such dial"))?), address))
}

/// Where the next try goes, and how.
fn endpoint(exchange: &mut Exchange, downstream_h2: bool) -> Result<(Arc<Dial>, SocketAddr), Failure> {
    let inbound = matches!(exchange.arrival(), Arrival::Inbound { .. });
    let target = exchange.target.as_mut().ok_or(Failure::Internal("a request without target"))?;
    let h2 = target_h2(target, downstream_h2);
    match target {
        Target::Direct { address, pool, .. } => {
            let dials = if inbound { &exchange.installed.application } else { &exchange.installed.direct };
            let dial = pool.as_ref().map_or_else(|| dials.get(false, h2), |pool| pool.dial(false, h2));
            let dial = dial.ok_or(Failure::Internal("no plain dial"))?;
            Ok((Arc::clone(dial), *address))
        }
        Target::Cluster { upstream, picked, .. } => {
            if picked.is_none() {
                let key = exchange.affinity.as_ref().and_then(|affinity| affinity.key);
                let retries = match &exchange.rule {
                    Some(rule) => rule.retries(),
                    None => Retries::inbound(),
                };
                let tries = &exchange.tries;
                let tried = if retries.avoids_tried { tries.addresses.as_slice() } else { &[] };
                let random = || fastrand::u32(..);
                // Envoy leaves priorities after every second try.
                let fresh = if retries.remote_localities && tries.addresses.len() > 1 {
                    upstream.pick_beyond(key, tries.priorities, tried, random)
                } else {
                    upstream.pick_by(key, tried, random)
                };
                let fresh = fresh.map_err(|none| match none {
                    NoEndpoint::Unhealthy => Failure::NoHealthyEndpoint,
                })?;
                *picked = Some(fresh);
            }
            let index = picked.as_ref().map_or(0, |picked| picked.endpoint);
            let endpoint = &upstream.cluster.endpoints[index];
            let dial = upstream.dial(endpoint.tls, h2).ok_or(Failure::Internal("the cluster has no such dial"))?;
            Ok((Arc::clone(dial), endpoint.address))
        }
    }
}

/// Tells the cluster what came of the current try.
pub(crate) fn record(desk: &Desk, exchange: &Exchange, outcome: Outcome) {
    if let Some(Target::Cluster { upstream, picked: Some(picked), .. }) = &exchange.target {
        upstream.record(picked.endpoint, outcome, desk.metrics());
    }
}

/// Tells the cluster what a response head says. An answer of gRPC says it here or in its trailers.
pub(crate) fn record_head(desk: &Desk, exchange: &Exchange, status: u16) {
    if let Some(outcome) = outcome_of_head(exchange.grpc, status, exchange.grpc_status) {
        record(desk, exchange, outcome);
    }
}

/// What the head of an answer is for its endpoint; `None` when that follows in trailers.
pub(crate) fn outcome_of_head(grpc: bool, status: u16, grpc_status: Option<u16>) -> Option<Outcome> {
    if grpc && status == 200 { grpc_status.map(Outcome::Grpc) } else { Some(Outcome::Status(status)) }
}

/// As [`record_head`], of trailers.
pub(crate) fn record_trailers(desk: &Desk, exchange: &Exchange) {
    if let Some(status) = exchange.grpc_status.filter(|_| exchange.grpc && exchange.status == 200) {
        record(desk, exchange, Outcome::Grpc(status));
    }
}

/// Tells the cluster of a failure of the current try, when it is the endpoint's.
pub(crate) fn record_failure(desk: &Desk, exchange: &Exchange, failure: &Failure) {
    if let Some(outcome) = outcome(failure) {
        record(desk, exchange, outcome);
    }
}

/// As [`record_failure`], of a try that got no connection.
pub(crate) fn record_no_connection(desk: &Desk, exchange: &Exchange, failure: &Failure) {
    if let Some(outcome) = outcome_unconnected(failure) {
        record(desk, exchange, outcome);
    }
}

/// As [`outcome`], of a try that got no connection. Time that ran out at our own limits, before the endpoint was asked for
/// anything, says nothing of it: one that does not connect in time is [`Failure::ConnectTimeout`].
fn outcome_unconnected(failure: &Failure) -> Option<Outcome> {
    outcome(failure).filter(|_| *failure != Failure::RouteTimeout)
}

/// What a failure is for the endpoint of the current try; `None` when it is not the endpoint's.
pub(crate) fn outcome(failure: &Failure) -> Option<Outcome> {
    match failure {
        Failure::ConnectTimeout | Failure::RouteTimeout | Failure::PerTryTimeout => Some(Outcome::TimedOut),
        Failure::Connect(_)
        | Failure::UpstreamClosed
        | Failure::UpstreamSilent
        | Failure::UpstreamRefused(_)
        | Failure::UpstreamReset
        | Failure::UpstreamProtocol(_) => Some(Outcome::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_runs_out_before_an_endpoint_is_asked_is_not_its_failure() {
        assert_eq!(outcome_unconnected(&Failure::RouteTimeout), None);
        assert_eq!(outcome_unconnected(&Failure::ConnectTimeout), Some(Outcome::TimedOut));
        assert_eq!(outcome(&Failure::RouteTimeout), Some(Outcome::TimedOut));
    }
}
