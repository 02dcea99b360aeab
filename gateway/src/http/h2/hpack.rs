//! Header compression (RFC 7541). What comes is decoded with the table that the peer builds; what goes is written without
//! one, but for what proxies tell of themselves: a proxy's answers come from many endpoints, and a table per connection costs memory on
//! both sides.

mod kept;

use std::{cell::RefCell, collections::VecDeque};

pub(super) use self::kept::Kept;
use super::huffman;
use crate::http::name::Name;

/// Size of our decoding table: the default of SETTINGS_HEADER_TABLE_SIZE (RFC 9113 section 6.5.2).
const TABLE: usize = 4096;
/// What each entry counts beside its text (RFC 7541 section 4.1).
const ENTRY: usize = 32;

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// A header block that cannot be decoded: the connection's tables are not in step any more (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Undecodable;

thread_local! {
    /// Where a name and a value are put together.
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// What one side has been told so far.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Text of the entries, oldest first, each name before its value.
    bytes: Vec<u8>,
    /// Oldest first.
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u32,
    name: u32,
    value: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, limit: TABLE }
    }
}

impl Decoder {
    /// Decodes a whole header block; `field` is given each name and value in order.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub(super) fn decode(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Undecodable> {
        SCRATCH.with_borrow_mut(|(name, value)| {
            let mut rest = block;
            let mut begun = false;
            while let [first, ..] = rest {
                let first = *first;
                if first & 0xe0 == 0x20 {
                    // A new size stands at the beginning of a block (RFC 7541 section 4.2).
                    let limit = integer(&mut rest, 5)?;
                    if begun || limit > TABLE {
                        return Err(Undecodable);
                    }
                    self.limit = limit;
                    self.shrink(limit);
                    continue;
                }
                begun = true;
                if first & 0x80 != 0 {
                    let (name, value) = self.entry(integer(&mut rest, 7)?)?;
                    field(name, value);
                    continue;
                }
                let kept = first & 0x40 != 0;
                name.clear();
                match integer(&mut rest, if kept { 6 } else { 4 })? {
                    0 => string(&mut rest, name)?,
                    index => name.extend_from_slice(self.entry(index)?.0),
                }
                value.clear();
                string(&mut rest, value)?;
                field(name, value);
                if kept {
                    self.insert(name, value);
                }
            }
            if name.capacity() + value.capacity() > 16 * 1024 {
                (*name, *value) = (Vec::new(), Vec::new());
            }
            Ok(())
        })
    }

    /// Name and value by their number (RFC 7541 section 2.3.3).
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let number = self.entries.len().checked_sub(index - STATIC.len() + 1).ok_or(Undecodable)?;
        let entry = self.entries[number];
        let text = &self.bytes[entry.at as usize..];
        let (name, rest) = text.split_at(entry.name as usize);
        Ok((name, &rest[..entry.value as usize]))
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY;
        self.shrink(self.limit.saturating_sub(size));
        if size > self.limit {
            return;
        }
        // What has been evicted is cut off now and then.
        let dead = self.entries.front().map_or(self.bytes.len(), |entry| entry.at as usize);
        if dead > TABLE / 2 || dead == self.bytes.len() {
            self.bytes.drain(..dead);
            for entry in &mut self.entries {
                entry.at -= dead as u32;
            }
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { at, name: name.len() as u32, value: value.len() as u32 });
        self.size += size;
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.name as usize + oldest.value as usize + ENTRY;
        }
    }
}

/// RFC 7541 section 5.1.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Undecodable> {
    let (first, mut left) = rest.split_first().ok_or(Undecodable)?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (next, after) = left.split_first().ok_or(Undecodable)?;
            left = after;
            // No length or number that can be meant needs more than four further bytes.
            if shift > 21 {
                return Err(Undecodable);
            }
            value += usize::from(next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = left;
    Ok(value)
}

/// RFC 7541 section 5.2.
fn string(rest: &mut &[u8], into: &mut Vec<u8>) -> Result<(), Undecodable> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(length).ok_or(Undecodable)?;
    *rest = after;
    if !coded {
        into.extend_from_slice(text);
    } else if !huffman::decode(text, into) {
        return Err(Undecodable);
    }
    Ok(())
}

/// Number of a known name in the static table; 0 = none.
const fn number(name: Name) -> u8 {
    match name {
        Name::Authorization => 23,
        Name::ContentLength => 28,
        Name::ContentType => 31,
        Name::Cookie => 32,
        Name::Date => 33,
        Name::Expect => 35,
        Name::Location => 46,
        Name::Server => 54,
        Name::UserAgent => 58,
        _ => 0,
    }
}

/// Numbers of pseudo-header fields in the static table.
pub(super) const AUTHORITY: u8 = 1;
/// `:method`.
pub(super) const METHOD: u8 = 2;
/// `:path`.
pub(super) const PATH: u8 = 4;

/// Writes `:status`.
pub(super) fn write_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => 0,
    };
    if index > 0 {
        return out.push(0x80 | index);
    }
    let digit = |of: u16| b'0' + (of % 10) as u8;
    out.extend_from_slice(&[8, 3, digit(status / 100), digit(status / 10), digit(status)]);
}

/// Writes a pseudo-header field whose name has this number, or which the static table holds whole.
pub(super) fn write_pseudo(number: u8, value: &[u8], out: &mut Vec<u8>) {
    match (number, value) {
        (METHOD, b"GET") | (PATH, b"/") => out.push(0x80 | number),
        (METHOD, b"POST") => out.push(0x83),
        _ => {
            out.push(number);
            write_string(value, out);
        }
    }
}

/// Writes `:scheme`.
pub(super) fn write_scheme(https: bool, out: &mut Vec<u8>) {
    out.push(if https { 0x87 } else { 0x86 });
}

/// Writes a field whose name may be spelled in any case.
pub(super) fn write_field(known: Name, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // RFC 7541 section 7.1.3: nobody on the way may keep these in a table.
    let never = if matches!(known, Name::Authorization | Name::Cookie) { 0x10 } else { 0 };
    match number(known) {
        0 => {
            out.push(never);
            write_integer(name.len(), 7, 0, out);
            out.extend(name.iter().map(u8::to_ascii_lowercase));
        }
        number => write_integer(usize::from(number), 4, never, out),
    }
    write_string(value, out);
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    write_integer(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

fn write_integer(mut value: usize, prefix: u32, first: u8, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    value -= most;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Begins a block where the peer's table became smaller (RFC 9113 section 4.3.1): we use none of it from then on (RFC 7541
/// section 6.3).
pub(super) const NO_TABLE: u8 = 0x20;

/// Lends memory for a block that is being written.
pub(super) fn with_block<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SCRATCH.with_borrow_mut(|(block, _)| {
        block.clear();
        write(block)
    })
}

#[cfg(test)]
mod tests;
