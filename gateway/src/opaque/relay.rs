//! Bytes both ways, each end of them passed on by itself.
//!
//! What comes is passed on from where it is; a side that takes nothing is not read for. A connection that is silent holds no
//! buffer and no timer but the one of its end.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tls::stream::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::Instant,
};

use super::ending::Ending;
use crate::{
    net::{deadline::Deadline, standing::Outlived},
    peers::exchange::{First, first},
};

/// How long a connection may go on.
pub(super) struct Times {
    idle: Option<Duration>,
    until: Option<Instant>,
    deadline: Deadline,
}

impl Times {
    /// Of a connection that begins now. An idle timeout of zero is none.
    pub(super) fn new(idle: Option<Duration>, lifetime: Option<Duration>) -> Self {
        let now = Instant::now();
        let mut times = Self {
            idle: idle.filter(|idle| !idle.is_zero()),
            until: lifetime.and_then(|lifetime| now.checked_add(lifetime)),
            deadline: Deadline::default(),
        };
        times.moved();
        times
    }

    /// Something was sent.
    fn moved(&mut self) {
        let idle = self.idle.and_then(|idle| Instant::now().checked_add(idle));
        self.deadline.set(idle.into_iter().chain(self.until).min());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.deadline.poll(cx).map(|()| match self.until {
            Some(until) if until <= Instant::now() => Ending::Old,
            _ => Ending::Idle,
        })
    }
}

/// How the side that sends broke off.
enum Broken {
    /// With an error.
    Off,
    /// Its TLS just ended, and all before is passed on.
    Unsaid,
}

/// One direction.
#[derive(Default)]
struct Half {
    bytes: u64,
    /// The side that sends first says who it is, which is not passed on.
    announced: bool,
    /// Nothing more comes.
    ended: bool,
    /// Nor was that said, where TLS says it: the rest may be missing.
    unsaid: bool,
    /// That has been passed on, or nobody is there any more who would take anything.
    done: bool,
}

