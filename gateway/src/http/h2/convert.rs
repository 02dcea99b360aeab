//! Heads in the `http` crate's form, as the `h2` crate wants them, to and from ours.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header, uri};

use crate::http::{
    failure::Failure,
    h1::read::content_length,
    head::{Head, Length, Upgrade, Version},
    limits::FIELDS,
    name::Name,
};

/// Reads a request; `ended`: there is no body.
///
/// # Errors
/// What the client got wrong.
pub(crate) fn request(parts: &http::request::Parts, ended: bool, head: &mut Head) -> Result<(), Failure> {
    head.clear();
    head.version = Version::Http2;
    fields(&parts.headers, head);
    if head.count() > FIELDS {
        return Err(Failure::HeadTooLarge);
    }
    if head.fields().any(|(_, _, value)| value.trim_ascii().len() != value.len()) {
        return Err(Failure::BadRequest("the value of a header begins or ends with white space"));
    }
    if head.values(Name::Host).nth(1).is_some() {
        return Err(Failure::BadRequest("there is more than one Host header"));
    }
    let host = head.value(Name::Host).map(<[u8]>::to_vec);
    head.remove(Name::Host);
    let authority = match (parts.uri.authority(), &host) {
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            return Err(Failure::BadRequest(":authority and the Host header name different hosts"));
        }
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) => host,
        (None, None) => return Err(Failure::MissingHost),
    };
    head.set_authority(authority);
    let target = parts.uri.path_and_query().map_or("", uri::PathAndQuery::as_str);
    if !target.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) || target.contains('#') {
        return Err(Failure::BadRequest("the request target holds a byte that no target has"));
    }
    let has_path = target.starts_with('/') || (target == "*" && parts.method == http::Method::OPTIONS);
    if !has_path {
        return match parts.method == http::Method::CONNECT {
            true => Err(Failure::MethodNotServed),
            false => Err(Failure::BadRequest("the request target has no path")),
        };
    }
    head.set_target(target.as_bytes());
    match parts.extensions.get::<h2::ext::Protocol>() {
        None if parts.method == http::Method::CONNECT => return Err(Failure::MethodNotServed),
        None => head.set_method(parts.method.as_str().as_bytes()),
        // RFC 8441 section 4: to everybody behind us it is the GET that it would have been.
        Some(protocol) if protocol.as_str() == "websocket" => {
            head.set_method(b"GET");
            head.upgrade = Some(Upgrade::WebSocket);
        }
        Some(_) => return Err(Failure::BadRequest("the protocol of an extended CONNECT is not websocket")),
    }
    if head.upgrade.is_some() {
        head.remove(Name::ContentLength);
        head.length = Length::Empty;
    } else {
        head.length = length(head, ended).map_err(Failure::BadRequest)?;
    }
    head.strip_hop_by_hop().map_err(Failure::BadRequest)
}

fn length(head: &Head, ended: bool) -> Result<Length, &'static str> {
    let mut lengths = head.values(Name::ContentLength);
    let told = match lengths.next() {
        None => None,
        Some(text) => Some(content_length(text).ok_or("Content-Length is not a plain number")?),
    };
    if lengths.next().is_some() {
        return Err("Content-Length is given more than once");
    }
    match (told, ended) {
        (Some(0) | None, true) => Ok(Length::Empty),
        (Some(_), true) => Err("Content-Length promises a body that does not come"),
        (Some(bytes), false) => Ok(Length::Exact(bytes)),
        (None, false) => Ok(Length::Unknown),
    }
}

/// Fields of a head or trailers. Crumbs of Cookie become one line (RFC 9113 section 8.2.3).
fn fields(map: &HeaderMap, head: &mut Head) {
    for (name, value) in map {
        head.push(name.as_str().as_bytes(), value.as_bytes());
    }
    head.join(Name::Cookie, b"; ");
}

/// Reads a response; `ended`: nothing follows, `bodiless`: because nothing may (HEAD, interim answers).
///
/// # Errors
/// What the endpoint got wrong.
pub(crate) fn response(
    parts: &http::response::Parts,
    ended: bool,
    bodiless: bool,
    head: &mut Head,
) -> Result<(), &'static str> {
    head.clear();
    head.version = Version::Http2;
    head.status = parts.status.as_u16();
    for (name, value) in &parts.headers {
        head.push(name.as_str().as_bytes(), value.as_bytes());
    }
    if head.status == 101 {
        return Err("101 on HTTP/2");
    }
    // No body follows these, whenever the stream ends.
    let none = bodiless || head.status < 200 || matches!(head.status, 204 | 304);
    head.length = match ended {
        _ if none => Length::Empty,
        true => length(head, true).map(|_| Length::Exact(0))?,
        false => length(head, false)?,
    };
    if head.status < 200 || head.status == 204 {
        head.remove(Name::ContentLength);
    }
    head.strip_hop_by_hop().map_err(|_| "Connection of the response names a field that is meant for the client")?;
    head.remove(Name::Te);
    Ok(())
}

/// Trailers as they came.
pub(crate) fn trailers(map: &HeaderMap) -> Box<Head> {
    let mut head = Box::<Head>::default();
    for (name, value) in map.iter().filter(|(name, _)| Name::may_trail(name.as_str().as_bytes())) {
        head.push(name.as_str().as_bytes(), value.as_bytes());
    }
    head
}

/// Fields for the wire. What cannot be a field of HTTP/2 has been refused by the codec that read it.
pub(crate) fn map(head: &Head) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(head.count() + 2);
    for (_, name, value) in head.fields() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

/// A request for an endpoint.
///
/// # Errors
/// When the authority is none that a URI can have.
pub(crate) fn to_request(head: &Head) -> Result<Request<()>, &'static str> {
    let scheme = if head.value(Name::XForwardedProto) == Some(b"https") { "https" } else { "http" };
    let uri = http::Uri::builder().scheme(scheme).authority(head.authority()).path_and_query(head.target());
    let mut request = Request::new(());
    *request.uri_mut() = uri.build().map_err(|_| "the host or the path is malformed")?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.method_mut() = head.method().parse().map_err(|_| "the method is malformed")?;
    *request.headers_mut() = map(head);
    if head.upgrade.is_some() {
        *request.method_mut() = http::Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
    }
    Ok(request)
}

/// An answer for a client. A tunnel begins with 200 (RFC 8441 section 4).
pub(crate) fn to_response(head: &Head) -> Response<()> {
    let mut response = Response::new(());
    let status = if head.upgrade.is_some() { 200 } else { head.status };
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    *response.headers_mut() = map(head);
    if head.upgrade.is_some() {
        response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    }
    response
}
