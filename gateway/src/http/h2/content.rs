//! Frames that carry messages: DATA, HEADERS, CONTINUATION (RFC 9113 sections 6.1, 6.2, 6.10).

use tls::buffer::Buffer;

use super::{
    frame::{self, Code, Frame, Wrong, flag},
    message::Fields,
    state::{Block, HEADS, Opened, State},
};
use crate::http::{
    flow::Broken,
    head::{Head, Length},
    lent::LentHeads,
    limits::{HEAD_BYTES, INTERIM, STREAMS},
};

/// Bytes of one header block, as they come: more than a head may hold, so that one which is too large gets its answer.
const BLOCK: usize = 2 * HEAD_BYTES;
/// Frames of one header block (CVE-2024-27316).
const PARTS: u32 = 64;

impl State {
    pub(super) fn take_data(&mut self, frame: Frame, payload: &[u8], out: &mut Buffer) -> Result<(), Wrong> {
        if frame.stream == 0 {
            return Err(Wrong::Connection(Code::PROTOCOL));
        }
        let content = frame.unpadded(payload)?;
        let end = frame.has(flag::END_STREAM);
        self.recv_left -= payload.len() as i64;
        if self.recv_left < 0 {
            return Err(Wrong::Connection(Code::FLOW_CONTROL));
        }
        let Some(key) = self.find(frame.stream) else {
            self.note_late(content);
            self.give_back(payload.len(), out);
            return self.gone(frame.stream);
        };
        let slot = &mut self.slots[key];
        slot.wire.received += (frame::HEAD + payload.len()) as u64;
        if slot.taken_back {
            return Err(Wrong::Connection(Code::STREAM_CLOSED));
        }
        slot.recv_left -= payload.len() as i64;
        let code = match slot.recv_left < 0 {
            true => Some(Code::FLOW_CONTROL),
            false if slot.remote => Some(Code::STREAM_CLOSED),
            false => None,
        };
        if let Some(code) = code {
            self.give_back(payload.len(), out);
            return Err(Wrong::Stream(frame.stream, code));
        }
        if slot.broken.is_some() {
            self.note_late(content);
            self.give_back(payload.len(), out);
            return Ok(());
        }
        if content.is_empty() && !end {
            self.watch.fruitless();
        } else {
            self.watch.fruit();
        }
        let padding = payload.len() - content.len();
        if let Err(why) = self.add_content(key, content, end) {
            let slot = &mut self.slots[key];
            let unread = slot.recv.len();
            slot.recv.clear();
            slot.fail(Broken::Malformed(why));
            self.note_reset();
            self.give_back(unread + payload.len(), out);
            return Ok(());
        }
        self.slots[key].wake();
        self.owe(key, padding, out);
        Ok(())
    }

    /// Content for a stream that is over; how much there can be of it, its window says.
    fn note_late(&mut self, content: &[u8]) {
        if content.is_empty() {
            self.watch.fruitless();
        }
    }

