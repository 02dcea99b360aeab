//! The one stream type: a socket, plain or with TLS on it, and the bytes that wait on either side.
//!
//! ```text
//!   io --one read--> wire_in --open--> input --> consumed by a codec
//!   io <--one write-- wire_out <--seal-- out <-- filled by a codec
//! ```
//! Plain text has no `wire_*`: `input` and `out` are what the socket carries. Whoever writes decides when to flush, so that
//! everything that became ready in one wake-up is sealed at once and written with one system call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::{Buffer, SIZE};
use crate::client_chain::ClientChain;
use crate::identity::{self, PeerIdentity};
use crate::pace::Pace;
use crate::session::{Session, Wires};

/// Unsent bytes at which [`AsyncWrite::poll_write`] waits for the socket.
const HIGH: usize = 64 * 1024;
/// So many bytes are worth a record of their own.
const MANY: usize = 8 * 1024;
/// So many bytes of tickets wait for what is sent next: what fits into little memory.
const TICKETS: usize = 2 * 1024;
/// Least space for one read, bytes.
const READ: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Stream<IO> {
    io: IO,
    session: Option<Box<Session>>,
    wire_in: Buffer,
    input: Buffer,
    out: Buffer,
    wire_out: Buffer,
    pace: Pace,
    end: End,
    /// All that waits in `wire_out` are tickets for a later session: nobody waits for them, so they go with what is sent next,
    /// for which [`TICKETS`] leaves room behind them.
    tickets: bool,
    /// The server name that the client asked for, in lower case; `None` on our own connections.
    pub(crate) sni: Option<Box<str>>,
    /// Who the client is; `None` when it sent no certificate, and on our own connections.
    pub peer: Option<Arc<PeerIdentity>>,
    /// The own URI SAN, when a server showed the workload identity.
    pub local: Option<Arc<str>>,
}

/// How far a stream is in saying that no more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    /// What waits is the last.
    Near,
    /// It is said: nothing may be sealed any more.
    Said,
}

