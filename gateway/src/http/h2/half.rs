//! One stream, as whoever serves it sees it: the same on both sides.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{
    core::Shared,
    frame::{self, Code},
    hpack::{self, Kept},
    message,
    state::Room,
};
use crate::http::{
    flow::{Broken, Piece, Sink, Source},
    head::Head,
    limits::HIGH,
    wire::Wire,
};

/// See the module.
pub(super) struct Half {
    pub(super) core: Shared,
    pub(super) key: usize,
    pub(super) id: u32,
    trailers: Option<Box<Head>>,
    /// What the peer is told when nobody serves the stream any more before its end.
    pub(super) code: Code,
}

impl Half {
    pub(super) fn new(core: &Shared, key: usize, id: u32) -> Self {
        Self { core: Rc::clone(core), key, id, trailers: None, code: Code::CANCEL }
    }

    /// Sends a head as a block; `end`: and the end of our half.
    pub(super) fn send_block(&self, end: bool, write: impl FnOnce(&mut Vec<u8>, &mut Kept)) -> Result<(), Broken> {
        let core = &mut *self.core.borrow_mut();
        let (dead, server) = (core.state.dead, core.state.server);
        let slot = core.state.slot(self.key);
        if let Some(broken) = slot.broken.as_ref().filter(|_| slot.reset) {
            return Err(broken.clone());
        }
        if dead {
            return Err(Broken::Closed { untouched: false });
        }
        slot.local |= end;
        slot.replied |= server;
        let before = core.stream.unsent();
        hpack::with_block(|block| {
            if std::mem::take(&mut core.state.shrunk) {
                block.push(hpack::NO_TABLE);
                core.state.kept.stop();
            }
            write(block, &mut core.state.kept);
            frame::write_block(self.id, end, block, core.stream.out());
        });
        let written = core.stream.unsent() - before;
        core.state.slot(self.key).wire.send_head(written);
        core.state.watch.fruit();
        core.kick();
        Ok(())
    }

    /// Ready when the peer has reset the stream, or is gone.
    pub(super) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        let core = &mut *self.core.borrow_mut();
        let dead = core.state.dead;
        let slot = core.state.slot(self.key);
        if slot.reset || dead {
            return Poll::Ready(());
        }
        slot.wait(cx);
        Poll::Pending
    }

    /// Waits until a head can go out without more waiting for the socket than may.
    pub(super) fn poll_head_room(&self, cx: &Context<'_>) -> Poll<()> {
        let core = &mut *self.core.borrow_mut();
        let slot = core.state.slot(self.key);
        if core.stream.unsent() < HIGH || slot.broken.is_some() {
            return Poll::Ready(());
        }
        slot.wait(cx);
        core.state.starve(self.key);
        Poll::Pending
    }

    /// What its frames have moved.
    pub(super) fn wire(&self) -> Wire {
        self.core.borrow_mut().state.slot(self.key).wire
    }

    /// Whether what the peer sends was read to its end.
    pub(super) fn is_read(&self) -> bool {
        let core = &mut *self.core.borrow_mut();
        let slot = core.state.slot(self.key);
        slot.remote && slot.recv.is_empty()
    }
}

impl Source for Half {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let core = &mut *self.core.borrow_mut();
        let slot = core.state.slot(self.key);
        if !slot.recv.is_empty() {
            return Poll::Ready(Ok(Piece::Data(slot.recv.len())));
        }
        if slot.remote || (slot.bodiless && slot.answered) {
            self.trailers = self.trailers.take().or_else(|| slot.trailers.take());
            return Poll::Ready(Ok(Piece::End));
        }
        if let Some(broken) = &slot.broken {
            return Poll::Ready(Err(broken.clone()));
        }
        slot.wait(cx);
        Poll::Pending
    }

    fn give(&mut self, count: usize, to: impl FnOnce(&[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        let core = &mut *self.core.borrow_mut();
        to(&core.state.slot(self.key).recv.as_slice()[..count])?;
        let before = core.stream.unsent();
        core.state.took(self.key, count, core.stream.out());
        if core.stream.unsent() > before {
            core.kick();
        }
        Ok(())
    }

    fn trailers(&self) -> Option<&Head> {
        self.trailers.as_deref()
    }
}

impl Sink for Half {
    fn poll_room(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<usize, Broken>> {
        let core = &mut *self.core.borrow_mut();
        let left = HIGH.saturating_sub(core.stream.unsent());
        let slot = core.state.slot(self.key);
        if let Some(broken) = &slot.broken {
            return Poll::Ready(Err(broken.clone()));
        }
        if slot.local {
            // Nobody wants the rest: it is read and dropped, as a HEAD's would be.
            return Poll::Ready(Ok(HIGH));
        }
        slot.wait(cx);
        match core.state.room(self.key, left) {
            Room::Some(room) => Poll::Ready(Ok(room)),
            Room::None => Poll::Pending,
            Room::Later => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let core = &mut *self.core.borrow_mut();
        if !bytes.is_empty() && !core.state.slot(self.key).local {
            core.state.send(self.key, bytes, core.stream.out());
            core.kick();
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
        // Of trailers that may not trail, nothing is left.
        match trailers.filter(|trailers| trailers.fields().next().is_some()) {
            _ if self.core.borrow_mut().state.slot(self.key).local => Ok(()),
            Some(trailers) => self.send_block(true, |block, kept| message::write_trailers(trailers, block, kept)),
            None => {
                let core = &mut *self.core.borrow_mut();
                if !core.state.slot(self.key).reset && !core.state.dead {
                    core.state.end(self.key, core.stream.out());
                    core.kick();
                }
                Ok(())
            }
        }
    }

    /// What goes out is the driver's business.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let core = &mut *self.core.borrow_mut();
        // An answer that is whole needs no more of its request (RFC 9113 section 8.1).
        let code = if core.state.slot(self.key).local && core.state.server { Code::NO_ERROR } else { self.code };
        let before = core.stream.unsent();
        core.state.close(self.key, code, core.stream.out());
        if core.state.live == 0 {
            core.idle_since = Instant::now();
        }
        if core.stream.unsent() > before || core.state.live == 0 {
            core.kick();
        }
    }
}
