//! `sluice echo`: a small application that answers with what it saw. The demo's workloads run it, and so do tests and
//! clusters that want to see which path a request took.
//!
//! ```text
//! any path       JSON: service, pod, method, path, headers, peer, protocol, body
//! /status/503    that status            /delay/250   the JSON after 250 ms
//! /bytes/1000    1000 bytes             /stream/5    5 lines, 100 ms apart
//! Upgrade: websocket                    echoes text and binary messages
//! POST /echo.Echo/{Unary,ServerStream,BidiStream,Fail}   gRPC
//! ```
//!
//! Ports of `--tcp-port` speak no HTTP: [`lines`] says what they do. `--tls-cert` puts TLS in front of all of them.

mod grpc;
mod lines;
mod reply;
mod secure;
mod websocket;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    signal::unix::SignalKind,
};

use self::secure::{Secure, Shown};
use crate::{cli::EchoFlags, net::holder};

/// What every answer is made of: the demo's answers are short, its streams are not collected.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How the application calls itself in its answers.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Service name.
    pub(crate) service: String,
    /// Pod name.
    pub(crate) pod: String,
    /// Version.
    pub(crate) version: String,
}

/// What every port has in common.
struct App {
    names: Names,
    /// `None`: plain ports.
    tls: Option<Secure>,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug)]
enum Speaks {
    Http,
    Lines,
}

/// Answers until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the address cannot be bound; the message says what to change.
pub(crate) fn run(flags: EchoFlags) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of the echo application")?
        .block_on(serve(flags))
}

async fn serve(flags: EchoFlags) -> anyhow::Result<()> {
    let tls = Secure::of(&flags)?;
    let names = Names { service: flags.service, pod: flags.pod, version: flags.app_version };
    let app = Arc::new(App { names, tls });
    let http = flags.ports.into_iter().map(|port| (port, Speaks::Http));
    let mut ports = Vec::new();
    for (port, speaks) in http.chain(flags.lines.into_iter().map(|port| (port, Speaks::Lines))) {
        let address = SocketAddr::new(flags.address, port);
        let listener = TcpListener::bind(address).await.map_err(|cause| {
            let advice = holder::advice(&cause, address, "choose another --address or --port");
            anyhow::Error::new(cause).context(format!("cannot listen on {address}; {advice}"))
        })?;
        ports.push(accept(listener, speaks, Arc::clone(&app)));
    }
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        _ = futures::future::join_all(ports) => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// Accepts until the process ends; a failed accept (no file descriptors left, for one) is tried again a little later.
async fn accept(listener: TcpListener, speaks: Speaks, app: Arc<App>) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_BACK_OFF).await;
            continue;
        };
        // An application that waits for Nagle's algorithm would measure that and not the proxy.
        let _ = stream.set_nodelay(true);
        tokio::spawn(open(stream, speaks, Arc::clone(&app)));
    }
}

/// One connection: its handshake, if there is to be one, then what it was opened for.
async fn open(stream: TcpStream, speaks: Speaks, app: Arc<App>) {
    match &app.tls {
        None => talk(stream, speaks, None, &app).await,
        Some(tls) => {
            // Whoever failed to shake hands has been told so by an alert.
            let Some((stream, shown)) = tls.accept(stream).await else { return };
            talk(stream, speaks, Some(Arc::new(shown)), &app).await;
        }
    }
}

async fn talk<IO>(stream: IO, speaks: Speaks, shown: Option<Arc<Shown>>, app: &Arc<App>)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match speaks {
        Speaks::Http => {
            let app = Arc::clone(app);
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&app), shown.clone()));
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new());
            // The peer went away or spoke no HTTP: nobody is left to be told.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        }
        // The same.
        Speaks::Lines => drop(lines::serve(stream, &app.names).await),
    }
}

