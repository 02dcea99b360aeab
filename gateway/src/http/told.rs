//! What the command operators stand for, in header values and in lines of the access log.

use std::{borrow::Cow, time::Duration};

use http::{HeaderName, HeaderValue};
use routing::{
    attributes::{PeerField, Side},
    authorization::NO_RULE,
    pattern::HeaderField,
    request::Headers as _,
    rule::EditHeaders,
    snapshot::Workload,
    telemetry::context::{span_text, trace_text},
    template::{Fact, Moment, ResponseField, Template, Tried, Validity, Values, write_long},
};

use super::{
    edit,
    exchange::{Exchange, Heads},
    head::{Head, Version},
    moments,
    name::Name,
    record,
};
use crate::net::{
    facts::Arrival,
    told::{Connections, addresses, push},
};

const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// A head that is being edited, with what its values may tell of.
pub(super) struct Editing<'a> {
    pub(super) exchange: &'a Exchange,
    /// A request on its way upstream, or an answer on its way back.
    pub(super) head: &'a mut Head,
    /// What an answer answers, as it went upstream; `None` while a request is edited.
    pub(super) request: Option<&'a Head>,
}

impl EditHeaders for Editing<'_> {
    fn remove_all(&mut self, name: &HeaderName) {
        self.head.remove_all(name);
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        EditHeaders::set(self.head, name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        self.head.add(name, value);
    }

    fn compute(&self, template: &Template) -> Option<HeaderValue> {
        let (request, response) = match self.request {
            None => (&*self.head, None),
            Some(request) => (request, Some(&*self.head)),
        };
        let told = Told { exchange: self.exchange, request, response, ended: false };
        let mut value = Vec::with_capacity(64);
        template.fill(&told, "", &mut value);
        HeaderValue::from_bytes(&value).ok()
    }
}

/// What is known of an exchange.
pub(super) struct Told<'a> {
    exchange: &'a Exchange,
    request: &'a Head,
    response: Option<&'a Head>,
    /// Nothing more will come of it.
    ended: bool,
}

impl Values for Told<'_> {
    fn request(&self, field: &HeaderField) -> Option<Cow<'_, [u8]>> {
        let value = match field {
            HeaderField::Name(name) => self.request.nth(name, 0)?,
            HeaderField::Method => self.request.method().as_bytes(),
            HeaderField::Scheme => self.exchange.scheme().as_bytes(),
            HeaderField::Authority => self.request.authority().as_bytes(),
            HeaderField::Path => self.request.target().as_bytes(),
            // No format names one.
            HeaderField::Claim(_) => return None,
        };
        Some(Cow::Borrowed(value))
    }

    fn response(&self, field: &ResponseField) -> Option<Cow<'_, [u8]>> {
        let response = self.response?;
        match field {
            ResponseField::Status => Some(Cow::Owned(response.status.to_string().into_bytes())),
            // A header that may have been taken away on the way to the client.
            ResponseField::Name(name) if self.ended && *name == SERVICE_TIME && response.nth(name, 0).is_none() => {
                let time = self.exchange.service_time?.as_millis();
                Some(Cow::Owned(time.to_string().into_bytes()))
            }
            ResponseField::Name(name) => response.nth(name, 0).map(Cow::Borrowed),
        }
    }

    fn fact(&self, fact: Fact, out: &mut Vec<u8>) {
        if self.connections().fact(fact, out) || self.ended && self.at_the_end(fact, out) {
            return;
        }
        self.other(fact, out);
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn start(&self) -> Duration {
        self.exchange.start.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    fn trailer(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        self.exchange.trailers.as_ref()?.nth(name, 0).map(Cow::Borrowed)
    }

    fn moment(&self, moment: Moment) -> Option<i64> {
        if self.ended { moments::of(self.exchange, self.request, moment) } else { None }
    }

    fn details(&self) -> Option<Cow<'_, [u8]>> {
        let details = record::details(self.exchange).into_owned();
        self.ended.then(|| Cow::Owned(details.into_bytes()))
    }

    fn end(&self) -> Option<Duration> {
        self.ended.then(|| self.start().saturating_add(self.exchange.started.elapsed()))
    }

    fn certificate(&self, end: Validity) -> Option<i64> {
        self.connections().certificate(end)
    }

    fn peer(&self, side: Side, field: PeerField) -> Option<Cow<'_, str>> {
        let exchange = self.exchange;
        let inbound = matches!(exchange.arrival(), Arrival::Inbound { .. });
        if field == PeerField::Identity && side != Side::Own {
            let upstream = exchange.upstream.as_ref().map_or("", |facts| facts.peer());
            let proven = if side == Side::Upstream { upstream } else { exchange.facts.peer() };
            return (!proven.is_empty()).then_some(Cow::Borrowed(proven));
        }
        let heard = match side {
            Side::Own if field == PeerField::Node => {
                let own = exchange.installed.own.as_ref()?;
                return Some(String::from_utf8_lossy(own.node()));
            }
            Side::Own => return of_workload(&exchange.installed.snapshot.workload, field).map(Cow::Borrowed),
            // The application behind a sidecar is the sidecar's own workload.
            Side::Upstream if inbound => return None,
            Side::Downstream if !inbound => return None,
            Side::Upstream => exchange.upstream.as_ref().and_then(|facts| facts.heard.workload()),
            Side::Downstream => exchange.facts.heard.workload(),
        };
        let known = record::configured(exchange).filter(|_| side == Side::Upstream);
        let known = known.filter(|known| !known.name.is_empty()).cloned().or(heard);
        of_workload(&*known?, field).map(|told| Cow::Owned(told.to_owned()))
    }

    fn tried(&self, what: Tried) -> Option<Cow<'_, [u8]>> {
        let judgement = self.exchange.tried.as_deref()?;
        let trial = match what {
            Tried::AllowResult | Tried::AllowRule => judgement.tried_allow.as_ref()?,
            Tried::DenyResult | Tried::DenyRule => judgement.tried_deny.as_ref()?,
        };
        let told = match what {
            Tried::AllowResult | Tried::DenyResult => {
                if trial.denied {
                    "denied"
                } else {
                    "allowed"
                }
            }
            // Envoy names no policy where none matches.
            Tried::AllowRule | Tried::DenyRule => Some(&*trial.rule).filter(|rule| *rule != NO_RULE)?,
        };
        Some(Cow::Borrowed(told.as_bytes()))
    }
}

