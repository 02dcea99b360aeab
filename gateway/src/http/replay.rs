//! The beginning of a request's body, kept to send it again.

use std::task::{Context, Poll};

use super::{
    exchange::Exchange,
    flow::{Fault, Sink as _, Source as _, Waits},
    head::Head,
    limits::{REPLAY, REPLAY_FREE},
    room::Room,
    side::{Down, Up},
};

/// See the module.
pub(crate) struct Replay<'a> {
    bytes: Vec<u8>,
    /// So much of it has gone to the current endpoint.
    sent: usize,
    /// There was more than is kept.
    overflown: bool,
    /// The request asks for a tunnel, which has no body.
    pub(crate) upgrade: bool,
    /// The end has gone to the current endpoint.
    ended: bool,
    /// Where the room for large bodies comes from, and how much of it this one has.
    room: &'a Room,
    taken: usize,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(request: &Head, room: &'a Room) -> Self {
        let upgrade = request.upgrade.is_some();
        Self { bytes: Vec::new(), sent: 0, overflown: false, upgrade, ended: false, room, taken: 0 }
    }

    /// Of a body whose beginning was held back, with the room that this takes.
    pub(crate) fn after(held: Option<(Vec<u8>, usize)>, request: &Head, room: &'a Room) -> Self {
        let (bytes, taken) = held.unwrap_or_default();
        Self { bytes, taken, ..Self::new(request, room) }
    }

    /// Of a request whose copy has just begun, that gets what was held back.
    pub(crate) fn copy_held(&self, exchange: &mut Exchange, down: &Down<'_>) {
        let Some(copy) = &mut exchange.mirror else { return };
        if !self.bytes.is_empty() {
            copy.add(&self.bytes);
        }
        if exchange.request.done
            && let Some(copy) = exchange.mirror.take()
        {
            copy.send(down.trailers());
        }
    }

    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        self.ended = false;
    }

    /// Whether everything that was sent can be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        !self.overflown
    }

    /// Moves the request on: first what an earlier endpoint was sent, then what comes.
    pub(crate) fn pump(
        &mut self,
        exchange: &mut Exchange,
        down: &mut Down<'_>,
        up: &mut Up,
        cx: &mut Context<'_>,
    ) -> Result<Waits, Fault> {
        if self.upgrade {
            exchange.request.done = true;
            return Ok(Waits::Done);
        }
        while self.sent < self.bytes.len() {
            let left = self.bytes.len() - self.sent;
            let Poll::Ready(room) = up.poll_room(cx, left) else { return Ok(Waits::Sink) };
            let count = room.map_err(Fault::Sink)?.min(left);
            up.send(&self.bytes[self.sent..self.sent + count]).map_err(Fault::Sink)?;
            self.sent += count;
        }
        if exchange.request.done {
            if !self.ended {
                up.end(down.trailers()).map_err(Fault::Sink)?;
                self.ended = true;
                exchange.request.note_end();
            }
            return Ok(Waits::Done);
        }
        let waits = exchange.pump_request(down, up, cx, |bytes| self.keep(bytes));
        self.sent = self.bytes.len();
        self.ended = exchange.request.done;
        waits
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.overflown {
            return;
        }
        let size = self.bytes.len() + bytes.len();
        if size > REPLAY_FREE && !self.has_room(size) {
            self.overflown = true;
            self.bytes = Vec::new();
            self.room.give_back(std::mem::take(&mut self.taken));
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Room for a large body is taken twice as much each time, as its memory grows.
    fn has_room(&mut self, size: usize) -> bool {
        if size > REPLAY {
            return false;
        }
        let wanted = size.next_power_of_two();
        if wanted <= self.taken {
            return true;
        }
        let more = self.room.take(wanted - self.taken);
        if more {
            self.taken = wanted;
        }
        more
    }
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.room.give_back(self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_as_far_as_its_own_bound_and_that_of_all_go() {
        let room = Room::new(1024 * 1024);
        let head = Head::default();
        let mut small = Replay::new(&head, &room);
        small.keep(&[0; REPLAY_FREE]);
        assert!(small.is_whole() && small.taken == 0);
        let mut large = Replay::new(&head, &room);
        (0..16).for_each(|_| large.keep(&[0; 64 * 1024]));
        assert!(large.is_whole() && large.bytes.len() == REPLAY && large.taken == REPLAY);
        small.keep(&[0]);
        assert!(!small.is_whole() && small.bytes.capacity() == 0);
        large.keep(&[0]);
        assert!(!large.is_whole() && large.bytes.capacity() == 0);
        assert!(room.take(1024 * 1024));
        room.give_back(1024 * 1024);
        let mut last = Replay::new(&head, &room);
        last.keep(&[0; REPLAY_FREE + 1]);
        drop(last);
        assert!(room.take(1024 * 1024));
    }
}
