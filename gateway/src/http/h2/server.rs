//! A client that speaks HTTP/2: its connection, and each stream on it.

use std::{
    cell::{Cell, RefCell},
    future::{pending, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    core::{Core, Shared},
    frame::{self, Code, kind},
    half::Half,
    message,
    state::Opened,
};
use crate::{
    http::{
        failure::Failure,
        flow::{Broken, Piece, Sink, Source},
        head::Head,
        lent::LentHeads,
        limits::{FIRST_REQUEST, HIGH, IDLE, MALFORMED},
        linger::Linger,
        wire::Wire,
    },
    live::Live,
    net::{connection::Connection, deadline::Deadline, facts::Facts, listen::Standing, standing::holds},
};

/// How long a connection may go on.
pub(crate) struct Terms<'a> {
    /// By what is in force here.
    pub(crate) live: &'a Live,
    /// It ends in order then.
    pub(crate) age: Option<Instant>,
    /// For so long its streams may go on when it may not.
    pub(crate) drain: Duration,
}

/// Why a connection was ended that would have gone on.
#[derive(Debug)]
pub(crate) struct Ended {
    /// A word to search for.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) why: &'static str,
}

/// Takes streams from a connection until it ends, or until it has to or its age comes, and its streams are answered. `start`
/// serves one beside the others; it is told what is wrong with a request that is refused.
pub(crate) async fn serve(
    connection: Box<Connection>,
    mut standing: watch::Receiver<Standing>,
    terms: Terms<'_>,
    start: impl Fn(Stream, LentHeads, Option<Failure>),
) -> Option<Ended> {
    let Terms { live, age, drain } = terms;
    let Connection { stream, facts, .. } = connection.unboxed();
    let mut driver = Driver {
        start,
        facts,
        core: Rc::new(RefCell::new(Core::begin(stream, true))),
        opened: Vec::new(),
        malformed: 0,
        leaving: Leaving::Not,
        cut: None,
        deadline: Deadline::default(),
        age,
    };
    let facts = Rc::clone(&driver.facts);
    let holds = || holds(&live.pin(), &facts);
    let closing = Cell::new(false);
    let mut outdated = pin!(async {
        drop(standing.wait_for(|standing| standing.closing || !holds()).await);
        if holds() {
            closing.set(true);
            // Its rule may still give way while its last streams go on.
            if standing.wait_for(|_| !holds()).await.is_err() {
                pending().await
            }
        }
    });
    poll_fn(|cx| {
        if driver.cut.is_none() && outdated.as_mut().poll(cx).is_ready() {
            driver.leave_at_once(drain);
        } else if closing.get() && driver.leaving == Leaving::Not {
            driver.leave();
        }
        driver.poll(cx)
    })
    .await;
    let failed = {
        let core = &mut *driver.core.borrow_mut();
        core.state.die();
        core.failed
    };
    let mut linger = Linger::default();
    poll_fn(|cx| linger.poll(&mut driver.core.borrow_mut().stream, cx)).await;
    failed.map(|(code, why)| {
        let reason = match code {
            Code::CALM => "Http2Calm",
            Code::NO_ERROR => "Outdated",
            _ => "Http2Protocol",
        };
        Ended { reason, why }
    })
}

/// How far the connection is on its way out: GOAWAY goes twice (RFC 9113 section 6.8), so that what the client sends before
/// it has heard the first one is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leaving {
    Not,
    /// The first one was sent then, with a PING behind it.
    Told(Instant),
    /// No further stream is taken.
    Going,
}

struct Driver<F> {
    start: F,
    facts: Rc<Facts>,
    core: Shared,
    /// Empty, but for its memory.
    opened: Vec<Opened>,
    /// Malformed requests in a row.
    malformed: u32,
    leaving: Leaving,
    /// When streams that are left are ended.
    cut: Option<Instant>,
    deadline: Deadline,
    /// When the connection is to end.
    age: Option<Instant>,
}

