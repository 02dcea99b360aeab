//! What one finished request looked like: the access log and the metrics read the same record, so they cannot disagree.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use routing::{snapshot::Workload, template::Values};
#[cfg(test)]
use {
    routing::{
        pattern::HeaderField,
        template::{Fact, ResponseField, Validity},
    },
    std::borrow::Cow,
};

/// One finished request, borrowed from the request while it ends.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// When its head was complete.
    pub(crate) start: SystemTime,
    /// From the head to the last byte.
    pub(crate) duration: Duration,
    /// What its heads say.
    pub(crate) asked: Asked<'a>,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub(crate) protocol: &'static str,
    /// Status sent to the client; 0 = none was.
    pub(crate) status: u16,
    /// Envoy's response flag (`NR`, `UH`, `UF`...); `-` = none.
    pub(crate) flags: &'static str,
    /// Envoy's response code details: `via_upstream`, `route_not_found`... No spaces.
    pub(crate) details: &'a str,
    /// Why TLS or the connection to the upstream failed; empty = it did not.
    pub(crate) transport_failure: &'a str,
    /// Request body bytes.
    pub(crate) bytes_received: u64,
    /// Response body bytes.
    pub(crate) bytes_sent: u64,
    /// From sending upstream to its response head, ms.
    pub(crate) upstream_service_time: Option<u64>,
    /// The endpoint that answered or failed last.
    pub(crate) upstream_host: Option<SocketAddr>,
    /// Our own address on that connection.
    pub(crate) upstream_local: Option<SocketAddr>,
    /// `outbound|8080|v1|host`; empty = none was chosen.
    pub(crate) upstream_cluster: &'a str,
    /// Address the client connected to.
    pub(crate) downstream_local: Option<SocketAddr>,
    /// The client.
    pub(crate) downstream_remote: Option<SocketAddr>,
    /// SNI; empty = none.
    pub(crate) sni: &'a str,
    /// Route name; empty = no route matched.
    pub(crate) route: &'a str,
    /// Trace and span, of a request that is traced.
    pub(crate) trace: Option<(u128, u64)>,
    /// What it moved beside the bodies.
    pub(crate) volume: Volume,
    /// For Istio's standard metrics.
    pub(crate) labels: Labels<'a>,
    /// For lines of the access log that hold something else.
    pub(crate) told: Told<'a>,
}

/// What the heads of a request say, as bytes: where nobody writes a line they are not looked at again, since by then they are
/// far from the processor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// Method.
    pub(crate) method: &'a [u8],
    /// Path and query as the client sent them (normalised, before any rewrite).
    pub(crate) path: &'a [u8],
    /// `x-forwarded-for` as sent upstream; empty = none.
    pub(crate) x_forwarded_for: &'a [u8],
    /// `user-agent`; empty = none.
    pub(crate) user_agent: &'a [u8],
    /// `x-request-id`; empty = none.
    pub(crate) request_id: &'a [u8],
    /// Host or `:authority`; empty = none.
    pub(crate) authority: &'a [u8],
}

/// What a request moves beside the bytes of its bodies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Volume {
    /// Bytes of the request's head.
    pub(crate) request_head: u64,
    /// Bytes of the answer's.
    pub(crate) response_head: u64,
    /// gRPC messages of the request that were not told of yet.
    pub(crate) request_messages: u64,
    /// Those of the answer.
    pub(crate) response_messages: u64,
}

/// Whoever knows what commands stand for.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a>(pub(crate) &'a dyn Values);

/// Knows nothing.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Silent;

#[cfg(test)]
impl Values for Silent {
    fn request(&self, _: &HeaderField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn response(&self, _: &ResponseField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn fact(&self, _: Fact, _: &mut Vec<u8>) {}

    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn start(&self) -> Duration {
        Duration::ZERO
    }

    fn certificate(&self, _: Validity) -> Option<i64> {
        None
    }
}

impl fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// The parts of Istio's standard metric labels that differ between requests.
#[derive(Debug)]
pub(crate) struct Labels<'a> {
    /// Who reports.
    pub(crate) reporter: Reporter,
    /// The other side's workload (destination for a source reporter, source for a destination reporter).
    pub(crate) peer: Option<&'a Arc<Workload>>,
    /// SPIFFE id of the peer on mutual TLS; empty = unknown.
    pub(crate) peer_principal: &'a str,
    /// FQDN of the destination service; empty = unknown.
    pub(crate) service_host: &'a str,
    /// Its short name; empty = unknown.
    pub(crate) service_name: &'a str,
    /// Its namespace; empty = unknown.
    pub(crate) service_namespace: &'a str,
    /// True for gRPC requests (content-type application/grpc...).
    pub(crate) grpc: bool,
    /// gRPC status, when one was seen.
    pub(crate) grpc_status: Option<u16>,
    /// True when both sides of the downstream connection proved a mesh identity.
    pub(crate) mutual_tls: bool,
}

/// Istio's `reporter` label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Reporter {
    /// A gateway or a sidecar's outbound side.
    Source,
    /// A sidecar's inbound side.
    Destination,
}
