//! The request as it goes upstream, and the response as it goes back: what an Istio proxy does to every one.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue, header};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};
use routing::rule::EditHeaders;

use super::{
    admit::{authority, scheme},
    exchange::{Exchange, Target},
    names,
};
use crate::net::facts::{Arrival, Facts};

/// What a client must not decide: Envoy drops these from outside requests.
const NOT_FROM_OUTSIDE: [&str; 20] = [
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-alt-response",
];

/// pingora keeps the spelling of header names beside the map, so operations go through its own methods.
struct Edit<'a, H>(&'a mut H);

impl EditHeaders for Edit<'_, RequestHeader> {
    fn remove_all(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        let _infallible = self.0.insert_header(name.clone(), value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        let _infallible = self.0.append_header(name.clone(), value);
    }
}

impl EditHeaders for Edit<'_, ResponseHeader> {
    fn remove_all(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        let _infallible = self.0.insert_header(name.clone(), value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        let _infallible = self.0.append_header(name.clone(), value);
    }
}

/// Turns the client's head into the one that goes upstream.
///
/// # Errors
/// When the rewritten target is no valid URI.
pub(crate) fn request(exchange: &mut Exchange, request: &mut RequestHeader) -> Result<()> {
    let Some(facts) = exchange.facts.clone() else { return Ok(()) };
    name_host(request)?;
    strip_outside(request, facts.arrival);
    match facts.arrival {
        Arrival::Gateway { .. } => from_outside(exchange, request, &facts)?,
        Arrival::Inbound { .. } => into_application(exchange, request, &facts)?,
        Arrival::Outbound { .. } | Arrival::Upstream => out_of_application(exchange, request)?,
    }
    if let Some(Target::Cluster { upstream, .. }) = &exchange.target {
        request.insert_header(names::X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(exchange.attempts))?;
        request.insert_header(names::X_ENVOY_DECORATOR, upstream.decorator.clone())?;
        if let (Some(limit), Some((_, number))) =
            (upstream.cluster.limits.max_requests_per_connection, &exchange.upstream)
            && *number >= u64::from(limit)
        {
            request.insert_header(header::CONNECTION, "close")?;
        }
    }
    let Some(rule) = exchange.rule.clone() else { return Ok(()) };
    if let Some(timeout) = rule.timeout {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        request.insert_header(names::X_ENVOY_EXPECTED_TIMEOUT, HeaderValue::from(ms))?;
    }
    if let Some(path) = rule.rewrite.as_ref().and_then(|rewrite| rewrite.path(request.uri.path())) {
        rewrite_path(request, &path)?;
    }
    let destination = exchange.destination();
    rule.edit_request(destination, &mut Edit(request));
    if let Some(authority) = destination.and_then(|destination| rule.authority(destination)) {
        request.insert_header(header::HOST, authority.clone())?;
    }
    Ok(())
}

/// HTTP/2 names its host in `:authority`; from here on the Host header speaks for every protocol.
fn name_host(request: &mut RequestHeader) -> Result<()> {
    if request.uri.authority().is_none() || request.headers.contains_key(header::HOST) {
        return Ok(());
    }
    match HeaderValue::try_from(authority(request)) {
        Ok(host) => request.insert_header(header::HOST, host),
        Err(_) => Ok(()),
    }
}

fn strip_outside(request: &mut RequestHeader, arrival: Arrival) {
    // Inbound traffic comes from other proxies of the mesh, whose headers are for the application to see.
    if matches!(arrival, Arrival::Inbound { .. }) {
        for name in [names::X_ENVOY_PEER_METADATA, names::X_ENVOY_PEER_METADATA_ID, names::X_ENVOY_DECORATOR] {
            request.remove_header(name);
        }
        return;
    }
    let sent: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-envoy-"))
        .filter(|name| NOT_FROM_OUTSIDE.contains(&name.as_str()) || name.as_str().starts_with("x-envoy-upstream-rq-"))
        .cloned()
        .collect();
    for name in sent {
        request.remove_header(&name);
    }
}

/// A gateway trusts nothing that a client says about itself.
fn from_outside(exchange: &mut Exchange, request: &mut RequestHeader, facts: &Facts) -> Result<()> {
    let forwarded_for = append_address(request, &facts.remote_ip);
    request.insert_header(names::X_FORWARDED_FOR, forwarded_for.clone())?;
    exchange.forwarded_for = Some(forwarded_for);
    request.insert_header(names::X_FORWARDED_PROTO, HeaderValue::from_static(scheme(facts)))?;
    request.insert_header(names::X_ENVOY_EXTERNAL_ADDRESS, facts.remote_ip.clone())?;
    let id = exchange.request_id.get_or_insert_with(new_request_id).clone();
    request.insert_header(names::X_REQUEST_ID, id)?;
    request.remove_header(names::X_FORWARDED_CLIENT_CERT);
    if let Some(element) = facts.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()) {
        request.insert_header(names::X_FORWARDED_CLIENT_CERT, element.clone())?;
    }
    Ok(())
}

/// Gives a request that goes nowhere the id and the address that its log line shows.
pub(crate) fn name_request(exchange: &mut Exchange, request: &RequestHeader) {
    let edge = matches!(exchange.arrival(), Arrival::Gateway { .. });
    let sent = request.headers.get(names::X_REQUEST_ID).filter(|_| !edge).cloned();
    exchange.request_id.get_or_insert_with(|| sent.unwrap_or_else(new_request_id));
    if let (None, true, Some(facts)) = (&exchange.forwarded_for, edge, &exchange.facts) {
        exchange.forwarded_for = Some(append_address(request, &facts.remote_ip));
    }
}

