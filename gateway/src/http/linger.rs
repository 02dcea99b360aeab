//! The end of a connection whose last answer has to arrive.

use std::task::{Context, Poll};

use tls::stream::Stream;
use tokio::{net::TcpStream, time::Instant};

use super::limits::{CLOSE, LINGER, UNWANTED};
use crate::net::deadline::Deadline;

/// Closing a connection with bytes of the client unread would take the answer back (RFC 9112 section 9.6): they are read and
/// dropped while they come, for a while.
#[derive(Debug)]
pub(crate) struct Linger {
    end: Instant,
    deadline: Deadline,
    closed: bool,
}

impl Default for Linger {
    fn default() -> Self {
        let mut deadline = Deadline::default();
        deadline.arm(CLOSE);
        Self { end: Instant::now() + LINGER, deadline, closed: false }
    }
}

impl Linger {
    /// Sends what waits and the end, and reads the client's. Ready when the connection can be dropped.
    pub(crate) fn poll(&mut self, stream: &mut Stream<TcpStream>, cx: &mut Context<'_>) -> Poll<()> {
        stream.consume(stream.input().len());
        let mut left = UNWANTED;
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
                    left = left.saturating_sub(count);
                    self.deadline.set(Some(self.end.min(Instant::now() + CLOSE)));
                    if left == 0 {
                        // Others want their turn.
                        cx.waker().wake_by_ref();
                        return self.deadline.poll(cx);
                    }
                }
                Poll::Ready(_) if self.closed => return Poll::Ready(()),
                Poll::Ready(_) | Poll::Pending => return self.deadline.poll(cx),
            }
        }
    }
}
