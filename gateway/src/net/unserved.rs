//! Connections that nothing here is for: a server name that nobody has, plain text where TLS is spoken or asked for, TLS that
//! is not the mesh's. Istio's listeners write a line of the access log about them, with the flag NR.

use std::{
    borrow::Cow,
    fmt::Display,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use routing::{
    attributes::{PeerField, Side},
    pattern::HeaderField,
    snapshot::Workload,
    template::{Fact, ResponseField, Validity, Values, write_long},
};

use super::{
    accept::Reception,
    facts::{Arrival, Facts},
    told::{Connections, push},
};
use crate::{
    http::told::of_workload,
    live::ClientPolicy,
    telemetry::{
        Telemetry,
        record::{Asked, Labels, Record, Reporter, Told, Volume},
    },
};

/// Envoy's flag, and its words for what there is none of.
const FLAG: &str = "NR";
const DETAILS: &str = "filter_chain_not_found";

impl Reception {
    /// Turns a client away, and tells both logs: the access log of those of whom the process's log has a line, so that no
    /// flood of them is a flood of lines.
    pub(super) fn unserved(&self, reason: &'static str, (facts, name): (&Facts, &str), why: impl Display) {
        if !self.refusals.tell(reason, facts.remote, facts.local, &why) {
            return;
        }
        let facts = if name.is_empty() { facts.clone() } else { facts.clone().passing(name, ClientPolicy::UNMET) };
        let own = &self.live.pin().snapshot.workload;
        finish(&self.telemetry, &Unserved { facts, why: why.to_string(), own, start: SystemTime::now() });
    }
}

/// What is known of such a connection.
struct Unserved<'a> {
    facts: Facts,
    why: String,
    own: &'a Workload,
    start: SystemTime,
}

fn finish(telemetry: &Telemetry, unserved: &Unserved<'_>) {
    let facts = &unserved.facts;
    let inbound = matches!(facts.arrival, Arrival::Inbound { .. });
    telemetry.log_connection(&Record {
        start: unserved.start,
        duration: Duration::ZERO,
        asked: Asked::default(),
        protocol: "",
        status: 0,
        flags: FLAG,
        details: DETAILS,
        transport_failure: "",
        bytes_received: 0,
        bytes_sent: 0,
        upstream_service_time: None,
        upstream_host: None,
        upstream_local: None,
        upstream_cluster: "",
        downstream_local: Some(facts.local),
        downstream_remote: Some(facts.remote),
        sni: facts.sni(),
        route: "",
        trace: None,
        volume: Volume::default(),
        labels: Labels {
            reporter: if inbound { Reporter::Destination } else { Reporter::Source },
            peer: None,
            peer_principal: "",
            service_host: "",
            service_name: "",
            service_namespace: "",
            grpc: false,
            grpc_status: None,
            mutual_tls: false,
        },
        told: Told(unserved),
    });
}

/// It never came to a request, nor to an endpoint.
impl Values for Unserved<'_> {
    fn request(&self, _: &HeaderField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn response(&self, _: &ResponseField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn fact(&self, fact: Fact, out: &mut Vec<u8>) {
        let facts = &self.facts;
        if (Connections { facts, client: facts.remote, upstream: None, tried: None }).fact(fact, out) {
            return;
        }
        match fact {
            Fact::ResponseFlags => push(out, FLAG),
            Fact::ResponseFlagsLong => write_long(FLAG, out),
            Fact::ResponseCodeDetails => push(out, DETAILS),
            Fact::DownstreamTransportFailureReason => push(out, self.why.replace(' ', "_")),
            Fact::AccessLogType => push(out, "NotSet"),
            Fact::ResponseCode
            | Fact::Duration
            | Fact::BytesReceived
            | Fact::BytesSent
            | Fact::DownstreamWireBytesReceived
            | Fact::DownstreamWireBytesSent
            | Fact::UpstreamWireBytesReceived
            | Fact::UpstreamWireBytesSent => push(out, 0),
            // The rest is of requests and endpoints.
            _ => {}
        }
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn start(&self) -> Duration {
        self.start.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn end(&self) -> Option<Duration> {
        Some(self.start())
    }

    fn certificate(&self, _: Validity) -> Option<i64> {
        None
    }

    fn peer(&self, side: Side, field: PeerField) -> Option<Cow<'_, str>> {
        let known = if side == Side::Own { of_workload(self.own, field) } else { None };
        known.map(Cow::Borrowed)
    }
}
