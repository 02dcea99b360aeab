//! Answers that the proxy makes itself. Each one says why.

use std::{future::poll_fn, sync::Arc, task::Poll};

use routing::{
    cors::Cors,
    fault::AbortError,
    request::RequestView,
    rule::{Action, Rule},
};

use super::{
    admit::view,
    edit,
    exchange::{Exchange, Heads},
    external::verdict::{self, Edit},
    failure::{Answer, Failure, grpc_status},
    flow::{Broken, Piece, Sink as _, Source as _},
    head::Length,
    limits::{HIGH, WRITE},
    name::Name,
    retry, secure,
    side::Down,
};
use crate::{grpc::status::escape, net::facts::Arrival};

/// What gRPC calls a limit that is reached. Clients do not ask again by themselves then, as they do after 14, Envoy's default.
const RESOURCE_EXHAUSTED: u16 = 8;

/// An answer of our own.
#[derive(Default)]
struct Reply<'a> {
    status: u16,
    body: &'a [u8],
    content_type: &'static str,
    location: &'a str,
    overloaded: bool,
    /// The client may try again in a second.
    retry: bool,
    /// Its body is text unless the rule says what it is.
    untyped: bool,
    /// `WWW-Authenticate`.
    challenge: &'a str,
    /// For gRPC, when it is not the one that the status means.
    grpc: Option<u16>,
    /// What somebody outside wants in its head.
    edits: &'a [Edit],
    /// It answers a preflight: what a page may do, or nothing for one that may not ask.
    preflight: Option<Option<&'a Cors>>,
}

/// Answers with a failure. `true`: the connection can go on.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn failure(
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    failure: Failure,
    close: bool,
) -> Result<bool, Broken> {
    let Answer { status, body, keep, .. } = failure.answer();
    let body = retry::explain(exchange, body);
    let overloaded = matches!(failure, Failure::Overflow | Failure::Overloaded);
    let retry = failure == Failure::Overloaded;
    let grpc = match failure {
        Failure::Abort(AbortError::Grpc(status)) => Some(u16::from(status)),
        Failure::RateLimited { .. } => Some(RESOURCE_EXHAUSTED),
        _ => None,
    };
    let denial = match &failure {
        Failure::Denied(denial) => denial.clone(),
        _ => Box::default(),
    };
    let challenge = match &failure {
        Failure::Token(_, challenge) => challenge.clone(),
        _ => Box::default(),
    };
    exchange.failure = Some(failure);
    if status == 0 || exchange.status != 0 {
        return Ok(false);
    }
    let body = if denial.status == 0 { body.as_bytes() } else { &denial.body };
    let content_type = if body.is_empty() { "" } else { "text/plain" };
    let edits = denial.headers.as_slice();
    let challenge = &*challenge;
    let reply = Reply { status, body, content_type, edits, overloaded, retry, challenge, grpc, ..Reply::default() };
    send(exchange, heads, down, &reply, close || !keep).await?;
    Ok(keep)
}

/// Istio `httpsRedirect`: the same address by https, 301.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn to_https(
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    close: bool,
) -> Result<bool, Broken> {
    let authority = secure::authority(&exchange.installed, exchange.arrival(), heads.request.authority());
    let location = format!("https://{authority}{}", heads.request.target());
    redirect(exchange, heads, down, (301, location), close).await
}

/// Answers a CA's check with a key authorization (RFC 8555 section 8.3).
///
/// # Errors
/// When the client is gone.
pub(crate) async fn challenge(
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    answer: &str,
    close: bool,
) -> Result<bool, Broken> {
    exchange.local = Some("acme_challenge");
    let content_type = "application/octet-stream";
    let reply = Reply { status: 200, body: answer.as_bytes(), content_type, ..Reply::default() };
    send(exchange, heads, down, &reply, close).await.map(|()| true)
}

/// Answers a preflight: with what a page may do, or with nothing for one that may not ask.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn preflight(
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    allowed: Option<&Cors>,
    close: bool,
) -> Result<bool, Broken> {
    exchange.local = Some("cors_response");
    let reply = Reply { status: 200, preflight: Some(allowed), ..Reply::default() };
    send(exchange, heads, down, &reply, close).await.map(|()| true)
}

/// Answers with what the rule says: a redirect or a direct response.
///
/// # Errors
/// When the client is gone.
pub(crate) async fn rule(
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    rule: &Arc<Rule>,
    close: bool,
) -> Result<bool, Broken> {
    match &rule.action {
        Action::Redirect(to) => {
            let port = match exchange.arrival() {
                Arrival::Gateway { port, .. } => port,
                _ => 80,
            };
            let sent = view(&heads.request, exchange.scheme(), port);
            // To https at the host and port that were asked for.
            let authority = (sent.scheme == "http" && to.scheme.as_deref() == Some("https"))
                .then(|| secure::authority(&exchange.installed, exchange.arrival(), sent.authority));
            let location =
                to.location(&RequestView { authority: authority.as_deref().unwrap_or(sent.authority), ..sent });
            redirect(exchange, heads, down, (to.code, location), close).await
        }
        Action::Direct(answer) => {
            exchange.local = Some("direct_response");
            let (status, body) = (answer.status, &*answer.body);
            let reply = Reply { status, body, untyped: true, ..Reply::default() };
            send(exchange, heads, down, &reply, close).await.map(|()| true)
        }
        Action::Route(_) => {
            failure(exchange, heads, down, Failure::Internal("a route without destination"), close).await
        }
    }
}

