//! Calling: one message there and one back, or streams of them.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use routing::fault::GRPC_CODES;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    frame::{self, Broken, PREFIX, frame},
    status::unescape,
    timeout,
};

/// A peer that says nothing is asked whether it is there, as long as there is a call.
const ASK: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The connection failed, in words.
    Broken(String),
    /// There is no message within this time.
    Silent(Duration),
    /// It is no gRPC that answers.
    NotGrpc(u16),
    /// The peer says no, by its number and in its own words.
    Status(u16, String),
    /// What came is not a message of this call.
    Malformed(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) => f.write_str(why),
            Self::Silent(limit) => write!(f, "it gives no answer within {} s", limit.as_secs()),
            Self::NotGrpc(status) => write!(f, "it answers with {status}, and not by gRPC"),
            Self::Status(code, words) if words.is_empty() => f.write_str(name(*code)),
            Self::Status(code, words) => write!(f, "{}: {}", name(*code), words.escape_debug()),
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

/// gRPC's name of a code.
fn name(code: u16) -> &'static str {
    GRPC_CODES.get(usize::from(code)).copied().unwrap_or("a status that gRPC does not know")
}

/// A connection over which calls are made. It ends with this.
pub(crate) struct Channel {
    send: SendRequest<Questions>,
    scheme: &'static str,
    authority: String,
    driver: JoinHandle<()>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Channel {
    /// Over a transport on which HTTP/2 is agreed. `whom`: scheme and authority of what is asked.
    ///
    /// # Errors
    /// [`Failure::Broken`].
    pub(crate) async fn over<IO>(io: IO, (scheme, authority): (&'static str, &str)) -> Result<Self, Failure>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(ASK).keep_alive_timeout(PATIENCE);
        let (send, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|error| broken(&error))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Whoever calls is told by his call.
                tracing::debug!(%error, "a connection for calls has ended");
            }
        });
        Ok(Self { send, scheme, authority: authority.to_owned(), driver })
    }

    /// One message there and one back, of at most so many bytes.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn unary<A: Message + Default>(
        &mut self,
        path: &'static str,
        metadata: HeaderMap,
        question: &impl Message,
        (limit, most): (Duration, usize),
    ) -> Result<A, Failure> {
        let mut metadata = metadata;
        if let Ok(value) = HeaderValue::from_str(&timeout::write(limit)) {
            metadata.insert("grpc-timeout", value);
        }
        let exchange = async {
            let mut call = self.call(path, metadata, question, Says::Once(most)).await?;
            let answer = call.hear().await?.ok_or(Failure::Malformed("an answer of gRPC without a message"))?;
            match call.hear::<A>().await? {
                None => Ok(answer),
                Some(_) => Err(Failure::Malformed("several answers where one is expected")),
            }
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(Failure::Silent(limit)))
    }

    /// Begins a call with its first message, and waits for the head of the answer. Without a deadline of its own.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn call(
        &mut self,
        path: &'static str,
        metadata: HeaderMap,
        question: &impl Message,
        says: Says,
    ) -> Result<Call, Failure> {
        let (said, questions) = mpsc::unbounded_channel();
        let uri = format!("{}://{}{path}", self.scheme, self.authority);
        let mut request = Request::new(Questions(questions));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.parse().map_err(|_| Failure::Broken(format!("`{}` is no host", self.authority)))?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = metadata;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
        let (Says::Once(most) | Says::More(most)) = says;
        let mut call = Call { said: Some(said), heard: None, held: BytesMut::new(), most };
        call.say(question);
        if let Says::Once(_) = says {
            // Many a server does not begin to answer before it has heard that this is all.
            call.said = None;
        }
        self.send.ready().await.map_err(|error| broken(&error))?;
        let answer = self.send.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = answer.into_parts();
        let grpc = head.headers.get(header::CONTENT_TYPE);
        let grpc = grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if head.status != StatusCode::OK || !grpc {
            return Err(Failure::NotGrpc(head.status.as_u16()));
        }
        // What has no message says its status in the head.
        if head.headers.contains_key("grpc-status") {
            ended(&head.headers)?;
        } else {
            call.heard = Some(body);
        }
        Ok(call)
    }
}

/// How much is said in a call, and the most bytes that a message of the answer may have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    /// The first message is all.
    Once(usize),
    /// There may be more.
    More(usize),
}

/// A call under way.
pub(crate) struct Call {
    /// `None`: all is said.
    said: Option<mpsc::UnboundedSender<Bytes>>,
    /// `None`: all is heard.
    heard: Option<Incoming>,
    held: BytesMut,
    most: usize,
}

impl Call {
    /// One message more. What a peer that has gone is told is lost; hearing tells why.
    pub(crate) fn say(&self, message: &impl Message) {
        if let Some(said) = &self.said {
            drop(said.send(frame(message).into()));
        }
    }

    /// The next message; `None`: the call has ended as it should. Cancel safe.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn hear<A: Message + Default>(&mut self) -> Result<Option<A>, Failure> {
        loop {
            if let Some(size) = frame::length(&self.held).map_err(malformed)? {
                if size > self.most {
                    return Err(Failure::Malformed("a message that is larger than any of this call may be"));
                }
                if self.held.len() >= PREFIX + size {
                    self.held.advance(PREFIX);
                    let message = self.held.split_to(size);
                    return A::decode(message).map(Some).map_err(|_| malformed(Broken::Unreadable));
                }
            }
            let Some(body) = &mut self.heard else { return Ok(None) };
            let Some(part) = body.frame().await else {
                return Err(Failure::Malformed("an answer of gRPC without a status"));
            };
            match part.map_err(|error| broken(&error))?.into_data() {
                Ok(data) => self.held.extend_from_slice(&data),
                Err(last) => {
                    self.heard = None;
                    ended(last.trailers_ref().unwrap_or(&HeaderMap::new()))?;
                    if !self.held.is_empty() {
                        return Err(malformed(Broken::NotOne));
                    }
                }
            }
        }
    }
}

/// Whether a call has ended as it should, by its trailers.
fn ended(trailers: &HeaderMap) -> Result<(), Failure> {
    let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
    match status {
        Some(0) => Ok(()),
        Some(code) => {
            let words = trailers.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
            Err(Failure::Status(code, unescape(words)))
        }
        None => Err(Failure::Malformed("an answer of gRPC without a status")),
    }
}

fn malformed(broken: Broken) -> Failure {
    Failure::Malformed(match broken {
        Broken::Missing => "an answer of gRPC without a message",
        Broken::Compressed => "an answer that is compressed, which nobody asked for",
        Broken::NotOne => "an answer of gRPC that ends in the middle of a message",
        Broken::Unreadable => "a message that cannot be read",
    })
}

/// Why a connection failed: the innermost cause.
fn broken(error: &hyper::Error) -> Failure {
    let mut inner: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    if let Some(error) = inner.downcast_ref::<std::io::Error>().and_then(tls::Error::of_io) {
        return Failure::Broken(error.to_string());
    }
    Failure::Broken(format!("the connection failed: {inner}"))
}

/// What is said, as a body.
struct Questions(mpsc::UnboundedReceiver<Bytes>);

impl Body for Questions {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|said| said.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests;
