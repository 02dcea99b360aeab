//! Bodies from bytes: what is content, what is framing, and where the end is (RFC 9112 sections 6 and 7).

use memchr::memchr;

use crate::http::{
    head::{Head, Length},
    limits::FIELDS,
    name::Name,
};

/// Most bytes of chunk extensions and trailers in one body.
const EXTRA: usize = 16 * 1024;
/// Most digits of a chunk size: nobody sends 2^60 bytes in one piece.
const DIGITS: usize = 15;

/// A body that breaks the rules; the text says which.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// How far a body is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// At its end.
    #[default]
    Done,
    /// So many bytes are left.
    Exact(u64),
    /// Everything until the connection ends.
    UntilClose,
    /// Before the line with a chunk's size.
    Size,
    /// Inside of a chunk.
    Chunk(u64),
    /// Before the CR LF behind a chunk.
    ChunkEnd,
    /// Behind the last chunk.
    Trailers,
}

/// Reads one body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    state: State,
    extra: usize,
    /// Fields that followed it.
    pub(crate) trailers: Option<Box<Head>>,
}

/// What stands at the front of the bytes.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Nothing that can be told yet: more bytes are needed.
    More,
    /// `skip` bytes of framing, then `len` bytes of content; both may be taken away. Tell [`Body::took`] how much content.
    Data {
        /// Framing.
        skip: usize,
        /// Content.
        len: usize,
    },
    /// `skip` bytes of framing, then the end.
    End {
        /// Framing.
        skip: usize,
    },
}

impl Body {
    /// A body of this length; an unknown one comes in chunks.
    pub(crate) fn new(length: Length) -> Self {
        let state = match length {
            Length::Empty | Length::Exact(0) => State::Done,
            Length::Exact(bytes) => State::Exact(bytes),
            Length::Unknown => State::Size,
        };
        Self { state, extra: 0, trailers: None }
    }

    /// A body that ends with its connection.
    pub(crate) fn until_close() -> Self {
        Self { state: State::UntilClose, extra: 0, trailers: None }
    }

    /// Nothing of it is left.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection is its end.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The connection has ended, and with it the body.
    pub(crate) fn finish(&mut self) {
        self.state = State::Done;
    }

    /// What stands at the front of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Next, Malformed> {
        let mut skip = 0;
        loop {
            let rest = &bytes[skip..];
            match self.state {
                State::Done => return Ok(Next::End { skip }),
                State::Exact(left) | State::Chunk(left) => {
                    let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    return Ok(if len + skip == 0 { Next::More } else { Next::Data { skip, len } });
                }
                State::UntilClose if rest.is_empty() => return Ok(Next::More),
                State::UntilClose => return Ok(Next::Data { skip, len: rest.len() }),
                State::Size => match self.size(rest)? {
                    None => break,
                    Some((taken, size)) => {
                        skip += taken;
                        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                    }
                },
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        skip += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(Malformed("a chunk is not followed by CR LF")),
                },
                State::Trailers => match self.read_trailers(rest)? {
                    None => break,
                    Some(taken) => {
                        skip += taken;
                        self.state = State::Done;
                    }
                },
            }
        }
        Ok(if skip == 0 { Next::More } else { Next::Data { skip, len: 0 } })
    }

    /// So many bytes of content were taken.
    pub(crate) fn took(&mut self, count: usize) {
        let less = |left: u64| left.saturating_sub(count as u64);
        self.state = match self.state {
            State::Exact(left) if less(left) == 0 => State::Done,
            State::Exact(left) => State::Exact(less(left)),
            State::Chunk(left) if less(left) == 0 => State::ChunkEnd,
            State::Chunk(left) => State::Chunk(less(left)),
            other => other,
        };
    }

    /// The line with a chunk's size: its length and the size. Extensions mean nothing to us and are dropped.
    fn size(&mut self, bytes: &[u8]) -> Result<Option<(usize, u64)>, Malformed> {
        let Some(end) = memchr(b'\n', bytes) else {
            let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let plausible =
                digits <= DIGITS && (digits == bytes.len() || (digits > 0 && matches!(bytes[digits], b';' | b'\r')));
            return match plausible && bytes.len() <= EXTRA {
                true => Ok(None),
                false => Err(Malformed("a chunk size is not a plain hexadecimal number")),
            };
        };
        let line =
            bytes[..end].strip_suffix(b"\r").ok_or(Malformed("the line of a chunk size ends in LF without CR"))?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        if digits == 0 || digits > DIGITS || !(extension.is_empty() || extension[0] == b';') {
            return Err(Malformed("a chunk size is not a plain hexadecimal number"));
        }
        if extension.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(Malformed("a chunk extension holds a control character"));
        }
        self.extra += extension.len();
        if self.extra > EXTRA {
            return Err(Malformed("chunk extensions are larger than 16 KiB"));
        }
        let size = line[..digits]
            .iter()
            .fold(0, |size, digit| size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or_default()));
        Ok(Some((end + 1, size)))
    }

    /// Fields behind the last chunk, and the empty line that ends them.
    fn read_trailers(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let (mut at, mut lines) = (0, 0);
        loop {
            let Some(found) = memchr(b'\n', &bytes[at..]) else {
                return if bytes.len() > EXTRA { Err(Malformed("trailers are larger than 16 KiB")) } else { Ok(None) };
            };
            let line =
                bytes[at..at + found].strip_suffix(b"\r").ok_or(Malformed("a trailer line ends in LF without CR"))?;
            at += found + 1;
            if line.is_empty() {
                break;
            }
            lines += 1;
            if lines > FIELDS || at > EXTRA {
                return Err(Malformed("there are more than 100 trailers or 16 KiB of them"));
            }
        }
        if lines > 0 {
            self.trailers = Some(fields(&bytes[..at])?);
        }
        Ok(Some(at))
    }
}

