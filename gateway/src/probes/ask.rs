//! Asks the application.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tls::client::{Certificate, ClientSpec, ClientTls, Names, Roots};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    Application,
    asked::{How, Probe},
    redirect::{self, Next},
};
use crate::{
    grpc::{
        frame,
        messages::health::{CHECK, HealthCheckRequest, HealthCheckResponse, SERVING},
    },
    tcp,
};

/// Of an answer to a probe so much is passed on, as Kubernetes keeps.
const MOST: usize = 10 << 10;
/// As Kubernetes and browsers do.
const MOST_REDIRECTS: usize = 10;

/// What the application says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Told {
    fn failure(why: &anyhow::Error) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, body: format!("{why:#}\n").into() }
    }

    fn success() -> Self {
        Self { status: StatusCode::OK, body: Bytes::new() }
    }
}

/// Asks, and gives up when the probe's time has passed. `headers` are those of whoever asks us.
pub(super) async fn ask(probe: &Probe, application: Application, headers: &HeaderMap) -> Told {
    let asked = timeout(probe.patience, async {
        match &probe.how {
            How::Tcp { port } => connect(application, *port).await.map(|_| Told::success()),
            How::Grpc { port, service } => grpc(application, *port, service).await,
            How::Http { tls, port, path, headers: own } => {
                let headers = merged(headers, own, *port);
                http(application, (*tls, *port), path, &headers).await
            }
        }
    });
    match asked.await {
        Ok(Ok(told)) => told,
        Ok(Err(why)) => Told::failure(&why),
        Err(_) => Told::failure(&anyhow::anyhow!("the application did not answer within {:?}", probe.patience)),
    }
}

/// Headers of a question: what a kubelet says of itself, under those of the probe. The host is the application's.
fn merged(asked: &HeaderMap, own: &[(HeaderName, http::HeaderValue)], port: u16) -> HeaderMap {
    // Anybody may ask at this port, and the application takes what we say for the mesh's word: no identity, no cookie goes on.
    let passed = [header::HOST, header::USER_AGENT, header::ACCEPT].into_iter();
    let mut headers: HeaderMap = passed.filter_map(|name| Some((name.clone(), asked.get(&name)?.clone()))).collect();
    // Ours stands behind the colon.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let name = host.as_deref().and_then(|host| host.rsplit_once(':')).map(|(name, _)| format!("{name}:{port}"));
    if let Some(host) = name.and_then(|host| host.parse().ok()) {
        headers.insert(header::HOST, host);
    }
    for (name, value) in own {
        headers.insert(name, value.clone());
    }
    headers.insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    headers
}

async fn http(
    application: Application,
    (mut tls, mut port): (bool, u16),
    path: &str,
    headers: &HeaderMap,
) -> Result<Told> {
    let mut path = path.to_owned();
    for _ in 0..=MOST_REDIRECTS {
        let answer = get(application, (tls, port), &path, headers).await?;
        let status = answer.status();
        let location = answer.headers().get(header::LOCATION).and_then(|it| it.to_str().ok());
        if let Some(location) = location.filter(|_| status.is_redirection()) {
            let address = application.address.to_string();
            let host = headers.get(header::HOST).and_then(|it| it.to_str().ok()).map(routing::host::strip_port);
            let hosts = [address.as_str(), host.unwrap_or("localhost"), "localhost"];
            match redirect::follow(location, (tls, port), &path, &hosts) {
                Next::Here { tls: secure, port: number, path: next } => {
                    (tls, port, path) = (secure, number, next);
                    continue;
                }
                Next::Elsewhere => return Ok(Told::success()),
            }
        }
        return Ok(Told { status, body: beginning(answer.into_body()).await });
    }
    anyhow::bail!("the application redirects more than {MOST_REDIRECTS} times")
}

/// One GET over a connection of its own.
pub(super) async fn get(
    application: Application,
    (tls, port): (bool, u16),
    path: &str,
    headers: &HeaderMap,
) -> Result<http::Response<Incoming>> {
    let stream = connect(application, port).await?;
    let mut request = Request::get(path).body(Empty::<Bytes>::new()).with_context(|| format!("asking for {path}"))?;
    *request.headers_mut() = headers.clone();
    if !request.headers().contains_key(header::HOST) {
        let host = SocketAddr::new(application.address, port).to_string();
        request.headers_mut().insert(header::HOST, host.parse().context("naming the host")?);
    }
    if !tls {
        return send(stream, request).await;
    }
    let spec = ClientSpec {
        roots: Roots::Insecure,
        names: Names::Any,
        certificate: Certificate::None,
        alpn: vec![b"http/1.1".to_vec()],
        crl: None,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    };
    let client = ClientTls::build(&spec, None).context("preparing TLS")?;
    let stream = client.connect("", stream).await.context("shaking hands with the application")?;
    send(stream, request).await
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<http::Response<Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("beginning HTTP")?;
    // It ends with the answer's body, or with whoever waits for it.
    tokio::spawn(connection);
    sender.send_request(request).await.context("asking the application")
}

/// Asks the health service of gRPC, in plain text as the kubelet does.
async fn grpc(application: Application, port: u16, service: &str) -> Result<Told> {
    let stream = connect(application, port).await?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .context("beginning HTTP/2")?;
    let driver = tokio::spawn(connection);
    let question = frame::frame(&HealthCheckRequest { service: service.to_owned() });
    let host = SocketAddr::new(application.address, port);
    let request = Request::post(format!("http://{host}{CHECK}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(Bytes::from(question)))
        .context("asking the health service")?;
    let answer = sender.send_request(request).await.context("asking the health service")?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MOST).collect().await.map_err(|error| anyhow::anyhow!(error));
    let body = body.context("reading the health service's answer")?;
    driver.abort();
    let said = body.trailers().and_then(|it| it.get("grpc-status")).or(head.headers.get("grpc-status"));
    let status = said.and_then(|it| it.to_str().ok()).unwrap_or("2").to_owned();
    ensure!(
        head.status == StatusCode::OK && status == "0",
        "the health service answers with {} and gRPC status {status}",
        head.status
    );
    let answer: HealthCheckResponse =
        frame::unframe(&body.to_bytes()).map_err(|_| anyhow::anyhow!("the health service's answer cannot be read"))?;
    ensure!(answer.status == SERVING, "the service does not serve: its status is {}", answer.status);
    Ok(Told::success())
}

/// As much of a body as is passed on.
async fn beginning(body: Incoming) -> Bytes {
    let mut held = bytes::BytesMut::new();
    let mut body = std::pin::pin!(body);
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            held.extend_from_slice(&data[..data.len().min(MOST - held.len())]);
        }
        if held.len() == MOST {
            break;
        }
    }
    held.freeze()
}

/// All of a body, unless it is too long.
///
/// # Errors
/// It is, or it ends in its middle.
pub(super) async fn whole(body: Incoming, most: usize) -> Result<Bytes> {
    let body = Limited::new(body, most).collect().await;
    Ok(body
        .map_err(|error| anyhow::anyhow!(error))
        .with_context(|| format!("reading at most {most} bytes"))?
        .to_bytes())
}

async fn connect(application: Application, port: u16) -> Result<tokio::net::TcpStream> {
    let to = SocketAddr::new(application.address, port);
    let connected = tcp::connect(to, application.source.filter(|source| is_here(*source))).await;
    connected.with_context(|| format!("connecting to the application at {to}"))
}

/// Whether connections can come from an address. That of IPv6 is there once traffic is captured; without, none is needed.
pub(super) fn is_here(source: IpAddr) -> bool {
    source.is_ipv4() || std::net::UdpSocket::bind((source, 0)).is_ok()
}
