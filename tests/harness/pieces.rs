//! A connection whose reads and writes are cut anywhere.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Each read and each write carries as few bytes as chance says, and sometimes others come first.
pub struct Pieces<IO> {
    io: IO,
    rng: Rng,
    /// Most pieces are of a few bytes.
    small: bool,
    /// Others came first.
    waited: bool,
}

impl<IO> Pieces<IO> {
    /// Cuts as this chance says.
    pub fn new(io: IO, mut rng: Rng) -> Self {
        let small = rng.bool();
        Self { io, rng, small, waited: false }
    }

    /// How many bytes are next; `None`: others come first.
    fn next(&mut self, cx: &Context<'_>) -> Option<usize> {
        if !self.waited && self.rng.u8(..4) == 0 {
            self.waited = true;
            cx.waker().wake_by_ref();
            return None;
        }
        self.waited = false;
        Some(match self.rng.u8(..16) {
            0..4 => LARGE,
            4..10 if self.small => self.rng.usize(1..4),
            10.. if self.small => self.rng.usize(1..32),
            4..10 => self.rng.usize(1..300),
            _ => self.rng.usize(1..LARGE),
        })
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Pieces<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(size) = this.next(cx) else { return Poll::Pending };
        let mut bytes = vec![0; size.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut this.io).poll_read(cx, &mut part);
        buf.put_slice(part.filled());
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Pieces<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(size) = this.next(cx) else { return Poll::Pending };
        Pin::new(&mut this.io).poll_write(cx, &bytes[..size.min(bytes.len())])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// More than a frame, or a record.
const LARGE: usize = 64 * 1024;