impl<F: Fn(Stream, LentHeads, Option<Failure>)> Driver<F> {
    /// Takes requests, sends what has gathered, and watches the clock. Ready when the connection has to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let over = {
                let core = &mut *self.core.borrow_mut();
                let over = core.poll(cx);
                std::mem::swap(&mut core.state.opened, &mut self.opened);
                over
            };
            let mut opened = std::mem::take(&mut self.opened);
            opened.drain(..).for_each(|opened| self.start(opened));
            self.opened = opened;
            let core = &mut *self.core.borrow_mut();
            if self.malformed > MALFORMED {
                core.fail(Code::CALM, "more than 32 malformed requests came in a row");
                return Poll::Ready(());
            }
            if over.is_ready() {
                return Poll::Ready(());
            }
            let limit = core.limit();
            let (at, why) = match self.leaving {
                Leaving::Told(since) if core.state.pong => (Some(since), Why::Told),
                Leaving::Told(since) => (Some(since + FIRST_REQUEST), Why::Told),
                Leaving::Going if core.state.live == 0 && core.stream.unsent() == 0 => return Poll::Ready(()),
                Leaving::Going => (self.cut, Why::Cut),
                Leaving::Not => {
                    let idle = (core.state.live == 0).then(|| core.idle_since + IDLE);
                    (idle.into_iter().chain(self.age).min(), Why::Over)
                }
            };
            let stalled = limit.is_some_and(|limit| at.is_none_or(|at| limit < at));
            let (at, why) = if stalled { (limit, Why::Stalled) } else { (at, why) };
            self.deadline.set(at);
            if self.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            match why {
                Why::Stalled => {
                    core.fail(
                        Code::CALM,
                        "the rest of a frame or of a head did not come in time, or nothing was taken",
                    );
                    return Poll::Ready(());
                }
                Why::Over => tell(core, &mut self.leaving),
                Why::Cut => {
                    core.fail(
                        Code::NO_ERROR,
                        "its rule was replaced, and its last requests have had the time of a drain",
                    );
                    return Poll::Ready(());
                }
                Why::Told => go(core, &mut self.leaving),
            }
        }
    }

    /// Takes no new streams, as the client will hear; those in flight finish.
    fn leave(&mut self) {
        tell(&mut self.core.borrow_mut(), &mut self.leaving);
    }

    /// As [`Self::leave`], but what the client has sent and we have not looked at yet is not served either: it may be sent
    /// again, on a connection that meets the rule of now.
    fn leave_at_once(&mut self, drain: Duration) {
        self.cut = Some(Instant::now() + drain);
        go(&mut self.core.borrow_mut(), &mut self.leaving);
    }

    /// Serves one stream beside the others.
    fn start(&mut self, opened: Opened) {
        let Opened { key, id, heads, refused } = opened;
        // Many clients may share a connection behind another proxy: only bad requests in a row are one's own fault.
        self.malformed = if refused.is_some() { self.malformed + 1 } else { 0 };
        let stream = Stream {
            facts: Rc::clone(&self.facts),
            deadline: Deadline::default(),
            half: Half::new(&self.core, key, id),
        };
        (self.start)(stream, heads, refused);
    }
}

/// What the driver's deadline stands for.
enum Why {
    Stalled,
    /// Idle for too long, or too old.
    Over,
    Told,
    /// The time of a drain has passed.
    Cut,
}

fn tell(core: &mut Core, leaving: &mut Leaving) {
    *leaving = Leaving::Told(Instant::now());
    core.state.pong = false;
    frame::write_go_away((1 << 31) - 1, Code::NO_ERROR, core.stream.out());
    frame::write(kind::PING, 0, 0, frame::PING, core.stream.out());
}

fn go(core: &mut Core, leaving: &mut Leaving) {
    *leaving = Leaving::Going;
    let last = core.state.last;
    core.state.beyond = Some(last);
    frame::write_go_away(last, Code::NO_ERROR, core.stream.out());
}

/// One stream of a client.
pub(crate) struct Stream {
    /// What is known of its connection.
    pub(crate) facts: Rc<Facts>,
    /// Reached by whatever waits on this stream.
    pub(crate) deadline: Deadline,
    half: Half,
}

impl Stream {
    /// Sends the head of the answer; `empty`: and its end.
    pub(crate) fn send_head(&mut self, head: &Head, empty: bool) -> Result<(), Broken> {
        let end = empty && head.upgrade.is_none();
        self.half.send_block(end, |block, kept| message::write_response(head, block, kept))
    }

    /// Waits until the head of an answer can go out.
    pub(crate) fn poll_head_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.half.poll_head_room(cx)
    }

    /// An answer before the answer; a client that takes nothing misses it.
    pub(crate) fn send_interim(&mut self, head: &Head) {
        if self.half.core.borrow().stream.unsent() >= 2 * HIGH {
            return;
        }
        // A client that has gone is noticed by whoever waits for it.
        let _ = self.half.send_block(false, |block, kept| message::write_response(head, block, kept));
    }

    /// Ready when the client has reset the stream.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.half.poll_gone(cx)
    }

    /// Whether the request was read to its end.
    pub(crate) fn is_read(&self) -> bool {
        self.half.is_read()
    }

    /// What its frames have moved.
    pub(crate) fn wire(&self) -> Wire {
        self.half.wire()
    }

    /// The stream ends before its end: the answer is not whole, or the client broke the rules.
    pub(crate) fn abort(&mut self, fault: bool) {
        self.half.code = if fault { Code::PROTOCOL } else { Code::INTERNAL };
    }
}

impl Source for Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        self.half.poll_data(cx)
    }

    fn give(&mut self, count: usize, to: impl FnOnce(&[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        self.half.give(count, to)
    }

    fn trailers(&self) -> Option<&Head> {
        self.half.trailers()
    }
}

impl Sink for Stream {
    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Broken>> {
        self.half.poll_room(cx, want)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.half.send(bytes)
    }

    fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
        self.half.end(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.half.poll_flush(cx)
    }
}
