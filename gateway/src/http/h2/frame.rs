//! Frames (RFC 9113 sections 4 and 6): their heads, and those that go out.

use tls::buffer::Buffer;

/// What a client sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's head.
pub(super) const HEAD: usize = 9;
/// The longest frame that either side may send, unless the other one says more, and we never do.
pub(super) const LONGEST: usize = 16 * 1024;
/// The largest window (RFC 9113 section 6.9.1).
pub(super) const MOST_WINDOW: i64 = (1 << 31) - 1;
/// A window until something else is said (RFC 9113 section 6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;

/// A table of compressed fields until something else is said (RFC 9113 section 6.5.2).
pub(super) const FIRST_TABLE: u32 = 4096;

/// What our own PINGs carry.
pub(super) const PING: &[u8] = b"a sluice";

/// Kinds of frames.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RESET: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GO_AWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Settings (RFC 9113 section 6.5.2).
pub(super) mod setting {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW: u16 = 4;
    pub(crate) const MAX_FRAME: u16 = 5;
    pub(crate) const MAX_FIELDS: u16 = 6;
    /// RFC 8441 section 3.
    pub(crate) const EXTENDED_CONNECT: u16 = 8;
}

/// Error codes (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Code(pub(super) u32);

impl Code {
    pub(crate) const NO_ERROR: Self = Self(0);
    pub(crate) const PROTOCOL: Self = Self(1);
    pub(crate) const INTERNAL: Self = Self(2);
    pub(crate) const FLOW_CONTROL: Self = Self(3);
    pub(crate) const STREAM_CLOSED: Self = Self(5);
    pub(crate) const FRAME_SIZE: Self = Self(6);
    pub(crate) const REFUSED_STREAM: Self = Self(7);
    pub(crate) const CANCEL: Self = Self(8);
    pub(crate) const COMPRESSION: Self = Self(9);
    pub(crate) const CALM: Self = Self(11);

    /// What a peer has done whose connection ends with this code.
    pub(super) fn fault(self) -> &'static str {
        match self {
            Self::FLOW_CONTROL => "more was sent than the windows let, or a window became too large",
            Self::STREAM_CLOSED => "a frame came for a stream that had ended",
            Self::FRAME_SIZE => "a frame has not the length of its kind",
            Self::COMPRESSION => "a block of fields cannot be read (HPACK)",
            Self::CALM => "a block of fields has more than 64 frames or 120 KiB",
            _ => "a frame breaks the rules of HTTP/2",
        }
    }
}

/// What a frame breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wrong {
    /// The connection cannot go on.
    Connection(Code),
    /// The stream cannot.
    Stream(u32, Code),
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Frame {
    /// Bytes of its payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    /// The head at the front of the bytes; `None` = more are needed.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD>()?;
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        Some(Self { length, kind: *kind, flags: *flags, stream: u32::from_be_bytes(*stream) & !(1 << 31) })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without its padding (RFC 9113 section 6.1).
    pub(super) fn unpadded<'a>(&self, payload: &'a [u8]) -> Result<&'a [u8], Wrong> {
        if !self.has(flag::PADDED) {
            return Ok(payload);
        }
        let wrong = Wrong::Connection(Code::PROTOCOL);
        let (padding, content) = payload.split_first().ok_or(Wrong::Connection(Code::FRAME_SIZE))?;
        let length = content.len().checked_sub(usize::from(*padding)).ok_or(wrong)?;
        Ok(&content[..length])
    }
}

fn head(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD] {
    let ([_, a, b, c], [e, f, g, h]) = ((length as u32).to_be_bytes(), stream.to_be_bytes());
    [a, b, c, kind, flags, e, f, g, h]
}

/// Writes one frame.
pub(super) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Buffer) {
    let length = HEAD + payload.len();
    let room = &mut out.room(length)[..length];
    room[..HEAD].copy_from_slice(&head(payload.len(), kind, flags, stream));
    room[HEAD..].copy_from_slice(payload);
    out.filled(length);
}

/// Writes a header block, in as many frames as it needs: one when it is empty, which may be the end of the stream.
pub(super) fn write_block(stream: u32, end: bool, block: &[u8], out: &mut Buffer) {
    let (mut next, mut flags) = (kind::HEADERS, if end { flag::END_STREAM } else { 0 });
    let mut rest = block;
    loop {
        let (part, after) = rest.split_at(rest.len().min(LONGEST));
        let last = if after.is_empty() { flag::END_HEADERS } else { 0 };
        write(next, flags | last, stream, part, out);
        if after.is_empty() {
            return;
        }
        (next, flags, rest) = (kind::CONTINUATION, 0, after);
    }
}

/// Writes RST_STREAM.
pub(super) fn write_reset(stream: u32, code: Code, out: &mut Buffer) {
    write(kind::RESET, 0, stream, &code.0.to_be_bytes(), out);
}

/// Writes WINDOW_UPDATE; stream 0 = the connection's.
pub(super) fn write_window(stream: u32, more: u32, out: &mut Buffer) {
    write(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes(), out);
}

/// Writes GOAWAY.
pub(super) fn write_go_away(last: u32, code: Code, out: &mut Buffer) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&code.0.to_be_bytes());
    write(kind::GO_AWAY, 0, 0, &payload, out);
}

/// Writes SETTINGS.
pub(super) fn write_settings(settings: &[(u16, u32)], out: &mut Buffer) {
    let mut payload = Vec::with_capacity(6 * settings.len());
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write(kind::SETTINGS, 0, 0, &payload, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_as_it_was_written() {
        let mut out = Buffer::default();
        write(kind::DATA, flag::END_STREAM, 7, b"hello", &mut out);
        let frame = Frame::read(out.as_slice()).unwrap();
        assert_eq!(frame, Frame { length: 5, kind: kind::DATA, flags: flag::END_STREAM, stream: 7 });
        assert_eq!(Frame::read(&out.as_slice()[..8]), None);
    }

    #[test]
    fn padding_is_cut_off_and_never_longer_than_its_frame() {
        let frame = Frame { length: 4, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(frame.unpadded(&[2, b'a', 0, 0]), Ok(&b"a"[..]));
        assert_eq!(frame.unpadded(&[3, b'a', 0, 0]), Ok(&b""[..]));
        assert_eq!(frame.unpadded(&[4, b'a', 0, 0]), Err(Wrong::Connection(Code::PROTOCOL)));
        assert_eq!(frame.unpadded(&[]), Err(Wrong::Connection(Code::FRAME_SIZE)));
    }

    #[test]
    fn a_long_block_goes_in_several_frames() {
        let mut out = Buffer::default();
        write_block(3, true, &vec![1; LONGEST + 5], &mut out);
        let first = Frame::read(out.as_slice()).unwrap();
        assert_eq!((first.kind, first.flags, first.length), (kind::HEADERS, flag::END_STREAM, LONGEST));
        let second = Frame::read(&out.as_slice()[HEAD + LONGEST..]).unwrap();
        assert_eq!((second.kind, second.flags, second.length), (kind::CONTINUATION, flag::END_HEADERS, 5));
    }

    #[test]
    fn an_empty_block_is_a_frame_that_ends_the_stream() {
        let mut out = Buffer::default();
        write_block(3, true, &[], &mut out);
        let frame = Frame::read(out.as_slice()).unwrap();
        let flags = flag::END_STREAM | flag::END_HEADERS;
        assert_eq!((frame.kind, frame.flags, frame.length, out.len()), (kind::HEADERS, flags, 0, HEAD));
    }
}
