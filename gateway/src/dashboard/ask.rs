//! Asking one proxy, over a connection that is kept until the next look.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::Instant,
};

/// A connection is kept for the next look, and given up well before the other side does so.
const KEPT: Duration = Duration::from_secs(7);

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
    /// At this address within the network namespace of a process of this machine.
    Inside(u32, SocketAddr),
    /// Within this pod (namespace, name), through the API server.
    Pod(String, String),
}

impl Target {
    /// At an address of this machine.
    pub(crate) fn at(address: SocketAddr, name: impl Into<String>) -> Self {
        Self { name: name.into(), way: Way::Address(address) }
    }

    /// At an address within the network namespace of `process`.
    pub(crate) fn inside(process: u32, address: SocketAddr, name: impl Into<String>) -> Self {
        Self { name: name.into(), way: Way::Inside(process, address) }
    }

    /// What names it in questions.
    pub(super) fn id(&self) -> String {
        match &self.way {
            Way::Address(address) | Way::Inside(_, address) => address.to_string(),
            Way::Pod(namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

/// A connection to a proxy's admin pages; its bytes are carried as long as this lives.
struct Line {
    sender: SendRequest<Empty<Bytes>>,
    _driver: JoinSet<()>,
    used: Instant,
}

/// Connections that are kept, by target.
#[derive(Default)]
pub(super) struct Lines(Mutex<HashMap<String, Line>>);

impl Lines {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that may still serve.
    fn take(&self, id: &str) -> Option<Line> {
        let mut kept = self.kept();
        kept.retain(|_, line| line.used.elapsed() < KEPT && !line.sender.is_closed());
        kept.remove(id)
    }

    fn keep(&self, id: String, mut line: Line) {
        line.used = Instant::now();
        self.kept().insert(id, line);
    }

    /// Asks for `path`: over what is kept, else over what `connect` gives. `most`: bytes of an answer that is read.
    pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        id: String,
        (path, most): (&str, usize),
        connect: impl Future<Output = Result<S>>,
    ) -> Result<(StatusCode, Bytes)> {
        if let Some(mut line) = self.take(&id)
            && line.sender.ready().await.is_ok()
            // It may have ended just now: then nothing was answered, and a new one is asked.
            && let Ok(answer) = line.get(path).await
        {
            let told = read(answer, most).await?;
            self.keep(id, line);
            return Ok(told);
        }
        let mut line = Line::over(connect.await?).await?;
        let answer = line.get(path).await?;
        let told = read(answer, most).await?;
        self.keep(id, line);
        Ok(told)
    }
}

impl Line {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        // Its errors are those of the request.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { sender, _driver: driver, used: Instant::now() })
    }

    async fn get(&mut self, path: &str) -> Result<http::Response<hyper::body::Incoming>> {
        let request = Request::get(path).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
        Ok(self.sender.send_request(request).await?)
    }
}

async fn read(reply: http::Response<hyper::body::Incoming>, most: usize) -> Result<(StatusCode, Bytes)> {
    let status = reply.status();
    let body = Limited::new(reply.into_body(), most).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return anyhow!("it tells more than {} KiB, which are not read", most >> 10);
        }
        anyhow!("reading what it answers: {error}")
    });
    Ok((status, body?.to_bytes()))
}

/// A connection to an address of this machine.
pub(super) async fn at(address: SocketAddr) -> Result<tokio::net::TcpStream> {
    tokio::net::TcpStream::connect(address).await.with_context(|| format!("nobody listens on {address}"))
}
