//! HTTP: connections, and the way of one request.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, header, request::Parts};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::TlsAcceptor;

use super::{
    Shared,
    call::Call,
    faults::{Fault, Seen},
    forward,
    rbac::{Attributes, User},
    refusal::Refusal,
    state::State,
    verbs,
    watch::Watcher,
};
use crate::tls_peer::Stream;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a request gets.
pub(crate) enum Answer {
    /// JSON.
    Json(u16, Vec<u8>),
    /// Plain text.
    Text(&'static str),
    /// Events until something ends it.
    Watch(Box<Watcher>),
}

/// TLS when the first byte says so, else plain: kubectl sends its token over TLS only.
pub(crate) async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let mut first = [0];
    if stream.peek(&mut first).await.is_err() {
        return;
    }
    if first != [TLS_HANDSHAKE] {
        return serve(stream, shared).await;
    }
    if let Ok(stream) = TlsAcceptor::from(Arc::clone(&shared.tls)).accept(stream).await {
        serve(stream, shared).await;
    }
}

async fn serve(stream: impl Stream + 'static, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
    // A client that goes away is no fault of the server.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await.ok();
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, io::Error> {
    let pod = forward::pod(request.uri().path());
    if let Some(to) = pod.and_then(|pod| shared.forwards().get(&pod).copied()) {
        authenticate(&shared.state(), request.headers()).map_err(|_| io::Error::other("nobody known"))?;
        return forward::answer(request, to);
    }
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut seen = Seen {
        verb: head.method.to_string().to_lowercase(),
        resource: String::new(),
        namespace: String::new(),
        name: String::new(),
        target,
        user: String::new(),
        status: 0,
    };
    let fault = shared.faults().take(&seen.target);
    let answer = match fault {
        Some(Fault::Cut) => {
            seen.user = "cut".to_owned();
            shared.seen().push(seen);
            return Err(io::Error::other("cut on purpose"));
        }
        Some(Fault::Status(code)) => {
            // What it would have been is counted, too.
            if let Ok(call) = Call::parse(&shared.state(), &head) {
                describe(&mut seen, &call);
            }
            Err(Refusal::new(code, "InternalError", "this server was told to fail"))
        }
        Some(Fault::Delay(pause)) => {
            sleep(pause).await;
            respond(&shared, head, body, &mut seen).await
        }
        None => respond(&shared, head, body, &mut seen).await,
    };
    let (status, response) = rendered(answer);
    seen.status = status;
    shared.seen().push(seen);
    response
}

fn describe(seen: &mut Seen, call: &Call) {
    seen.verb = call.verb.to_owned();
    seen.resource = call.resource();
    seen.namespace.clone_from(&call.namespace);
    seen.name.clone_from(&call.name);
}

async fn respond(shared: &Arc<Shared>, head: Parts, body: Incoming, seen: &mut Seen) -> Result<Answer, Refusal> {
    let user = authenticate(&shared.state(), &head.headers)?;
    seen.user.clone_from(&user.name);
    if let Some(answer) = about_the_server(&shared.state(), &user, head.uri.path()) {
        return answer;
    }
    let call = Call::parse(&shared.state(), &head)?;
    describe(seen, &call);
    permit(&shared.state(), &user, (&call, &head.headers))?;
    let body = body.collect().await.map_err(|error| Refusal::bad_request(format!("no body: {error}")))?.to_bytes();
    let mut state = shared.state();
    let before = state.revision;
    let done = verbs::perform(shared, &mut state, verbs::Asked { call, head: &head, body: &body, user: &user });
    let after = state.revision;
    drop(state);
    if after != before {
        shared.signal.send_replace(after);
    }
    done
}

fn authenticate(state: &State, headers: &HeaderMap) -> Result<User, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(User::anonymous()) };
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let unknown = || Refusal::new(401, "Unauthorized", "Unauthorized");
    state.access.tokens.get(token.trim()).cloned().ok_or_else(unknown)
}

/// Health, version, discovery.
fn about_the_server(state: &State, user: &User, path: &str) -> Option<Result<Answer, Refusal>> {
    if matches!(path, "/healthz" | "/readyz" | "/livez") {
        return Some(Ok(Answer::Text("ok")));
    }
    let found = state.discover(path)?;
    if state.access.rbac && path != "/version" && *user == User::anonymous() {
        let message = format!("forbidden: User \"{}\" cannot get path \"{path}\"", user.name);
        return Some(Err(Refusal::new(403, "Forbidden", message)));
    }
    Some(Ok(Answer::Json(200, found.to_string().into_bytes())))
}

fn permit(state: &State, user: &User, (call, headers): (&Call, &HeaderMap)) -> Result<(), Refusal> {
    let mut asked = vec![call.attributes()];
    // An apply may create what it patches.
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let applies = call.verb == "patch" && call.sub.is_empty() && media.starts_with("application/apply-patch");
    let key = (call.namespace.clone(), call.name.clone());
    if applies && state.find(&call.kind, &key).is_none() {
        asked.push(Attributes { verb: "create".to_owned(), name: String::new(), ..call.attributes() });
    }
    match asked.iter().find(|asked| !state.allows(user, asked)) {
        None => Ok(()),
        Some(asked) => Err(forbidden(user, call, asked)),
    }
}

fn forbidden(user: &User, call: &Call, asked: &Attributes) -> Refusal {
    let name = if call.name.is_empty() { String::new() } else { format!(" \"{}\"", call.name) };
    let place = match call.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let message = format!(
        "{}{name} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
        call.kind.qualified(),
        user.name,
        asked.verb,
        asked.resource,
        asked.group
    );
    Refusal::new(403, "Forbidden", message)
}

fn rendered(answer: Result<Answer, Refusal>) -> (u16, Result<Response<Body>, io::Error>) {
    let (status, media, body) = match answer {
        Ok(Answer::Json(status, bytes)) => (status, JSON, full(bytes)),
        Ok(Answer::Text(text)) => (200, "text/plain; charset=utf-8", full(text.into())),
        Ok(Answer::Watch(watcher)) => (200, JSON, events(*watcher)),
        Err(refusal) => (refusal.code, JSON, full(refusal.status().to_string().into_bytes())),
    };
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, media);
    if matches!(status, 429 | 503) {
        response = response.header(header::RETRY_AFTER, "1");
    }
    (status, response.body(body).map_err(io::Error::other))
}

pub(super) fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

fn events(watcher: Watcher) -> Body {
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok(Frame::data(bytes)), watcher))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A body as JSON; what kubectl and server-side apply call YAML is accepted in both forms.
pub(crate) fn parse_body(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = std::str::from_utf8(body).map_err(|_| unreadable("not UTF-8"))?;
    serde_saphyr::from_str(text).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(why: &str) -> Refusal {
    Refusal::bad_request(format!("the body is neither JSON nor YAML: {why}"))
}

/// The type of the first record of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

const JSON: &str = "application/json";
