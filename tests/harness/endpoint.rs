//! An endpoint whose answers a story plays itself, in both HTTP versions: it sees every part of a request and says every
//! part of the answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use crate::{
    client::Failure,
    h1,
    message::{Answer, Version},
    raw::Raw,
    talk::Socket,
    tunnel,
};

/// A listening endpoint; ends when dropped.
pub struct Endpoint {
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Plays `play` for every request. A connection of HTTP/1.1 takes one of them.
    pub async fn start<F>(
        address: SocketAddr,
        version: Version,
        play: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("the address of an endpoint is free");
        let play = Arc::new(play);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).ok();
                let play = Arc::clone(&play);
                tokio::spawn(async move {
                    match version {
                        Version::One => serve_one(stream, &*play).await,
                        Version::Two => serve_two(stream, &*play).await,
                    }
                });
            }
        });
        Self { task }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_one<F: Future<Output = ()>>(stream: TcpStream, play: &impl Fn(Call) -> F) {
    let mut raw = Raw::over(Box::new(stream));
    let Ok(head) = h1::read_head(&mut raw).await else { return };
    let (method, path) = (head.word(0).to_owned(), head.word(1).to_owned());
    play(Call { method, path, headers: head.headers, wire: Wire::One(raw) }).await;
}

async fn serve_two<F>(stream: TcpStream, play: &impl Fn(Call) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = h2::server::Builder::new().enable_connect_protocol().handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(play(Call::two(request, respond)));
    }
}

/// A request at the endpoint.
pub struct Call {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Fields.
    pub headers: HeaderMap,
    wire: Wire,
}

enum Wire {
    One(Raw),
    Two(RecvStream, SendResponse<Bytes>),
}

impl Call {
    fn two(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Self { method: parts.method.to_string(), path, headers: parts.headers, wire: Wire::Two(body, respond) }
    }

    /// Reads the rest of the request: body and trailers. Of a body that is cut, nothing comes.
    pub async fn read(&mut self) -> (Bytes, HeaderMap) {
        self.read_whole().await.unwrap_or_default()
    }

    /// The same.
    ///
    /// # Errors
    /// How the body was cut.
    pub async fn read_whole(&mut self) -> Result<(Bytes, HeaderMap), Failure> {
        match &mut self.wire {
            Wire::One(raw) => Ok(h1::read_body(raw, &self.headers, false).await?),
            Wire::Two(body, _) => {
                let mut all = Vec::new();
                while let Some(data) = body.data().await {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    all.extend_from_slice(&data);
                }
                Ok((all.into(), body.trailers().await?.unwrap_or_default()))
            }
        }
    }

    /// An answer before the answer.
    pub async fn interim(&mut self, status: u16, headers: &[(&'static str, &'static str)]) {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: HeaderMap = headers.collect();
        match &mut self.wire {
            Wire::One(raw) => {
                raw.send(h1::head(&format!("HTTP/1.1 {status} Interim"), &headers)).await.unwrap_or_default()
            }
            Wire::Two(_, respond) => {
                let mut response = Response::builder().status(status).body(()).expect("a head");
                *response.headers_mut() = headers;
                respond.send_informational(response).expect("an interim answer");
            }
        }
    }

    /// Answers, and reads what still comes of the request until the other side is done.
    pub async fn answer(mut self, answer: Answer) {
        let bodiless = self.method == "HEAD" || matches!(answer.status, 204 | 304);
        let mut headers = answer.headers;
        match &mut self.wire {
            Wire::One(raw) => {
                headers.insert("connection", HeaderValue::from_static("close"));
                let chunked = !answer.trailers.is_empty();
                if chunked {
                    headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
                } else if answer.status != 204 && !headers.contains_key("content-length") {
                    headers.insert("content-length", answer.body.len().into());
                }
                let mut bytes = h1::head(&format!("HTTP/1.1 {} Answer", answer.status), &headers).into_bytes();
                if !bodiless && chunked {
                    if !answer.body.is_empty() {
                        bytes.extend(h1::chunk(&answer.body));
                    }
                    bytes.extend(h1::last_chunk(&answer.trailers).into_bytes());
                } else if !bodiless {
                    bytes.extend(answer.body);
                }
                raw.send(bytes).await.ok();
                raw.finish().await;
                raw.hear(LINGER).await;
            }
            Wire::Two(_, respond) => {
                let mut response = Response::builder().status(answer.status).body(()).expect("a head");
                *response.headers_mut() = headers;
                let ended = bodiless || (answer.body.is_empty() && answer.trailers.is_empty());
                let Ok(mut stream) = respond.send_response(response, ended) else { return };
                if ended || tunnel::send_all(&mut stream, answer.body).await.is_err() {
                    return;
                }
                if answer.trailers.is_empty() {
                    stream.send_data(Bytes::new(), true).ok();
                } else {
                    stream.send_trailers(answer.trailers).ok();
                }
            }
        }
    }

    /// Takes the upgrade to a WebSocket.
    pub async fn accept(mut self) -> Socket {
        let protocol = self.headers.remove("sec-websocket-protocol").unwrap_or(HeaderValue::from_static("none"));
        let stream: Box<dyn crate::tls_peer::Stream> = match self.wire {
            Wire::One(mut raw) => {
                assert_eq!(
                    (self.method.as_str(), &self.headers["upgrade"]),
                    ("GET", &HeaderValue::from_static("websocket"))
                );
                let accept = derive_accept_key(self.headers["sec-websocket-key"].as_bytes());
                let mut headers = HeaderMap::new();
                headers.insert("connection", HeaderValue::from_static("Upgrade"));
                headers.insert("upgrade", HeaderValue::from_static("websocket"));
                headers.insert("sec-websocket-accept", HeaderValue::from_str(&accept).expect("base64"));
                headers.insert("sec-websocket-protocol", protocol);
                raw.send(h1::head("HTTP/1.1 101 Switching Protocols", &headers)).await.ok();
                raw.into_stream()
            }
            Wire::Two(body, mut respond) => {
                assert_eq!(self.method, "CONNECT");
                let response = Response::builder().header("sec-websocket-protocol", protocol).body(()).expect("a head");
                let stream = respond.send_response(response, false).expect("an answer");
                Box::new(tunnel::bytes(stream, body))
            }
        };
        WebSocketStream::from_raw_socket(stream, Role::Server, None).await
    }

    /// Ends without an answer: the connection of HTTP/1.1 is closed, the stream of HTTP/2 reset.
    pub async fn hang_up(self) {
        match self.wire {
            Wire::One(raw) => raw.into_stream().shutdown().await.unwrap_or_default(),
            Wire::Two(_, mut respond) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        }
    }
}

const LINGER: Duration = Duration::from_secs(5);
