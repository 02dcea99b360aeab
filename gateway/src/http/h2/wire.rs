//! What the `h2` crate reads from and writes to: our stream, with flushes that wait, and with an eye on frames that cost
//! the sender nothing and bring nothing on.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tls::stream::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::http::limits::HIGH;

/// Frames of control in a row, with nothing between them that brings a request or an answer on.
const FRUITLESS: u32 = 1000;
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
        let skip = if server { PREFACE } else { 0 };
        Self(Rc::new(RefCell::new(Shared { stream, watch: Watch { skip, ..Watch::default() } })))
    }

    /// Writes what has gathered.
    pub(crate) fn poll_flush_all(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().stream.poll_flush_all(cx)
    }

    /// Bytes that the peer has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.0.borrow().stream.unsent()
    }

    /// Whether the peer floods us with frames that bring nothing on.
    pub(crate) fn is_flooded(&self) -> bool {
        self.0.borrow().watch.fruitless > FRUITLESS
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
        shared.watch.wrote(data.len());
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
            shared.stream.out().push(part);
            count += part.len();
        }
        shared.watch.wrote(count);
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

/// Counts frames by their heads alone (RFC 9113 section 4.1).
#[derive(Debug, Default)]
struct Watch {
    /// Bytes until the next frame head.
    skip: usize,
    head: [u8; 9],
    have: usize,
    fruitless: u32,
}

impl Watch {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let count = (9 - self.have).min(bytes.len());
            self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == 9 {
                self.have = 0;
                self.skip =
                    usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2]);
                let fruitful = match self.head[3] {
                    // DATA brings something when it holds bytes or ends a stream, HEADERS always.
                    0 => self.skip > 0 || self.head[4] & 1 == 1,
                    1 => true,
                    _ => false,
                };
                self.fruitless = if fruitful { 0 } else { self.fruitless + 1 };
            }
        }
    }

    /// A client that downloads sends nothing but WINDOW_UPDATE; what it is sent shows that it brings something on.
    fn wrote(&mut self, count: usize) {
        if count > 1024 {
            self.fruitless = 0;
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
            let mut watch = Watch::default();
            for part in frames.chunks(size) {
                watch.read(part);
            }
            assert_eq!((watch.fruitless, watch.skip, watch.have), (1, 0, 0), "in parts of {size}");
        }
    }
}