/// What is known of a workload under one name; nothing is told by nothing.
pub(crate) fn of_workload(workload: &Workload, field: PeerField) -> Option<&str> {
    let told: &str = match field {
        PeerField::Workload => &workload.name,
        PeerField::Namespace => &workload.namespace,
        PeerField::Cluster => &workload.cluster,
        PeerField::Service => &workload.canonical_service,
        PeerField::Revision => &workload.canonical_revision,
        PeerField::App => &workload.app,
        PeerField::Version => &workload.version,
        PeerField::Identity => &workload.principal,
        // It is the proxy's and not the workload's.
        PeerField::Node => return None,
    };
    (!told.is_empty()).then_some(told)
}

impl<'a> Told<'a> {
    /// Of an exchange that is over.
    pub(super) fn of_ended(exchange: &'a Exchange, heads: &'a Heads) -> Self {
        Self { exchange, request: heads.told(), response: Some(&heads.response), ended: true }
    }

    fn connections(&self) -> Connections<'a> {
        let exchange = self.exchange;
        let tried = if self.ended { record::tried(exchange) } else { None };
        Connections { facts: &exchange.facts, client: exchange.remote(), upstream: exchange.upstream.as_deref(), tried }
    }

    /// Appends what only logs tell, or tell in another way; `false`: the fact is something else.
    fn at_the_end(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        let exchange = self.exchange;
        let first_byte = exchange.answered.map(|at| at.duration_since(exchange.started));
        match fact {
            Fact::ResponseCode => push(out, exchange.status),
            Fact::ResponseCodeDetails => push(out, record::details(exchange).replace(' ', "_")),
            Fact::ResponseDuration => {
                if let Some(time) = first_byte {
                    push(out, time.as_millis());
                }
            }
            Fact::ResponseTxDuration => {
                if let Some(time) = first_byte {
                    push(out, exchange.started.elapsed().saturating_sub(time).as_millis());
                }
            }
            Fact::RequestDuration => self.since_begun(Moment::RequestRead, out),
            Fact::RequestTxDuration => self.since_begun(Moment::Sent, out),
            Fact::ResponseTrailersBytes => push(out, exchange.trailers.as_deref().map_or(0, bytes_of)),
            Fact::UpstreamHostsAttempted => self.attempted(out, false),
            Fact::UpstreamHostsAttemptedWithoutPort => self.attempted(out, true),
            Fact::AccessLogType => push(out, "DownstreamEnd"),
            Fact::GrpcStatus => {
                if let Some(status) = exchange.grpc_status {
                    push(out, grpc_word(status));
                }
            }
            other => return self.on_the_wire(other, out),
        }
        true
    }

    /// Appends how many milliseconds after the request's begin something was.
    fn since_begun(&self, moment: Moment, out: &mut Vec<u8>) {
        if let Some(nanoseconds) = moments::of(self.exchange, self.request, moment) {
            push(out, nanoseconds / 1_000_000);
        }
    }

    /// Appends the endpoints of all tries.
    fn attempted(&self, out: &mut Vec<u8>, bare: bool) {
        let exchange = self.exchange;
        let last = exchange.upstream.as_ref().map(|facts| facts.remote).or_else(|| record::tried(exchange));
        let earlier = &exchange.tries.addresses;
        let last = last.filter(|last| earlier.len() < exchange.tries.count as usize || !earlier.contains(last));
        addresses(earlier.iter().copied().chain(last), bare, out);
    }

    /// Appends bytes as connections have carried them; `false`: the fact is something else.
    fn on_the_wire(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        let Some(moved) = &self.exchange.moved else { return false };
        let (down, up) = (moved.down, moved.up);
        push(
            out,
            match fact {
                Fact::DownstreamWireBytesReceived => down.received,
                Fact::DownstreamWireBytesSent => down.sent,
                Fact::DownstreamHeaderBytesReceived => down.received_heads,
                Fact::DownstreamHeaderBytesSent => down.sent_heads,
                Fact::UpstreamWireBytesReceived => up.received,
                Fact::UpstreamWireBytesSent => up.sent,
                Fact::UpstreamHeaderBytesReceived => up.received_heads,
                Fact::UpstreamHeaderBytesSent => up.sent_heads,
                _ => return false,
            },
        );
        true
    }

    fn other(&self, fact: Fact, out: &mut Vec<u8>) {
        let exchange = self.exchange;
        match fact {
            Fact::Protocol => push(out, record::protocol(self.version())),
            Fact::UpstreamCluster | Fact::UpstreamClusterRaw => {
                push(out, record::cluster(exchange, &mut String::new()))
            }
            Fact::UpstreamRequestAttemptCount => push(out, exchange.tries.count),
            Fact::UpstreamProtocol if exchange.upstream.is_some() => push(out, record::upstream_protocol(exchange)),
            Fact::UpstreamTransportFailureReason => push(out, record::transport_failure(exchange)),
            Fact::RouteName => push(out, exchange.rule.as_ref().map_or("", |rule| &rule.name)),
            Fact::TraceId => match &exchange.trace {
                Some(trace) => out.extend_from_slice(&trace_text(trace.id)),
                None => out.extend_from_slice(trace_id(self.request)),
            },
            Fact::SpanId => {
                if let Some(trace) = &exchange.trace {
                    out.extend_from_slice(&span_text(trace.span));
                }
            }
            Fact::Duration => push(out, exchange.started.elapsed().as_millis()),
            Fact::BytesReceived => push(out, exchange.request.bytes),
            Fact::BytesSent => push(out, exchange.response.bytes),
            Fact::UniqueId => push(out, edit::random_id().hyphenated()),
            Fact::StreamId => out.extend_from_slice(self.request.value(Name::XRequestId).unwrap_or_default()),
            Fact::ResponseCode => {
                if let Some(response) = self.response {
                    push(out, response.status);
                }
            }
            Fact::ResponseCodeDetails => push(out, record::details(exchange)),
            Fact::ResponseFlags => push(out, record::flags(exchange)),
            Fact::ResponseFlagsLong => write_long(record::flags(exchange), out),
            Fact::RequestHeadersBytes => push(out, bytes_of(self.request)),
            Fact::ResponseHeadersBytes => {
                if let Some(response) = self.response {
                    push(out, bytes_of(response));
                }
            }
            Fact::GrpcStatusNumber => {
                if let Some(status) = exchange.grpc_status {
                    push(out, status);
                }
            }
            // The rest is known of clients with a certificate and of addresses.
            _ => {}
        }
    }

    fn version(&self) -> Version {
        self.request.version
    }
}

