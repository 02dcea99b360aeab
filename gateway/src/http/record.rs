//! From a finished exchange to its record.

use std::sync::Arc;

use http::{Version, header};
use pingora::proxy::Session;
use routing::snapshot::Workload;

use super::{
    admit::authority,
    exchange::{Exchange, Target},
    failure::Failure,
    names,
};
use crate::{
    net::facts::Arrival,
    telemetry::{
        Telemetry,
        record::{Labels, Record, Reporter},
    },
};

/// Writes the record of a finished request.
pub(crate) fn finish(telemetry: &Telemetry, exchange: &Exchange, session: &Session) {
    let request = session.req_header();
    let answer = exchange.failure.as_ref().map(Failure::answer);
    let status = session.response_written().map_or(0, |head| head.status.as_u16());
    let flags = answer.as_ref().map_or("-", |answer| answer.flag);
    let details = match (&answer, exchange.local) {
        (Some(answer), _) => answer.details.as_ref(),
        (None, Some(local)) => local,
        (None, None) => "via_upstream",
    };
    let transport_failure = match &exchange.failure {
        Some(Failure::Connect(why) | Failure::UpstreamProtocol(why)) => why.as_str(),
        _ => "",
    };
    let facts = exchange.facts.as_deref();
    let upstream = exchange.upstream.as_ref().map(|(facts, _)| facts);
    let forwarded_for = exchange.forwarded_for.as_ref().and_then(|value| value.to_str().ok());
    telemetry.finish(&Record {
        start: exchange.start,
        duration: exchange.started.elapsed(),
        method: request.method.as_str(),
        path: request.uri.path_and_query().map_or("/", |path| path.as_str()),
        protocol: protocol(request.version),
        status,
        flags,
        details,
        transport_failure,
        bytes_received: session.body_bytes_read() as u64,
        bytes_sent: session.body_bytes_sent() as u64,
        upstream_service_time: exchange.service_time.map(|time| time.as_millis() as u64),
        x_forwarded_for: forwarded_for.unwrap_or_default(),
        user_agent: text(request.headers.get(header::USER_AGENT)),
        request_id: text(exchange.request_id.as_ref()),
        authority: authority(request),
        upstream_host: upstream.map(|facts| facts.remote).or_else(|| exchange.tried.last().copied()),
        upstream_local: upstream.map(|facts| facts.local),
        upstream_cluster: cluster(exchange),
        downstream_local: facts.map(|facts| facts.local),
        downstream_remote: facts.map(|facts| facts.remote),
        sni: facts.map_or("", |facts| facts.sni()),
        route: exchange.rule.as_ref().map_or("", |rule| &rule.name),
        labels: labels(exchange),
    });
}

fn text(value: Option<&http::HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}

fn cluster(exchange: &Exchange) -> &str {
    match &exchange.target {
        Some(Target::Cluster { upstream, .. }) => &upstream.cluster.name,
        Some(Target::Direct { cluster, .. }) => cluster,
        None => "",
    }
}

fn labels(exchange: &Exchange) -> Labels<'_> {
    let facts = exchange.facts.as_deref();
    let inbound = matches!(exchange.arrival(), Arrival::Inbound { .. });
    let peer_of_upstream = exchange.upstream.as_ref().map_or("", |(facts, _)| facts.peer());
    let (mut host, mut name, mut namespace) = ("", "", "");
    let mut peer: Option<&Arc<Workload>> = None;
    match &exchange.target {
        Some(Target::Cluster { upstream, picked, .. }) => {
            let cluster = &upstream.cluster;
            (host, name, namespace) = (&cluster.host, &cluster.service_name, &cluster.service_namespace);
            peer = picked.as_ref().and_then(|picked| cluster.endpoints.get(picked.endpoint)).map(|one| &one.workload);
        }
        Some(Target::Direct { port: Some(port), .. }) => {
            (host, name, namespace) = (&port.service_host, &port.service_name, &port.service_namespace);
        }
        Some(Target::Direct { cluster, .. }) => name = if inbound { "InboundPassthroughCluster" } else { cluster },
        None => {}
    }
    Labels {
        reporter: if inbound { Reporter::Destination } else { Reporter::Source },
        peer,
        peer_principal: if inbound { facts.map_or("", |facts| facts.peer()) } else { peer_of_upstream },
        service_host: host,
        service_name: name,
        service_namespace: namespace,
        grpc: exchange.grpc,
        grpc_status: exchange.grpc_status,
        mutual_tls: facts.is_some_and(|facts| !facts.peer().is_empty() && !facts.own().is_empty()),
    }
}

/// The gRPC status in headers or trailers.
pub(crate) fn grpc_status(headers: &http::HeaderMap) -> Option<u16> {
    headers.get(names::GRPC_STATUS)?.to_str().ok()?.parse().ok()
}
