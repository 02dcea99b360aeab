//! What one connection knows: its streams, its windows, what its peer allows. Frames come in, and what answers them is
//! written; no byte is read or sent here.

use std::collections::VecDeque;

use tls::buffer::Buffer;

use super::{
    flood::Watch,
    frame::{self, Code, FIRST_TABLE, FIRST_WINDOW, Frame, Wrong, flag, kind, setting},
    hpack::Decoder,
    slot::Slot,
};
use crate::http::{
    exchange::Lent,
    failure::Failure,
    flow::Broken,
    limits::{CONNECTION_WINDOW, HEAD_BYTES, STREAMS},
};

/// Streams that we ended and whose last frames may still be on their way.
const ENDED: usize = 128;

/// A request that has begun.
pub(super) struct Opened {
    pub(super) key: usize,
    pub(super) id: u32,
    pub(super) heads: Lent,
    pub(super) refused: Option<Failure>,
}

/// A header block that is not complete.
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) end: bool,
    pub(super) parts: u32,
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
    /// Streams that the peer allows at once.
    pub(super) allowed: u32,
    /// The peer takes extended CONNECT (RFC 8441).
    pub(super) extended_connect: bool,
    /// Streams above this one are not looked at: we said so (server), or the peer did (client).
    pub(super) beyond: Option<u32>,
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
            allowed: STREAMS,
            extended_connect: false,
            beyond: None,
            pong: false,
            flushes: 0,
            dead: false,
        }
    }

    /// Says what we allow: preface, settings, the connection's window.
    pub(super) fn greet(&mut self, out: &mut Buffer) {
        let window = if self.server {
            let settings = [
                (setting::MAX_STREAMS, STREAMS),
                (setting::MAX_FIELDS, HEAD_BYTES as u32),
                (setting::EXTENDED_CONNECT, 1),
            ];
            frame::write_settings(&settings, out);
            CONNECTION_WINDOW
        } else {
            out.push(frame::PREFACE);
            frame::write_settings(&[(setting::ENABLE_PUSH, 0), (setting::MAX_FIELDS, HEAD_BYTES as u32)], out);
            // Clients that take nothing must not keep an endpoint from serving others.
            STREAMS * FIRST_WINDOW
        };
        frame::write_window(0, window - FIRST_WINDOW, out);
        self.recv_left = i64::from(window);
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
        if !whole && !slot.reset && !self.dead {
            frame::write_reset(id, code, out);
            self.remember(id);
        }
        self.slots[key] = Slot::default();
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
        self.note_reset();
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
                let untouched = !slot.answered && slot.heads.is_empty();
                slot.fail(Broken::Closed { untouched });
            }
        }
    }

    /// Lets everybody who waits for room look again.
    pub(super) fn wake_starved(&mut self) {
        self.slots.iter_mut().filter(|slot| slot.starved).for_each(Slot::wake);
    }

    /// Bytes of content were taken, or dropped: the connection's share of them goes back to the peer.
    pub(super) fn give_back(&mut self, count: usize, out: &mut Buffer) {
        self.recv_owed += count as u32;
        let full = if self.server { CONNECTION_WINDOW } else { STREAMS * FIRST_WINDOW };
        if self.recv_owed >= full / 2 && !self.dead {
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

    /// What may be sent on a stream now, with so many bytes waiting for the socket already.
    pub(super) fn room(&self, key: usize, left: usize) -> usize {
        let window = self.slots[key].send_window.min(self.send_window);
        usize::try_from(window).unwrap_or(0).min(left)
    }

    /// Writes content, as much as there was room for.
    pub(super) fn send(&mut self, key: usize, bytes: &[u8], out: &mut Buffer) {
        let (slot, id) = (&mut self.slots[key], self.ids[key]);
        for part in bytes.chunks(frame::LONGEST) {
            slot.tail = Some((self.flushes, out.len()));
            frame::write(kind::DATA, 0, id, part, out);
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
            None => frame::write(kind::DATA, flag::END_STREAM, id, &[], out),
        }
    }

    /// Takes a whole frame.
    pub(super) fn take(&mut self, frame: Frame, payload: &[u8], out: &mut Buffer) -> Result<(), Wrong> {
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
        match (self.is_idle(stream), self.ended.contains(&stream)) {
            (true, _) => Err(Wrong::Connection(Code::PROTOCOL)),
            (false, true) => Ok(()),
            (false, false) => Err(Wrong::Connection(Code::STREAM_CLOSED)),
        }
    }
}
