//! An endpoint that speaks HTTP/2: its connection, which many requests share, and each stream on it.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll},
};

use routing::connections::Pings;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    core::{Core, Shared},
    frame::{self, Code, kind},
    half::Half,
    message,
};
use crate::{
    http::{
        failure::SILENT,
        flow::{Broken, Piece, Sink, Source},
        h1::client::{SPEAKS_TLS, tls_record},
        head::{Head, Length, Upgrade},
        limits::{CLOSE, PING, PONG, STREAMS},
        wire::Wire,
    },
    net::{deadline::Deadline, facts::Facts},
    upstream::{dial::Dial, gate::Worker, pool::Place, terms::Terms},
};

/// Heads that a connection keeps for the next answers.
const SPARE: usize = 8;

/// A connection that many requests share.
pub(crate) struct Connection {
    facts: Rc<Facts>,
    core: Shared,
    /// One more than there are streams, those included that have not sent their head.
    streams: Rc<()>,
    /// Requests that it may still take (Istio `maxRequestsPerConnection`).
    left: u32,
    /// Streams that may be on it at once (Istio `maxConcurrentStreams`).
    most: u32,
    terms: Option<Rc<Terms>>,
    known: Option<Rc<Known>>,
}

/// Where a connection is known that others may wait for.
pub(crate) struct Known {
    /// Told when a stream has ended.
    pub(crate) freed: Rc<Notify>,
    /// Whose it is.
    pub(crate) worker: Arc<Worker>,
    /// Where it leads to.
    pub(crate) place: Place,
}

/// How a connection begins.
#[derive(Default)]
pub(crate) struct Opening {
    /// Istio `maxRequestsPerConnection`.
    pub(crate) requests: Option<u32>,
    /// Istio `maxConcurrentStreams`.
    pub(crate) streams: Option<u32>,
    /// Istio `http2KeepAlive`; else it is asked now and then while it has requests.
    pub(crate) pings: Option<Pings>,
    /// What it is held to.
    pub(crate) terms: Option<Box<Terms>>,
    /// Where it is known, when it is counted.
    pub(crate) known: Option<Rc<Known>>,
}

impl Opening {
    /// As the way to the endpoint says.
    pub(crate) fn of(dial: &Dial) -> Self {
        let settings = dial.settings.as_deref();
        Self {
            requests: dial.requests,
            streams: settings.and_then(|settings| settings.streams),
            pings: settings.and_then(|settings| settings.pings),
            ..Self::default()
        }
    }
}

impl Connection {
    /// Begins HTTP/2 on a connection and lets its driver run beside the caller.
    ///
    /// # Errors
    /// What the endpoint got wrong, in words.
    pub(crate) async fn open(
        connection: crate::net::connection::Connection,
        opening: Opening,
    ) -> Result<Self, &'static str> {
        let mut core = Core::begin(connection.stream, false);
        // What it says first are its settings: how many streams it takes, and whether WebSocket (RFC 8441).
        let begun = poll_fn(|cx| match core.poll(cx) {
            Poll::Pending if core.state.heard => Poll::Ready(true),
            over => over.map(|()| false),
        });
        if !begun.await {
            return Err(match core.stream.input() {
                [] if connection.facts.tls.is_none() => SILENT,
                answer if tls_record(answer) => SPEAKS_TLS,
                answer if answer.starts_with(b"HTTP/1.") => "the endpoint speaks HTTP/1.1, and HTTP/2 was sent to it",
                _ => "the endpoint does not begin as HTTP/2 does",
            });
        }
        let (streams, core) = (Rc::new(()), Rc::new(RefCell::new(core)));
        let terms = opening.terms.map(Rc::<Terms>::from);
        let driver = Driver {
            core: Rc::clone(&core),
            streams: Rc::downgrade(&streams),
            asked: None,
            pings: opening.pings,
            _terms: terms.clone(),
        };
        tokio::task::spawn_local(driver.run());
        let (left, most) = (opening.requests.unwrap_or(u32::MAX), opening.streams.unwrap_or(STREAMS).min(STREAMS));
        Ok(Self { facts: connection.facts, core, streams, left, most, terms, known: opening.known })
    }

    /// A stream, when there is room for one.
    pub(crate) fn stream(&mut self) -> Option<Stream> {
        let room = self.core.borrow().state.allowed.min(self.most) as usize;
        if self.is_leaving() || self.left == 0 || Rc::strong_count(&self.streams) > room {
            return None;
        }
        self.left -= 1;
        if let (Some(_), Some(terms)) = (&self.known, &self.terms) {
            terms.resume();
        }
        Some(Stream {
            facts: Rc::clone(&self.facts),
            core: Rc::clone(&self.core),
            half: None,
            tunnel: false,
            _hold: Rc::clone(&self.streams),
            _ended: self.known.clone().zip(self.terms.clone()).map(|(known, terms)| Ended {
                known,
                terms,
                streams: Rc::downgrade(&self.streams),
            }),
        })
    }

    fn is_leaving(&self) -> bool {
        let state = &self.core.borrow().state;
        // Numbers of streams do not begin again.
        self.has_expired() || state.dead || state.beyond.is_some() || state.last >= (1 << 31) - 3
    }

    /// Whether it can serve nobody any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.core.borrow().state.dead || ((self.left == 0 || self.is_leaving()) && !self.is_busy())
    }

    /// Whether it is too old to serve anybody else; what is on it goes on.
    pub(crate) fn has_expired(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.are_over())
    }

    /// Whether streams are on it.
    pub(crate) fn is_busy(&self) -> bool {
        Rc::strong_count(&self.streams) > 1
    }
}

impl Drop for Connection {
    /// Its driver ends it once its streams have ended.
    fn drop(&mut self) {
        self.core.borrow_mut().kick();
    }
}

