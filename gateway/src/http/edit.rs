//! The request as it goes upstream, and the response as it goes back: what an Istio proxy does to every one.

use std::time::{Duration, SystemTime};

use http::HeaderName;
use routing::{
    api::proxy_config::ForwardClientCert,
    proxy_headers::{OwnHeaders, Server},
    request::Headers as _,
    rule::EditHeaders as _,
};

use super::{
    admit::scheme,
    exchange::{Exchange, Heads, Target},
    head::Head,
    name::Name,
    told::Editing,
    trace,
};
use crate::{
    net::facts::{Arrival, Facts},
    peers::Own,
};

/// What Istio's gateways and inbound sidecars answer as `server`.
const SERVER_ISTIO: &[u8] = b"istio-envoy";
/// What Istio's outbound sidecars answer as `server`.
const SERVER_OUTBOUND: &[u8] = b"envoy";

/// What a client must not decide: Envoy drops these from outside requests.
const NOT_FROM_OUTSIDE: [&[u8]; 20] = [
    b"x-envoy-attempt-count",
    b"x-envoy-decorator-operation",
    b"x-envoy-downstream-service-cluster",
    b"x-envoy-downstream-service-node",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-external-address",
    b"x-envoy-force-trace",
    b"x-envoy-hedge-on-per-try-timeout",
    b"x-envoy-internal",
    b"x-envoy-ip-tags",
    b"x-envoy-max-retries",
    b"x-envoy-original-path",
    b"x-envoy-peer-metadata",
    b"x-envoy-peer-metadata-id",
    b"x-envoy-retriable-header-names",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retry-grpc-on",
    b"x-envoy-retry-on",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-upstream-rq-timeout-alt-response",
];

/// Turns a copy of the client's head into the one that goes upstream.
pub(crate) fn request(exchange: &Exchange, head: &mut Head) {
    strip_outside(head, exchange.arrival());
    match exchange.arrival() {
        Arrival::Gateway { .. } => from_outside(head, exchange),
        Arrival::Inbound { .. } => into_application(head, exchange),
        Arrival::Outbound { .. } | Arrival::Upstream => out_of_application(head, exchange),
    }
    if let Some(granted) = &exchange.granted {
        granted.reassert(head);
    }
    tell_port(head, exchange);
    let own = own_headers(exchange);
    if let Some(Target::Cluster { upstream, .. }) = &exchange.target {
        if own.is_none_or(|own| own.attempts) {
            set_number(head, Name::XEnvoyAttemptCount, u64::from(exchange.tries.count));
        }
        head.set(Name::XEnvoyDecorator, upstream.decorator.as_bytes());
    }
    if let Some(own) = &exchange.installed.own
        && exchange.upstream.as_ref().is_some_and(|upstream| upstream.is_mesh())
    {
        say_who(own, head);
    }
    trace::pass_on(exchange, head);
    let Some(rule) = &exchange.rule else { return };
    let doings = own.is_none_or(|own| own.doings);
    if let Some(timeout) = rule.timeout.filter(|_| doings) {
        set_number(head, Name::XEnvoyExpectedTimeout, millis(timeout));
    }
    let destination = exchange.destination();
    // Before the rewrites, as in Envoy: commands in values tell of the host and the path that were asked for.
    rule.edit_request(destination, &mut Editing { exchange, head, request: None });
    if let Some(path) = rule.rewrite.as_ref().and_then(|rewrite| rewrite.path(head.path())) {
        rewrite_path(head, &path, doings);
    }
    if let Some(authority) = destination.and_then(|destination| rule.authority(destination)) {
        if own.is_some_and(|own| own.host) {
            let asked = head.authority().to_owned();
            append(head, FORWARDED_HOST, asked.as_bytes());
        }
        head.set_authority(authority.as_bytes());
    }
}

/// What is said of the proxy's own headers; `None`: nothing.
pub(super) fn own_headers(exchange: &Exchange) -> Option<&OwnHeaders> {
    exchange.installed.snapshot.mesh.headers.as_deref()
}

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// One more in a list that is one field.
fn append(head: &mut Head, name: HeaderName, value: &[u8]) {
    let before: Vec<&[u8]> = (0..).map_while(|number| head.nth(&name, number)).collect();
    let mut list = before.join(&b","[..]);
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(value);
    head.remove_all(&name);
    head.push(name.as_str().as_bytes(), &list);
}

