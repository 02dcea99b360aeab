//! An endpoint of a case: it answers as it was told and remembers what it saw.

use std::{
    convert::Infallible,
    error::Error,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    case::{Answer, Endpoint, Fault, Plays, Values},
    text::Span,
};
use crate::{
    listening::Listening,
    origin::{self, Handshake},
    peer_metadata,
    tls_peer::Stream,
};

/// A running endpoint.
pub(super) struct Peer {
    addresses: Vec<SocketAddr>,
    /// Where it listens instead, if it does.
    socket: Option<PathBuf>,
    manner: Arc<Manner>,
    listening: Vec<Listening>,
}

/// One request, or one connection of an endpoint without HTTP.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) version: String,
    pub(super) tls: Option<Handshake>,
}

struct Manner {
    name: String,
    plays: Plays,
    says: Option<String>,
    greets_after: Option<Span>,
    answers: Vec<Answer>,
    answered: AtomicUsize,
    tls: Option<Arc<ServerConfig>>,
    seen: Mutex<Vec<Seen>>,
}

impl Peer {
    /// Starts one at these addresses, unless it is to be silent.
    pub(super) async fn start(
        name: &str,
        spec: &Endpoint,
        addresses: Vec<SocketAddr>,
        socket: Option<PathBuf>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let again = |answer: &Answer| std::iter::repeat_n(answer.clone(), answer.times.unwrap_or(1));
        let manner = Manner {
            name: name.to_owned(),
            plays: spec.plays(),
            says: spec.says.clone(),
            greets_after: spec.greets_after,
            answers: spec.answers.iter().flat_map(again).collect(),
            answered: AtomicUsize::new(0),
            tls,
            seen: Mutex::default(),
        };
        let mut peer = Self { addresses, socket, manner: Arc::new(manner), listening: Vec::new() };
        if spec.listens != Some(false) {
            peer.resume().await;
        }
        peer
    }

    /// Listens (again).
    pub(super) async fn resume(&mut self) {
        if let Some(path) = &self.socket {
            let manner = Arc::clone(&self.manner);
            self.listening.push(Listening::start_unix(path, move |stream| serve(stream, Arc::clone(&manner))));
            return;
        }
        for address in &self.addresses {
            let manner = Arc::clone(&self.manner);
            let serve = move |stream| serve(stream, Arc::clone(&manner));
            self.listening.push(Listening::start(*address, serve).await);
        }
    }

    /// Dies: listens no more and cuts every connection.
    pub(super) async fn stop(&mut self) {
        for listening in self.listening.drain(..) {
            listening.stop().await;
        }
    }

    /// Everything it saw so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.manner.seen().clone()
    }
}

impl Manner {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_answer(&self) -> Answer {
        let number = self.answered.fetch_add(1, Ordering::Relaxed);
        self.answers.get(number).or(self.answers.last()).cloned().unwrap_or_default()
    }
}

async fn serve(tcp: TcpStream, manner: Arc<Manner>) {
    tcp.set_nodelay(true).ok();
    if let Some(time) = manner.greets_after {
        sleep(time.0).await;
    }
    let Some(config) = manner.tls.clone() else {
        return play(Box::new(tcp), None, manner).await;
    };
    let Ok(hello) = LazyConfigAcceptor::new(Default::default(), tcp).await else { return };
    let offered = hello.client_hello().alpn().into_iter().flatten();
    let offered = offered.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let Ok(mut stream) = hello.into_stream(config).await else { return };
    let handshake = origin::handshake(&stream, offered);
    let agreed = stream.get_ref().1.alpn_protocol() == Some(peer_metadata::PROTOCOL.as_bytes());
    if agreed && peer_metadata::meet(&mut stream, "endpoint-v1").await.is_err() {
        return;
    }
    play(Box::new(stream), Some(handshake), manner).await;
}