/// Reads and writes an endpoint's connection until it ends. An endpoint that does not answer a PING in time is gone.
struct Driver {
    core: Shared,
    streams: Weak<()>,
    /// A PING was sent when so many frames had come, and so many bytes waited for the endpoint.
    asked: Option<(u64, usize)>,
    pings: Option<Pings>,
    /// It is counted until it is closed.
    _terms: Option<Rc<Terms>>,
}

impl Driver {
    async fn run(mut self) {
        let mut deadline = Deadline::default();
        let (every, within) = self.pings.map_or((PING, PONG), |pings| (pings.interval, pings.timeout));
        let mut ping = Instant::now() + every;
        poll_fn(|cx| {
            loop {
                let core = &mut *self.core.borrow_mut();
                if core.poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                // Whatever comes shows that it is there, and so does what it takes: the PING stands behind that.
                let alive = |(frames, unsent)| core.state.frames != frames || core.stream.unsent() < unsent;
                if self.asked.is_some_and(alive) {
                    (self.asked, ping) = (None, Instant::now() + every);
                }
                if self.streams.strong_count() == 0 && core.stream.unsent() == 0 {
                    core.fail(Code::NO_ERROR, "nobody needs it any more");
                    return Poll::Ready(());
                }
                let limit = core.limit();
                deadline.set(Some(limit.map_or(ping, |limit| limit.min(ping))));
                if deadline.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if self.asked.is_some() || limit.is_some_and(|limit| limit < ping) {
                    return Poll::Ready(());
                }
                ping = Instant::now() + every;
                // Without requests nobody needs to know, unless it was asked for.
                if core.state.live > 0 || self.pings.is_some() {
                    self.asked = Some((core.state.frames, core.stream.unsent()));
                    frame::write(kind::PING, 0, 0, frame::PING, core.stream.out());
                    ping = Instant::now() + within;
                }
            }
        })
        .await;
        self.core.borrow_mut().state.die();
        let closed = poll_fn(|cx| self.core.borrow_mut().stream.poll_close(cx));
        let _ = timeout(CLOSE, closed).await;
    }
}

/// One stream towards an endpoint.
pub(crate) struct Stream {
    /// What is known of its connection.
    pub(crate) facts: Rc<Facts>,
    core: Shared,
    /// Once its head is sent.
    half: Option<Half>,
    tunnel: bool,
    /// Keeps its connection from being taken for an idle one.
    _hold: Rc<()>,
    /// After [`Self::_hold`]: there is room then.
    _ended: Option<Ended>,
}

/// Tells that there is room for another stream when it is dropped, or that its connection has none left.
struct Ended {
    known: Rc<Known>,
    terms: Rc<Terms>,
    streams: Weak<()>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.known.freed.notify_waiters();
        // The connection counts as one.
        if self.streams.strong_count() == 1 {
            self.terms.rest(&self.known.worker, &self.known.place);
        }
    }
}

impl Stream {
    /// Sends the head of a request.
    pub(crate) fn send_head(&mut self, head: &Head) -> Result<(), Broken> {
        self.tunnel = head.upgrade.is_some();
        let empty = matches!(head.length, Length::Empty | Length::Exact(0));
        let half = {
            let state = &mut self.core.borrow_mut().state;
            if self.tunnel && !state.extended_connect {
                return Err(Broken::Malformed("the endpoint takes no WebSocket over HTTP/2 (RFC 8441)"));
            }
            if state.dead || state.beyond.is_some() {
                return Err(Broken::Reset { unseen: true });
            }
            state.last = if state.last == 0 { 1 } else { state.last + 2 };
            let id = state.last;
            let key = state.begin(id);
            let (alone, frames) = (state.live == 1, state.frames);
            let slot = state.slot(key);
            slot.bodiless = head.method() == "HEAD";
            slot.alone_at = alone.then_some(frames);
            Half::new(&self.core, key, id)
        };
        half.send_block(empty && !self.tunnel, |block, kept| message::write_request(head, block, kept))?;
        self.half = Some(half);
        Ok(())
    }

    /// Waits for the next head of the answer: interim ones first.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, head: &mut Head) -> Poll<Result<(), Broken>> {
        let Some(half) = &self.half else {
            return Poll::Ready(Err(Broken::Malformed("an answer before the request")));
        };
        let core = &mut *half.core.borrow_mut();
        let slot = core.state.slot(half.key);
        if let Some(mut found) = slot.heads.pop_front() {
            std::mem::swap(head, &mut found);
            if self.tunnel && (200..300).contains(&head.status) {
                slot.promised = None;
                slot.bodiless = false;
                head.upgrade = Some(Upgrade::WebSocket);
                head.status = 101;
                head.length = Length::Unknown;
            }
            if core.state.spare.len() < SPARE {
                core.state.spare.push(found);
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(broken) = &slot.broken {
            return Poll::Ready(Err(broken.clone()));
        }
        slot.wait(cx);
        Poll::Pending
    }

    /// What its frames have moved.
    pub(crate) fn wire(&self) -> Wire {
        self.half.as_ref().map(Half::wire).unwrap_or_default()
    }

    fn half(&mut self) -> Result<&mut Half, Broken> {
        self.half.as_mut().ok_or(Broken::Malformed("a body before its head"))
    }
}

impl Source for Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        self.half()?.poll_data(cx)
    }

    fn give(&mut self, count: usize, to: impl FnOnce(&[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        self.half()?.give(count, to)
    }

    fn trailers(&self) -> Option<&Head> {
        self.half.as_ref()?.trailers()
    }
}

impl Sink for Stream {
    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Broken>> {
        self.half()?.poll_room(cx, want)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.half()?.send(bytes)
    }

    fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
        self.half()?.end(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.half()?.poll_flush(cx)
    }
}
