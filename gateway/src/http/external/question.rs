//! What a provider is told of a request, or of a connection whose bytes nobody looks at.

use std::{collections::HashMap, net::SocketAddr, time::SystemTime};

use routing::external::{Body, HttpForm};

use super::messages::{Address, Attributes, CheckRequest, HttpRequest, Peer, Request, SocketAddress, TlsSession};
use crate::{
    http::{
        exchange::Exchange,
        grpc::envoy::Timestamp,
        head::{Head, Length},
        name::Name,
        record::protocol,
    },
    net::facts::{Facts, TlsFacts},
};

/// Tells whether a body is shown in part.
const PARTIAL: &str = "x-envoy-auth-partial-body";

/// As much of a body as is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) bytes: &'a [u8],
    /// There is more of it.
    pub(super) partial: bool,
    pub(super) terms: Body,
}

impl Shown<'_> {
    fn partial(&self) -> &'static str {
        if self.partial { "true" } else { "false" }
    }
}

/// Of a connection.
pub(super) fn of_connection(facts: &Facts) -> CheckRequest {
    CheckRequest { attributes: Some(attributes(facts)) }
}

fn attributes(facts: &Facts) -> Attributes {
    let tls = facts.tls.as_ref();
    let certificate = tls.and_then(|tls| tls.certificate.as_ref());
    let source = Peer {
        address: address(facts.remote),
        principal: principal(tls),
        certificate: certificate.map(|shown| shown.pem_urlencoded().to_owned()).unwrap_or_default(),
    };
    let own = Peer { address: address(facts.local), principal: facts.own().to_owned(), certificate: String::new() };
    let sni = facts.sni();
    Attributes {
        source: Some(source),
        destination: Some(own),
        request: None,
        tls_session: (!sni.is_empty()).then(|| TlsSession { sni: sni.to_owned() }),
    }
}

/// Who the client proved to be: Envoy looks at URIs, then at DNS names, then at the subject.
fn principal(tls: Option<&TlsFacts>) -> String {
    let Some(tls) = tls else { return String::new() };
    if !tls.peer.is_empty() {
        return tls.peer.to_string();
    }
    let Some(shown) = &tls.certificate else { return String::new() };
    let first = shown.uri_sans.first().or_else(|| shown.dns_sans.first());
    first.unwrap_or(&shown.subject).to_string()
}

fn address(of: SocketAddr) -> Option<Address> {
    let address = SocketAddress { address: of.ip().to_canonical().to_string(), port: of.port().into() };
    Some(Address { socket_address: Some(address) })
}

/// Of a request; `seen`: as it is without what a client may not say.
pub(super) fn of_request(exchange: &Exchange, seen: &Head, shown: Option<Shown<'_>>) -> CheckRequest {
    let mut http = HttpRequest {
        id: text(seen.value(Name::XRequestId).unwrap_or_default()),
        method: seen.method().to_owned(),
        headers: headers(seen, exchange.scheme()),
        path: seen.target().to_owned(),
        host: seen.authority().to_owned(),
        scheme: exchange.scheme().to_owned(),
        size: i64::try_from(exchange.request.bytes).unwrap_or(i64::MAX),
        protocol: protocol(seen.version).to_owned(),
        ..HttpRequest::default()
    };
    if let Some(shown) = shown {
        http.headers.insert(PARTIAL.to_owned(), shown.partial().to_owned());
        if shown.terms.bytes {
            http.raw_body = shown.bytes.to_vec();
        } else {
            http.body = text(shown.bytes);
        }
    }
    let request = Request { time: Some(timestamp(exchange.start)), http: Some(http) };
    CheckRequest { attributes: Some(Attributes { request: Some(request), ..attributes(&exchange.facts) }) }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

/// In lower case, fields of one name in one, with Envoy's pseudo-fields among them.
fn headers(seen: &Head, scheme: &str) -> HashMap<String, String> {
    let mut all = HashMap::new();
    for (name, value) in
        [(":method", seen.method()), (":path", seen.target()), (":authority", seen.authority()), (":scheme", scheme)]
    {
        all.insert(name.to_owned(), value.to_owned());
    }
    for (_, name, value) in seen.fields().filter(|(_, name, _)| !name.eq_ignore_ascii_case(PARTIAL.as_bytes())) {
        let value = text(value);
        all.entry(text(name).to_ascii_lowercase())
            .and_modify(|before: &mut String| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

/// Messages hold nothing but UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Over HTTP the question looks like the request that it is about.
pub(super) fn over_http(form: &HttpForm, seen: &Head, shown: Option<Shown<'_>>) -> Head {
    let mut head = Head::default();
    head.set_method(seen.method().as_bytes());
    head.set_target(format!("{}{}", form.path_prefix, seen.target()).as_bytes());
    head.set_authority(seen.authority().as_bytes());
    for (known, name, value) in seen.fields() {
        let always = known == Name::Authorization;
        let framing =
            known.is_hop_by_hop() || matches!(known, Name::ContentLength | Name::Host | Name::Expect | Name::Trailer);
        let ours = name.eq_ignore_ascii_case(PARTIAL.as_bytes());
        if (always || form.shown.has(name)) && !framing && !ours {
            head.push(name, value);
        }
    }
    for (name, value) in &form.said {
        routing::rule::EditHeaders::set(&mut head, name, value.clone());
    }
    if let Some(shown) = shown {
        head.push(PARTIAL.as_bytes(), shown.partial().as_bytes());
    }
    let size = shown.map_or(0, |shown| shown.bytes.len());
    head.set(Name::ContentLength, size.to_string().as_bytes());
    head.length = if size == 0 { Length::Empty } else { Length::Exact(size as u64) };
    head
}

#[cfg(test)]
mod tests {
    use routing::external::Names;

    use super::*;

    fn seen() -> Head {
        let mut seen = Head::default();
        seen.set_method(b"POST");
        seen.set_target(b"/a");
        seen.set_authority(b"shop.example.com");
        for (name, value) in [("X-Envoy-Auth-Partial-Body", "false"), ("x-a", "1"), ("Content-Length", "7")] {
            seen.push(name.as_bytes(), value.as_bytes());
        }
        seen
    }

    #[test]
    fn that_a_body_is_shown_in_part_is_nobody_elses_word() {
        assert!(!headers(&seen(), "https").contains_key(PARTIAL));
        let form = HttpForm { shown: Names::new(["x-*"]), ..HttpForm::default() };
        let terms = Body { most: 2, partial: true, bytes: false };
        let asked = over_http(&form, &seen(), Some(Shown { bytes: b"ab", partial: true, terms }));
        let told: Vec<_> = asked.fields().map(|(_, name, value)| [name, value]).collect();
        let wanted = [[&b"x-a"[..], b"1"], [PARTIAL.as_bytes(), b"true"], [b"content-length", b"2"]];
        assert_eq!(told, wanted);
        assert_eq!(over_http(&form, &seen(), None).fields().count(), 2);
    }
}
