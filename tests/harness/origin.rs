//! A server in the test itself, for what the echo app cannot tell: how the proxy shook hands.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tls::identity::PeerIdentity;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::tls_peer::Stream;

/// A listening server; ends when dropped. It answers 200 with the name it was given.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<Log>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    handshakes: Mutex<Vec<Handshake>>,
    requests: Mutex<Vec<Seen>>,
}

/// One finished TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// SNI; `None` = the client sent none.
    pub sni: Option<String>,
    /// The protocols the client offered.
    pub offered: Vec<String>,
    /// The protocol that was negotiated.
    pub alpn: Option<String>,
    /// The first URI SAN of the client's certificate; `None` = no certificate.
    pub client: Option<String>,
    /// `TLSv1_3`, for instance.
    pub version: String,
    /// True when a session was resumed.
    pub resumed: bool,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and target as they came.
    pub line: String,
    /// Headers.
    pub headers: HeaderMap,
}

impl Origin {
    /// Starts one without TLS.
    pub async fn plain(address: SocketAddr) -> Self {
        Self::start(address, None).await
    }

    /// Starts one with TLS.
    pub async fn tls(address: SocketAddr, config: Arc<ServerConfig>) -> Self {
        Self::start(address, Some(config)).await
    }

    /// Every handshake so far.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.log.handshakes.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.log.requests.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    async fn start(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address of an origin is free");
        let log = Arc::new(Log::default());
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&log)));
        Self { address, log, task }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, log: Arc<Log>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&log)));
    }
}

async fn serve(tcp: TcpStream, tls: Option<Arc<ServerConfig>>, log: Arc<Log>) {
    tcp.set_nodelay(true).ok();
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(config) => {
            let Ok(hello) = LazyConfigAcceptor::new(Default::default(), tcp).await else { return };
            let offered = hello.client_hello().alpn().into_iter().flatten().map(text).collect();
            let Ok(stream) = hello.into_stream(config).await else { return };
            if let Ok(mut handshakes) = log.handshakes.lock() {
                handshakes.push(handshake(&stream, offered));
            }
            Box::new(stream)
        }
    };
    let service = service_fn(|request| answer(request, Arc::clone(&log)));
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.ok();
}

/// What a finished handshake told.
pub(crate) fn handshake(stream: &TlsStream<TcpStream>, offered: Vec<String>) -> Handshake {
    let (_, session) = stream.get_ref();
    let uri = |certificate: &CertificateDer<'_>| {
        PeerIdentity::from_der(certificate).ok()?.uri_sans.first().map(ToString::to_string)
    };
    Handshake {
        sni: session.server_name().map(str::to_owned),
        offered,
        alpn: session.alpn_protocol().map(text),
        client: session.peer_certificates().and_then(|chain| uri(chain.first()?)),
        version: session.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    }
}

/// How long a request with `slow` in its target takes.
const SLOW: Duration = Duration::from_millis(200);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn answer(request: Request<Incoming>, log: Arc<Log>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let seen = Seen { line: format!("{} {}", parts.method, parts.uri), headers: parts.headers };
    let echo = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if seen.line.contains("slow") {
        sleep(SLOW).await;
    }
    if let Ok(mut requests) = log.requests.lock() {
        requests.push(seen);
    }
    Ok(Response::new(Full::new(echo)))
}
