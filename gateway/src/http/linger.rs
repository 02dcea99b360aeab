//! The end of a connection whose last answer has to arrive.

use std::task::{Context, Poll};

use tls::stream::Stream;
use tokio::net::TcpStream;

use super::limits::{CLOSE, UNWANTED};
use crate::net::deadline::Deadline;

/// Closing a connection with bytes of the client unread would take the answer back (RFC 9112 section 9.6): they are read and
/// dropped, for a while.
#[derive(Debug)]
pub(crate) struct Linger {
    deadline: Deadline,
    left: usize,
    closed: bool,
}

impl Default for Linger {
    fn default() -> Self {
        let mut deadline = Deadline::default();
        deadline.arm(CLOSE);
        Self { deadline, left: UNWANTED, closed: false }
    }
}

impl Linger {
    /// Sends what waits and the end, and reads the client's. Ready when the connection can be dropped.
    pub(crate) fn poll(&mut self, stream: &mut Stream<TcpStream>, cx: &mut Context<'_>) -> Poll<()> {
        let count = stream.input().len();
        stream.consume(count);
        loop {
            if !self.closed {
                match stream.poll_close(cx) {
                    Poll::Ready(Ok(())) => self.closed = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            match stream.poll_fill(cx) {
                Poll::Ready(Ok(true)) => {
                    let count = stream.input().len();
                    stream.consume(count);
                    self.left = self.left.saturating_sub(count);
                    if self.left == 0 {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) if self.closed => return Poll::Ready(()),
                Poll::Ready(_) | Poll::Pending => return self.deadline.poll(cx),
            }
        }
    }
}
