//! A strict look at HTTP/1.1 request bytes on their way to the parser.
//!
//! pingora's parser takes some chunked bodies that RFC 9112 does not: a bare LF in a chunk extension, an empty size line
//! (as size 0), blanks behind the size. It frames the body anew, so our upstream is safe; but a balancer in front of us
//! may have read the same bytes in another way. Such requests are refused here.

use memchr::memchr_iter;

/// More lines than this make a head that is refused before it is parsed; the exact limit on headers is checked after.
const HEAD_LINES: usize = 200;
/// Bytes of all chunk extensions and trailers of one body together.
const EXTRA_BYTES: usize = 16 * 1024;
/// Hexadecimal digits of a chunk size: 2^60 bytes are enough for anybody.
const SIZE_DIGITS: u8 = 15;

/// Follows a request head through the reads that bring it.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    lines: usize,
    /// Bytes of the line that is being read.
    line: usize,
    last: u8,
    /// A line that is not empty was there: clients may send empty ones first (RFC 9112 section 2.2).
    begun: bool,
    /// What was read behind the head, for requests whose body came with it.
    behind: Vec<u8>,
    done: bool,
}

impl HeadScan {
    /// Takes the next bytes. `false`: the head has too many lines.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            if self.done {
                break;
            }
            let line = self.line + (end - start);
            let before = if end > 0 { bytes[end - 1] } else { self.last };
            let empty = line == 0 || (line == 1 && before == b'\r');
            self.done = empty && self.begun;
            self.begun |= !empty;
            self.lines += 1;
            (self.line, start) = (0, end + 1);
        }
        if self.done {
            self.behind.extend_from_slice(&bytes[start..]);
        } else if let Some(last) = bytes.last() {
            self.line += bytes.len() - start;
            self.last = *last;
        }
        self.lines <= HEAD_LINES
    }

    /// What was read behind the head.
    pub(crate) fn take_behind(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.behind)
    }
}

/// Follows a chunked body (RFC 9112 section 7.1) through the reads that bring it.
#[derive(Debug)]
pub(crate) struct ChunkedBody {
    state: State,
    extra: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
    },
    SizeLf {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
}

/// The body breaks the rules; the text says how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Default for ChunkedBody {
    fn default() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, extra: 0 }
    }
}

impl ChunkedBody {
    /// Takes the next bytes. Bytes behind the end of the body are not looked at.
    ///
    /// # Errors
    /// [`Malformed`], for good.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let State::Data { left } = &mut self.state {
                let step = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= step as u64;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                bytes = &bytes[step..];
                continue;
            }
            if self.state == State::Done {
                return Ok(());
            }
            self.step(byte)?;
            bytes = rest;
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        if matches!(self.state, State::Extension { .. } | State::TrailerLine) {
            self.extra += 1;
            if self.extra > EXTRA_BYTES {
                return Err(Malformed("chunk extensions and trailers are larger than 16 KiB"));
            }
        }
        self.state = match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { value, digits: 1.. }, b';') => State::Extension { value },
            (State::Size { value, digits: 1.. }, b'\r') => State::SizeLf { value },
            (State::Size { .. }, _) => return Err(Malformed("a chunk size is not a plain hexadecimal number")),
            (State::Extension { value }, b'\r') => State::SizeLf { value },
            (State::Extension { .. }, b'\n') => return Err(Malformed("a chunk extension holds a bare LF")),
            (State::Extension { value }, _) => State::Extension { value },
            (State::SizeLf { value: 0 }, b'\n') => State::Trailer,
            (State::SizeLf { value }, b'\n') => State::Data { left: value },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::Trailer, b'\r') => State::EndLf,
            (State::Trailer | State::TrailerLine, b'\n') => {
                return Err(Malformed("a trailer line ends in LF without CR"));
            }
            (State::TrailerLine, b'\r') => State::TrailerLf,
            (State::Trailer | State::TrailerLine, _) => State::TrailerLine,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::EndLf, b'\n') => State::Done,
            (State::SizeLf { .. } | State::DataCr | State::DataLf | State::TrailerLf | State::EndLf, _) => {
                return Err(Malformed("a chunk is not followed by CR LF"));
            }
            (State::Data { .. } | State::Done, _) => self.state,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<State, Malformed> {
        let mut whole = ChunkedBody::default();
        let result = whole.feed(text.as_bytes());
        let mut bytewise = ChunkedBody::default();
        let again = text.bytes().try_for_each(|byte| bytewise.feed(&[byte]));
        assert_eq!(result, again, "the reads that bring it must not matter");
        result.map(|()| whole.state)
    }

    #[test]
    fn well_formed_bodies_pass() {
        assert_eq!(body("5\r\nhello\r\n0\r\n\r\n"), Ok(State::Done));
        assert_eq!(body("5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\nGET /"), Ok(State::Done));
        assert_eq!(body("000\r\n\r\n"), Ok(State::Done));
    }

    #[test]
    fn each_leniency_is_refused() {
        for text in [
            "\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n",
            "5\nhello\r\n",
            "5;a\nb\r\nhello\r\n",
            "5\r\nhelloXX",
            "0x5\r\nhello\r\n",
            "+5\r\n",
            "ffffffffffffffff\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\n\n",
        ] {
            assert!(body(text).is_err(), "{text:?}");
        }
        assert!(body(&format!("5;{}\r\n", "a".repeat(EXTRA_BYTES))).is_err());
    }

    #[test]
    fn what_is_behind_a_head_is_kept_whatever_the_reads() {
        let text = b"POST / HTTP/1.1\r\nhost: a\r\n\r\n5\r\nhello";
        for split in 0..text.len() {
            let mut scan = HeadScan::default();
            assert!(scan.feed(&text[..split]) && scan.feed(&text[split..]));
            assert_eq!(scan.take_behind(), b"5\r\nhello");
        }
        assert!(!HeadScan::default().feed(&b"a: b\r\n".repeat(HEAD_LINES + 1)));
    }
}
