//! HTTP/2 by hand: frames as a table writes them, and what comes back (RFC 9113 section 4, RFC 7541).
//!
//! - `headers STREAM [end] [more] [METHOD PATH]`, then a `. name: value` for each further field; `more`: no END_HEADERS.
//! - `continue STREAM [more]`, the same for CONTINUATION.
//! - `data STREAM [end] BYTES`
//! - `frame TYPE FLAGS STREAM BYTES`
//! - `first`: the case's own frames follow the preface at once, without SETTINGS.
//! - `loop COUNT`: all lines from here on so many times, `*` being the number of another stream each time.

use std::collections::BTreeMap;

use super::table::{Case, unescape};

/// The stream of the honest request behind a case.
pub(super) const AFTER: u32 = 99_999;

/// The connection preface and SETTINGS, with no table for compressed fields.
pub(super) fn opening(case: &Case) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    if !case.has("first") {
        bytes.extend(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
    }
    bytes
}

/// A GET of `/after` on [`AFTER`].
pub(super) fn honest() -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, AFTER, &request("GET", "/after"))
}

/// A frame with this payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn request(method: &str, path: &str) -> Vec<u8> {
    let host = harness::mesh::HOST.as_bytes();
    let mut block = literal(b":method", method.as_bytes());
    block.extend(literal(b":scheme", b"http"));
    block.extend(literal(b":authority", host));
    block.extend(literal(b":path", path.as_bytes()));
    block
}

/// A field without indexing and without Huffman (RFC 7541 section 6.2.2).
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.extend(integer(text.len()));
        bytes.extend(text);
    }
    bytes
}

/// With a prefix of seven bits (RFC 7541 section 5.1).
fn integer(number: usize) -> Vec<u8> {
    let Some(mut left) = number.checked_sub(0x7f) else { return vec![number as u8] };
    let mut bytes = vec![0x7f];
    while left >= 0x80 {
        bytes.push((left % 0x80) as u8 | 0x80);
        left /= 0x80;
    }
    bytes.push(left as u8);
    bytes
}

/// The frames of a case.
pub(super) fn written(case: &Case) -> Vec<u8> {
    let lines: Vec<(&str, &str)> = case.lines().collect();
    let at = lines.iter().position(|(word, _)| *word == "loop").unwrap_or(lines.len());
    let mut bytes = once(&lines[..at], 1);
    if let Some((_, count)) = lines.get(at) {
        let count: u32 = count.parse().expect("a loop has a number");
        bytes.extend((0..count).flat_map(|round| once(&lines[at + 1..], 1 + 2 * round)));
    }
    bytes
}

/// The frames of these lines, `*` being this stream.
fn once(lines: &[(&str, &str)], looped: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, (word, rest)) in lines.iter().enumerate() {
        let mut words = rest.splitn(4, ' ');
        let stream = |word: Option<&str>| match word {
            Some("*") => looped,
            word => word.and_then(|word| word.parse().ok()).expect("a stream has a number"),
        };
        match *word {
            "headers" | "continue" => bytes.extend(fields(lines, at, stream(rest.split(' ').next()))),
            "data" => {
                let (number, content) = rest.split_once(' ').unwrap_or((rest, ""));
                let (flags, content) = match content.strip_prefix("end") {
                    Some(content) => (END_STREAM, content.trim_start()),
                    None => (0, content),
                };
                bytes.extend(frame(0, flags, stream(Some(number)), &unescape(content)));
            }
            "frame" => {
                let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a type and flags");
                let (kind, flags) = (number(), number());
                let number = stream(words.next());
                bytes.extend(frame(kind, flags, number, &unescape(words.next().unwrap_or_default())));
            }
            _ => {}
        }
    }
    bytes
}

