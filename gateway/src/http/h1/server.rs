//! The side towards a client that speaks HTTP/1.1.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tls::{buffer::Buffer, stream::Stream};
use tokio::{net::TcpStream, sync::watch};

use super::{
    body::{Body, Next},
    read::{self, Scan},
    write::{self, Framing},
};
use crate::{
    http::{
        failure::Failure,
        flow::{Broken, Piece, Sink, Source},
        head::{Head, Upgrade},
        limits::{EMPTY_LINES, HEAD, HIGH},
        linger::Linger,
        wire::Wire,
    },
    live::Live,
    net::{
        connection::Connection,
        deadline::Deadline,
        facts::Facts,
        listen::Standing,
        standing::{Outlived, holds, overdue},
    },
};

/// One connection, with the request that is on it.
pub(crate) struct Server {
    stream: Stream<TcpStream>,
    standing: watch::Receiver<Standing>,
    /// What is known of it.
    pub(crate) facts: Rc<Facts>,
    /// Reached by whatever waits on this connection.
    pub(crate) deadline: Deadline,
    scan: Scan,
    /// Empty lines since the last request.
    empty: u8,
    /// The request's.
    body: Body,
    /// Bytes of content at the front of the input.
    ready: usize,
    /// The response's.
    framing: Framing,
    /// The connection has become a tunnel.
    tunnel: bool,
    /// Our side of the tunnel has ended.
    ending: bool,
    /// The answer is the connection's last.
    last: bool,
    /// What the request and its answer have moved.
    pub(crate) wire: Wire,
}

/// What came instead of a request head.
pub(crate) enum NoHead {
    /// The client is gone; nobody is left to be told.
    Gone,
    /// What it sent is refused.
    Refused(Failure),
}

impl Server {
    pub(crate) fn new(connection: Box<Connection>, mut standing: watch::Receiver<Standing>) -> Self {
        // What was said before it came is not news to it.
        standing.mark_unchanged();
        let Connection { stream, facts, .. } = *connection;
        Self {
            stream,
            standing,
            facts,
            deadline: Deadline::default(),
            scan: Scan::default(),
            empty: 0,
            body: Body::default(),
            ready: 0,
            framing: Framing::default(),
            tunnel: false,
            ending: false,
            last: false,
            wire: Wire::default(),
        }
    }

