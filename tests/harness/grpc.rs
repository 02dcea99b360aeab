//! gRPC by hand: frames over an h2 connection, so that trailers and resets are seen as they are.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest, handshake},
};
use http::{HeaderMap, Request};
use tokio::time::timeout;

use crate::client::{Client, Failure};

/// A channel: one HTTP/2 connection.
pub struct Grpc {
    sender: SendRequest<Bytes>,
    origin: String,
}

/// A finished call.
#[derive(Debug)]
pub struct Outcome {
    /// HTTP status.
    pub http_status: u16,
    /// `grpc-status`, out of trailers, or out of headers when there was no body; `None` = none came.
    pub status: Option<u16>,
    /// `grpc-message`.
    pub message: String,
    /// True when the head ended the stream ("Trailers-Only").
    pub trailers_only: bool,
    /// Messages received.
    pub messages: Vec<Bytes>,
    /// Response headers.
    pub headers: HeaderMap,
    /// Trailers; empty = trailers-only or none.
    pub trailers: HeaderMap,
}

impl Grpc {
    /// Connects; `origin` is `http://host:port` or `https://host`: SNI and `:authority`.
    ///
    /// # Errors
    /// When the connection or a handshake fails.
    pub async fn connect(client: &Client, origin: &str) -> Result<Self, Failure> {
        let host = origin.parse::<http::Uri>()?.host().unwrap_or_default().to_owned();
        let (sender, driver) = handshake(client.dial(&host).await?).await?;
        tokio::spawn(async move { drop(driver.await) });
        Ok(Self { sender, origin: origin.to_owned() })
    }

    /// Calls `path` (`/package.Service/Method`) with one message and reads to the end.
    ///
    /// # Errors
    /// When the stream was reset or nothing comes in time.
    pub async fn unary(&self, path: &str, message: &str) -> Result<Outcome, Failure> {
        let mut call = self.open(path).await?;
        call.send(message)?;
        call.finish()?;
        timeout(PATIENCE, call.outcome()).await?
    }

    /// Starts a call that stays open in both directions.
    ///
    /// # Errors
    /// When the connection takes no more streams.
    pub async fn open(&self, path: &str) -> Result<Call, Failure> {
        let request = Request::post(format!("{}{path}", self.origin))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut sender = self.sender.clone().ready().await?;
        let (answer, stream) = sender.send_request(request, false)?;
        Ok(Call { stream, answer: Some(answer), head: None, trailers_only: false, body: None, buffer: BytesMut::new() })
    }
}

/// An open call.
pub struct Call {
    stream: SendStream<Bytes>,
    answer: Option<ResponseFuture>,
    head: Option<(u16, HeaderMap)>,
    trailers_only: bool,
    body: Option<RecvStream>,
    buffer: BytesMut,
}

impl Call {
    /// Sends one message.
    ///
    /// # Errors
    /// When the stream was reset.
    pub fn send(&mut self, message: &str) -> Result<(), Failure> {
        Ok(self.stream.send_data(frame(message.as_bytes()), false)?)
    }

    /// Ends the sending side.
    ///
    /// # Errors
    /// When the stream was reset.
    pub fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.stream.send_data(Bytes::new(), true)?)
    }

    /// Sends a message and waits for the next one back.
    ///
    /// # Errors
    /// When the stream was cut, or nothing comes in time.
    pub async fn ask(&mut self, message: &str) -> Result<String, Failure> {
        self.send(message)?;
        let answer = timeout(PATIENCE, self.next()).await??.ok_or("the gRPC stream ended")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The next message; `None` = the peer is done.
    ///
    /// # Errors
    /// When the stream was cut.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.head().await?;
        loop {
            if let Some(message) = unframe(&mut self.buffer) {
                return Ok(Some(message));
            }
            let body = self.body.as_mut().ok_or("no body")?;
            let Some(data) = body.data().await else { return Ok(None) };
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            self.buffer.put(data);
        }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// When the stream was cut.
    pub async fn outcome(mut self) -> Result<Outcome, Failure> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await? {
            messages.push(message);
        }
        let trailers = match &mut self.body {
            Some(body) => body.trailers().await?.unwrap_or_default(),
            None => HeaderMap::new(),
        };
        let (http_status, headers) = self.head.take().unwrap_or_default();
        let find = |name: &str| trailers.get(name).or_else(|| headers.get(name))?.to_str().ok().map(str::to_owned);
        let status = find("grpc-status").and_then(|text| text.parse().ok());
        let message = find("grpc-message").unwrap_or_default();
        let trailers_only = self.trailers_only;
        Ok(Outcome { trailers_only, http_status, status, message, messages, headers, trailers })
    }

    async fn head(&mut self) -> Result<(), Failure> {
        if let Some(answer) = self.answer.take() {
            let (parts, body) = answer.await?.into_parts();
            self.head = Some((parts.status.as_u16(), parts.headers));
            self.trailers_only = body.is_end_stream();
            self.body = Some(body);
        }
        Ok(())
    }
}

/// A message with its five-byte prefix.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + PREFIX);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("messages of stories are short"));
    framed.put_slice(message);
    framed.freeze()
}

/// Takes the first whole message out of the buffer.
pub fn unframe(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(u32::from_be_bytes(buffer.get(1..PREFIX)?.try_into().ok()?)).ok()?;
    if buffer.len() < PREFIX + length {
        return None;
    }
    buffer.advance(PREFIX);
    Some(buffer.split_to(length).freeze())
}

const PREFIX: usize = 5;

const PATIENCE: Duration = Duration::from_secs(15);
