//! Bodies on their way: a source that has bytes, a sink that takes them, and what moves them from one to the other.
//!
//! Nothing here writes to a socket: what is sent waits until both directions have done what they can, and goes out with one
//! flush.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{grpc_messages::Messages, head::Head};

/// What comes next from a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    /// So many bytes are there.
    Data(usize),
    /// The body is over; [`Source::trailers`] may follow it.
    End,
}

/// Why a side does not go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Broken {
    /// It is gone, before a byte of an answer (`true`) or later.
    Closed {
        /// Nothing of what was sent has been answered.
        untouched: bool,
    },
    /// It ended the stream (HTTP/2).
    Reset {
        /// It says that it has not looked at the request: REFUSED_STREAM, or GOAWAY for earlier streams.
        unseen: bool,
    },
    /// What it says is not HTTP; the reason in words.
    Malformed(&'static str),
    /// It takes nothing any more, or brings nothing.
    Stalled,
}

/// Where a body comes from.
pub(crate) trait Source {
    /// Waits for the next piece.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>>;
    /// Gives the oldest `count` of the bytes that are there away, unless whoever takes them fails.
    fn give(&mut self, count: usize, to: impl FnOnce(&[u8]) -> Result<(), Broken>) -> Result<(), Broken>;
    /// What followed the body.
    fn trailers(&self) -> Option<&Head>;
}

/// Where a body goes.
pub(crate) trait Sink {
    /// Waits until there is room, and says how much. No more than `want` is asked for: what one stream is given of a
    /// connection's window and does not use, others cannot have (HTTP/2).
    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Broken>>;
    /// Takes bytes, at most as many as there was room for.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken>;
    /// Takes the end.
    fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken>;
    /// Brings everything on its way.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;
}

/// Which side broke.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The one that sends the body.
    Source(Broken),
    /// The one that is sent to.
    Sink(Broken),
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Bytes of content so far.
    pub(crate) bytes: u64,
    /// The end has been passed on.
    pub(crate) done: bool,
    /// Of a gRPC call: its messages.
    pub(crate) messages: Option<Messages>,
    /// When it moved, where somebody wants to know.
    pub(crate) clock: Option<Box<Clock>>,
}

/// When a direction moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// The first bytes.
    pub(crate) first: Option<Instant>,
    /// The end, as it came.
    pub(crate) came: Option<Instant>,
    /// The end, as it was last passed on.
    pub(crate) passed: Option<Instant>,
}

/// What a direction waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Waits {
    /// For nothing: it is over.
    Done,
    /// For bytes.
    Source,
    /// For room.
    Sink,
}

impl Flow {
    /// Bytes go on now.
    pub(crate) fn note_first(&mut self) {
        if let Some(clock) = &mut self.clock {
            clock.first.get_or_insert_with(Instant::now);
        }
    }

    /// The end goes on now.
    pub(crate) fn note_end(&mut self) {
        if let Some(clock) = &mut self.clock {
            let now = Instant::now();
            clock.came.get_or_insert(now);
            clock.passed = Some(now);
        }
    }

    /// Moves what can be moved now. `seen` is shown every byte.
    ///
    /// # Errors
    /// Which side broke, and why.
    pub(crate) fn pump(
        &mut self,
        source: &mut impl Source,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Waits, Fault> {
        while !self.done {
            // First what there is, then room for it: room that nobody needs would be taken from other streams (HTTP/2).
            let Poll::Ready(piece) = source.poll_data(cx) else { return Ok(Waits::Source) };
            match piece.map_err(Fault::Source)? {
                Piece::Data(there) => {
                    let Poll::Ready(room) = sink.poll_room(cx, there) else { return Ok(Waits::Sink) };
                    let count = there.min(room.map_err(Fault::Sink)?);
                    let messages = &mut self.messages;
                    let passed = source.give(count, |bytes| {
                        seen(bytes);
                        if let Some(messages) = messages {
                            messages.see(bytes);
                        }
                        sink.send(bytes)
                    });
                    passed.map_err(Fault::Sink)?;
                    self.bytes += count as u64;
                    self.note_first();
                }
                Piece::End => {
                    sink.end(source.trailers()).map_err(Fault::Sink)?;
                    self.done = true;
                    self.note_end();
                }
            }
        }
        Ok(Waits::Done)
    }
}
