//! From a finished exchange to its record.

use std::{borrow::Cow, future::Future as _, net::SocketAddr, pin::Pin, sync::Arc, task::Context, time::Duration};

use routing::snapshot::Workload;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    exchange::{DirectCluster, Exchange, Heads, Target},
    failure::{Failure, SILENT, with_delay},
    flow::Flow,
    grpc_messages::Messages,
    head::{Head, Version},
    name::Name,
    told::Told,
};
use crate::{
    net::facts::Arrival,
    telemetry::{
        Telemetry,
        record::{self, Asked, Labels, Record, Reporter, Volume},
    },
};

/// Writes the record of a finished request.
pub(crate) fn finish(telemetry: &Telemetry, exchange: &mut Exchange, heads: &Heads) {
    let volume = Volume {
        request_head: heads.request.wire_size(),
        response_head: if exchange.status == 0 { 0 } else { heads.response.wire_size() },
        ..messages(exchange)
    };
    if let Some(rule) = &exchange.rule {
        rule.tally.count(exchange.status);
    }
    with(telemetry, exchange, heads, volume, |record| telemetry.finish(record));
}

/// Messages of a call that lasts are counted while it does, and no more often than this.
const TELLS: Duration = Duration::from_secs(1);

/// Counts the messages of a call that goes on, when `timer` says so; it is watched while there are any to tell of.
pub(crate) fn progress(
    telemetry: &Telemetry,
    exchange: &mut Exchange,
    heads: &Heads,
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
) {
    let any = |flow: &Flow| flow.messages.as_ref().is_some_and(Messages::any);
    let Some(mut due) = timer.as_mut().as_pin_mut() else { return };
    if !any(&exchange.request) && !any(&exchange.response) || due.as_mut().poll(cx).is_pending() {
        return;
    }
    due.reset(Instant::now() + TELLS);
    let volume = messages(exchange);
    with(telemetry, exchange, heads, volume, |record| telemetry.messages(record));
}

/// What [`progress`] needs of a call that has messages.
pub(crate) fn timer(exchange: &Exchange, now: Instant) -> Option<Sleep> {
    exchange.response.messages.map(|_| sleep_until(now + TELLS))
}

/// Messages that were not told of yet.
fn messages(exchange: &mut Exchange) -> Volume {
    let take = |flow: &mut Flow| flow.messages.as_mut().map_or(0, Messages::take);
    Volume {
        request_messages: take(&mut exchange.request),
        response_messages: take(&mut exchange.response),
        ..Volume::default()
    }
}

fn with(telemetry: &Telemetry, exchange: &Exchange, heads: &Heads, volume: Volume, tell: impl FnOnce(&Record<'_>)) {
    let (request, sent) = (&heads.request, &heads.sent);
    let flags = flags(exchange);
    let details = details(exchange);
    let (facts, upstream) = (&exchange.facts, exchange.upstream.as_deref());
    let heard = heard(telemetry, exchange, request);
    let mut name = String::new();
    tell(&Record {
        start: exchange.start,
        duration: exchange.started.elapsed(),
        asked: asked(request, sent),
        protocol: protocol(request.version),
        status: exchange.status,
        flags,
        details: &details,
        transport_failure: transport_failure(exchange),
        bytes_received: exchange.request.bytes,
        bytes_sent: exchange.response.bytes,
        upstream_service_time: exchange.service_time.map(|time| time.as_millis() as u64),
        upstream_host: upstream.map(|facts| facts.remote).or_else(|| tried(exchange)),
        upstream_local: upstream.map(|facts| facts.local),
        upstream_cluster: cluster(exchange, &mut name),
        downstream_local: Some(facts.local),
        downstream_remote: Some(exchange.remote()),
        sni: facts.sni(),
        route: match &exchange.rule {
            Some(rule) => &rule.name,
            None if is_blocked(exchange) => "block_all",
            None => "",
        },
        trace: exchange.trace.filter(|trace| trace.sampled).map(|trace| (trace.id, trace.span)),
        volume,
        labels: labels(exchange, heard.as_ref()),
        told: record::Told(&Told::of_ended(exchange, heads)),
    });
}

fn asked<'a>(request: &'a Head, sent: &'a Head) -> Asked<'a> {
    let (method, path, authority) = request.start();
    Asked {
        method,
        path,
        x_forwarded_for: sent.value(Name::XForwardedFor).unwrap_or_default(),
        user_agent: request.value(Name::UserAgent).unwrap_or_default(),
        request_id: sent.value(Name::XRequestId).unwrap_or_default(),
        authority,
    }
}

/// Envoy's response code details so far.
pub(crate) fn details(exchange: &Exchange) -> Cow<'static, str> {
    match (&exchange.failure, exchange.local) {
        (Some(failure), _) => failure.answer().details,
        (None, Some(local)) => Cow::Borrowed(local),
        (None, None) => Cow::Borrowed("via_upstream"),
    }
}

/// Why TLS or the connection to the upstream failed; empty = it did not.
pub(crate) fn transport_failure(exchange: &Exchange) -> &str {
    match &exchange.failure {
        Some(Failure::Connect(why) | Failure::UpstreamProtocol(why) | Failure::UpstreamRefused(why)) => why,
        Some(Failure::UpstreamSilent) => SILENT,
        _ => "",
    }
}

