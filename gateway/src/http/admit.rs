//! From a request head to a decision: is it well-formed, which rule does it follow, where does it go.

use std::sync::Arc;

use http::{HeaderMap, Version, header};
use memchr::memchr_iter;
use pingora::{http::RequestHeader, proxy::Session};
use routing::{
    host::strip_port,
    path::normalise,
    rule::{Action, Rule},
    table::{RequestView, RouteTable},
    upstream::UpstreamProtocol,
};

use super::{
    exchange::{Exchange, Target},
    failure::Failure,
};
use crate::{
    challenges::LiveChallenges,
    live::Installed,
    net::facts::{Arrival, Facts},
    upstream::endpoints::NoEndpoint,
};

/// Envoy's and Istio's limit on a request head, bytes.
const HEAD_BYTES: usize = 60 * 1024;
/// Envoy's and Istio's limit on the number of headers.
const HEADERS: usize = 100;

/// What becomes of an admitted request.
pub(crate) enum Admitted {
    /// It is a CA's check of a host (RFC 8555 section 8.3): this is the answer.
    Challenge(Arc<str>),
    /// It goes to [`Exchange::target`].
    Forward,
    /// Istio `Server.tls.httpsRedirect`: to the same address by https.
    ToHttps,
    /// The rule answers it: a redirect or a direct response.
    Answer(Arc<Rule>),
}

/// Host header of HTTP/1.1, `:authority` of HTTP/2, with its port; empty = none.
pub(crate) fn authority(request: &RequestHeader) -> &str {
    match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

/// `https` or `http`, by the connection.
pub(crate) fn scheme(facts: &Facts) -> &'static str {
    if facts.tls.is_some() { "https" } else { "http" }
}

/// What the rules see of a request.
pub(crate) fn view<'a>(request: &'a RequestHeader, scheme: &'a str, port: u16) -> RequestView<'a> {
    RequestView {
        method: request.method.as_str(),
        scheme,
        authority: authority(request),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        port,
        headers: &request.headers,
    }
}

/// Refuses heads that are malformed, ambiguous or too large. What pingora's parser already refuses is not looked at again.
///
/// # Errors
/// [`Failure`], whose answer closes the connection.
pub(crate) fn check_head(exchange: &Exchange, session: &Session) -> Result<(), Failure> {
    let request = session.req_header();
    if let Some(facts) = &exchange.facts {
        let chunked = request.headers.contains_key(header::TRANSFER_ENCODING);
        facts.end_head(chunked).map_err(|why| Failure::BadRequest(why.0))?;
    }
    if request.headers.len() > HEADERS {
        return Err(Failure::HeadTooLarge);
    }
    if let Some(h1) = session.downstream_session.as_http1() {
        check_h1(request, &h1.get_headers_raw_bytes())?;
    }
    let host = authority(request);
    if host.is_empty() {
        return Err(Failure::MissingHost);
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]~%*".contains(&byte)) {
        return Err(Failure::BadRequest("the Host header holds a character that no host has"));
    }
    Ok(())
}

fn check_h1(request: &RequestHeader, raw: &[u8]) -> Result<(), Failure> {
    if raw.len() > HEAD_BYTES {
        return Err(Failure::HeadTooLarge);
    }
    if request.version != Version::HTTP_11 {
        return Err(Failure::LowVersion);
    }
    // RFC 9112 section 2.2 lets a server accept a bare LF; one that does and a balancer that does not can disagree on
    // where a request ends.
    if memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r') {
        return Err(Failure::BadRequest("a line of the request head ends in LF without CR"));
    }
    check_framing(&request.headers, raw)
}

/// RFC 9112 section 6: exactly one way to tell where the body ends.
fn check_framing(headers: &HeaderMap, raw: &[u8]) -> Result<(), Failure> {
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
        // pingora has already dropped Content-Length when both are there: only the raw head still shows it.
        if raw.split(|byte| *byte == b'\n').any(|line| names(line, b"content-length")) {
            return Err(Failure::BadRequest("the request has both Transfer-Encoding and Content-Length"));
        }
        let only_one = headers.get_all(header::TRANSFER_ENCODING).iter().count() == 1;
        if !only_one || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Failure::BadRequest("the only transfer coding accepted is chunked"));
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || !length.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(Failure::BadRequest("Content-Length is given more than once"));
    }
    Ok(())
}