    /// Waits for the first byte of a request. `false`: there will be none, in time.
    ///
    /// Some clients send an empty line behind a body (RFC 9112 section 2.2): it begins no request, however many reads it
    /// comes in. After a few of them whatever comes is looked at as a request.
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            let more = match self.stream.input() {
                [b'\r', b'\n', ..] if self.empty < EMPTY_LINES => {
                    self.stream.consume(2);
                    self.empty += 1;
                    continue;
                }
                [] | [b'\r'] => self.stream.poll_fill(cx),
                _ => return Poll::Ready(true),
            };
            match more {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(false),
                Poll::Pending => return self.deadline.poll(cx).map(|()| false),
            }
        }
    }

    /// Reads a request head, its first byte being there.
    ///
    /// # Errors
    /// [`NoHead`].
    pub(crate) async fn read_head(&mut self, head: &mut Head) -> Result<(), NoHead> {
        self.deadline.arm(HEAD);
        self.scan = Scan::default();
        self.empty = 0;
        self.wire = Wire::default();
        read::begins_request(self.stream.input()).map_err(NoHead::Refused)?;
        poll_fn(|cx| {
            loop {
                match self.scan.end(self.stream.input()) {
                    Err(failure) => return Poll::Ready(Err(NoHead::Refused(failure))),
                    Ok(Some(end)) => {
                        let read = read::request(&self.stream.input()[..end], head);
                        self.stream.consume(end);
                        self.wire.receive_head(end);
                        self.body = Body::new(head.length);
                        self.ready = 0;
                        return Poll::Ready(read.map_err(NoHead::Refused));
                    }
                    Ok(None) => {}
                }
                match self.stream.poll_fill(cx) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Err(NoHead::Gone)),
                    Poll::Pending if self.deadline.poll(cx).is_ready() => {
                        return Poll::Ready(Err(NoHead::Refused(Failure::HeadTimeout)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Sends the head of the answer with the next flush; `close` says that it is the last one.
    pub(crate) fn send_head(&mut self, head: &Head, close: bool) {
        self.framing = write_head(&mut self.stream, &mut self.wire, |out| write::response(head, close, out));
        self.last = close;
        if head.upgrade == Some(Upgrade::WebSocket) {
            self.tunnel = true;
            self.body = Body::until_close();
        }
    }

    /// An answer before the answer (RFC 9110 section 15.2).
    pub(crate) fn send_interim(&mut self, head: &Head) {
        write_head(&mut self.stream, &mut self.wire, |out| write::response(head, false, out));
    }

    /// Ready when the client has gone while nothing is read of it.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // More of the body, or the next request, may be here already; more than that is not read yet.
        if self.stream.input().len() >= HIGH / 4 {
            return Poll::Pending;
        }
        match ready!(self.stream.poll_fill(cx)) {
            Ok(true) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(false) | Err(_) => Poll::Ready(()),
        }
    }

    /// Bytes that the socket has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.stream.unsent()
    }

    /// Whether its listener takes no new connections.
    pub(crate) fn is_closing(&self) -> bool {
        self.standing.borrow().closing
    }

    /// Whether it has turned out during this request that it is the last one.
    pub(crate) fn is_last(&mut self, live: &Live) -> bool {
        if !self.standing.has_changed().unwrap_or(false) {
            return false;
        }
        self.standing.borrow_and_update().closing || !holds(&live.pin(), &self.facts)
    }

    /// Becomes ready when it has gone on for too long under a rule, or from a listener, that is no more.
    pub(crate) fn overdue(&self, live: &Arc<Live>, grace: Duration) -> impl Future<Output = Outlived> + use<> {
        overdue(Arc::clone(live), Rc::clone(&self.facts), self.standing.clone(), grace)
    }

    /// Whether the request was read to its end.
    pub(crate) fn is_read(&self) -> bool {
        self.body.is_done()
    }

    /// Ends the connection so that the last answer arrives.
    pub(crate) async fn close(mut self) {
        let mut linger = Linger::default();
        poll_fn(|cx| linger.poll(&mut self.stream, cx)).await;
    }
}

impl Source for Server {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        poll_body(&mut self.stream, &mut self.body, &mut self.ready, &mut self.wire, cx)
    }

    fn give(&mut self, count: usize, to: impl FnOnce(&[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        to(&self.stream.input()[..count])?;
        self.stream.consume(count);
        self.wire.received += count as u64;
        self.body.took(count);
        self.ready -= count;
        Ok(())
    }

    fn trailers(&self) -> Option<&Head> {
        self.body.trailers.as_deref()
    }
}

impl Sink for Server {
    fn poll_room(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<usize, Broken>> {
        poll_room(&mut self.stream, cx)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        send(&mut self.stream, bytes, self.framing, &mut self.wire)
    }

    fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
        write_head(&mut self.stream, &mut self.wire, |out| write::end(trailers, self.framing, out));
        self.ending = self.tunnel;
        if self.last {
            self.stream.end();
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        poll_flush(&mut self.stream, self.ending, cx)
    }
}

/// Writes a head, or what ends a body.
pub(super) fn write_head<T>(
    stream: &mut Stream<TcpStream>,
    wire: &mut Wire,
    write: impl FnOnce(&mut Buffer) -> T,
) -> T {
    let before = stream.out().len();
    let written = write(stream.out());
    wire.send_head(stream.out().len() - before);
    written
}

/// The next content of a body that comes over HTTP/1.1.
pub(super) fn poll_body(
    stream: &mut Stream<TcpStream>,
    body: &mut Body,
    ready: &mut usize,
    wire: &mut Wire,
    cx: &mut Context<'_>,
) -> Poll<Result<Piece, Broken>> {
    if *ready > 0 {
        return Poll::Ready(Ok(Piece::Data(*ready)));
    }
    loop {
        match body.next(stream.input()).map_err(|why| Broken::Malformed(why.0))? {
            Next::Data { skip, len } => {
                stream.consume(skip);
                wire.received += skip as u64;
                if len > 0 {
                    *ready = len;
                    return Poll::Ready(Ok(Piece::Data(*ready)));
                }
            }
            Next::End { skip } => {
                stream.consume(skip);
                wire.received += skip as u64;
                return Poll::Ready(Ok(Piece::End));
            }
            Next::More => match ready!(stream.poll_fill(cx)) {
                Ok(true) => {}
                Ok(false) if body.ends_with_connection() && stream.ended_properly() => {
                    body.finish();
                    return Poll::Ready(Ok(Piece::End));
                }
                Ok(false) | Err(_) => return Poll::Ready(Err(Broken::Closed { untouched: false })),
            },
        }
    }
}

/// Sends content.
pub(super) fn send(
    stream: &mut Stream<TcpStream>,
    bytes: &[u8],
    framing: Framing,
    wire: &mut Wire,
) -> Result<(), Broken> {
    match framing {
        Framing::Plain => {
            wire.sent += bytes.len() as u64;
            stream.send(bytes).map_err(|_| Broken::Closed { untouched: false })
        }
        Framing::Chunked => {
            let before = stream.out().len();
            write::chunk(bytes, stream.out());
            wire.sent += (stream.out().len() - before) as u64;
            Ok(())
        }
    }
}

/// Room for bytes that go over HTTP/1.1.
pub(super) fn poll_room(stream: &mut Stream<TcpStream>, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
    while stream.unsent() >= HIGH {
        match stream.poll_flush_all(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Closed { untouched: false })),
            // What the socket took meanwhile is room already.
            Poll::Pending if stream.unsent() >= HIGH => return Poll::Pending,
            Poll::Pending => {}
        }
    }
    Poll::Ready(Ok(HIGH - stream.unsent()))
}

pub(super) fn poll_flush(
    stream: &mut Stream<TcpStream>,
    ending: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Broken>> {
    let flushed = if ending { stream.poll_close(cx) } else { stream.poll_flush_all(cx) };
    flushed.map_err(|_| Broken::Closed { untouched: false })
}