async fn redirect(
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    (status, location): (u16, String),
    close: bool,
) -> Result<bool, Broken> {
    exchange.local = Some("direct_response");
    if location.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return failure(exchange, heads, down, Failure::BadPath, close).await;
    }
    let reply = Reply { status, location: &location, ..Reply::default() };
    send(exchange, heads, down, &reply, close).await.map(|()| true)
}

async fn send(
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    reply: &Reply<'_>,
    close: bool,
) -> Result<(), Broken> {
    heads.sent.copy(&heads.request);
    edit::name_request(exchange, &mut heads.sent);
    compose(exchange, heads, reply);
    let head = &heads.response;
    let body = if exchange.grpc || heads.request.method() == "HEAD" || head.length == Length::Empty {
        &[]
    } else {
        reply.body
    };
    exchange.status = head.status;
    if !down.is_read() {
        skim(down).await;
    }
    let close = close || !down.is_read();
    head_room(down).await?;
    down.send_head(head, close, body.is_empty())?;
    exchange.response.note_first();
    if !body.is_empty() {
        write(down, body).await?;
        exchange.response.bytes = body.len() as u64;
    }
    down.end_reply(body.is_empty())?;
    flush(down).await
}

/// The head. A gRPC client reads status and message from the head of a 200 ("trailers-only").
fn compose(exchange: &mut Exchange, heads: &mut Heads, reply: &Reply<'_>) {
    let head = &mut heads.response;
    head.clear();
    head.status = reply.status;
    if reply.overloaded && edit::own_headers(exchange).is_none_or(|own| own.doings) {
        head.append(Name::XEnvoyOverloaded, b"true");
    }
    if reply.retry {
        head.push(b"retry-after", b"1");
    }
    if !reply.challenge.is_empty() {
        head.push(b"www-authenticate", reply.challenge.as_bytes());
    }
    if !reply.content_type.is_empty() {
        head.append(Name::ContentType, reply.content_type.as_bytes());
    }
    if !reply.location.is_empty() {
        head.append(Name::Location, reply.location.as_bytes());
    }
    verdict::compose(head, reply.edits);
    match reply.preflight {
        Some(allowed) => {
            edit::own_response(exchange, head);
            allowed.into_iter().for_each(|cors| cors.answer(&heads.request, head));
        }
        None => edit::response(exchange, heads),
    }
    let head = &mut heads.response;
    if reply.untyped && !reply.body.is_empty() && !head.has(Name::ContentType) {
        head.append(Name::ContentType, b"text/plain");
    }
    if !exchange.grpc {
        let none = matches!(reply.status, 204 | 304);
        head.length = if none { Length::Empty } else { Length::Exact(reply.body.len() as u64) };
        if !none {
            head.set(Name::ContentLength, reply.body.len().to_string().as_bytes());
        }
        return;
    }
    let status = reply.grpc.unwrap_or_else(|| grpc_status(reply.status));
    exchange.grpc_status = Some(status);
    let message = escape(reply.body);
    head.status = 200;
    head.length = Length::Exact(0);
    for name in [Name::Location, Name::XEnvoyOverloaded, Name::ContentLength] {
        head.remove(name);
    }
    head.set(Name::ContentType, b"application/grpc");
    head.set(Name::GrpcStatus, status.to_string().as_bytes());
    head.set(Name::GrpcMessage, message.as_bytes());
}

async fn write(down: &mut Down<'_>, mut body: &[u8]) -> Result<(), Broken> {
    while !body.is_empty() {
        down.deadline().arm(WRITE);
        let room = poll_fn(|cx| match down.poll_room(cx, body.len()) {
            // What is held back takes room, too.
            Poll::Pending => match down.poll_flush(cx) {
                Poll::Ready(Err(broken)) => Poll::Ready(Err(broken)),
                _ => down.deadline().poll(cx).map(|()| Err(Broken::Stalled)),
            },
            ready => ready,
        });
        let count = room.await?.min(body.len());
        down.send(&body[..count])?;
        body = &body[count..];
    }
    Ok(())
}

/// Waits until the head of an answer can go out.
///
/// # Errors
/// When the client takes nothing for too long.
pub(crate) async fn head_room(down: &mut Down<'_>) -> Result<(), Broken> {
    if !down.is_h2() {
        return Ok(());
    }
    let mut armed = false;
    poll_fn(|cx| match down.poll_head_room(cx) {
        Poll::Ready(()) => Poll::Ready(Ok(())),
        Poll::Pending => {
            if !std::mem::replace(&mut armed, true) {
                down.deadline().arm(WRITE);
            }
            down.deadline().poll(cx).map(|()| Err(Broken::Stalled))
        }
    })
    .await
}

async fn flush(down: &mut Down<'_>) -> Result<(), Broken> {
    down.deadline().arm(WRITE);
    poll_fn(|cx| match down.poll_flush(cx) {
        Poll::Pending => down.deadline().poll(cx).map(|()| Err(Broken::Stalled)),
        ready => ready,
    })
    .await
}

/// Takes what has come of the body of a request that nobody wants: with all of it read, the connection can go on.
async fn skim(down: &mut Down<'_>) {
    poll_fn(|cx| {
        while let Poll::Ready(Ok(Piece::Data(count))) = down.poll_data(cx) {
            if down.give(count, |_| Ok(())).is_err() || count >= HIGH {
                break;
            }
        }
        Poll::Ready(())
    })
    .await;
}
