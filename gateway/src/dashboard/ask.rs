//! Asking one proxy.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Bytes of one answer.
const MOST: usize = 16 << 20;

/// A proxy that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What people call it, as long as it has not said its name.
    pub(crate) name: String,
    /// How to reach it.
    pub(crate) way: Way,
}

/// How to reach a proxy's admin pages.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// At this address of this machine.
    Address(SocketAddr),
    /// Within this pod (namespace, name), through the API server.
    Pod(String, String),
}

impl Target {
    /// At an address of this machine.
    pub(crate) fn at(address: SocketAddr, name: impl Into<String>) -> Self {
        Self { name: name.into(), way: Way::Address(address) }
    }

    /// What names it in questions.
    pub(super) fn id(&self) -> String {
        match &self.way {
            Way::Address(address) => address.to_string(),
            Way::Pod(namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

/// Asks at an address.
pub(super) async fn at(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nobody listens on {address}"))?;
    over(stream, path).await
}

/// Asks over a connection that is there.
pub(super) async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors are those of the request; dropping this ends it.
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(path).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let reply = sender.send_request(request).await?;
    let status = reply.status();
    let body = Limited::new(reply.into_body(), MOST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading what it answers: {error}"))?;
    Ok((status, body.to_bytes()))
}