fn fields(bytes: &[u8]) -> Result<Box<Head>, Malformed> {
    let mut trailers = Box::<Head>::default();
    let mut parsed = [httparse::EMPTY_HEADER; FIELDS];
    match httparse::parse_headers(bytes, &mut parsed) {
        Ok(httparse::Status::Complete((_, fields))) => {
            for field in fields.iter().filter(|field| Name::may_trail(field.name.as_bytes())) {
                trailers.push(field.name.as_bytes(), field.value);
            }
            Ok(trailers)
        }
        _ => Err(Malformed("a trailer is malformed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content and trailers of a body that comes in pieces.
    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, usize), Malformed> {
        let mut body = Body::new(Length::Unknown);
        let (mut bytes, mut content) = (Vec::new(), Vec::new());
        for piece in pieces {
            bytes.extend_from_slice(piece);
            loop {
                match body.next(&bytes)? {
                    Next::More => break,
                    Next::Data { skip, len } => {
                        content.extend_from_slice(&bytes[skip..skip + len]);
                        bytes.drain(..skip + len);
                        body.took(len);
                    }
                    Next::End { skip } => {
                        bytes.drain(..skip);
                        let trailers = body.trailers.as_ref().map_or(0, |trailers| trailers.fields().count());
                        return Ok((content, trailers, bytes.len()));
                    }
                }
            }
        }
        Ok((content, usize::MAX, bytes.len()))
    }

    fn any_way(text: &str) -> Result<(Vec<u8>, usize, usize), Malformed> {
        let whole = read(&[text.as_bytes()]);
        let bytewise: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        let again = read(&bytewise);
        assert_eq!(whole.is_ok(), again.is_ok(), "{text:?}");
        if let (Ok(whole), Ok(again)) = (&whole, &again) {
            assert_eq!((&whole.0, whole.1), (&again.0, again.1), "the reads that bring it must not matter");
        }
        whole
    }

    #[test]
    fn well_formed_bodies_pass() {
        assert_eq!(any_way("5\r\nhello\r\n0\r\n\r\n").unwrap(), (b"hello".to_vec(), 0, 0));
        let text = "5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nx: y\r\ncontent-length: 9\r\n\r\nGET /";
        assert_eq!(any_way(text).unwrap(), (b"hello0123456789".to_vec(), 1, 5));
        assert_eq!(any_way("000\r\n\r\n").unwrap().0, b"");
    }

    #[test]
    fn each_leniency_is_refused() {
        for text in [
            "\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n",
            "5\nhello\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "5\r\nhelloXX",
            "0x5\r\nhello\r\n",
            "+5\r\n",
            "ffffffffffffffff\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\n\n",
            "0\r\nx y\r\n\r\n",
            "0\r\n x: y\r\n\r\n",
        ] {
            assert!(any_way(text).is_err(), "{text:?}");
        }
        assert!(read(&[format!("5;{}", "a".repeat(EXTRA)).as_bytes()]).is_err());
        let many = format!("1;{}\r\na\r\n", "a".repeat(1000)).repeat(20);
        assert!(read(&[many.as_bytes()]).is_err());
    }
}
