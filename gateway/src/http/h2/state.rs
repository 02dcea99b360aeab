//! What one connection knows: its streams, its windows, what its peer allows. Frames come in, and what answers them is
//! written; no byte is read or sent here.

use std::collections::VecDeque;

use tls::buffer::Buffer;

use super::{
    flood::Watch,
    frame::{self, Code, FIRST_TABLE, FIRST_WINDOW, Frame, Wrong, flag, kind, setting},
    hpack::{Decoder, Kept},
    slot::Slot,
};
use crate::http::{
    failure::Failure,
    flow::Broken,
    head::Head,
    lent::LentHeads,
    limits::{CONNECTION_WINDOW, HEAD_BYTES, STREAMS},
};

/// Streams that we ended and whose last frames may still be on their way.
const ENDED: usize = 1024;
/// Decoded bytes of the heads of all requests of a connection at once: references into the table make much of little.
pub(super) const HEADS: usize = 512 * 1024;
/// Content that one stream may send in a round while others want to, too.
const SHARE: usize = 16 * 1024;

/// A request that has begun.
pub(super) struct Opened {
    pub(super) key: usize,
    pub(super) id: u32,
    pub(super) heads: LentHeads,
    pub(super) refused: Option<Failure>,
}

/// What a stream may send.
pub(super) enum Room {
    /// So many bytes.
    Some(usize),
    /// Nothing, until somebody makes room.
    None,
    /// It had its share: others first.
    Later,
}

/// A header block that is not complete.
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) end: bool,
    pub(super) parts: u32,
    /// Bytes of its frames.
    pub(super) wire: usize,
    pub(super) bytes: Vec<u8>,
}

/// See the module.
pub(super) struct State {
    pub(super) server: bool,
    pub(super) decoder: Decoder,
    pub(super) slots: Vec<Slot>,
    /// By slot: the stream that it is; 0 = none.
    pub(super) ids: Vec<u32>,
    /// Slots in use.
    pub(super) live: usize,
    /// The highest stream of the peer's (server) or of ours (client).
    pub(super) last: u32,
    /// Streams that we ended, newest last.
    pub(super) ended: VecDeque<u32>,
    /// What the peer takes on the whole connection, and on a stream that begins.
    pub(super) send_window: i64,
    pub(super) first_window: i64,
    /// What the peer may still send on the whole connection, and what it is to be given back.
    pub(super) recv_left: i64,
    recv_owed: u32,
    pub(super) block: Option<Block>,
    /// Of frames that bring nothing on.
    pub(super) watch: Watch,
    /// Requests that have begun since the driver last looked.
    pub(super) opened: Vec<Opened>,
    /// The peer's settings have come.
    pub(super) heard: bool,
    /// What the peer keeps of our fields, at most; and that this became less, which the next block has to say.
    pub(super) table: u32,
    pub(super) shrunk: bool,
    /// What it does keep.
    pub(super) kept: Kept,
    /// Streams that the peer allows at once.
    pub(super) allowed: u32,
    /// The peer takes extended CONNECT (RFC 8441).
    pub(super) extended_connect: bool,
    /// Streams above this one are not looked at: we said so (server), or the peer did (client).
    pub(super) beyond: Option<u32>,
    /// The peer knows our settings.
    pub(super) acknowledged: bool,
    /// Streams beyond our limit that it may still begin before that.
    premature: u32,
    /// Frames that have come.
    pub(super) frames: u64,
    /// Heads that nobody uses.
    #[expect(clippy::vec_box, reason = "the box is what wanders from here to a stream and back")]
    pub(super) spare: Vec<Box<Head>>,
    /// Decoded bytes of heads of requests that are served.
    pub(super) heads: usize,
    /// Some stream waits for room.
    starved: bool,
    /// Streams that were woken because there is room and have not looked yet; how often that was; who is first next time.
    in_line: usize,
    round: u64,
    first: usize,
    /// A PING of ours was answered.
    pub(super) pong: bool,
    /// Flushes so far.
    pub(super) flushes: u64,
    /// The connection is over.
    pub(super) dead: bool,
}

impl State {
    pub(super) fn new(server: bool) -> Self {
        Self {
            server,
            decoder: Decoder::default(),
            slots: Vec::new(),
            ids: Vec::new(),
            live: 0,
            last: 0,
            ended: VecDeque::new(),
            send_window: i64::from(FIRST_WINDOW),
            first_window: i64::from(FIRST_WINDOW),
            recv_left: i64::from(FIRST_WINDOW),
            recv_owed: 0,
            block: None,
            watch: Watch::default(),
            opened: Vec::new(),
            heard: false,
            table: FIRST_TABLE,
            shrunk: false,
            kept: Kept::default(),
            allowed: STREAMS,
            extended_connect: false,
            beyond: None,
            acknowledged: false,
            premature: 2 * STREAMS,
            frames: 0,
            spare: Vec::new(),
            heads: 0,
            starved: false,
            in_line: 0,
            round: 1,
            first: 0,
            pong: false,
            flushes: 0,
            dead: false,
        }
    }

