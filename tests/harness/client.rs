//! A client outside or inside the mesh: HTTP/1.1 or HTTP/2, plain or TLS, one address for every host.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST, request::Builder};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use crate::{
    reply::Reply,
    tls_peer::{Stream, TlsClient},
};

/// Whatever went wrong on the way.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Where to connect, and how.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<TlsClient>,
    http2: bool,
}

impl Client {
    /// Plain HTTP/1.1.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, http2: false }
    }

    /// HTTPS; offers `http/1.1` by ALPN.
    pub fn https(address: SocketAddr, tls: TlsClient) -> Self {
        Self { address, tls: Some(tls.offering(&["http/1.1"])), http2: false }
    }

    /// TLS with the ALPN list of `tls` as it is; speaks HTTP/1.1 until [`Client::http2`] says otherwise.
    pub fn over(address: SocketAddr, tls: TlsClient) -> Self {
        Self { address, tls: Some(tls), http2: false }
    }

    /// HTTP/2: by ALPN `h2` on TLS, with prior knowledge on plain connections.
    #[must_use]
    pub fn h2(mut self) -> Self {
        self.tls = self.tls.map(|tls| tls.offering(&["h2", "http/1.1"]));
        self.http2()
    }

    /// Speaks HTTP/2 whatever the ALPN list says.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Opens the bytes below HTTP, with this SNI when it is TLS.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub async fn dial(&self, sni: &str) -> io::Result<Box<dyn Stream>> {
        if let Some(tls) = &self.tls {
            return Ok(Box::new(tls.connect(self.address, sni).await?));
        }
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(Box::new(tcp))
    }

    /// Opens a connection for several requests.
    ///
    /// # Errors
    /// When the connection or a handshake fails.
    pub async fn connect(&self, sni: &str) -> Result<Connection, Failure> {
        Connection::over(self.dial(sni).await?, self.http2).await
    }

    /// Sends one request on a connection of its own and reads the whole answer.
    ///
    /// # Errors
    /// When anything fails, a stalled peer included.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
        let sni = request.uri().host().unwrap_or_default().to_owned();
        self.connect(&sni).await?.send(request).await
    }

    /// Sends one request and panics when anything fails.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Reply {
        let what = format!("{} {}", request.method(), request.uri());
        self.send(request).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// `GET url`.
    pub async fn get(&self, url: &str) -> Reply {
        self.call(get(url)).await
    }

    /// The status of `GET url`; 0 = no answer.
    pub async fn status(&self, url: &str) -> u16 {
        self.send(get(url)).await.map_or(0, |reply| reply.code())
    }
}

/// A request that only needs a method and an absolute URL: the URL's host becomes SNI and Host.
pub fn request(method: &str, url: &str) -> Builder {
    Request::builder().method(method).uri(url)
}

/// `GET url` without more.
pub fn get(url: &str) -> Request<Full<Bytes>> {
    with_body(request("GET", url), "")
}

/// Ends a request with a body.
pub fn with_body(builder: Builder, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    builder.body(Full::new(body.into())).expect("the request of a story is well-formed")
}

/// An open connection.
pub struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// HTTP over a stream that is open already.
    ///
    /// # Errors
    /// When the peer does not begin as HTTP/2 does.
    pub async fn over(stream: Box<dyn Stream>, http2: bool) -> Result<Self, Failure> {
        let io = TokioIo::new(stream);
        if http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
            let driver = tokio::spawn(async move { drop(driver.await) });
            return Ok(Self { sender: Sender::Two(sender), driver });
        }
        let (sender, driver) = http1::handshake(io).await?;
        let driver = tokio::spawn(async move { drop(driver.with_upgrades().await) });
        Ok(Self { sender: Sender::One(sender), driver })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When anything fails, a stalled peer included.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
        timeout(ANSWER, async {
            let (parts, body) = self.open(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let (status, version, headers) = (parts.status, parts.version, parts.headers);
            Ok(Reply { status, version, headers, body: body.to_bytes(), trailers })
        })
        .await?
    }

    /// Sends a request and gives the answer while its body still comes.
    ///
    /// # Errors
    /// When no answer starts.
    pub async fn open(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        match &mut self.sender {
            Sender::Two(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::One(sender) => {
                sender.ready().await?;
                to_origin_form(&mut request)?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    /// A second handle on the same HTTP/2 connection; panics on HTTP/1.1.
    pub fn share(&self) -> Self {
        match &self.sender {
            Sender::Two(sender) => {
                Self { sender: Sender::Two(sender.clone()), driver: tokio::spawn(std::future::ready(())) }
            }
            Sender::One(_) => panic!("an HTTP/1.1 connection cannot be shared"),
        }
    }

    /// True when the peer closed it or said that it will take no more requests.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed() || self.driver.is_finished(),
        }
    }
}

/// `GET /path` with a Host header, as HTTP/1.1 wants it.
fn to_origin_form(request: &mut Request<Full<Bytes>>) -> Result<(), Failure> {
    if let Some(authority) = request.uri().authority().cloned() {
        let host = HeaderValue::from_str(authority.as_str())?;
        request.headers_mut().entry(HOST).or_insert(host);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>()?;
    }
    Ok(())
}

/// No answer of a story takes longer.
const ANSWER: Duration = Duration::from_secs(30);
