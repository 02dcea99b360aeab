//! What the `h2` crate reads from and writes to: our stream, with flushes that wait, and with an eye on frames that cost
//! the sender nothing and bring nothing on.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tls::stream::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::http::limits::HIGH;

/// Frames of control in a row, with nothing between them that brings a request or an answer on.
const FRUITLESS: u32 = 1000;
/// They are a flood when they come within this time.
const WINDOW: Duration = Duration::from_secs(10);
/// Most bytes that pad a frame, with the one that says how many.
const PADDING: usize = 256;
/// Length of the connection preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// A stream that its driver and the `h2` crate share. The crate flushes after every DATA frame, which would be a system call
/// per response: answers of many streams are ready at once, so flushing is left to the driver, once it has nothing else to
/// do.
#[derive(Clone)]
pub(crate) struct Wire(Rc<RefCell<Shared>>);

struct Shared {
    stream: Stream<TcpStream>,
    watch: Watch,
}

impl Wire {
    /// `server`: the peer begins with the connection preface.
    pub(crate) fn new(stream: Stream<TcpStream>, server: bool) -> Self {
        Self(Rc::new(RefCell::new(Shared { stream, watch: Watch::new(server) })))
    }

    /// Writes what has gathered.
    pub(crate) fn poll_flush_all(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().stream.poll_flush_all(cx)
    }

    /// Bytes that the peer has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.0.borrow().stream.unsent()
    }

    /// Whether a first frame of the peer has come whole.
    pub(crate) fn has_heard(&self) -> bool {
        let incoming = &self.0.borrow().watch.incoming;
        incoming.any && incoming.skip == 0
    }

    /// Whether the peer floods us with frames that bring nothing on.
    pub(crate) fn is_flooded(&self) -> bool {
        self.0.borrow().watch.flooded
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.0.borrow_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut shared.stream).poll_read(cx, buf))?;
        shared.watch.read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let shared = &mut *self.0.borrow_mut();
        if shared.stream.unsent() >= HIGH {
            ready!(shared.stream.poll_flush_all(cx))?;
        }
        shared.watch.wrote(data);
        shared.stream.out().push(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.0.borrow_mut();
        if shared.stream.unsent() >= HIGH {
            ready!(shared.stream.poll_flush_all(cx))?;
        }
        let mut count = 0;
        for part in parts {
            shared.watch.wrote(part);
            shared.stream.out().push(part);
            count += part.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().stream.poll_close(cx)
    }
}

/// Counts frames that bring nothing on: of those that come, and of those that go, by their heads alone.
#[derive(Debug)]
struct Watch {
    incoming: Frames,
    outgoing: Frames,
    fruitless: u32,
    /// When counting them began.
    since: Instant,
    flooded: bool,
}

impl Watch {
    /// `server`: the peer begins with the connection preface, else we do.
    fn new(server: bool) -> Self {
        let (mut incoming, mut outgoing) = (Frames::default(), Frames::default());
        if server { &mut incoming } else { &mut outgoing }.skip = PREFACE;
        Self { incoming, outgoing, fruitless: 0, since: Instant::now(), flooded: false }
    }

    fn read(&mut self, bytes: &[u8]) {
        let (mut fruitless, mut last) = (self.fruitless, 0);
        self.incoming.each(bytes, |frame| {
            fruitless = if frame.is_fruitful() { 0 } else { fruitless + 1 };
            last = fruitless.max(last);
        });
        self.fruitless = fruitless;
        if last > FRUITLESS {
            let now = Instant::now();
            // A quiet stream that is kept alive gets there, too, in hours.
            self.flooded |= now - self.since < WINDOW;
            (self.since, self.fruitless) = (now, 0);
        }
    }

    /// A client that downloads sends nothing but WINDOW_UPDATE; what it is sent shows that it brings something on. What is
    /// sent in answer to its own frames of control does not.
    fn wrote(&mut self, bytes: &[u8]) {
        let fruitless = &mut self.fruitless;
        self.outgoing.each(bytes, |frame| {
            if frame.is_fruitful() {
                *fruitless = 0;
            }
        });
    }
}

/// Finds frame heads in bytes that come in any pieces (RFC 9113 section 4.1).
#[derive(Debug, Default)]
struct Frames {
    /// Bytes until the next head.
    skip: usize,
    head: [u8; 9],
    have: usize,
    /// At least one whole frame has passed.
    any: bool,
}

/// The head of a frame.
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Frame {
    /// DATA brings something on when it holds more than padding or ends a stream, HEADERS always.
    fn is_fruitful(&self) -> bool {
        let padding = if self.flags & 8 == 8 { PADDING } else { 0 };
        match self.kind {
            0 => self.length > padding || self.flags & 1 == 1,
            1 => true,
            _ => false,
        }
    }
}

impl Frames {
    fn each(&mut self, mut bytes: &[u8], mut seen: impl FnMut(&Frame)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let count = (9 - self.have).min(bytes.len());
            self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == 9 {
                let [a, b, c, kind, flags, ..] = self.head;
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                (self.have, self.skip, self.any) = (0, length, true);
                seen(&Frame { length, kind, flags });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const DATA: [u8; 10] = [0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'];

    #[test]
    fn frames_are_told_apart_whatever_the_reads() {
        let frames = [&PING[..], &PING, &DATA, &PING].concat();
        for size in 1..frames.len() {
            let mut watch = Watch::new(false);
            for part in frames.chunks(size) {
                watch.read(part);
            }
            assert_eq!((watch.fruitless, watch.incoming.skip, watch.incoming.have), (1, 0, 0), "in parts of {size}");
        }
    }

    /// Our side of a connection, behind the preface.
    fn begun() -> Watch {
        let mut watch = Watch::new(false);
        watch.wrote(&[0; PREFACE]);
        watch
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_fast_and_is_not_excused_by_what_answers_it() {
        let mut watch = begun();
        for _ in 0..=FRUITLESS {
            watch.read(&PING);
            watch.wrote(&PING);
        }
        assert!(watch.flooded);
        let mut watch = begun();
        for _ in 0..=FRUITLESS {
            tokio::time::advance(Duration::from_millis(100)).await;
            watch.read(&PING);
        }
        assert!(!watch.flooded, "kept alive and nothing else");
        let mut watch = begun();
        for _ in 0..10 * FRUITLESS {
            watch.read(&PING);
            watch.wrote(&DATA);
        }
        assert!(!watch.flooded, "a download");
    }
}