async fn play(mut stream: Box<dyn Stream>, tls: Option<Handshake>, manner: Arc<Manner>) {
    match manner.plays {
        Plays::Http => {
            let service = service_fn(move |request| answer(request, tls.clone(), Arc::clone(&manner)));
            auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.ok();
        }
        Plays::Tcp => drop(echo(stream, tls, &manner).await),
        Plays::Silent => {
            manner.seen().push(Seen { tls, ..Seen::default() });
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        }
        Plays::HangsUp => {
            manner.seen().push(Seen { tls, ..Seen::default() });
            stream.shutdown().await.ok();
        }
    }
}

async fn echo(mut stream: Box<dyn Stream>, tls: Option<Handshake>, manner: &Manner) -> io::Result<()> {
    let number = {
        let mut seen = manner.seen();
        seen.push(Seen { tls, ..Seen::default() });
        seen.len() - 1
    };
    if let Some(banner) = &manner.says {
        stream.write_all(banner.as_bytes()).await?;
        stream.flush().await?;
    }
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        manner.seen()[number].body.extend_from_slice(&buffer[..count]);
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
}

type Failure = Box<dyn Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn answer(
    request: Request<Incoming>,
    tls: Option<Handshake>,
    manner: Arc<Manner>,
) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    if let Some(authority) = parts.uri.authority()
        && !headers.contains_key("host")
    {
        headers.insert("host", HeaderValue::from_str(authority.as_str())?);
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let number = {
        let version = format!("{:?}", parts.version);
        let mut seen = manner.seen();
        seen.push(Seen { method: parts.method.to_string(), path, headers, version, tls, ..Seen::default() });
        seen.len() - 1
    };
    let answer = manner.next_answer();
    let body = body.collect().await?.to_bytes();
    manner.seen()[number].body = body.to_vec();
    if let Some(delay) = answer.delay {
        sleep(delay.0).await;
    }
    match answer.fault {
        Some(Fault::Close) => Err("the connection ends here".into()),
        Some(Fault::RefusedStream) => Err(h2::Error::from(h2::Reason::REFUSED_STREAM).into()),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Cut) | None => respond(&answer, &manner.name),
    }
}

fn respond(answer: &Answer, name: &str) -> Result<Response<Body>, Failure> {
    let mut headers = fields(&answer.headers, None)?;
    let mut frames = Vec::new();
    match answer.grpc {
        Some(status) => {
            headers.entry("content-type").or_insert(HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", status.into());
        }
        None => frames.push(Ok(Frame::data(Bytes::from(answer.body.clone().unwrap_or_else(|| name.to_owned()))))),
    }
    if answer.fault == Some(Fault::Cut) {
        // What was written must be on its way before the connection breaks.
        let cut = async {
            sleep(FLUSH).await;
            Err(io::Error::other("the body ends here"))
        };
        let body = stream::iter(frames).chain(stream::once(cut));
        let response = Response::builder().status(answer.status.unwrap_or(200));
        return Ok(response.body(StreamBody::new(body).boxed_unsync())?);
    }
    if !answer.trailers.is_empty() {
        frames.push(Ok(Frame::trailers(fields(&answer.trailers, None)?)));
    }
    let mut response = Response::builder().status(answer.status.unwrap_or(200));
    if let Some(all) = response.headers_mut() {
        *all = headers;
    }
    let whole = frames.len() == 1;
    let body = match frames.pop() {
        Some(Ok(frame)) if whole => {
            let data = frame.into_data().unwrap_or_default();
            http_body_util::Full::new(data).map_err(|never: Infallible| match never {}).boxed_unsync()
        }
        last => {
            frames.extend(last);
            StreamBody::new(stream::iter(frames)).boxed_unsync()
        }
    };
    Ok(response.body(body)?)
}

/// Fields of HTTP from those of a case; `number` stands for `${count}`.
pub(super) fn fields(
    given: &std::collections::BTreeMap<String, Values>,
    number: Option<usize>,
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, values) in given {
        for mut value in values.list() {
            if let Some(number) = number {
                value = value.replace("${count}", &number.to_string());
            }
            headers.append(HeaderName::try_from(name.as_str())?, HeaderValue::from_str(&value)?);
        }
    }
    Ok(headers)
}

/// Between the beginning of an answer and its cut.
const FLUSH: std::time::Duration = std::time::Duration::from_millis(50);
