//! The way of one request: held, answered here or by the CA, counted, held again.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response,
    header::{CONTENT_LENGTH, HOST, LOCATION},
    request::Parts,
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{
    Seen, Shared,
    canned::Canned,
    hold::{Hold, Moment},
    step::{RENEWAL_INFO, Step},
};
use crate::{client::with_body, reply::Reply};

/// Serves one connection.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let Ok(stream) = TlsAcceptor::from(Arc::clone(&shared.tls)).accept(stream).await else { return };
    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
    // A client that goes away is no fault of the CA.
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let step = Step::of(head.uri.path());
    shared.hold((step, Moment::Before)).await?;
    if let Some(canned) = own_answer(&shared, step, &head) {
        shared.seen().push(Seen::new(step, canned.status, canned.body.clone().into(), false));
        return Ok(rendered(canned));
    }
    // A request on its way to the CA arrives there and is counted, even if its client dies meanwhile.
    let asked = Arc::clone(&shared);
    let reply = tokio::spawn(async move { ask(&asked, step, (head, body)).await });
    let reply = reply.await.map_err(io::Error::other)??;
    if reply.status.is_success() {
        shared.hold((step, Moment::After)).await?;
    }
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    Ok(response)
}

/// What the CA is not asked about.
fn own_answer(shared: &Shared, step: Step, head: &Parts) -> Option<Canned> {
    if let Some(canned) = shared.canned(step) {
        return Some(canned);
    }
    let id = head.uri.path().strip_prefix(RENEWAL_INFO)?.trim_start_matches('/');
    Some(shared.renewals().answer(id))
}

/// Asks the CA, with the Host that the client meant: pebble makes its URLs from it and compares them with signed ones.
async fn ask(shared: &Shared, step: Step, (head, body): (Parts, Bytes)) -> io::Result<Reply> {
    let host = host(&head);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(head.method).uri(format!("https://{}{path}", shared.upstream.0));
    if let Some(headers) = request.headers_mut() {
        *headers = head.headers;
        headers.remove(CONTENT_LENGTH);
        headers.insert(HOST, host.parse().map_err(io::Error::other)?);
    }
    let sent = shared.upstream.1.send(with_body(request, body.clone())).await;
    let mut reply = sent.map_err(io::Error::other)?;
    shared.seen().push(Seen::new(step, reply.code(), reply.body.clone(), true));
    extend(shared, step, (&host, head.uri.path(), &body), &mut reply);
    reply.headers = end_to_end(reply.headers);
    Ok(reply)
}

/// Adds what RFC 9773 adds to the directory and to orders.
fn extend(shared: &Shared, step: Step, (host, path, jws): (&str, &str, &[u8]), reply: &mut Reply) {
    let mut renewals = shared.renewals();
    if renewals.usual.is_none() || !reply.status.is_success() {
        return;
    }
    match step {
        Step::Directory => put(reply, "renewalInfo", format!("https://{host}{RENEWAL_INFO}")),
        Step::NewOrder | Step::Order | Step::Finalize => {
            let location = reply.header(LOCATION.as_str()).parse::<http::Uri>().ok();
            let order = location.map_or_else(|| path.to_owned(), |url| url.path().to_owned());
            if step == Step::NewOrder {
                renewals.ordered(&order, jws);
            }
            if let Some(id) = renewals.replaced_by(&order) {
                put(reply, "replaces", id.to_owned());
            }
        }
        _ => {}
    }
}

fn put(reply: &mut Reply, member: &str, value: String) {
    let mut body: Value = reply.json();
    body[member] = json!(value);
    reply.body = Bytes::from(body.to_string());
}

fn host(head: &Parts) -> String {
    let header = || head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    head.uri.authority().map_or_else(header, ToString::to_string)
}

/// Without what holds for one connection or one body only.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in ["connection", "transfer-encoding", "content-length", "keep-alive"] {
        headers.remove(name);
    }
    headers
}

fn rendered(canned: Canned) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(canned.status);
    for (name, value) in canned.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(canned.body.into())).expect("the answer of a story is well-formed")
}

impl Shared {
    async fn hold(&self, at: (Step, Moment)) -> io::Result<()> {
        let hold = Hold::take(&mut self.holds(), at);
        match hold {
            Some(hold) => hold.wait().await,
            None => Ok(()),
        }
    }
}