impl Half {
    /// Moves what can be moved now.
    ///
    /// # Errors
    /// The side that sends broke off.
    fn pump<A, B>(&mut self, from: &mut Stream<A>, to: &mut Stream<B>, cx: &mut Context<'_>) -> Result<(), Broken>
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        while !self.done {
            if self.announced {
                self.announced = self.is_announcing(from)?;
            }
            if !from.input().is_empty() && !self.announced {
                match to.poll_pass(cx, from.input()) {
                    Poll::Ready(Ok(count)) => {
                        from.consume(count);
                        self.bytes += count as u64;
                    }
                    // What the other direction still brings is brought.
                    Poll::Ready(Err(_)) => self.done = true,
                    Poll::Pending => return Ok(()),
                }
            } else if self.unsaid {
                match to.poll_flush_all(cx) {
                    Poll::Ready(_) => return Err(Broken::Unsaid),
                    Poll::Pending => return Ok(()),
                }
            } else if self.ended {
                match to.poll_close(cx) {
                    Poll::Ready(_) => self.done = true,
                    Poll::Pending => return Ok(()),
                }
            } else {
                match from.poll_fill(cx) {
                    Poll::Ready(Ok(more)) => {
                        // The beginning of an announcement that does not go on is held no longer.
                        self.ended = !more && (from.input().is_empty() || self.announced);
                        self.unsaid = self.ended && !from.ended_properly();
                    }
                    Poll::Ready(Err(_)) => return Err(Broken::Off),
                    Poll::Pending => {
                        if to.unsent() > 0 && matches!(to.poll_flush_all(cx), Poll::Ready(Err(_))) {
                            self.done = true;
                        }
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Half {
    /// Whether more of an announcement is to come. One that is whole is taken away: who an endpoint is, its service tells.
    fn is_announcing<A>(&self, from: &mut Stream<A>) -> Result<bool, Broken> {
        match first(from.input()) {
            First::Unfinished => return Ok(!self.ended),
            First::Whole(end) => from.consume(end),
            First::None => {}
            First::TooLong => return Err(Broken::Off),
        }
        Ok(false)
    }
}

/// Passes bytes on until both sides are done, time is over, or `cut` is ready. `moved` hears how many went up and down.
/// `announced`: the server first says who it is.
pub(super) async fn relay<A, B>(
    (client, server, announced): (&mut Stream<A>, &mut Stream<B>, bool),
    mut times: Times,
    cut: &mut JoinHandle<Outlived>,
    mut moved: impl FnMut(u64, u64),
) -> Ending
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Half::default(), Half { announced, ..Half::default() });
    let ending = poll_fn(|cx| {
        let before = (up.bytes, down.bytes);
        let ups = up.pump(client, server, cx);
        let downs = down.pump(server, client, cx);
        let (went_up, went_down) = (up.bytes - before.0, down.bytes - before.1);
        if went_up + went_down > 0 {
            moved(went_up, went_down);
            times.moved();
        }
        match (ups, downs) {
            (Err(Broken::Off), _) => return Poll::Ready(Ending::Client),
            (_, Err(Broken::Off)) => return Poll::Ready(Ending::Endpoint),
            (Err(Broken::Unsaid), _) => return Poll::Ready(Ending::ClientUnsaid),
            (_, Err(Broken::Unsaid)) => return Poll::Ready(Ending::EndpointUnsaid),
            _ if up.done && down.done => return Poll::Ready(Ending::Done),
            _ => {}
        }
        if let Poll::Ready(outlived) = Pin::new(&mut *cut).poll(cx) {
            return Poll::Ready(Ending::Cut(outlived.unwrap_or(Outlived::Rule)));
        }
        times.poll(cx)
    });
    ending.await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A client and a server with a relay between them, whose ending and count of bytes come at last.
    fn between(
        idle: Option<Duration>,
        lifetime: Option<Duration>,
    ) -> (DuplexStream, DuplexStream, JoinHandle<(Ending, u64, u64)>) {
        relayed(idle, lifetime, false)
    }

    /// The same, where the server may first say who it is.
    fn relayed(
        idle: Option<Duration>,
        lifetime: Option<Duration>,
        announced: bool,
    ) -> (DuplexStream, DuplexStream, JoinHandle<(Ending, u64, u64)>) {
        let (client, near) = duplex(64);
        let (far, server) = duplex(64);
        let relaying = tokio::spawn(async move {
            let mut cut = tokio::spawn(std::future::pending());
            let (mut near, mut far) = (Stream::new(near), Stream::new(far));
            let (mut up, mut down) = (0, 0);
            let times = Times::new(idle, lifetime);
            let ending = relay((&mut near, &mut far, announced), times, &mut cut, |more, less| {
                up += more;
                down += less;
            });
            (ending.await, up, down)
        });
        (client, server, relaying)
    }

    #[tokio::test]
    async fn each_end_is_passed_on_by_itself() {
        let (mut client, mut server, relaying) = between(None, None);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        let mut answer = Vec::new();
        let answering = async {
            server.write_all(&[b'x'; 1000]).await.unwrap();
            server.shutdown().await.unwrap();
        };
        tokio::join!(answering, async { client.read_to_end(&mut answer).await.unwrap() });
        assert_eq!(answer.len(), 1000);
        assert_eq!(relaying.await.unwrap(), (Ending::Done, 8, 1000));
    }

    #[tokio::test]
    async fn what_a_server_announces_is_not_passed_on() {
        let announcement = b"\x3d\x23\x04\x67\0\0\0\x03who";
        let whole = [&announcement[..], b"hello"].concat();
        // Also in pieces, and what only begins like one is passed on when nothing more comes.
        for (sent, heard) in [
            (vec![&whole[..]], &b"hello"[..]),
            (vec![&whole[..3], &whole[3..9], &whole[9..]], b"hello"),
            (vec![b"hello"], b"hello"),
            (vec![b"\x3d\x23", b"x"], b"\x3d\x23x"),
            (vec![b"\x3d\x23"], b"\x3d\x23"),
        ] {
            let (mut client, mut server, relaying) = relayed(None, None, true);
            for piece in sent {
                server.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            server.shutdown().await.unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, heard);
            client.shutdown().await.unwrap();
            assert_eq!(
                relaying.await.unwrap(),
                (Ending::Done, 0, heard.len() as u64),
                "it is no byte of the connection's"
            );
        }
        let (_client, mut server, relaying) = relayed(None, None, true);
        server.write_all(b"\x3d\x23\x04\x67\xff\0\0\0").await.unwrap();
        assert_eq!(relaying.await.unwrap().0, Ending::Endpoint);
    }

    #[tokio::test]
    async fn the_server_may_have_the_first_word() {
        let (mut client, mut server, _relaying) = between(None, None);
        server.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_bytes_put_that_off() {
        let (mut client, _server, relaying) = between(Some(Duration::from_secs(10)), None);
        tokio::time::sleep(Duration::from_secs(8)).await;
        client.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(!relaying.is_finished());
        assert_eq!(relaying.await.unwrap(), (Ending::Idle, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn age_ends_it_whatever_is_sent() {
        let (mut client, _server, relaying) = between(Some(Duration::ZERO), Some(Duration::from_secs(10)));
        for _ in 0..9 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            client.write_all(b"x").await.unwrap();
        }
        assert_eq!(relaying.await.unwrap().0, Ending::Old);
    }

    #[tokio::test]
    async fn a_side_that_takes_nothing_is_not_read_for() {
        let (mut client, server, relaying) = between(None, None);
        let mut written = 0;
        let piece = [0; 64];
        // Until no more is taken: what the pipes and one read in between hold.
        while let Ok(count) =
            tokio::time::timeout(Duration::from_millis(200), client.write(&piece)).await.map(Result::unwrap)
        {
            written += count;
            assert!(written < 100_000, "everything is taken");
        }
        drop(server);
        drop(client);
        let (_, up, down) = relaying.await.unwrap();
        assert_eq!((up, down), (64, 0), "no more went on than the server's pipe holds");
    }
}
