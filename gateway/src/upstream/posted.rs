//! Bytes as the bodies of one request and its answer: a tunnel by POST, as a stream that nobody sees the framing of.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tls::stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::h1::{
    body::{Body, Next},
    write::{self, Framing},
};

/// Bytes of a chunk, at most.
const CHUNK: usize = 16 * 1024;

/// See the module. Who is told that a write has to wait comes again with the same bytes, as a relay does.
pub(crate) struct Posted<'s, IO> {
    stream: &'s mut Stream<IO>,
    /// The rest of the answer.
    body: Body,
    /// Bytes of the caller's in the chunk that is under way.
    under_way: usize,
    /// The last chunk is written.
    ended: bool,
}

impl<'s, IO: AsyncRead + AsyncWrite + Unpin> Posted<'s, IO> {
    /// On a stream whose request was sent and whose answer began, up to this body.
    pub(crate) fn new(stream: &'s mut Stream<IO>, body: Body) -> Self {
        Self { stream, body, under_way: 0, ended: false }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Posted<'_, IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while buf.remaining() > 0 {
            let malformed =
                |wrong: crate::http::h1::body::Malformed| io::Error::new(io::ErrorKind::InvalidData, wrong.0);
            match this.body.next(this.stream.input()).map_err(malformed)? {
                Next::Data { skip, len } => {
                    let count = len.min(buf.remaining());
                    buf.put_slice(&this.stream.input()[skip..skip + count]);
                    this.stream.consume(skip + count);
                    this.body.took(count);
                    if count > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Next::End { skip } => {
                    this.stream.consume(skip);
                    return Poll::Ready(Ok(()));
                }
                Next::More => {
                    if !ready!(this.stream.poll_fill(cx))? {
                        let is_end = this.body.ends_with_connection() && this.stream.ended_properly();
                        return Poll::Ready(if is_end { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Posted<'_, IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.under_way == 0 {
            this.under_way = bytes.len().min(CHUNK);
            write::chunk(&bytes[..this.under_way], this.stream.out());
        }
        // Told of as written when it is: nobody asks for a flush then.
        ready!(this.stream.poll_flush_all(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut this.under_way)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_flush_all(cx)
    }

    /// Ends the request, and not the connection: the answer comes on it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            this.ended = true;
            write::end(None, Framing::Chunked, this.stream.out());
        }
        this.stream.poll_flush_all(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::http::h1::status;

    /// Of an answer with this field.
    fn framed(field: &str) -> Body {
        status::body(format!("HTTP/1.1 200 OK\r\n{field}\r\n").as_bytes()).unwrap()
    }

    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

    #[tokio::test]
    async fn what_is_written_goes_in_chunks_and_its_end_is_the_last_one() {
        let (near, mut far) = duplex(8);
        let mut stream = Stream::new(near);
        let mut posted = Posted::new(&mut stream, framed(CHUNKED));
        let mut wire = Vec::new();
        let writing = async {
            posted.write_all(b"hello").await.unwrap();
            posted.write_all(&[b'x'; 17 * 1024]).await.unwrap();
            posted.shutdown().await.unwrap();
        };
        let expected =
            [&b"5\r\nhello\r\n4000\r\n"[..], &[b'x'; 16 * 1024], b"\r\n400\r\n", &[b'x'; 1024], b"\r\n0\r\n\r\n"];
        let expected = expected.concat();
        wire.resize(expected.len(), 0);
        tokio::join!(writing, async { far.read_exact(&mut wire).await.unwrap() });
        assert_eq!(wire, expected);
    }

    async fn heard(body: Body, wire: &[u8]) -> io::Result<Vec<u8>> {
        let (near, mut far) = duplex(64);
        let mut stream = Stream::new(near);
        let mut posted = Posted::new(&mut stream, body);
        let mut heard = Vec::new();
        let saying = async {
            far.write_all(wire).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(posted.read_to_end(&mut heard), saying);
        read.map(|_| heard)
    }

    #[tokio::test]
    async fn what_is_read_is_the_answers_body_and_nothing_else() {
        let chunked = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        assert_eq!(heard(framed(CHUNKED), chunked).await.unwrap(), b"hello world");
        assert_eq!(heard(framed("Content-Length: 3\r\n"), b"abcdef").await.unwrap(), b"abc");
        assert_eq!(heard(framed(""), b"abcdef").await.unwrap(), b"abcdef");
        assert_eq!(heard(framed("Content-Length: 0\r\n"), b"").await.unwrap(), b"");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_or_makes_no_sense_is_no_end() {
        for (wire, kind) in [
            (&b"5\r\nhel"[..], io::ErrorKind::UnexpectedEof),
            (b"5\r\nhello\r\n", io::ErrorKind::UnexpectedEof),
            (b"zz\r\nhello\r\n", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(heard(framed(CHUNKED), wire).await.unwrap_err().kind(), kind);
        }
    }
}