    /// Says what we allow: preface, settings, the connection's window.
    pub(super) fn greet(&mut self, out: &mut Buffer) {
        if self.server {
            let settings = [
                (setting::MAX_STREAMS, STREAMS),
                (setting::MAX_FIELDS, HEAD_BYTES as u32),
                (setting::EXTENDED_CONNECT, 1),
            ];
            frame::write_settings(&settings, out);
        } else {
            out.push(frame::PREFACE);
            frame::write_settings(&[(setting::ENABLE_PUSH, 0), (setting::MAX_FIELDS, HEAD_BYTES as u32)], out);
        }
        // Streams that nobody takes from must not keep the peer from sending on others.
        frame::write_window(0, CONNECTION_WINDOW - FIRST_WINDOW, out);
        self.recv_left = i64::from(CONNECTION_WINDOW);
    }

    /// Whether a header block is not complete.
    pub(super) fn has_block(&self) -> bool {
        self.block.is_some()
    }

    pub(super) fn slot(&mut self, key: usize) -> &mut Slot {
        &mut self.slots[key]
    }

    pub(super) fn find(&self, stream: u32) -> Option<usize> {
        self.ids.iter().position(|id| *id == stream)
    }

    /// A slot for a stream that begins.
    pub(super) fn begin(&mut self, stream: u32) -> usize {
        let key = self.find(0).unwrap_or_else(|| {
            self.ids.push(0);
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.ids[key] = stream;
        self.slots[key].begin(self.first_window);
        self.live += 1;
        key
    }

    /// Nobody serves a stream any more. `code` goes to the peer when its end has not.
    pub(super) fn close(&mut self, key: usize, code: Code, out: &mut Buffer) {
        let id = std::mem::take(&mut self.ids[key]);
        let slot = &mut self.slots[key];
        let (whole, unread) = (slot.local && slot.remote, slot.recv.len());
        self.heads -= slot.head;
        self.in_line -= usize::from(slot.in_line);
        if !whole && !slot.reset && !self.dead {
            frame::write_reset(id, code, out);
            self.remember(id);
        }
        self.slots[key].clear();
        self.live -= 1;
        self.give_back(unread, out);
        if self.live == 0 && self.slots.len() > 8 {
            (self.slots, self.ids) = (Vec::new(), Vec::new());
        }
    }

    fn remember(&mut self, id: u32) {
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }

    /// Ends a stream whose peer broke the rules.
    pub(super) fn refuse(&mut self, id: u32, code: Code, out: &mut Buffer) {
        // Who does not know our settings yet does not know how many streams there may be.
        if code == Code::REFUSED_STREAM && !self.acknowledged && self.premature > 0 {
            self.premature -= 1;
        } else {
            self.note_reset();
        }
        frame::write_reset(id, code, out);
        self.remember(id);
        if let Some(key) = self.find(id) {
            let slot = &mut self.slots[key];
            slot.reset = true;
            slot.fail(Broken::Malformed("it broke the rules of HTTP/2"));
        }
    }

    /// A stream ended by a reset, whoever made it necessary.
    pub(super) fn note_reset(&mut self) {
        if self.server {
            self.watch.reset();
        }
    }

    /// The connection is over: so is every stream.
    pub(super) fn die(&mut self) {
        self.dead = true;
        for (slot, id) in self.slots.iter_mut().zip(&self.ids) {
            if *id != 0 {
                // A connection that nobody else was on ended without a word since: it had been idle for too long.
                let untouched = !slot.replied && slot.alone_at == Some(self.frames);
                slot.fail(Broken::Closed { untouched });
            }
        }
    }

    /// Lets everybody who waits for room look again.
    pub(super) fn wake_starved(&mut self) {
        if !self.starved {
            return;
        }
        self.starved = false;
        self.round += 1;
        self.in_line = 0;
        // Round robin: who was woken first is woken last next time.
        let first = self.first.min(self.slots.len());
        let (behind, before) = self.slots.split_at_mut(first);
        let mut next = None;
        for (at, slot) in before.iter_mut().chain(behind).enumerate() {
            slot.in_line = std::mem::take(&mut slot.starved);
            if slot.in_line {
                self.in_line += 1;
                next.get_or_insert(at);
                slot.wake();
            }
        }
        if let Some(at) = next {
            self.first = (first + at + 1) % self.slots.len().max(1);
        }
    }

    /// Bytes of content were taken, or dropped: the connection's share of them goes back to the peer.
    pub(super) fn give_back(&mut self, count: usize, out: &mut Buffer) {
        self.recv_owed += count as u32;
        if self.recv_owed >= FIRST_WINDOW && !self.dead {
            frame::write_window(0, self.recv_owed, out);
            self.recv_left += i64::from(self.recv_owed);
            self.recv_owed = 0;
        }
    }

    /// Content of a stream was taken.
    pub(super) fn took(&mut self, key: usize, count: usize, out: &mut Buffer) {
        let slot = &mut self.slots[key];
        slot.recv.consume(count);
        self.owe(key, count, out);
    }

    pub(super) fn owe(&mut self, key: usize, count: usize, out: &mut Buffer) {
        let slot = &mut self.slots[key];
        slot.recv_owed += count as u32;
        if slot.recv_owed >= FIRST_WINDOW / 2 && !slot.remote && !slot.reset && !self.dead {
            frame::write_window(self.ids[key], slot.recv_owed, out);
            slot.recv_left += i64::from(slot.recv_owed);
            slot.recv_owed = 0;
        }
        self.give_back(count, out);
    }

    /// What may be sent on a stream now, when the socket still has so much room.
    pub(super) fn room(&mut self, key: usize, left: usize) -> Room {
        let slot = &mut self.slots[key];
        self.in_line -= usize::from(std::mem::take(&mut slot.in_line));
        let window = slot.send_window.min(self.send_window);
        let room = usize::try_from(window).unwrap_or(0).min(left);
        if room == 0 {
            (slot.starved, self.starved) = (true, true);
            return Room::None;
        }
        if self.in_line == 0 {
            return Room::Some(room);
        }
        if std::mem::replace(&mut slot.served, self.round) == self.round
            && std::mem::replace(&mut slot.yielded, self.round) != self.round
        {
            return Room::Later;
        }
        Room::Some(room.min(SHARE))
    }

    /// Waits until what goes out is less.
    pub(super) fn starve(&mut self, key: usize) {
        (self.slots[key].starved, self.starved) = (true, true);
    }

    /// Writes content, as much as there was room for.
    pub(super) fn send(&mut self, key: usize, bytes: &[u8], out: &mut Buffer) {
        let (slot, id) = (&mut self.slots[key], self.ids[key]);
        for part in bytes.chunks(frame::LONGEST) {
            slot.tail = Some((self.flushes, out.len()));
            frame::write(kind::DATA, 0, id, part, out);
            slot.wire.sent += (frame::HEAD + part.len()) as u64;
        }
        slot.send_window -= bytes.len() as i64;
        self.send_window -= bytes.len() as i64;
        self.watch.fruit();
    }

    /// Ends our half: the last DATA frame says so when it is still here.
    pub(super) fn end(&mut self, key: usize, out: &mut Buffer) {
        let (slot, id) = (&mut self.slots[key], self.ids[key]);
        slot.local = true;
        match slot.tail.filter(|(flush, _)| *flush == self.flushes) {
            Some((_, at)) => out.as_mut_slice()[at + 4] |= flag::END_STREAM,
            None => {
                frame::write(kind::DATA, flag::END_STREAM, id, &[], out);
                slot.wire.sent += frame::HEAD as u64;
            }
        }
    }

    /// Takes a whole frame.
    pub(super) fn take(&mut self, frame: Frame, payload: &[u8], out: &mut Buffer) -> Result<(), Wrong> {
        self.frames += 1;
        let protocol = Err(Wrong::Connection(Code::PROTOCOL));
        let continues = frame.kind == kind::CONTINUATION;
        match &self.block {
            Some(block) if !continues || block.stream != frame.stream => return protocol,
            None if continues => return protocol,
            _ => {}
        }
        if !self.heard && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return protocol;
        }
        match frame.kind {
            kind::DATA => self.take_data(frame, payload, out),
            kind::HEADERS => self.take_headers(frame, payload),
            kind::CONTINUATION => self.take_continuation(frame, payload),
            other => {
                self.watch.fruitless();
                match other {
                    kind::PRIORITY if frame.stream == 0 => protocol,
                    kind::PRIORITY if frame.length != 5 => Err(Wrong::Stream(frame.stream, Code::FRAME_SIZE)),
                    kind::RESET => self.take_reset(frame, payload),
                    kind::SETTINGS => self.take_settings(frame, payload, out),
                    kind::PUSH_PROMISE => protocol,
                    kind::PING => self.take_ping(frame, payload, out),
                    kind::GO_AWAY => self.take_go_away(frame, payload),
                    kind::WINDOW_UPDATE => self.take_window(frame, payload),
                    // What we do not know is skipped (RFC 9113 section 5.5).
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whether a stream has not begun.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || stream > self.last
    }

    /// A frame that needs a stream came for one that is over: the rest of one that we ended, or a breach of the rules.
    pub(super) fn gone(&self, stream: u32) -> Result<(), Wrong> {
        let passed = self.server && self.beyond.is_some_and(|last| stream > last);
        if passed || (!self.server && !self.is_idle(stream)) {
            // It began behind our GOAWAY, or it is one of ours that we have ended.
            return Ok(());
        }
        match (self.is_idle(stream), self.ended.contains(&stream)) {
            (true, _) => Err(Wrong::Connection(Code::PROTOCOL)),
            (false, true) => Ok(()),
            (false, false) => Err(Wrong::Connection(Code::STREAM_CLOSED)),
        }
    }
}
