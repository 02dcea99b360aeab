//! From a passage to its record: when it is connected, for what is counted while it lives, and when it is over.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use routing::{
    attributes::{PeerField, Side},
    pattern::HeaderField,
    snapshot::Workload,
    template::{Fact, Moment, ResponseField, Validity, Values, write_long},
};

use tokio::time::Instant;

use super::{ending::Ending, passage::Passage};
use crate::{
    http::{moments, told::of_workload},
    net::{
        course::Way,
        facts::{Arrival, Facts},
        told::{Connections, addresses, push},
    },
    telemetry::{
        Telemetry,
        connections::Traffic,
        record::{Asked, Labels, Record, Reporter, Told, Volume},
    },
};

/// Counts a connection as opened; what is sent on it is counted there, too.
pub(super) fn opened(telemetry: &Telemetry, passage: &Passage) -> Traffic {
    let mut name = String::new();
    let heard = passage.facts.heard.workload();
    let traffic = telemetry.traffic(&record(passage, heard.as_ref(), &mut name));
    traffic.opened();
    traffic
}

/// Writes the record of a connection that is over.
pub(super) fn finish(telemetry: &Telemetry, passage: &Passage) {
    let mut name = String::new();
    let heard = passage.facts.heard.workload();
    let record = record(passage, heard.as_ref(), &mut name);
    let traffic = telemetry.traffic(&record);
    if !passage.is_counted {
        traffic.opened();
    }
    traffic.closed();
    telemetry.log_connection(&record);
}

/// `heard`: who the client says it is.
fn record<'a>(passage: &'a Passage, heard: Option<&'a Arc<Workload>>, name: &'a mut String) -> Record<'a> {
    let facts = &passage.facts;
    Record {
        start: passage.start,
        duration: passage.started.elapsed(),
        asked: Asked::default(),
        protocol: "",
        status: 0,
        flags: passage.ending.flag(),
        details: passage.ending.details(),
        transport_failure: match &passage.ending {
            Ending::Connect(why) => why,
            _ => "",
        },
        bytes_received: passage.received,
        bytes_sent: passage.sent,
        upstream_service_time: None,
        upstream_host: passage.upstream.as_ref().map(|facts| facts.remote).or(passage.tried.last().copied()),
        upstream_local: passage.upstream.as_ref().map(|facts| facts.local),
        upstream_cluster: cluster(passage, name),
        downstream_local: Some(facts.local),
        downstream_remote: Some(facts.remote),
        sni: facts.sni(),
        route: "",
        trace: None,
        volume: Volume::default(),
        labels: labels(passage, heard),
        told: Told(passage),
    }
}