/// Envoy's response flags so far; `-` = none.
pub(crate) fn flags(exchange: &Exchange) -> &'static str {
    let flag = exchange.failure.as_ref().map_or("-", |failure| failure.answer().flag);
    let flag = exchange.tries.stopped.map_or(flag, |stopped| stopped.flags(flag));
    if exchange.delayed.is_some() { with_delay(flag) } else { flag }
}

/// As `%PROTOCOL%` tells it.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http2 => "HTTP/2",
        Version::Http11 => "HTTP/1.1",
        Version::Http10 => "HTTP/1.0",
    }
}

/// As `%UPSTREAM_PROTOCOL%` tells it.
pub(crate) fn upstream_protocol(exchange: &Exchange) -> &'static str {
    protocol(if exchange.upstream_h2 { Version::Http2 } else { Version::Http11 })
}

/// Envoy's name of where it went; empty = nowhere.
pub(crate) fn cluster<'a>(exchange: &'a Exchange, name: &'a mut String) -> &'a str {
    match &exchange.target {
        Some(Target::Cluster { upstream, .. }) => &upstream.cluster.name,
        Some(Target::Direct { cluster: DirectCluster::Inbound(port), .. }) => {
            *name = format!("inbound|{port}||");
            name
        }
        Some(Target::Direct { cluster: DirectCluster::Passthrough, .. }) => PASSTHROUGH,
        None if is_blocked(exchange) => BLACK_HOLE,
        None => "",
    }
}

const PASSTHROUGH: &str = "PassthroughCluster";
const BLACK_HOLE: &str = "BlackHoleCluster";

/// Istio's virtual host for what no service claims, where that is refused.
fn is_blocked(exchange: &Exchange) -> bool {
    matches!(exchange.failure, Some(Failure::Blocked))
}

/// Who the other side says it is: a client that has proven an identity, in its request; an endpoint, in its answer.
fn heard(telemetry: &Telemetry, exchange: &Exchange, request: &Head) -> Option<Arc<Workload>> {
    if !matches!(exchange.arrival(), Arrival::Inbound { .. }) {
        return exchange.upstream.as_ref()?.heard.workload();
    }
    let value = request.value(Name::XEnvoyPeerMetadata)?;
    let (facts, peers) = (&exchange.facts, &exchange.installed.peers);
    facts.heard.header(peers, facts.proven()?, value, |claim| telemetry.metrics().claim(claim))
}

/// The endpoint of the last try, where there is no connection to it.
pub(crate) fn tried(exchange: &Exchange) -> Option<SocketAddr> {
    let picked = match &exchange.target {
        _ if exchange.tries.count == 0 => None,
        Some(Target::Cluster { upstream, picked: Some(picked), .. }) => {
            upstream.cluster.endpoints.get(picked.endpoint).map(|one| one.address)
        }
        Some(Target::Direct { address, .. }) => Some(*address),
        _ => None,
    };
    picked.or_else(|| exchange.tries.addresses.last().copied())
}

/// What the configuration says of the endpoint.
pub(crate) fn configured(exchange: &Exchange) -> Option<&Arc<Workload>> {
    let Some(Target::Cluster { upstream, picked: Some(picked), .. }) = &exchange.target else { return None };
    upstream.cluster.endpoints.get(picked.endpoint).map(|one| &one.workload)
}

/// `heard`: who the other side says it is.
fn labels<'a>(exchange: &'a Exchange, heard: Option<&'a Arc<Workload>>) -> Labels<'a> {
    let facts = &exchange.facts;
    let inbound = matches!(exchange.arrival(), Arrival::Inbound { .. });
    let peer_of_upstream = exchange.upstream.as_ref().map_or("", |facts| facts.peer());
    let (mut host, mut name, mut namespace) = ("", "", "");
    let mut peer: Option<&Arc<Workload>> = None;
    match &exchange.target {
        Some(Target::Cluster { upstream, .. }) => {
            let cluster = &upstream.cluster;
            (host, name, namespace) = (&cluster.host, &cluster.service_name, &cluster.service_namespace);
            peer = configured(exchange);
            // What the configuration says of an endpoint is what it is.
            peer = peer.filter(|known| !known.name.is_empty()).or(heard).or(peer);
        }
        Some(Target::Direct { port: Some(port), .. }) => {
            (host, name, namespace) = (&port.service_host, &port.service_name, &port.service_namespace);
        }
        Some(Target::Direct { .. }) => name = if inbound { "InboundPassthroughCluster" } else { PASSTHROUGH },
        None if is_blocked(exchange) => name = BLACK_HOLE,
        None => {}
    }
    if inbound {
        peer = heard;
    }
    Labels {
        reporter: if inbound { Reporter::Destination } else { Reporter::Source },
        peer,
        peer_principal: if inbound { facts.peer() } else { peer_of_upstream },
        service_host: host,
        service_name: name,
        service_namespace: namespace,
        grpc: exchange.grpc,
        grpc_status: exchange.grpc_status,
        mutual_tls: !facts.peer().is_empty() && !facts.own().is_empty(),
    }
}

/// The gRPC status in a head or in trailers.
pub(crate) fn grpc_status(head: &Head) -> Option<u16> {
    head.str(Name::GrpcStatus)?.parse().ok()
}
