//! WebSocket clients.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::Uri;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{ClientRequestBuilder, Message},
};

use crate::{
    client::{Client, Failure},
    tls_peer::Stream,
};

/// An open WebSocket.
pub struct WebSocket {
    stream: WebSocketStream<Box<dyn Stream>>,
}

impl WebSocket {
    /// Opens one at `url` (`ws://host/path` or `wss://host/path`; the host becomes SNI and Host).
    ///
    /// # Errors
    /// When the connection or the upgrade fails.
    pub async fn open(client: &Client, url: &str) -> Result<Self, Failure> {
        let uri: Uri = url.parse()?;
        let stream = client.dial(uri.host().unwrap_or_default()).await?;
        let (stream, _) = timeout(PATIENCE, client_async(ClientRequestBuilder::new(uri), stream)).await??;
        Ok(Self { stream })
    }

    /// Sends a text and gives the text that comes back.
    ///
    /// # Errors
    /// When the socket was cut, or nothing comes in time.
    pub async fn ask(&mut self, text: &str) -> Result<String, Failure> {
        self.stream.send(Message::text(text)).await?;
        let answer = timeout(PATIENCE, self.stream.next()).await?.ok_or("the WebSocket was closed")??;
        Ok(answer.into_text()?.to_string())
    }

    /// Closes it properly.
    pub async fn close(&mut self) {
        self.stream.close(None).await.ok();
    }
}

const PATIENCE: Duration = Duration::from_secs(15);