/// There are no heads, so nothing is known of what they would hold.
impl Values for Passage {
    fn request(&self, _: &HeaderField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn response(&self, _: &ResponseField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn fact(&self, fact: Fact, out: &mut Vec<u8>) {
        if connections(self).fact(fact, out) {
            return;
        }
        match fact {
            Fact::ResponseCode => push(out, 0),
            Fact::ResponseFlags => push(out, self.ending.flag()),
            Fact::ResponseFlagsLong => write_long(self.ending.flag(), out),
            Fact::AccessLogType => push(out, "TcpConnectionEnd"),
            Fact::ResponseCodeDetails => push(out, self.ending.details()),
            Fact::UpstreamCluster | Fact::UpstreamClusterRaw => push(out, cluster(self, &mut String::new())),
            Fact::UpstreamTransportFailureReason => {
                if let Ending::Connect(why) = &self.ending {
                    push(out, why);
                }
            }
            Fact::Duration => push(out, self.started.elapsed().as_millis()),
            Fact::BytesReceived => push(out, self.received),
            Fact::BytesSent => push(out, self.sent),
            Fact::DownstreamWireBytesReceived => push(out, self.received),
            Fact::DownstreamWireBytesSent => push(out, self.sent),
            // What was received before there was an endpoint went nowhere.
            Fact::UpstreamWireBytesSent => push(out, self.upstream.as_ref().map_or(0, |_| self.received)),
            Fact::UpstreamWireBytesReceived => push(out, self.upstream.as_ref().map_or(0, |_| self.sent)),
            Fact::UpstreamHostsAttempted => addresses(self.tried.iter().copied(), false, out),
            Fact::UpstreamHostsAttemptedWithoutPort => addresses(self.tried.iter().copied(), true, out),
            // The rest is of requests.
            _ => {}
        }
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn start(&self) -> Duration {
        self.start.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn moment(&self, moment: Moment) -> Option<i64> {
        let at = match moment {
            Moment::ClientConnected => self.started,
            Moment::ClientDisconnected => Instant::now(),
            other => moments::of_connection(self.upstream.as_ref()?.made, other)?,
        };
        Some(moments::between(self.started, at))
    }

    fn end(&self) -> Option<Duration> {
        Some(self.start().saturating_add(self.started.elapsed()))
    }

    fn certificate(&self, end: Validity) -> Option<i64> {
        connections(self).certificate(end)
    }

    fn peer(&self, side: Side, field: PeerField) -> Option<Cow<'_, str>> {
        let owned = |told: Option<&str>| told.filter(|told| !told.is_empty()).map(|told| Cow::Owned(told.to_owned()));
        let inbound = matches!(self.facts.arrival, Arrival::Inbound { .. });
        match (side, field) {
            (Side::Own, PeerField::Node) => Some(String::from_utf8_lossy(self.installed.own.as_ref()?.node())),
            (Side::Own, _) => owned(of_workload(&self.installed.snapshot.workload, field)),
            (Side::Downstream, PeerField::Identity) => owned(Some(self.facts.peer())),
            (Side::Upstream, PeerField::Identity) => owned(self.upstream.as_ref().map(|facts| facts.peer())),
            (Side::Downstream, _) if inbound => owned(of_workload(&*self.facts.heard.workload()?, field)),
            (Side::Upstream, _) if !inbound => {
                let endpoint = self.picked.as_ref()?.endpoint;
                owned(of_workload(&self.cluster.as_ref()?.cluster.endpoints.get(endpoint)?.workload, field))
            }
            _ => None,
        }
    }
}

fn connections(passage: &Passage) -> Connections<'_> {
    let facts = &*passage.facts;
    let tried = passage.tried.last().copied();
    Connections { facts, client: facts.remote, upstream: passage.upstream.as_ref(), tried }
}

const PASSTHROUGH: &str = "PassthroughCluster";
const BLACK_HOLE: &str = "BlackHoleCluster";
const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

fn cluster<'a>(passage: &'a Passage, name: &'a mut String) -> &'a str {
    match (&passage.cluster, &passage.way) {
        (Some(upstream), _) => &upstream.cluster.name,
        (None, Way::Rule(rule)) => {
            passage.destination.and_then(|at| rule.to.all.get(at)).map_or("", |to| &to.cluster_name)
        }
        (None, Way::Application { port, .. }) => {
            *name = format!("inbound|{port}||");
            name
        }
        (None, Way::Original(_)) => PASSTHROUGH,
        (None, Way::Blocked) => BLACK_HOLE,
        (None, Way::Nowhere) => "",
    }
}

fn labels<'a>(passage: &'a Passage, heard: Option<&'a Arc<Workload>>) -> Labels<'a> {
    let facts = &passage.facts;
    let inbound = matches!(facts.arrival, Arrival::Inbound { .. });
    let (mut host, mut name, mut namespace) = ("", "", "");
    let mut peer: Option<&Arc<Workload>> = None;
    match (&passage.cluster, &passage.way) {
        (Some(upstream), _) => {
            let cluster = &upstream.cluster;
            (host, name, namespace) = (&cluster.host, &cluster.service_name, &cluster.service_namespace);
            peer = passage
                .picked
                .as_ref()
                .and_then(|picked| cluster.endpoints.get(picked.endpoint))
                .map(|it| &it.workload);
        }
        (None, Way::Application { port, .. }) => {
            peer = heard;
            let own = passage.installed.snapshot.inbound.as_ref().and_then(|inbound| inbound.ports.get(port));
            match own {
                Some(own) => (host, name, namespace) = (&own.service_host, &own.service_name, &own.service_namespace),
                None => name = INBOUND_PASSTHROUGH,
            }
        }
        (None, Way::Original(_)) => name = PASSTHROUGH,
        (None, Way::Blocked) => name = BLACK_HOLE,
        (None, Way::Rule(_) | Way::Nowhere) => {}
    }
    Labels {
        reporter: if inbound { Reporter::Destination } else { Reporter::Source },
        peer,
        peer_principal: if inbound { facts.peer() } else { passage.upstream.as_ref().map_or("", Facts::peer) },
        service_host: host,
        service_name: name,
        service_namespace: namespace,
        grpc: false,
        grpc_status: None,
        mutual_tls: !facts.peer().is_empty() && !facts.own().is_empty(),
    }
}