async fn answer(
    request: Request<Incoming>,
    app: Arc<App>,
    shown: Option<Arc<Shown>>,
) -> Result<Response<Body>, Infallible> {
    if websocket::wanted(request.headers()) {
        return Ok(websocket::upgrade(request));
    }
    if grpc::wanted(request.headers()) {
        return Ok(grpc::answer(request).await);
    }
    let path = request.uri().path().to_owned();
    let described = |request, status| described(request, &app.names, shown.as_deref(), status);
    let response = match Special::of(&path) {
        Some(Special::Stream(chunks)) => stream(chunks),
        Some(Special::Bytes(count)) => zeros(count),
        Some(Special::Status(status)) => described(request, status).await,
        Some(Special::Delay(pause)) => {
            tokio::time::sleep(pause).await;
            described(request, StatusCode::OK).await
        }
        None => described(request, StatusCode::OK).await,
    };
    Ok(response)
}

/// The paths that do more than describe the request.
#[derive(Debug, Eq, PartialEq)]
enum Special {
    /// `/status/NNN`.
    Status(StatusCode),
    /// `/delay/MILLISECONDS`.
    Delay(Duration),
    /// `/stream/CHUNKS`.
    Stream(u64),
    /// `/bytes/COUNT`.
    Bytes(u64),
}

impl Special {
    /// The last two segments decide, so that a prefix the gateway did not rewrite is no obstacle.
    fn of(path: &str) -> Option<Self> {
        let mut segments = path.rsplit('/');
        let (argument, name) = (segments.next()?, segments.next()?);
        match name {
            "status" => {
                StatusCode::from_bytes(argument.as_bytes()).ok().filter(|s| s.as_u16() >= 200).map(Self::Status)
            }
            "delay" => argument.parse().ok().map(|ms| Self::Delay(Duration::from_millis(ms))),
            "stream" => argument.parse().ok().map(Self::Stream),
            "bytes" => argument.parse().ok().map(Self::Bytes),
            _ => None,
        }
    }
}

async fn described(
    request: Request<Incoming>,
    names: &Names,
    shown: Option<&Shown>,
    status: StatusCode,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(seen) = reply::read(body).await else {
        return text(StatusCode::BAD_REQUEST, "the request's body ended early\n");
    };
    let json = reply::Reply::new(names, &head, seen, shown).to_json();
    let mut response = Response::new(full(json));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn stream(chunks: u64) -> Response<Body> {
    let lines = futures::stream::iter(0..chunks).then(|number| async move {
        if number > 0 {
            tokio::time::sleep(CHUNK_INTERVAL).await;
        }
        Ok(Frame::data(Bytes::from(format!("chunk {number}\n"))))
    });
    Response::new(StreamBody::new(lines).boxed_unsync())
}

fn zeros(count: u64) -> Response<Body> {
    static BLOCK: [u8; 64 * 1024] = [b'0'; 64 * 1024];
    let block = BLOCK.len() as u64;
    let blocks = futures::stream::iter(0..count.div_ceil(block)).map(move |number| {
        // The difference is at most one block, so it fits.
        let size = (count - number * block).min(block) as usize;
        Ok(Frame::data(Bytes::from_static(&BLOCK[..size])))
    });
    let mut response = Response::new(StreamBody::new(blocks).boxed_unsync());
    response.headers_mut().insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(count));
    response
}

/// A whole body at once.
pub(crate) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A short answer for humans.
pub(crate) fn text(status: StatusCode, content: &'static str) -> Response<Body> {
    let mut response = Response::new(full(content));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

/// Between two parts of a streamed answer: slow enough that buffering somewhere on the way is seen.
pub(crate) const CHUNK_INTERVAL: Duration = Duration::from_millis(100);

/// After a failed accept.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_paths_are_found_behind_any_prefix() {
        assert_eq!(Special::of("/status/503"), Some(Special::Status(StatusCode::SERVICE_UNAVAILABLE)));
        assert_eq!(Special::of("/api/rates/delay/20"), Some(Special::Delay(Duration::from_millis(20))));
        assert_eq!(Special::of("/stream/3"), Some(Special::Stream(3)));
        assert_eq!(Special::of("/bytes/0"), Some(Special::Bytes(0)));
    }

    #[test]
    fn what_is_no_number_is_an_ordinary_path() {
        for path in ["/", "", "/status/abc", "/status/99", "/status/101", "/delay/-1", "/bytes/", "/statuses/503"] {
            assert_eq!(Special::of(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn bytes_gives_exactly_as_many_as_asked() {
        for count in [0, 1, 65_536, 65_537, 200_000] {
            let body = zeros(count).into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len() as u64, count);
        }
    }
}