/// An inbound sidecar adds who the caller proved to be to what the caller said of its own callers.
fn into_application(exchange: &mut Exchange, request: &mut RequestHeader, facts: &Facts) -> Result<()> {
    match facts.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()) {
        Some(element) => request.append_header(names::X_FORWARDED_CLIENT_CERT, element.clone()).map(drop)?,
        None => drop(request.remove_header(names::X_FORWARDED_CLIENT_CERT)),
    }
    join_values(request, names::X_FORWARDED_CLIENT_CERT)?;
    exchange.forwarded_for = request.headers.get(names::X_FORWARDED_FOR).cloned();
    keep_or_make(exchange, request, scheme(facts))
}

fn out_of_application(exchange: &mut Exchange, request: &mut RequestHeader) -> Result<()> {
    request.remove_header(names::X_FORWARDED_CLIENT_CERT);
    exchange.forwarded_for = request.headers.get(names::X_FORWARDED_FOR).cloned();
    keep_or_make(exchange, request, "http")
}

/// Request id and scheme: the ones that are there, else our own.
fn keep_or_make(exchange: &mut Exchange, request: &mut RequestHeader, scheme: &'static str) -> Result<()> {
    if !request.headers.contains_key(names::X_FORWARDED_PROTO) {
        request.insert_header(names::X_FORWARDED_PROTO, HeaderValue::from_static(scheme))?;
    }
    let sent = request.headers.get(names::X_REQUEST_ID).cloned();
    let id = exchange.request_id.get_or_insert_with(|| sent.unwrap_or_else(new_request_id)).clone();
    request.insert_header(names::X_REQUEST_ID, id)
}

/// `x-forwarded-for` with the peer at its end.
fn append_address(request: &RequestHeader, peer: &HeaderValue) -> HeaderValue {
    let mut sent = request.headers.get_all(names::X_FORWARDED_FOR).iter().peekable();
    if sent.peek().is_none() {
        return peer.clone();
    }
    let joined = sent.chain([peer]).map(HeaderValue::as_bytes).collect::<Vec<_>>().join(b",".as_slice());
    HeaderValue::from_bytes(&joined).unwrap_or_else(|_| peer.clone())
}

fn join_values(request: &mut RequestHeader, name: &'static str) -> Result<()> {
    if request.headers.get_all(name).iter().nth(1).is_none() {
        return Ok(());
    }
    let all: Vec<&[u8]> = request.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    match HeaderValue::from_bytes(&all.join(b",".as_slice())) {
        Ok(joined) => request.insert_header(name, joined),
        Err(_) => Ok(()),
    }
}

fn new_request_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).expect("a UUID is ASCII")
}

fn rewrite_path(request: &mut RequestHeader, path: &str) -> Result<()> {
    let original = request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let target = match request.uri.query() {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path.to_owned(),
    };
    // Istio's textual rewrites can leave nothing in front of the rest of the path.
    let target = if target.starts_with('/') { target } else { format!("/{target}") };
    request.set_raw_path(target.as_bytes())?;
    request.insert_header(names::X_ENVOY_ORIGINAL_PATH, original)
}

/// Turns the endpoint's head into the one that goes to the client.
///
/// # Errors
/// None in practice: every value is valid by construction.
pub(crate) fn response(exchange: &Exchange, response: &mut ResponseHeader) -> Result<()> {
    for name in [names::X_ENVOY_PEER_METADATA, names::X_ENVOY_PEER_METADATA_ID, names::X_ENVOY_DECORATOR] {
        response.remove_header(name);
    }
    let server = match exchange.arrival() {
        Arrival::Outbound { .. } => names::SERVER_OUTBOUND,
        _ => names::SERVER_ISTIO,
    };
    response.insert_header(header::SERVER, server)?;
    if let Some(time) = exchange.service_time {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        response.insert_header(names::X_ENVOY_SERVICE_TIME, HeaderValue::from(ms))?;
    }
    if !response.headers.contains_key(header::DATE) {
        response.insert_header(header::DATE, date(exchange.start))?;
    }
    if let Some(rule) = &exchange.rule {
        rule.edit_response(exchange.destination(), &mut Edit(response));
    }
    Ok(())
}

/// IMF-fixdate (RFC 9110 section 5.6.7), made once a second and thread.
pub(crate) fn date(now: SystemTime) -> HeaderValue {
    use std::cell::RefCell;
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second {
            let stamp = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
            let text = stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            (*last, *value) = (second, HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("")));
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_appended_to_what_the_client_claims() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let peer = HeaderValue::from_static("192.0.2.1");
        assert_eq!(append_address(&request, &peer), "192.0.2.1");
        request.append_header("X-Forwarded-For", "1.1.1.1").unwrap();
        request.append_header("X-Forwarded-For", "2.2.2.2").unwrap();
        assert_eq!(append_address(&request, &peer), "1.1.1.1,2.2.2.2,192.0.2.1");
    }

    #[test]
    fn a_rewrite_keeps_the_query_and_tells_the_original_path() {
        let mut request = RequestHeader::build("GET", b"/api/v1/x?a=b", None).unwrap();
        rewrite_path(&mut request, "/x").unwrap();
        assert_eq!(request.raw_path(), b"/x?a=b");
        assert_eq!(request.headers["x-envoy-original-path"], "/api/v1/x?a=b");
    }

    #[test]
    fn dates_are_imf_fixdates() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        assert_eq!(date(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
