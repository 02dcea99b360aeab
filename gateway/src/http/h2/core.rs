//! One connection: its bytes and what is known of it, shared by its driver and the streams on it. Streams write into what
//! goes out and kick the driver, which flushes once everybody who was woken with it has written.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tls::stream::Stream;
use tokio::{net::TcpStream, time::Instant};

use super::{
    frame::{self, Code, Frame, HEAD, LONGEST, PREFACE, Wrong, kind},
    state::State,
};
use crate::{
    http::limits::{self, BODY, HIGH, WRITE},
    net::coalescing,
};

/// See the module.
pub(super) struct Core {
    pub(super) stream: Stream<TcpStream>,
    pub(super) state: State,
    /// The driver, while it waits.
    driver: Option<Waker>,
    /// The client's preface has come.
    begun: bool,
    /// Since when, and for how long at most, the rest of a frame or a header block is waited for.
    partial: Option<(Instant, Duration)>,
    /// Since when the peer has taken nothing of what waits for it; meaningless while nothing waits.
    taken: Instant,
    /// Something waits for the socket.
    waits: bool,
    /// What reading made us write while too much waited for the peer already, bytes.
    forced: usize,
    /// When the last stream ended.
    pub(super) idle_since: Instant,
    /// GOAWAY with a reason was written, this one: nothing is read any more.
    pub(super) failed: Option<(Code, &'static str)>,
}

pub(super) type Shared = Rc<RefCell<Core>>;

impl Core {
    /// A connection that begins: what we allow goes out with the next flush.
    pub(super) fn begin(mut stream: Stream<TcpStream>, server: bool) -> Self {
        let mut state = State::new(server);
        state.greet(stream.both().1);
        let now = Instant::now();
        Self {
            stream,
            state,
            driver: None,
            begun: !server,
            partial: Some((now, limits::HEAD)),
            taken: now,
            waits: false,
            forced: 0,
            idle_since: now,
            failed: None,
        }
    }

    /// Reads what has come and sends what waits, as far as both go. Ready when the connection is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
        loop {
            self.parse();
            if let Some(why) = self.state.watch.flooded {
                self.fail(Code::CALM, why);
            }
            if self.failed.is_some() {
                let _ = self.flush(cx);
                return Poll::Ready(());
            }
            // Whoever does not read is read all the same: it may be waiting for us to. What it can make us keep is bounded by
            // windows, by the number of streams, and by `forced`.
            match self.stream.poll_fill(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        match self.flush(cx) {
            Poll::Ready(false) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Takes every whole frame that has come.
    fn parse(&mut self) {
        let mut taken_some = false;
        while self.failed.is_none() {
            let (input, out) = self.stream.both();
            if !self.begun {
                let have = input.len().min(PREFACE.len());
                if input[..have] != PREFACE[..have] {
                    return self.fail(Code::PROTOCOL, "the connection does not begin as HTTP/2 does");
                }
                self.begun = have == PREFACE.len();
                if !self.begun {
                    return;
                }
                self.stream.consume(PREFACE.len());
                continue;
            }
            let Some(frame) = Frame::read(input) else { break };
            if frame.length > LONGEST {
                return self.fail(Code::FRAME_SIZE, "a frame is longer than 16 KiB");
            }
            let Some(payload) = input.get(HEAD..HEAD + frame.length) else { break };
            let before = out.len();
            match self.state.take(frame, payload, out) {
                Ok(()) => {}
                Err(Wrong::Stream(id, code)) => self.state.refuse(id, code, out),
                Err(Wrong::Connection(code)) => return self.fail(code, code.fault()),
            }
            self.forced += out.len() - before;
            if self.stream.unsent() < HIGH {
                self.forced = 0;
            } else if self.forced > HIGH {
                return self.fail(Code::CALM, "frames ask for answers that are not taken");
            }
            self.stream.consume(HEAD + frame.length);
            taken_some = true;
        }
        self.note_partial(taken_some);
    }

    /// Begins, goes on with or ends the wait for the rest of something. A frame that is complete begins it anew, but not one
    /// of a header block.
    fn note_partial(&mut self, taken_some: bool) {
        if taken_some && self.state.heard && !self.state.has_block() {
            self.partial = None;
        }
        let input = self.stream.input();
        let waits = !self.state.heard || !input.is_empty() || self.state.has_block();
        if !waits {
            self.partial = None;
        } else if self.partial.is_none() {
            let data = Frame::read(input).is_some_and(|frame| frame.kind == kind::DATA);
            self.partial = Some((Instant::now(), if data { BODY } else { limits::HEAD }));
        }
    }

    /// Says why the connection ends.
    pub(super) fn fail(&mut self, code: Code, why: &'static str) {
        if self.failed.is_none() {
            self.failed = Some((code, why));
            let last = if self.state.server { self.state.beyond.unwrap_or(self.state.last) } else { 0 };
            frame::write_go_away(last, code, self.stream.out());
        }
    }

    /// Sends what waits. Ready with whether the peer can still be sent to.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let before = self.stream.unsent();
        if before == 0 {
            return Poll::Ready(true);
        }
        if !self.waits {
            self.taken = Instant::now();
        }
        self.state.flushes += 1;
        coalescing::moved(self.state.live);
        let flushed = self.stream.poll_flush_all(cx);
        self.waits = flushed.is_pending();
        if self.waits && self.stream.unsent() < before {
            self.taken = Instant::now();
        }
        if self.stream.unsent() < HIGH {
            self.state.wake_starved();
        }
        flushed.map(|sent| sent.is_ok())
    }

    /// The driver is to flush.
    pub(super) fn kick(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// When the peer has to have gone on with what it began, or taken something, at the latest.
    pub(super) fn limit(&self) -> Option<Instant> {
        let write = self.waits.then(|| self.taken + WRITE);
        let read = self.partial.map(|(since, limit)| since + limit);
        write.into_iter().chain(read).min()
    }
}
