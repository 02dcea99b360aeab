//! What the command operators in header values stand for.

use std::{borrow::Cow, fmt::Display, io::Write as _, net::SocketAddr, sync::OnceLock, time::Duration};

use http::{HeaderName, HeaderValue};
use routing::{
    pattern::HeaderField,
    request::Headers as _,
    rule::EditHeaders,
    template::{Fact, ResponseField, Template, Validity, Values},
};
use tls::identity::PeerIdentity;

use super::{
    edit,
    exchange::Exchange,
    head::{Head, Version},
    name::Name,
    record,
};
use crate::net::facts::TlsFacts;

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
        let told = match self.request {
            None => Told { exchange: self.exchange, request: self.head, response: None },
            Some(request) => Told { exchange: self.exchange, request, response: Some(self.head) },
        };
        let mut value = Vec::with_capacity(64);
        template.fill(&told, "", &mut value);
        HeaderValue::from_bytes(&value).ok()
    }
}

/// What is known of an exchange.
struct Told<'a> {
    exchange: &'a Exchange,
    request: &'a Head,
    response: Option<&'a Head>,
}

impl Values for Told<'_> {
    fn request(&self, field: &HeaderField) -> Option<Cow<'_, [u8]>> {
        let value = match field {
            HeaderField::Name(name) => self.request.nth(name, 0)?,
            HeaderField::Method => self.request.method().as_bytes(),
            HeaderField::Scheme => self.exchange.scheme().as_bytes(),
            HeaderField::Authority => self.request.authority().as_bytes(),
            HeaderField::Path => self.request.target().as_bytes(),
        };
        Some(Cow::Borrowed(value))
    }

    fn response(&self, field: &ResponseField) -> Option<Cow<'_, [u8]>> {
        let response = self.response?;
        match field {
            ResponseField::Status => Some(Cow::Owned(response.status.to_string().into_bytes())),
            ResponseField::Name(name) => response.nth(name, 0).map(Cow::Borrowed),
        }
    }

    fn fact(&self, fact: Fact, out: &mut Vec<u8>) {
        if !self.address(fact, out) && !self.certificate_fact(fact, out) {
            self.other(fact, out);
        }
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn start(&self) -> Duration {
        self.exchange.start.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    fn certificate(&self, end: Validity) -> Option<i64> {
        let peer = self.peer()?;
        match end {
            Validity::NotBefore => peer.not_before(),
            Validity::NotAfter => Some(peer.not_after),
        }
    }
}

impl Told<'_> {
    fn tls(&self) -> Option<&TlsFacts> {
        self.exchange.facts.tls.as_ref()
    }

    fn peer(&self) -> Option<&PeerIdentity> {
        self.tls()?.certificate.as_deref()
    }

    /// Appends one of the addresses; `false`: the fact is something else.
    fn address(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        let facts = &self.exchange.facts;
        let upstream = self.exchange.upstream.as_deref();
        let client = self.exchange.remote();
        let (place, form) = match fact {
            Fact::DownstreamRemoteAddress => (Some(client), Form::Whole),
            Fact::DownstreamDirectRemoteAddress => (Some(facts.remote), Form::Whole),
            Fact::DownstreamRemoteAddressWithoutPort => (Some(client), Form::Address),
            Fact::DownstreamDirectRemoteAddressWithoutPort => (Some(facts.remote), Form::Address),
            Fact::DownstreamRemotePort => (Some(client), Form::Port),
            Fact::DownstreamDirectRemotePort => (Some(facts.remote), Form::Port),
            Fact::DownstreamLocalAddress => (Some(facts.local), Form::Whole),
            Fact::DownstreamLocalAddressWithoutPort => (Some(facts.local), Form::Address),
            Fact::DownstreamLocalPort => (Some(facts.local), Form::Port),
            Fact::UpstreamHost | Fact::UpstreamRemoteAddress => (upstream.map(|it| it.remote), Form::Whole),
            Fact::UpstreamRemoteAddressWithoutPort => (upstream.map(|it| it.remote), Form::Address),
            Fact::UpstreamRemotePort => (upstream.map(|it| it.remote), Form::Port),
            Fact::UpstreamLocalAddress => (upstream.map(|it| it.local), Form::Whole),
            Fact::UpstreamLocalAddressWithoutPort => (upstream.map(|it| it.local), Form::Address),
            Fact::UpstreamLocalPort => (upstream.map(|it| it.local), Form::Port),
            _ => return false,
        };
        if let Some(place) = place {
            form.write(place, out);
        }
        true
    }

    /// Appends what the client's certificate says; `false`: the fact is something else.
    fn certificate_fact(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        let Some(peer) = self.peer() else { return false };
        match fact {
            Fact::DownstreamPeerSubject => push(out, &peer.subject),
            Fact::DownstreamPeerIssuer => push(out, peer.issuer()),
            Fact::DownstreamPeerSerial => push(out, peer.serial()),
            Fact::DownstreamPeerFingerprint256 => push(out, &peer.sha256_hex),
            Fact::DownstreamPeerFingerprint1 => push(out, peer.sha1_hex()),
            Fact::DownstreamPeerCert => push(out, peer.pem_urlencoded()),
            Fact::DownstreamPeerUriSan => list(out, &peer.uri_sans),
            Fact::DownstreamPeerDnsSan => list(out, &peer.dns_sans),
            Fact::DownstreamPeerIpSan => list(out, &peer.ip_sans()),
            Fact::DownstreamPeerEmailSan => list(out, &peer.email_sans()),
            _ => return false,
        }
        true
    }

    fn other(&self, fact: Fact, out: &mut Vec<u8>) {
        let exchange = self.exchange;
        match fact {
            Fact::Protocol => push(out, record::protocol(self.version())),
            Fact::RequestedServerName => push(out, exchange.facts.sni()),
            Fact::DownstreamLocalUriSan => push(out, exchange.facts.own()),
            Fact::DownstreamTlsVersion => push(out, self.tls().map_or("", |tls| tls.version)),
            Fact::DownstreamTlsCipher => push(out, self.tls().map_or("", |tls| tls.cipher)),
            Fact::UpstreamPeerUriSan => push(out, exchange.upstream.as_ref().map_or("", |facts| facts.peer())),
            Fact::UpstreamCluster | Fact::UpstreamClusterRaw => {
                push(out, record::cluster(exchange, &mut String::new()))
            }
            Fact::UpstreamRequestAttemptCount => push(out, exchange.tries.count),
            Fact::UpstreamTransportFailureReason => push(out, record::transport_failure(exchange)),
            Fact::RouteName => push(out, exchange.rule.as_ref().map_or("", |rule| &rule.name)),
            Fact::Hostname => push(out, hostname()),
            Fact::TraceId => out.extend_from_slice(trace_id(self.request)),
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

/// How an address is told.
#[derive(Clone, Copy)]
enum Form {
    Whole,
    Address,
    Port,
}

impl Form {
    fn write(self, place: SocketAddr, out: &mut Vec<u8>) {
        let address = place.ip().to_canonical();
        match self {
            Self::Whole => push(out, SocketAddr::new(address, place.port())),
            Self::Address => push(out, address),
            Self::Port => push(out, place.port()),
        }
    }
}

fn push(out: &mut Vec<u8>, value: impl Display) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{value}");
}

fn list(out: &mut Vec<u8>, values: &[impl Display]) {
    for (number, value) in values.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        push(out, value);
    }
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

/// Asked of the kernel once: the pod's name in Kubernetes.
fn hostname() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
        name.map(|name| name.trim_end().to_owned()).or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default()
    })
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

    #[test]
    fn an_address_is_told_whole_or_in_parts() {
        let text = |form: Form, place: &str| {
            let mut out = Vec::new();
            form.write(place.parse().unwrap(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(Form::Whole, "[::ffff:192.0.2.1]:80"), "192.0.2.1:80");
        assert_eq!(text(Form::Whole, "[2001:db8::1]:80"), "[2001:db8::1]:80");
        assert_eq!(text(Form::Address, "[2001:db8::1]:80"), "2001:db8::1");
        assert_eq!(text(Form::Port, "192.0.2.1:80"), "80");
    }
}