    /// Keeps content until somebody takes it.
    fn add_content(&mut self, key: usize, content: &[u8], end: bool) -> Result<(), &'static str> {
        let slot = &mut self.slots[key];
        if !self.server && !slot.answered {
            return Err("a body comes before its head");
        }
        if slot.bodiless && !content.is_empty() {
            return Err("a body comes where there can be none");
        }
        if !slot.take_promised(content.len()) || (end && !slot.end_remote()) {
            return Err("the body is not as long as Content-Length says");
        }
        slot.recv.push(content);
        Ok(())
    }

    pub(super) fn take_headers(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Wrong> {
        let stream = frame.stream;
        if stream == 0 || (self.server && stream.is_multiple_of(2)) {
            return Err(Wrong::Connection(Code::PROTOCOL));
        }
        self.watch.fruit();
        let mut block = frame.unpadded(payload)?;
        if frame.has(flag::PRIORITY) {
            let (_, rest) = block.split_at_checked(5).ok_or(Wrong::Connection(Code::FRAME_SIZE))?;
            block = rest;
        }
        let end = frame.has(flag::END_STREAM);
        let wire = frame::HEAD + payload.len();
        if frame.has(flag::END_HEADERS) {
            return self.take_block(stream, end, block, wire);
        }
        self.block = Some(Block { stream, end, parts: 1, wire, bytes: block.to_vec() });
        Ok(())
    }

    pub(super) fn take_continuation(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Wrong> {
        let Some(mut block) = self.block.take() else { return Err(Wrong::Connection(Code::PROTOCOL)) };
        block.bytes.extend_from_slice(payload);
        block.parts += 1;
        block.wire += frame::HEAD + payload.len();
        if block.bytes.len() > BLOCK || block.parts > PARTS {
            return Err(Wrong::Connection(Code::CALM));
        }
        if frame.has(flag::END_HEADERS) {
            return self.take_block(block.stream, block.end, &block.bytes, block.wire);
        }
        self.block = Some(block);
        Ok(())
    }

    /// Takes a whole header block: it is decoded in any case, for the table that later ones use.
    /// `wire`: bytes of its frames.
    fn take_block(&mut self, stream: u32, end: bool, block: &[u8], wire: usize) -> Result<(), Wrong> {
        if let Some(key) = self.find(stream) {
            let slot = &mut self.slots[key];
            slot.wire.receive_head(wire);
            if slot.taken_back {
                return Err(Wrong::Connection(Code::STREAM_CLOSED));
            }
            return match (slot.remote || slot.broken.is_some(), self.server || slot.answered) {
                (true, _) => {
                    self.skip(block)?;
                    match self.slots[key].remote {
                        true => Err(Wrong::Stream(stream, Code::STREAM_CLOSED)),
                        false => Ok(()),
                    }
                }
                (false, true) => self.take_trailers(key, end, block),
                (false, false) => self.take_answer(key, end, block),
            };
        }
        if !self.server || stream <= self.last {
            self.skip(block)?;
            return self.gone(stream);
        }
        self.last = stream;
        self.watch.opened();
        if self.beyond.is_some_and(|last| stream > last) {
            return self.skip(block);
        }
        if self.is_full() {
            self.skip(block)?;
            self.watch.fruitless();
            return Err(Wrong::Stream(stream, Code::REFUSED_STREAM));
        }
        let mut heads = LentHeads::new();
        let refused = self.decode(block, &mut heads.request)?.request(end).err();
        let key = self.begin(stream);
        let slot = &mut self.slots[key];
        slot.remote = end;
        slot.wire.receive_head(wire);
        slot.head = heads.request.size();
        self.heads += slot.head;
        if let Length::Exact(bytes) = heads.request.length {
            slot.promised = Some(bytes);
        }
        self.opened.push(Opened { key, id: stream, heads, refused });
        Ok(())
    }

    /// Whether no further stream can be served. Those that were reset are over for the client; a few of them may still be here.
    fn is_full(&self) -> bool {
        let most = STREAMS as usize;
        let reset = || self.slots.iter().filter(|slot| slot.reset).count();
        self.heads > HEADS || self.live >= 2 * most || (self.live >= most && self.live - reset() >= most)
    }

    fn skip(&mut self, block: &[u8]) -> Result<(), Wrong> {
        self.decoder.decode(block, |_, _| ()).map_err(|_| Wrong::Connection(Code::COMPRESSION))
    }

    fn decode<'h>(&mut self, block: &[u8], head: &'h mut Head) -> Result<Fields<'h>, Wrong> {
        let mut fields = Fields::new(head);
        self.decoder
            .decode(block, |name, value| fields.take(name, value))
            .map_err(|_| Wrong::Connection(Code::COMPRESSION))?;
        Ok(fields)
    }

    fn take_trailers(&mut self, key: usize, end: bool, block: &[u8]) -> Result<(), Wrong> {
        let mut trailers = Box::<Head>::default();
        let read = self.decode(block, &mut trailers)?.trailers();
        let slot = &mut self.slots[key];
        let why = match read {
            Err(why) => why,
            Ok(()) if !end => "trailers do not end the stream",
            Ok(()) if !slot.end_remote() => "the body is not as long as Content-Length says",
            Ok(()) => {
                slot.trailers = Some(trailers);
                slot.wake();
                return Ok(());
            }
        };
        slot.fail(Broken::Malformed(why));
        Ok(())
    }

    fn take_answer(&mut self, key: usize, end: bool, block: &[u8]) -> Result<(), Wrong> {
        let mut head = self.spare.pop().unwrap_or_default();
        let bodiless = self.slots[key].bodiless;
        let read = self.decode(block, &mut head)?.response(end, bodiless);
        let slot = &mut self.slots[key];
        let interim = head.status < 200;
        let why = match read {
            Err(why) => why,
            Ok(()) if interim && end => "an interim answer ends the stream",
            Ok(()) if interim && slot.heads.len() >= INTERIM as usize => "it sends interim answers without end",
            Ok(()) => {
                slot.replied = true;
                slot.answered = !interim;
                slot.remote = end;
                slot.bodiless |= !interim && head.length == Length::Empty;
                if let Length::Exact(bytes) = head.length {
                    slot.promised = Some(bytes);
                }
                slot.heads.push_back(head);
                slot.wake();
                return Ok(());
            }
        };
        slot.fail(Broken::Malformed(why));
        Ok(())
    }
}
