//! What a connection knows of one stream.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use tls::buffer::Buffer;

use super::frame::FIRST_WINDOW;
use crate::http::{flow::Broken, head::Head, wire::Wire};

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Content that has come and nobody has taken.
    pub(super) recv: Buffer,
    /// What the peer may still send.
    pub(super) recv_left: i64,
    /// What it is to be given back with the next WINDOW_UPDATE.
    pub(super) recv_owed: u32,
    /// What the peer takes.
    pub(super) send_window: i64,
    /// Content that is still promised; `None` = nobody has said.
    pub(super) promised: Option<u64>,
    /// Heads of an answer that nobody has taken (client).
    pub(super) heads: VecDeque<Box<Head>>,
    /// The last head of the answer has come (client).
    pub(super) answered: bool,
    /// There is no content whatever the head says: an answer to HEAD (client).
    pub(super) bodiless: bool,
    /// What followed the content.
    pub(super) trailers: Option<Box<Head>>,
    /// The peer has ended its half.
    pub(super) remote: bool,
    /// We have ended ours.
    pub(super) local: bool,
    /// RST_STREAM was sent or has come: no more frames.
    pub(super) reset: bool,
    /// The peer sent RST_STREAM.
    pub(super) taken_back: bool,
    /// Why it does not go on.
    pub(super) broken: Option<Broken>,
    /// Whoever serves it.
    pub(super) waker: Option<Waker>,
    /// It waits for room: in a window, or in what goes out.
    pub(super) starved: bool,
    /// It was woken because there is some, and has not looked yet.
    pub(super) in_line: bool,
    /// The round in which it was last given some, and the one in which it let others go first.
    pub(super) served: u64,
    /// See [`Self::served`].
    pub(super) yielded: u64,
    /// A head of ours has gone out (server), or one of the peer's has come (client).
    pub(super) replied: bool,
    /// It began on a connection without others, when so many frames had come (client).
    pub(super) alone_at: Option<u64>,
    /// Bytes of its head, decoded.
    pub(super) head: usize,
    /// Its last DATA frame among the bytes that go out: which flush takes it, and where its head begins.
    pub(super) tail: Option<(u64, usize)>,
    /// What its frames have moved.
    pub(super) wire: Wire,
}

impl Slot {
    /// A stream that begins.
    pub(super) fn begin(&mut self, send_window: i64) {
        self.clear();
        (self.recv_left, self.send_window) = (i64::from(FIRST_WINDOW), send_window);
    }

    /// Forgets everything but its memory for heads.
    pub(super) fn clear(&mut self) {
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        *self = Self { heads, ..Self::default() };
    }

    /// Lets whoever serves it look again.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Remembers who serves it.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// It does not go on.
    pub(super) fn fail(&mut self, why: Broken) {
        self.broken.get_or_insert(why);
        self.wake();
    }

    /// Counts content against what was promised.
    pub(super) fn take_promised(&mut self, count: usize) -> bool {
        match &mut self.promised {
            None => true,
            Some(left) => {
                let fits = *left >= count as u64;
                *left = left.saturating_sub(count as u64);
                fits
            }
        }
    }

    /// The peer ends its half. `false`: content that was promised is missing.
    pub(super) fn end_remote(&mut self) -> bool {
        self.remote = self.promised.is_none_or(|left| left == 0);
        self.remote
    }
}
