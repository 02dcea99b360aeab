//! HTTP/2 frame by frame (RFC 9113 section 4.1), for an endpoint that does what no library would do.

use std::io;

use crate::raw::Raw;

/// Types of frames.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
}

/// Codes of errors.
pub mod code {
    /// NO_ERROR.
    pub const NO_ERROR: u32 = 0;
    /// INTERNAL_ERROR.
    pub const INTERNAL_ERROR: u32 = 2;
    /// REFUSED_STREAM.
    pub const REFUSED_STREAM: u32 = 7;
    /// CANCEL.
    pub const CANCEL: u32 = 8;
}

/// SETTINGS_MAX_CONCURRENT_STREAMS.
pub const MAX_CONCURRENT_STREAMS: u16 = 3;

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// The rest of it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends its stream.
    pub fn ends(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END != 0
    }
}

/// The server's side of a connection.
pub struct Frames {
    raw: Raw,
    /// Whether PING is answered.
    pub pongs: bool,
}

impl Frames {
    /// Reads the client's preface and sends these settings.
    ///
    /// # Errors
    /// When the client is gone, or does not begin with the preface.
    pub async fn begin(mut raw: Raw, settings: &[(u16, u32)]) -> io::Result<Self> {
        if raw.read(PREFACE.len()).await? != PREFACE {
            return Err(io::Error::other("no preface of HTTP/2"));
        }
        let mut this = Self { raw, pongs: true };
        let payload =
            settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        this.send(kind::SETTINGS, 0, 0, &payload.collect::<Vec<_>>()).await?;
        Ok(this)
    }

    /// The next frame that is no SETTINGS and no PING; those are answered.
    ///
    /// # Errors
    /// When the client is gone or silent.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.read().await?;
            match frame.kind {
                kind::SETTINGS if frame.flags & ACK == 0 => self.send(kind::SETTINGS, ACK, 0, &[]).await?,
                kind::PING if frame.flags & ACK == 0 && self.pongs => {
                    self.send(kind::PING, ACK, 0, &frame.payload).await?;
                }
                kind::SETTINGS => {}
                _ => return Ok(frame),
            }
        }
    }

    /// Waits for a whole request and gives its stream.
    ///
    /// # Errors
    /// When the client is gone or silent.
    pub async fn request(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.next().await?;
            if frame.ends() {
                return Ok(frame.stream);
            }
        }
    }

    /// Answers a request with 200 and no body.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn answer(&mut self, stream: u32) -> io::Result<()> {
        self.send(kind::HEADERS, END | END_HEADERS, stream, &[OK]).await
    }

    /// Begins an answer with 200 and this much of its body; `end`: that is all of it.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn begin_answer(&mut self, stream: u32, body: &str, end: bool) -> io::Result<()> {
        self.send(kind::HEADERS, END_HEADERS, stream, &[OK]).await?;
        self.send(kind::DATA, if end { END } else { 0 }, stream, body.as_bytes()).await
    }

    /// Resets a stream.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(kind::RST_STREAM, 0, stream, &code.to_be_bytes()).await
    }

    /// Says that nothing behind the stream `last` was looked at.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn go_away(&mut self, last: u32, code: u32) -> io::Result<()> {
        self.send(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()).await
    }

    /// Waits until the client closes.
    pub async fn closed(&mut self) {
        while self.read().await.is_ok() {}
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let head = self.raw.read(9).await?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let payload = self.raw.read(number(&head[..3]) as usize).await?;
        Ok(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & 0x7fff_ffff, payload })
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("frames of stories are short").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.raw.send([&head, payload].concat()).await
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:status: 200` is entry 8 of HPACK's static table.
const OK: u8 = 0x88;
const ACK: u8 = 1;
const END: u8 = 1;
const END_HEADERS: u8 = 4;
