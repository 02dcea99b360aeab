//! The stream that pingora reads from and writes to: TCP or TLS, below it our buffers, beside it what we know of it.

use std::{
    io,
    os::fd::AsRawFd,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use async_trait::async_trait;
use pingora::{
    http::ResponseHeader,
    protocols::{
        ALPN, Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
        TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
    },
};
use tls::stream::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::watch,
};

use super::{
    deadline::Timer,
    facts::{Arrival, Facts, Framing, TlsFacts},
    framing::HeadScan,
};

/// Most bytes of a request head that are read at all. Heads between the limit that the early filter enforces and this
/// one get the same 431, from here.
const HEAD_BYTES: usize = 96 * 1024;

/// A head that cannot be finished: too large.
const TOO_LARGE: (&str, &str) =
    ("431 Request Header Fields Too Large", "the request head has more than 60 KiB or 100 headers");
/// A head that cannot be finished: too slow.
const TOO_SLOW: (&str, &str) =
    ("408 Request Timeout", "the request head was not complete within 10 s of its first byte");

/// See the module.
pub(crate) struct Connection {
    stream: Stream<TcpStream>,
    facts: Arc<Facts>,
    digest: Arc<ProxyDigest>,
    timer: Timer,
    /// Bytes that may still be read before the head is complete; only counted while the head deadline is armed.
    head_left: usize,
    h2: bool,
    /// Upstream: fails when nobody can ask for this connection any more.
    in_use: Option<watch::Receiver<()>>,
    retired: Option<Retired>,
}

/// Resolves when a kept connection has to go.
type Retired = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("facts", &self.facts).field("h2", &self.h2).finish_non_exhaustive()
    }
}

impl Connection {
    /// Joins a transport with its facts.
    pub(crate) fn new(stream: Stream<TcpStream>, facts: Facts, h2: bool) -> Self {
        let facts = Arc::new(facts);
        // pingora carries connection facts to its filters in the record of a CONNECT proxy, which has a free slot.
        let response = Box::new(ResponseHeader::build(200, Some(0)).expect("200 is a status"));
        let digest = Arc::new(ProxyDigest::new(response, Some(Box::new(Arc::clone(&facts)))));
        Self { stream, facts, digest, timer: Timer::default(), head_left: HEAD_BYTES, h2, in_use: None, retired: None }
    }

    /// For upstream connections: between requests, it closes once `in_use` fails.
    pub(crate) fn kept_while(mut self, in_use: watch::Receiver<()>) -> Self {
        self.in_use = Some(in_use);
        self
    }

    /// Whether this is a kept connection that nobody can ask for any more.
    fn poll_retired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.h2 || self.facts.busy.load(Ordering::Relaxed) {
            self.retired = None;
            return Poll::Pending;
        }
        let Some(in_use) = &self.in_use else { return Poll::Pending };
        let retired = self.retired.get_or_insert_with(|| {
            let mut in_use = in_use.clone();
            Box::pin(async move { while in_use.changed().await.is_ok() {} })
        });
        retired.as_mut().poll(cx)
    }

    /// What is known of it.
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// True when HTTP/2 was agreed on.
    pub(crate) fn is_h2(&self) -> bool {
        self.h2
    }

    /// Begins a request: from here to the end of its head, bytes are counted and the deadline holds.
    pub(crate) fn begin_head(&mut self, within: std::time::Duration) {
        self.head_left = HEAD_BYTES;
        self.facts.deadline.arm(within);
        *self.facts.framing() = Framing::Head(HeadScan::default());
    }

    /// Waits for the first byte of the next request, at most `idle`. `false`: the client is gone, or has nothing to say.
    pub(crate) async fn readable(&mut self, idle: std::time::Duration) -> bool {
        self.facts.deadline.arm(idle);
        let result = std::future::poll_fn(|cx| {
            let polled = self.stream.poll_readable(cx);
            if polled.is_pending() && self.timer.poll(&self.facts.deadline, cx).is_ready() {
                return Poll::Ready(Ok(false));
            }
            polled
        });
        result.await.unwrap_or(false)
    }

    /// Request bytes on their way to the parser: bounded while they are a head, strict while they are chunks.
    fn check_framing(&mut self, cx: &mut Context<'_>, read: &[u8]) -> io::Result<()> {
        let facts = Arc::clone(&self.facts);
        let mut framing = facts.framing();
        match &mut *framing {
            Framing::Off => Ok(()),
            Framing::Chunked(body) => body.feed(read).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.0)),
            Framing::Head(scan) => {
                let fits = scan.feed(read) && read.len() <= self.head_left;
                self.head_left = self.head_left.saturating_sub(read.len());
                if fits {
                    return Ok(());
                }
                drop(framing);
                Err(self.give_up_head(cx, TOO_LARGE, io::ErrorKind::InvalidData))
            }
        }
    }

    /// The head cannot be finished: say so, as far as the socket takes it at once, and fail the read.
    fn give_up_head(&mut self, cx: &mut Context<'_>, (status, why): (&str, &str), kind: io::ErrorKind) -> io::Error {
        self.facts.deadline.disarm();
        let downstream_h1 = !self.h2 && !matches!(self.facts.arrival, Arrival::Upstream);
        if downstream_h1 {
            let answer = format!(
                "HTTP/1.1 {status}\r\nserver: istio-envoy\r\ncontent-type: text/plain\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n{why}",
                why.len()
            );
            if Pin::new(&mut self.stream).poll_write(cx, answer.as_bytes()).is_ready() {
                let _ = self.stream.poll_flush_all(cx);
            }
        }
        kind.into()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, out);
        if polled.is_pending() {
            if this.timer.poll(&this.facts.deadline, cx).is_ready() {
                return Poll::Ready(Err(this.give_up_head(cx, TOO_SLOW, io::ErrorKind::TimedOut)));
            }
            if this.in_use.is_some() && this.poll_retired(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
        } else if !this.h2 && !matches!(this.facts.arrival, Arrival::Upstream) {
            this.check_framing(cx, &out.filled()[before..])?;
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.facts.corked.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        this.stream.poll_flush_all(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_close(cx)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Connection {
    /// The real descriptor: pingora's pool compares the peer address of a pooled connection by it.
    fn id(&self) -> UniqueIDType {
        self.stream.get_ref().as_raw_fd()
    }
}

impl Ssl for Connection {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.h2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Connection {}

/// The facts of the connection that a digest belongs to.
pub(crate) fn facts_of(digest: Option<&Digest>) -> Option<&Arc<Facts>> {
    digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Facts>>()
}

/// Facts and TLS facts of a server-side handshake.
pub(crate) fn server_facts(mut facts: Facts, stream: &Stream<TcpStream>) -> Facts {
    let mut found = TlsFacts { sni: stream.sni().unwrap_or_default().into(), ..TlsFacts::default() };
    if let Some(own) = &stream.local {
        found.own = Arc::clone(own);
    }
    if let Some(peer) = &stream.peer {
        if let Some(spiffe) = &peer.spiffe {
            found.peer = Arc::clone(spiffe);
        }
        let include = match facts.arrival {
            Arrival::Gateway { .. } => tls::xfcc::Include::GATEWAY,
            _ => tls::xfcc::Include::SIDECAR,
        };
        let element = tls::xfcc::element(peer, stream.local.as_deref(), include);
        found.client_certificate = http::HeaderValue::try_from(element).ok();
    }
    facts.tls = Some(found);
    facts
}