/// The HEADERS or CONTINUATION frame of a line and of the fields below it.
fn fields(lines: &[(&str, &str)], at: usize, stream: u32) -> Vec<u8> {
    let (word, rest) = lines[at];
    let words: Vec<&str> = rest.split(' ').skip(1).collect();
    let ended = if words.contains(&"end") { END_STREAM } else { 0 };
    let complete = if words.contains(&"more") { 0 } else { END_HEADERS };
    let start: Vec<&str> = words.into_iter().filter(|word| !matches!(*word, "end" | "more")).collect();
    let mut block = match start.as_slice() {
        [] => Vec::new(),
        [method, path] => request(method, path),
        other => panic!("a method and a path, not {other:?}"),
    };
    for (_, field) in lines[at + 1..].iter().take_while(|(word, _)| *word == ".") {
        let (name, value) = field.split_once(": ").unwrap_or_else(|| panic!("a field, not {field:?}"));
        block.extend(literal(&unescape(name), &unescape(value)));
    }
    frame(if word == "headers" { HEADERS } else { CONTINUATION }, ended | complete, stream, &block)
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// All bytes.
    pub(super) all: Vec<u8>,
    rest: Vec<u8>,
    /// By stream: its status, or `reset:REASON`.
    pub(super) streams: BTreeMap<u32, String>,
    /// The reason of the last GOAWAY.
    pub(super) goaway: Option<String>,
    /// The connection has ended.
    pub(super) closed: bool,
    /// Bytes of content.
    pub(super) content: usize,
}

impl Heard {
    /// Takes bytes as they come.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
        self.rest.extend_from_slice(bytes);
        while self.rest.len() >= 9 {
            let length = usize::from(self.rest[0]) << 16 | usize::from(self.rest[1]) << 8 | usize::from(self.rest[2]);
            if self.rest.len() < 9 + length {
                break;
            }
            let frame: Vec<u8> = self.rest.drain(..9 + length).collect();
            let stream = number(&frame[5..9]);
            self.take(frame[3], stream, &frame[9..]);
        }
    }

    fn reset(&mut self, stream: u32, reason: String) {
        if !self.streams.contains_key(&stream) || !NO_NEWS.contains(&reason.as_str()) {
            self.streams.insert(stream, format!("reset:{reason}"));
        }
    }

    fn take(&mut self, kind: u8, stream: u32, payload: &[u8]) {
        match kind {
            0 => self.content += payload.len(),
            HEADERS => drop(self.streams.entry(stream).or_insert_with(|| status(payload))),
            3 => self.reset(stream, reason(payload)),
            7 => self.goaway = Some(reason(&payload[4..])),
            _ => {}
        }
    }
}

/// A reset behind an answer is no news when it only says that no more is wanted, or that the request was bad.
const NO_NEWS: [&str; 3] = ["NO_ERROR", "PROTOCOL_ERROR", "CANCEL"];

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn reason(payload: &[u8]) -> String {
    let number = number(payload);
    REASONS.get(number as usize).map_or_else(|| format!("reason {number}"), |name| (*name).to_owned())
}

/// The status at the start of a block of fields, which is there before anything else.
fn status(block: &[u8]) -> String {
    let mut block = block;
    while let [0x20..=0x3f, rest @ ..] = block {
        block = rest;
    }
    match block {
        [indexed @ 0x88..=0x8e, ..] => STATUSES[usize::from(indexed - 0x88)].to_owned(),
        [0x48 | 0x08 | 0x18, length, rest @ ..] if length & 0x80 == 0 => {
            String::from_utf8_lossy(&rest[..usize::from(*length)]).into_owned()
        }
        [0x48 | 0x08 | 0x18, length, rest @ ..] => digits(&rest[..usize::from(length & 0x7f)]),
        other => format!("no status in {other:x?}"),
    }
}

/// Digits in the code of RFC 7541 appendix B: `0` to `2` have five bits, `3` to `9` six.
fn digits(bytes: &[u8]) -> String {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut text = String::new();
    while text.len() < 3 {
        let code = bits.by_ref().take(5).fold(0, |code, bit| code << 1 | bit);
        let digit = if code <= 2 { code } else { (code << 1 | bits.next().unwrap_or_default()).wrapping_sub(0x19) + 3 };
        text.push(char::from(b'0'.wrapping_add(digit)));
    }
    text
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Of the static table, from 8 on.
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];

const REASONS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];