impl<IO> Stream<IO> {
    /// Plain text.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            session: None,
            wire_in: Buffer::default(),
            input: Buffer::default(),
            out: Buffer::default(),
            wire_out: Buffer::default(),
            pace: Pace::default(),
            end: End::Open,
            tickets: false,
            sni: None,
            peer: None,
            local: None,
        }
    }

    /// What carries the bytes.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    /// True with TLS.
    pub fn is_tls(&self) -> bool {
        self.session.is_some()
    }

    /// Plain bytes that have come and are not consumed.
    pub fn input(&self) -> &[u8] {
        self.input.as_slice()
    }

    /// Takes the oldest bytes of [`Self::input`] away.
    pub fn consume(&mut self, count: usize) {
        self.input.consume(count);
    }

    /// Plain bytes to send with the next flush.
    pub fn out(&mut self) -> &mut Buffer {
        &mut self.out
    }

    /// What has come and what goes out, to be looked at and written at once.
    pub fn both(&mut self) -> (&[u8], &mut Buffer) {
        (self.input.as_slice(), &mut self.out)
    }

    /// Bytes that the socket has not taken yet.
    pub fn unsent(&self) -> usize {
        self.out.len() + self.wire_out.len()
    }

    /// Whether the end of what the peer sends was said and not only seen: without TLS the two are the same.
    pub fn ended_properly(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.ended)
    }

    /// The protocol agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.session.as_ref()?.alpn()
    }

    /// The server name that the client asked for, in lower case; `None` on our own connections.
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// Whether the handshake was a resumption: no certificate was exchanged, the peer is who it was the first time.
    pub fn resumed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.resumed())
    }

    /// `TLSv1.3` or `TLSv1.2`, as Envoy's `%DOWNSTREAM_TLS_VERSION%`.
    pub fn version(&self) -> &'static str {
        self.session.as_ref().map_or("unknown", |session| session.version())
    }

    /// The cipher suite, as Envoy's `%DOWNSTREAM_TLS_CIPHER%`.
    pub fn cipher(&self) -> &'static str {
        self.session.as_ref().map_or("unknown", |session| session.cipher())
    }

    /// The peer's SPIFFE id; parsed at each call.
    pub fn peer_spiffe(&self) -> Option<Box<str>> {
        identity::spiffe_of(self.certificate()?)
    }

    /// What waits is the last: the flush that sends it says so, too, which else costs a write of its own.
    pub fn end(&mut self) {
        if self.end == End::Open {
            self.end = End::Near;
        }
    }

    fn is_handshaking(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// What the client has shown, when there was anything.
    pub fn client_chain(&self) -> Option<ClientChain> {
        let shown = self.session.as_ref()?.certificates()?;
        (!shown.is_empty()).then(|| ClientChain(shown.into()))
    }

    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        self.session.as_ref()?.certificates()?.first().map(AsRef::as_ref)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Stream<IO> {
    /// Reads once from the socket; more only when what came holds no plain byte. `false`: the peer sends no more.
    ///
    /// # Errors
    /// The socket's, or what is wrong with the records: [`crate::Error::from_io`] tells them apart.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let before = self.input.len();
        loop {
            if !ready!(self.poll_read_wire(cx))? {
                return Poll::Ready(Ok(false));
            }
            if self.input.len() > before {
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// Waits for bytes without taking them: `true` when there are some, `false` when the peer sends no more.
    ///
    /// # Errors
    /// As [`Self::poll_fill`].
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.input.is_empty() { self.poll_fill(cx) } else { Poll::Ready(Ok(true)) }
    }

    /// One read.
    fn poll_read_wire(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.session.as_ref().is_some_and(|session| session.ended) {
            return Poll::Ready(Ok(false));
        }
        let into = if self.session.is_some() { &mut self.wire_in } else { &mut self.input };
        let mut room = ReadBuf::new(into.room(READ));
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut room);
        let count = room.filled().len();
        into.filled(count);
        if polled.is_pending() {
            self.wire_in.settle();
            self.input.settle();
            return Poll::Pending;
        }
        ready!(polled)?;
        if count == 0 {
            return Poll::Ready(Ok(false));
        }
        let (shaking, waiting) = (self.is_handshaking(), self.wire_out.len());
        let opened = self.open();
        if self.wire_out.len() > waiting {
            // Those that hold a long chain of the client are not a little, and go at once.
            let little = self.wire_out.len() <= TICKETS;
            let given = self.session.as_ref().is_some_and(|it| it.has_given_tickets());
            self.tickets = shaking && little && given && opened.is_ok();
            if self.tickets {
                self.wire_out.settle();
            }
        }
        if !self.wire_out.is_empty() {
            // An answer of TLS itself (a key update, an alert): it goes out now or with the next flush.
            let written = self.poll_write_wire(cx);
            opened?;
            let _ = written?;
        } else {
            opened?;
        }
        Poll::Ready(Ok(!self.session.as_ref().is_some_and(|session| session.ended) || !self.input.is_empty()))
    }

    /// Looks at the records that have come.
    fn open(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        session
            .open(&mut Wires { incoming: &mut self.wire_in, plain: &mut self.input, outgoing: &mut self.wire_out })
            .map_err(invalid)?;
        // The beginning of a record: who reads what came before it may take his time.
        self.wire_in.settle();
        Ok(())
    }

    /// Seals and writes everything, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.session.is_some() && !self.out.is_empty() && self.wire_out.len() < SIZE {
                self.seal_out()?;
            }
            if self.end == End::Near && (self.session.is_none() || self.out.is_empty()) {
                self.say_end();
            }
            ready!(self.poll_write_wire(cx))?;
            if self.out.is_empty() {
                return Pin::new(&mut self.io).poll_flush(cx);
            }
        }
    }

    /// Sends bytes with the next flush, behind what waits already. Many of them are sealed where they are: that saves copying
    /// them once.
    ///
    /// # Errors
    /// When the connection has failed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.session.is_none() || bytes.len() < MANY || self.wire_out.len() >= SIZE {
            self.out.push(bytes);
            return Ok(());
        }
        self.seal_out()?;
        self.seal(bytes)
    }

    /// Passes bytes on from where they are, as many as can go now, and says how many: as plain text they are written without
    /// being copied, as TLS they are sealed once what waits is not too much. [`Self::poll_flush_all`] brings the rest of it on
    /// its way.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.session.is_none() && self.out.is_empty() {
            return Pin::new(&mut self.io).poll_write(cx, bytes);
        }
        if self.unsent() >= SIZE {
            ready!(self.poll_flush_all(cx))?;
        }
        let count = bytes.len().min(SIZE);
        if self.session.is_some() {
            self.seal_out()?;
            self.seal(&bytes[..count])?;
        } else {
            self.out.push(&bytes[..count]);
        }
        // What the socket does not take now waits.
        let _ = self.poll_write_wire(cx)?;
        Poll::Ready(Ok(count))
    }

    fn seal_out(&mut self) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.out);
        let sealed = self.seal(out.as_slice());
        // The same buffer again, which knows how much it had to hold.
        out.clear();
        self.out = out;
        sealed
    }

    fn seal(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        self.tickets = false;
        let wires = &mut Wires { incoming: &mut self.wire_in, plain: &mut self.input, outgoing: &mut self.wire_out };
        while !bytes.is_empty() {
            let (next, rest) = bytes.split_at(self.pace.next(bytes.len(), Instant::now));
            session.seal(next, wires).map_err(invalid)?;
            bytes = rest;
        }
        Ok(())
    }

    fn poll_write_wire(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tickets {
            return Poll::Ready(Ok(()));
        }
        let waiting = if self.session.is_some() { &mut self.wire_out } else { &mut self.out };
        while !waiting.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, waiting.as_slice()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => waiting.consume(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn say_end(&mut self) {
        self.end = End::Said;
        self.tickets = false;
        if let Some(session) = &mut self.session {
            // A connection that cannot say so any more (its handshake failed) just ends.
            let _ = session.close(&mut Wires {
                incoming: &mut self.wire_in,
                plain: &mut self.input,
                outgoing: &mut self.wire_out,
            });
        }
    }

    /// Sends what is left and says that no more comes; what the peer sends can still be read.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        ready!(self.poll_flush_all(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Reads and forgets what comes next from the socket, whatever it is. Returns how many bytes; 0 = the end.
    pub(crate) async fn discard(&mut self) -> usize {
        self.input.clear();
        let read = std::future::poll_fn(|cx| {
            let mut room = ReadBuf::new(self.input.room(READ));
            Pin::new(&mut self.io).poll_read(cx, &mut room).map_ok(|()| room.filled().len())
        });
        let count = read.await.unwrap_or(0);
        self.input.filled(0);
        count
    }

    /// Shakes hands, beginning with what has been read as plain text so far.
    ///
    /// # Errors
    /// The socket's, or why either side refused.
    pub(crate) async fn handshake(mut self, session: Session) -> Result<Self, (io::Error, Self)> {
        self.session = Some(Box::new(session));
        std::mem::swap(&mut self.wire_in, &mut self.input);
        let mut begun = false;
        let done = std::future::poll_fn(|cx| {
            loop {
                if !begun {
                    begun = true;
                    self.open()?;
                }
                // Not waited for: the peer may first want to be read.
                let flushed = self.poll_write_wire(cx)?;
                if !self.is_handshaking() {
                    return flushed.map(Ok);
                }
                // The end may come with the last that the handshake needs.
                if !ready!(self.poll_read_wire(cx))? && self.is_handshaking() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        })
        .await;
        match done {
            Ok(()) => Ok(self),
            Err(error) => {
                // The alert, if there is one: as far as the socket takes it at once.
                std::future::poll_fn(|cx| {
                    let _ = self.poll_write_wire(cx);
                    Poll::Ready(())
                })
                .await;
                Err((error, self))
            }
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.input.is_empty() && !ready!(this.poll_fill(cx))? && this.input.is_empty() {
            return Poll::Ready(if this.ended_properly() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
        }
        let count = this.input.len().min(buf.remaining());
        buf.put_slice(&this.input.as_slice()[..count]);
        this.input.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent() >= HIGH {
            ready!(this.poll_flush_all(cx))?;
        }
        let count = buf.len().min(HIGH);
        this.out.push(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush_all(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(cx)
    }
}
