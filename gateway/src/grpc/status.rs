//! How a call of gRPC ends, and its words on the wire.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// What `grpc-message` escapes (gRPC over HTTP/2, "Percent-Encoded").
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
/// More of a message nobody reads, and some clients take no larger heads.
const WRITTEN: usize = 1024;
/// Words of a peer are shown no longer than this.
const SHOWN: usize = 200;

/// The codes that are given here, with gRPC's numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u16)]
pub(crate) enum Code {
    /// What was asked for makes no sense, whatever the state of things.
    InvalidArgument = 3,
    /// It was not there in time.
    DeadlineExceeded = 4,
    /// Too much, or too many.
    ResourceExhausted = 8,
    /// There is no such method, or no such way to ask.
    Unimplemented = 12,
    /// The fault is on this side.
    Internal = 13,
    /// Nobody can say now; ask again.
    Unavailable = 14,
    /// Who asks is not known.
    Unauthenticated = 16,
}

/// An end that is none of success.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Status {
    /// Its number.
    pub(crate) code: Code,
    /// Its words, for people.
    pub(crate) message: String,
}

impl Status {
    /// Of a code, in words.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Words as `grpc-message` writes them: in a field, whose heads have their bounds.
pub(crate) fn escape(words: &[u8]) -> String {
    let words = &words[..words.len().min(WRITTEN)];
    let mut message = String::new();
    for letter in String::from_utf8_lossy(words).chars() {
        let mut bytes = [0; 4];
        let before = message.len();
        message.extend(utf8_percent_encode(letter.encode_utf8(&mut bytes), ESCAPED));
        if message.len() > WRITTEN {
            message.truncate(before);
            break;
        }
    }
    message
}

/// Words of a peer's `grpc-message`, as far as they are shown.
pub(crate) fn unescape(words: &[u8]) -> String {
    percent_decode(words).decode_utf8_lossy().chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_there_and_back() {
        let words = "100 % sûr:\r\nno way";
        let wire = escape(words.as_bytes());
        assert_eq!(wire, "100 %25 s%C3%BBr:%0D%0Ano way");
        assert_eq!(unescape(wire.as_bytes()), words);
        assert_eq!(unescape(&[b'a'; 4000]).len(), SHOWN);
    }
}