/// The port that the client came to, as far as it can be told, unless proxies in front that are trusted have said it.
fn tell_port(head: &mut Head, exchange: &Exchange) {
    if !own_headers(exchange).is_some_and(|own| own.port) {
        return;
    }
    if exchange.origin.is_some() && head.nth(&FORWARDED_PORT, 0).is_some() {
        return;
    }
    let port = match exchange.arrival() {
        Arrival::Gateway { port, .. } => exchange.installed.port_map.get(&port).copied().unwrap_or(port),
        Arrival::Inbound { port, .. } => port,
        Arrival::Outbound { .. } | Arrival::Upstream => exchange.facts.local.port(),
    };
    head.remove_all(&FORWARDED_PORT);
    head.push(FORWARDED_PORT.as_str().as_bytes(), port.to_string().as_bytes());
}

fn set_number(head: &mut Head, name: Name, mut number: u64) {
    // A u64 has at most 20 digits.
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return head.set(name, &text[at..]);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn strip_outside(head: &mut Head, arrival: Arrival) {
    if matches!(arrival, Arrival::Gateway { .. } | Arrival::Inbound { .. }) {
        // Many applications take `_` for `-`: such a name would pass for one that only proxies set.
        head.remove_if(|_, name| name.contains(&b'_') && is_disguised(name));
    }
    // Inbound traffic comes from other proxies of the mesh, whose headers are for the application to see.
    if matches!(arrival, Arrival::Inbound { .. }) {
        strip_who(head);
        head.remove(Name::XEnvoyDecorator);
        return;
    }
    head.remove_if(|_, name| {
        name.len() > 8
            && name[..8].eq_ignore_ascii_case(b"x-envoy-")
            && (NOT_FROM_OUTSIDE.iter().any(|one| one.eq_ignore_ascii_case(name))
                || name.get(..20).is_some_and(|start| start.eq_ignore_ascii_case(b"x-envoy-upstream-rq-")))
    });
}

fn is_disguised(name: &[u8]) -> bool {
    let dashed: Vec<u8> =
        name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
    Name::of(&dashed) != Name::Other || dashed.starts_with(b"x-envoy-") || dashed.starts_with(b"x-forwarded-")
}

/// A gateway trusts nothing that a client says about itself, and of what it says of others what proxies in front of it have
/// said, when they are trusted.
fn from_outside(head: &mut Head, exchange: &Exchange) {
    append_address(head, &exchange.facts.remote_ip);
    let told = exchange.origin.is_some() && head.has(Name::XForwardedProto);
    if !told {
        head.set(Name::XForwardedProto, exchange.scheme().as_bytes());
    }
    head.set(Name::XEnvoyExternalAddress, exchange.client().as_bytes());
    if own_headers(exchange).is_none_or(|own| own.request_id) {
        set_request_id(head, exchange.id);
    }
    for name in [Name::Forwarded, Name::XRealIp] {
        head.remove(name);
    }
    forward_certificate(head, exchange.installed.snapshot.topology.forward_client_cert, &exchange.facts);
}

/// Istio `forwardClientCertDetails`. A client without a certificate that was verified says nothing of others.
fn forward_certificate(head: &mut Head, mode: ForwardClientCert, facts: &Facts) {
    let own = facts.tls.as_ref().and_then(|tls| tls.client_certificate.as_deref());
    match mode {
        ForwardClientCert::AlwaysForwardOnly => {}
        ForwardClientCert::ForwardOnly if own.is_some() => {}
        ForwardClientCert::AppendForward => append_certificate(head, own),
        ForwardClientCert::Sanitize | ForwardClientCert::ForwardOnly => head.remove(Name::XForwardedClientCert),
        ForwardClientCert::SanitizeSet | ForwardClientCert::Undefined => {
            head.remove(Name::XForwardedClientCert);
            if let Some(element) = own {
                head.append(Name::XForwardedClientCert, element.as_bytes());
            }
        }
    }
}

/// The client's element behind what it says of its own clients.
fn append_certificate(head: &mut Head, own: Option<&str>) {
    let Some(element) = own else { return head.remove(Name::XForwardedClientCert) };
    // Behind a quote that stays open, our element would be read as a part of what the client wrote.
    if !head.values(Name::XForwardedClientCert).all(tls::xfcc::is_whole) {
        head.remove(Name::XForwardedClientCert);
    }
    head.append(Name::XForwardedClientCert, element.as_bytes());
    head.join(Name::XForwardedClientCert, b",");
}

/// Gives a request that goes nowhere the id and the address that its log line shows.
pub(crate) fn name_request(exchange: &Exchange, head: &mut Head) {
    let edge = matches!(exchange.arrival(), Arrival::Gateway { .. });
    if (edge || !head.has(Name::XRequestId)) && own_headers(exchange).is_none_or(|own| own.request_id) {
        set_request_id(head, exchange.id);
    }
    if edge {
        append_address(head, &exchange.facts.remote_ip);
    }
}

/// An inbound sidecar adds who the caller proved to be to what the caller said of its own callers.
fn into_application(head: &mut Head, exchange: &Exchange) {
    let said = own_headers(exchange).map_or(ForwardClientCert::Undefined, |own| own.client_cert);
    let mode = match said {
        // Only proxies of the mesh are believed about their own clients.
        ForwardClientCert::Undefined if exchange.facts.is_partner() => ForwardClientCert::SanitizeSet,
        ForwardClientCert::Undefined => ForwardClientCert::AppendForward,
        said => said,
    };
    forward_certificate(head, mode, &exchange.facts);
    keep_or_make(head, scheme(&exchange.facts), exchange);
}

fn out_of_application(head: &mut Head, exchange: &Exchange) {
    head.remove(Name::XForwardedClientCert);
    keep_or_make(head, "http", exchange);
}

/// Request id and scheme: the ones that are there, else our own.
fn keep_or_make(head: &mut Head, scheme: &'static str, exchange: &Exchange) {
    if !head.has(Name::XForwardedProto) {
        head.append(Name::XForwardedProto, scheme.as_bytes());
    }
    if !head.has(Name::XRequestId) && own_headers(exchange).is_none_or(|own| own.request_id) {
        set_request_id(head, exchange.id);
    }
}

/// `x-forwarded-for` with the peer at its end.
fn append_address(head: &mut Head, peer: &str) {
    head.append(Name::XForwardedFor, peer.as_bytes());
    head.join(Name::XForwardedFor, b",");
}

/// Unlike every other one.
pub(super) fn random_id() -> uuid::Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

fn set_request_id(head: &mut Head, id: Option<uuid::Uuid>) {
    let id = id.unwrap_or_else(random_id);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    head.set(Name::XRequestId, id.hyphenated().encode_lower(&mut text).as_bytes());
}

/// `tells`: the path that was asked for stands in a header.
fn rewrite_path(head: &mut Head, path: &str, tells: bool) {
    let original = head.target().to_owned();
    let target = match head.query() {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path.to_owned(),
    };
    // Istio's textual rewrites can leave nothing in front of the rest of the path.
    let target = if target.starts_with('/') { target } else { format!("/{target}") };
    head.set_target(target.as_bytes());
    if tells {
        head.set(Name::XEnvoyOriginalPath, original.as_bytes());
    }
}

/// Turns the endpoint's head, or the beginning of an answer of our own, into the one that goes to the client.
pub(crate) fn response(exchange: &Exchange, heads: &mut Heads) {
    let head = &mut heads.response;
    hear_endpoint(exchange, head);
    own_response(exchange, head);
    if let Some(own) = exchange.installed.own.as_ref().filter(|_| asks_who(exchange, &heads.request)) {
        say_who(own, head);
    }
    if let Some(affinity) = &exchange.affinity
        && let Some(cookie) = affinity.set_cookie.as_ref().filter(|_| exchange.answered.is_some())
    {
        head.push(b"set-cookie", cookie.as_bytes());
    }
    if let Some(rule) = &exchange.rule {
        let editing = &mut Editing { exchange, head, request: Some(&heads.sent) };
        rule.edit_response(exchange.destination(), editing);
        if let Some(cors) = rule.cors.as_ref().filter(|_| exchange.cross_origin) {
            cors.mark(&heads.request, head);
        }
    }
    if let Some(granted) = &exchange.granted {
        granted.answer(head);
    }
}

/// Tells others of the mesh of this workload, in the place of what somebody else has said.
pub(super) fn say_who(own: &Own, head: &mut Head) {
    head.set(Name::XEnvoyPeerMetadata, own.metadata());
    head.set(Name::XEnvoyPeerMetadataId, own.node());
}

/// Takes away what a proxy has said of its workload: it is for proxies alone.
pub(super) fn strip_who(head: &mut Head) {
    head.remove(Name::XEnvoyPeerMetadata);
    head.remove(Name::XEnvoyPeerMetadataId);
}

/// Notes what an endpoint of the mesh says of itself, where nothing else is known of it.
fn hear_endpoint(exchange: &Exchange, head: &Head) {
    let Some(value) = head.value(Name::XEnvoyPeerMetadata) else { return };
    let Some(Target::Cluster { upstream, picked: Some(picked), .. }) = &exchange.target else { return };
    let known = upstream.cluster.endpoints.get(picked.endpoint).is_some_and(|one| !one.workload.name.is_empty());
    let Some(facts) = exchange.upstream.as_ref().filter(|facts| facts.is_mesh() && !known) else { return };
    if let Some(tls) = &facts.tls {
        facts.heard.header(&exchange.installed.peers, &tls.peer, value, |_| ());
    }
}

/// Whether a proxy of the mesh has said who it is, and so wants to know who we are. Applications are not told.
fn asks_who(exchange: &Exchange, request: &Head) -> bool {
    matches!(exchange.arrival(), Arrival::Inbound { .. })
        && request.has(Name::XEnvoyPeerMetadata)
        && exchange.facts.proven().is_some()
}

/// What the proxy says in every answer.
pub(crate) fn own_response(exchange: &Exchange, head: &mut Head) {
    strip_who(head);
    head.remove(Name::XEnvoyDecorator);
    let own = own_headers(exchange);
    match (own.map(|own| &own.server), exchange.arrival()) {
        (Some(Server::Endpoints), _) => {}
        (Some(Server::Named(name)), _) => head.set(Name::Server, name.as_bytes()),
        (_, Arrival::Outbound { .. }) => head.set(Name::Server, SERVER_OUTBOUND),
        _ => head.set(Name::Server, SERVER_ISTIO),
    }
    if let Some(time) = exchange.service_time.filter(|_| own.is_none_or(|own| own.doings)) {
        set_number(head, Name::XEnvoyServiceTime, millis(time));
    }
    if let Some(told) = &exchange.told {
        told.tell(head);
    }
    if !head.has(Name::Date) {
        set_date(exchange.start, head);
    }
}

/// IMF-fixdate (RFC 9110 section 5.6.7), made once a second and thread.
fn set_date(now: SystemTime, head: &mut Head) {
    use std::cell::RefCell;
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second {
            let stamp = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
            let text = stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            (*last, *value) = (second, text);
        }
        head.append(Name::Date, value.as_bytes());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_appended_to_what_the_client_claims() {
        let mut head = Head::default();
        append_address(&mut head, "192.0.2.1");
        assert_eq!(head.str(Name::XForwardedFor), Some("192.0.2.1"));
        let mut head = Head::default();
        head.push(b"X-Forwarded-For", b"1.1.1.1");
        head.push(b"X-Forwarded-For", b"2.2.2.2");
        append_address(&mut head, "192.0.2.1");
        assert_eq!(head.str(Name::XForwardedFor), Some("1.1.1.1,2.2.2.2,192.0.2.1"));
    }

    #[test]
    fn a_rewrite_keeps_the_query_and_tells_the_original_path() {
        let mut head = Head::default();
        head.set_target(b"/api/v1/x?a=b");
        rewrite_path(&mut head, "/x", true);
        assert_eq!(head.target(), "/x?a=b");
        assert_eq!(head.str(Name::XEnvoyOriginalPath), Some("/api/v1/x?a=b"));
    }

    #[test]
    fn names_that_pass_for_a_proxys_own_do_not_pass() {
        let mut head = Head::default();
        for name in
            ["X_Forwarded_For", "content_length", "x-envoy_max-retries", "x_own", "x-envoy-max-retries", "x-envoy-mine"]
        {
            head.push(name.as_bytes(), b"1");
        }
        strip_outside(&mut head, Arrival::Gateway { bind: None, port: 80 });
        let left: Vec<&[u8]> = head.fields().map(|(_, name, _)| name).collect();
        assert_eq!(left, [&b"x_own"[..], b"x-envoy-mine"]);
    }

    #[test]
    fn dates_are_imf_fixdates() {
        let mut head = Head::default();
        set_date(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777), &mut head);
        assert_eq!(head.str(Name::Date), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }
}