fn names(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len() && line[name.len()] == b':' && line[..name.len()].eq_ignore_ascii_case(name)
}

/// Brings the path into its one form: what is matched, logged and forwarded is the same string.
///
/// # Errors
/// [`Failure::BadPath`].
pub(crate) fn normalise_path(session: &mut Session) -> Result<(), Failure> {
    let request = session.req_header();
    if !request.raw_path_is_utf8() {
        return Err(Failure::BadPath);
    }
    let uri = &request.uri;
    let path = normalise(uri.path()).map_err(|_| Failure::BadPath)?;
    // An absolute-form target (RFC 9112 section 3.2.2) is forwarded in origin form.
    let origin_form = request.raw_path().first() == Some(&b'/');
    if origin_form && matches!(path, std::borrow::Cow::Borrowed(_)) {
        return Ok(());
    }
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().map_err(|_| Failure::BadPath)?);
    let uri = http::Uri::from_parts(parts).map_err(|_| Failure::BadPath)?;
    session.req_header_mut().set_uri(uri);
    Ok(())
}

/// The answer to a CA's check, which comes before redirects and routes: a plain GET of a live token at a gateway, at the
/// token's own host.
pub(crate) fn challenge(exchange: &Exchange, session: &Session, live: &LiveChallenges) -> Option<Arc<str>> {
    let request = session.req_header();
    let uri = &request.uri;
    if !uri.path().starts_with("/.well-known/") || uri.query().is_some() || request.method != http::Method::GET {
        return None;
    }
    let facts = exchange.facts.as_ref()?;
    let plain_gateway = matches!(facts.arrival, Arrival::Gateway { .. }) && facts.tls.is_none();
    if plain_gateway { live.http(strip_port(authority(request)), uri.path()) } else { None }
}

/// Decides where an admitted head goes, and fills the exchange.
///
/// # Errors
/// [`Failure`], answered by the proxy.
pub(crate) fn route(exchange: &mut Exchange, session: &Session) -> Result<Admitted, Failure> {
    let request = session.req_header();
    let h2 = session.is_http2();
    exchange.grpc = request
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    exchange.upgrade = session.is_upgrade_req();
    let facts = exchange.facts.clone().ok_or(Failure::Internal("a connection without facts"))?;
    match facts.arrival {
        Arrival::Gateway { bind, port } => {
            let installed = Arc::clone(&exchange.installed);
            let (listener, front) = installed.listener(bind, port).ok_or(Failure::NoRoute)?;
            let met = facts.tls.as_ref().and_then(|tls| tls.demanded.as_ref());
            if !Installed::may_carry(listener, front, strip_port(authority(request)), met) {
                return Err(Failure::Misdirected);
            }
            by_table(exchange, request, &listener.routes, &facts, port, h2)
        }
        Arrival::Outbound { original } => outbound(exchange, request, &facts, original, h2),
        Arrival::Inbound { port, application } => {
            let found = exchange.installed.snapshot.inbound.as_ref().and_then(|inbound| inbound.ports.get(&port));
            let h2 = found.map_or(h2, |port| speaks_h2(port.application, h2));
            let (cluster, port) = (format!("inbound|{port}||").into(), found.cloned());
            exchange.target = Some(Target::Direct { address: application, h2, cluster, port });
            Ok(Admitted::Forward)
        }
        Arrival::Upstream => Err(Failure::Internal("a request from upstream")),
    }
}

fn speaks_h2(protocol: UpstreamProtocol, downstream: bool) -> bool {
    match protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Downstream => downstream,
    }
}

