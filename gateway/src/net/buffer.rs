//! A TCP stream that reads and writes in large pieces, and holds memory only while it holds bytes.
//!
//! It sits below TLS: rustls reads at most 4 KiB at a time and writes record by record, which would be a system call
//! each. Buffers come from a free list of the thread, so an idle connection costs none.

use std::{
    cell::RefCell,
    io,
    mem::take,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Size of each buffer, bytes: two full TLS records.
const SIZE: usize = 32 * 1024;
/// Buffers kept per thread; more are given back to the allocator.
const KEEP: usize = 128;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn lend() -> Vec<u8> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE])
}

fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() == 0 {
        return;
    }
    FREE.with_borrow_mut(|free| {
        if free.len() < KEEP {
            free.push(buffer);
        }
    });
}

/// Bytes `start..end` of a lent buffer; no buffer at all while empty.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn room(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = lend();
        }
        &mut self.bytes[self.end..]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.start = 0;
        self.end = 0;
        give_back(take(&mut self.bytes));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        give_back(take(&mut self.bytes));
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BufferedTcp {
    tcp: TcpStream,
    read: Pending,
    write: Pending,
}

impl BufferedTcp {
    /// Wraps a connected socket.
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, read: Pending::default(), write: Pending::default() }
    }

    /// The socket.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Bytes received and not consumed yet.
    pub(crate) fn peeked(&self) -> &[u8] {
        self.read.as_slice()
    }

    /// Waits until at least one more byte has been received than [`Self::peeked`] shows, consuming none.
    /// `false`: the peer ended its side, or the buffer is full.
    pub(crate) fn poll_peek_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let room = self.read.room();
        if room.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let mut into = ReadBuf::new(room);
        let result = Pin::new(&mut self.tcp).poll_read(cx, &mut into);
        let count = into.filled().len();
        self.read.end += count;
        if self.read.is_empty() {
            self.read.release();
        }
        ready!(result)?;
        Poll::Ready(Ok(count > 0))
    }

    /// Waits until there is a byte to read, consuming none. `false`: the peer ended its side.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.read.is_empty() { self.poll_peek_more(cx) } else { Poll::Ready(Ok(true)) }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write.is_empty() {
            let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, self.write.as_slice()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.write.consume(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for BufferedTcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            if out.remaining() >= SIZE {
                return Pin::new(&mut this.tcp).poll_read(cx, out);
            }
            if !ready!(this.poll_peek_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        let count = this.read.as_slice().len().min(out.remaining());
        out.put_slice(&this.read.as_slice()[..count]);
        this.read.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BufferedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.write.end + data.len() > SIZE {
            ready!(this.poll_drain(cx))?;
        }
        if data.len() >= SIZE {
            return Pin::new(&mut this.tcp).poll_write(cx, data);
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.write.room()[..data.len()].copy_from_slice(data);
        this.write.end += data.len();
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (BufferedTcp, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (BufferedTcp::new(near), far)
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_whatever_the_sizes() {
        let (mut near, mut far) = pair().await;
        let sizes = [1, 100, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE, 7];
        let sent: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let reader = tokio::spawn(async move {
            let mut got = vec![0; expected.len()];
            far.read_exact(&mut got).await.unwrap();
            assert!(got == expected);
            far.write_all(&got).await.unwrap();
        });
        let mut at = 0;
        for size in sizes {
            near.write_all(&sent[at..at + size]).await.unwrap();
            at += size;
        }
        near.flush().await.unwrap();
        let mut back = vec![0; sent.len()];
        near.read_exact(&mut back).await.unwrap();
        reader.await.unwrap();
        assert!(back == sent);
    }

    #[tokio::test]
    async fn peeking_consumes_nothing_and_an_idle_stream_holds_no_buffer() {
        let (mut near, mut far) = pair().await;
        far.write_all(b"hello").await.unwrap();
        assert!(std::future::poll_fn(|cx| near.poll_readable(cx)).await.unwrap());
        assert_eq!(near.peeked(), b"hello");
        let mut got = [0; 5];
        near.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        assert_eq!(near.read.bytes.capacity(), 0);
        drop(far);
        assert!(!std::future::poll_fn(|cx| near.poll_readable(cx)).await.unwrap());
    }
}