/// Bytes of all names and values, as Envoy counts them.
fn bytes_of(head: &Head) -> usize {
    head.fields().map(|(_, name, value)| name.len() + value.len()).sum()
}

/// A status of gRPC as Envoy's logs name it.
fn grpc_word(status: u16) -> Cow<'static, str> {
    const WORDS: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    WORDS.get(usize::from(status)).map_or_else(|| status.to_string().into(), |word| (*word).into())
}

/// The trace that a request belongs to, in the forms that callers use: W3C's, Zipkin's in several headers and in one.
fn trace_id(request: &Head) -> &[u8] {
    const W3C: HeaderName = HeaderName::from_static("traceparent");
    const B3: HeaderName = HeaderName::from_static("x-b3-traceid");
    const B3_SINGLE: HeaderName = HeaderName::from_static("b3");
    let part = |name: &HeaderName, number: usize| {
        let part = request.nth(name, 0)?.split(|byte| *byte == b'-').nth(number)?;
        (!part.is_empty()).then_some(part)
    };
    part(&W3C, 1).or_else(|| part(&B3, 0)).or_else(|| part(&B3_SINGLE, 0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_known_by_each_of_the_headers() {
        let with = |name: &str, value: &str| {
            let mut head = Head::default();
            head.push(name.as_bytes(), value.as_bytes());
            String::from_utf8_lossy(trace_id(&head)).into_owned()
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(with("traceparent", &format!("00-{id}-00f067aa0ba902b7-01")), id);
        assert_eq!(with("X-B3-TraceId", id), id);
        assert_eq!(with("b3", &format!("{id}-00f067aa0ba902b7-1")), id);
        assert_eq!(with("x-other", id), "");
    }
}