fn outbound(
    exchange: &mut Exchange,
    request: &RequestHeader,
    facts: &Facts,
    original: Option<std::net::SocketAddr>,
    h2: bool,
) -> Result<Admitted, Failure> {
    let host = authority(request);
    let named = host[strip_port(host).len()..].strip_prefix(':').and_then(|port| port.parse().ok());
    let port = original.map(|original| original.port()).or(named).unwrap_or(80);
    let installed = Arc::clone(&exchange.installed);
    let table = installed.snapshot.outbound.as_ref().and_then(|outbound| outbound.by_port.get(&port));
    if let Some(table) = table
        && table.host(host).is_some()
    {
        return by_table(exchange, request, table, facts, port, h2);
    }
    // Istio's ALLOW_ANY: what no service claims goes where the application meant it to go.
    let address = original.ok_or(Failure::UnknownHost)?;
    exchange.target = Some(Target::Direct { address, h2, cluster: "PassthroughCluster".into(), port: None });
    Ok(Admitted::Forward)
}

#[expect(clippy::too_many_arguments, reason = "everything that a table lookup looks at")]
fn by_table(
    exchange: &mut Exchange,
    request: &RequestHeader,
    table: &RouteTable,
    facts: &Facts,
    port: u16,
    h2: bool,
) -> Result<Admitted, Failure> {
    let host = table.host(authority(request)).ok_or(Failure::NoRoute)?;
    if host.https_redirect && facts.tls.is_none() {
        return Ok(Admitted::ToHttps);
    }
    let rule = host.route(&view(request, scheme(facts), port)).ok_or(Failure::NoRoute)?;
    exchange.rule = Some(Arc::clone(rule));
    let Action::Route(destinations) = &rule.action else { return Ok(Admitted::Answer(Arc::clone(rule))) };
    let chosen = destinations.pick(fastrand::u32(..));
    let destination = destinations.all.iter().position(|one| std::ptr::eq(one, chosen)).unwrap_or_default();
    let cluster = chosen.cluster.ok_or(Failure::NoCluster)?;
    let upstream = Arc::clone(exchange.installed.upstream(cluster));
    let picked = upstream.pick(&[], || fastrand::u32(..)).map_err(|none| match none {
        NoEndpoint::Unhealthy => Failure::NoHealthyEndpoint,
        NoEndpoint::Overflow => Failure::Overflow,
    });
    let protocol = speaks_h2(upstream.cluster.protocol, h2);
    if protocol && exchange.upgrade {
        return Err(Failure::UpstreamProtocol("WebSocket needs an HTTP/1.1 endpoint, this one is HTTP/2".into()));
    }
    let (picked, failed) = match picked {
        Ok(picked) => (Some(picked), None),
        Err(failure) => (None, Some(failure)),
    };
    exchange.target = Some(Target::Cluster { upstream, destination, picked });
    failed.map_or(Ok(Admitted::Forward), Err)
}

/// Whether the next hop of a request speaks HTTP/2.
pub(crate) fn target_h2(target: &Target, downstream: bool) -> bool {
    match target {
        Target::Cluster { upstream, .. } => speaks_h2(upstream.cluster.protocol, downstream),
        Target::Direct { h2, .. } => *h2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(head: &str) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        let mut chunked = false;
        for line in head.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            chunked |= name.eq_ignore_ascii_case("transfer-encoding");
            headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        if chunked {
            headers.remove(header::CONTENT_LENGTH);
        }
        check_framing(&headers, head.as_bytes())
    }

    #[test]
    fn there_is_exactly_one_way_to_tell_where_a_body_ends() {
        assert!(framing("Content-Length: 5").is_ok());
        assert!(framing("Transfer-Encoding: Chunked").is_ok());
        assert!(framing("Content-Length: 5\nContent-Length: 5").is_err());
        assert!(framing("Content-Length: 5,5").is_err());
        assert!(framing("Transfer-Encoding: chunked\nCONTENT-LENGTH: 5").is_err());
        assert!(framing("Transfer-Encoding: gzip, chunked").is_err());
        assert!(framing("Transfer-Encoding: chunked\nTransfer-Encoding: chunked").is_err());
    }
}
