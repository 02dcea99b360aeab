//! Answers that the proxy makes itself. Each one says why.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora::{Result, http::ResponseHeader, protocols::http::ServerSession, proxy::Session};
use routing::rule::{Action, Rule};

use super::{
    admit::{authority, scheme, view},
    exchange::Exchange,
    failure::{Answer, Failure, grpc_status},
    forward, names,
};
use crate::net::facts::Arrival;

/// What gRPC escapes in `grpc-message` (gRPC over HTTP/2, "Percent-Encoded").
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// Answers with a failure.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn failure(exchange: &mut Exchange, session: &mut Session, failure: Failure) -> Result<()> {
    let Answer { status, body, keep, .. } = failure.answer();
    let overloaded = matches!(failure, Failure::Overflow);
    exchange.failure = Some(failure);
    if status == 0 || exchange.responding {
        session.set_keepalive(None);
        return Ok(());
    }
    if !keep {
        session.set_keepalive(None);
    }
    let mut head = ResponseHeader::build(status, Some(8))?;
    if overloaded {
        head.insert_header(names::X_ENVOY_OVERLOADED, "true")?;
    }
    if !body.is_empty() {
        head.insert_header(header::CONTENT_TYPE, "text/plain")?;
    }
    send(exchange, session, head, Bytes::from(body.into_owned().into_bytes())).await
}

/// Istio `httpsRedirect`: the same address by https, 301.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn to_https(exchange: &mut Exchange, session: &mut Session) -> Result<()> {
    let request = session.req_header();
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let location = format!("https://{}{path}", authority(request));
    redirect(exchange, session, 301, location).await
}

/// Answers a CA's check with a key authorization (RFC 8555 section 8.3).
///
/// # Errors
/// When the client is gone.
pub(crate) async fn challenge(exchange: &mut Exchange, session: &mut Session, answer: &str) -> Result<()> {
    exchange.local = Some("acme_challenge");
    let mut head = ResponseHeader::build(200, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, "application/octet-stream")?;
    send(exchange, session, head, Bytes::copy_from_slice(answer.as_bytes())).await
}

/// Answers with what the rule says: a redirect or a direct response.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn rule(exchange: &mut Exchange, session: &mut Session, rule: &Arc<Rule>) -> Result<()> {
    match &rule.action {
        Action::Redirect(to) => {
            let scheme = exchange.facts.as_ref().map_or("http", |facts| scheme(facts));
            let port = match exchange.arrival() {
                Arrival::Gateway { port, .. } => port,
                _ => 80,
            };
            let location = to.location(&view(session.req_header(), scheme, port));
            redirect(exchange, session, to.code, location).await
        }
        Action::Direct(answer) => {
            exchange.local = Some("direct_response");
            let head = ResponseHeader::build(answer.status, Some(8))?;
            send(exchange, session, head, Bytes::copy_from_slice(&answer.body)).await
        }
        Action::Route(_) => failure(exchange, session, Failure::Internal("a route without destination")).await,
    }
}

async fn redirect(exchange: &mut Exchange, session: &mut Session, code: u16, location: String) -> Result<()> {
    exchange.local = Some("direct_response");
    let mut head = ResponseHeader::build(code, Some(8))?;
    match HeaderValue::try_from(location) {
        Ok(location) => head.insert_header(header::LOCATION, location)?,
        Err(_) => return failure(exchange, session, Failure::BadPath).await,
    }
    send(exchange, session, head, Bytes::new()).await
}

async fn send(exchange: &mut Exchange, session: &mut Session, mut head: ResponseHeader, body: Bytes) -> Result<()> {
    forward::name_request(exchange, session.req_header());
    forward::response(exchange, &mut head)?;
    exchange.responding = true;
    if exchange.grpc {
        let (head, status) = grpc(&head, &body)?;
        exchange.grpc_status = Some(status);
        return head_only(session, head).await;
    }
    head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(body.len()))?;
    if body.is_empty() || session.req_header().method == http::Method::HEAD {
        return head_only(session, head).await;
    }
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(Some(body), true).await
}

/// Writes a head that ends its response. pingora's own method forgets the end on HTTP/2, where a client would then wait for
/// a body or take the end of the stream for a failure.
async fn head_only(session: &mut Session, mut head: ResponseHeader) -> Result<()> {
    match session.as_downstream_mut() {
        ServerSession::H2(stream) => stream.write_response_header(Box::new(head), true),
        _ => {
            if !head.headers.contains_key(header::CONTENT_LENGTH) {
                head.insert_header(header::CONTENT_LENGTH, "0")?;
            }
            session.write_response_header(Box::new(head), true).await
        }
    }
}

/// A gRPC client reads status and message from the head of a 200 ("trailers-only").
fn grpc(plain: &ResponseHeader, body: &Bytes) -> Result<(ResponseHeader, u16)> {
    let status = grpc_status(plain.status.as_u16());
    let mut head = ResponseHeader::build(200, Some(8))?;
    for name in [header::SERVER, header::DATE] {
        if let Some(value) = plain.headers.get(&name) {
            head.insert_header(name, value.clone())?;
        }
    }
    head.insert_header(header::CONTENT_TYPE, "application/grpc")?;
    head.insert_header(names::GRPC_STATUS, HeaderValue::from(status))?;
    let message = String::from_utf8_lossy(body);
    head.insert_header(names::GRPC_MESSAGE, utf8_percent_encode(&message, GRPC_MESSAGE).to_string())?;
    Ok((head, status))
}
