//! The one form of a message: bytes in one buffer and a list of fields that point into it, which both codecs read into and
//! write from. Order, repetition and spelling of fields survive; an edit appends.

use http::{HeaderName, HeaderValue};
use routing::{request::Headers, rule::EditHeaders};

use super::name::{COUNT, Name};

/// Room for what a proxy adds to a head, bytes: one that is nearly as large as heads that are kept does not grow beyond that.
const EDITS: usize = 1024;

/// Some of a head's bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    at: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    known: Name,
    live: bool,
    name: Span,
    value: Span,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Length {
    /// There is none.
    #[default]
    Empty,
    /// So many bytes.
    Exact(u64),
    /// By chunks, by the end of the stream, or by the end of the connection.
    Unknown,
}

/// Protocol version of a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// A request head, a response head, or trailers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// By [`Name`]: number of the first live field, from 1; 0 = none.
    first: [u16; COUNT],
    method: Span,
    target: Span,
    authority: Span,
    /// Status of a response; 0 in a request.
    pub(crate) status: u16,
    /// As received.
    pub(crate) version: Version,
    /// Of the body that follows.
    pub(crate) length: Length,
    /// Whoever sent it ends the connection behind it, or wants it ended.
    pub(crate) close: bool,
    /// The protocol that an upgrade asks for: `websocket`, or another of HTTP/1.1; `None` = no upgrade.
    pub(crate) upgrade: Option<Upgrade>,
}

/// What a request wants to become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Upgrade {
    /// WebSocket (RFC 6455, RFC 8441).
    WebSocket,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
            first: [0; COUNT],
            method: Span::default(),
            target: Span::default(),
            authority: Span::default(),
            status: 0,
            version: Version::default(),
            length: Length::default(),
            close: false,
            upgrade: None,
        }
    }
}

impl Head {
    /// Empty, with room for what most heads hold.
    pub(crate) fn roomy() -> Self {
        Self { bytes: Vec::with_capacity(1024), fields: Vec::with_capacity(24), ..Self::default() }
    }

    /// Forgets everything but its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.first = [0; COUNT];
        (self.method, self.target, self.authority) = (Span::default(), Span::default(), Span::default());
        (self.status, self.version, self.length) = (0, Version::default(), Length::default());
        (self.close, self.upgrade) = (false, None);
    }

    /// Becomes a copy of another head, in the memory that it has.
    pub(crate) fn copy(&mut self, other: &Self) {
        self.bytes.clear();
        self.bytes.reserve(other.bytes.len() + EDITS);
        self.bytes.extend_from_slice(&other.bytes);
        self.fields.clone_from(&other.fields);
        self.first = other.first;
        (self.method, self.target, self.authority) = (other.method, other.target, other.authority);
        (self.status, self.version, self.length) = (other.status, other.version, other.length);
        (self.close, self.upgrade) = (other.close, other.upgrade);
    }

    /// Forgets everything, and holds the bytes of a head as it came, in which [`Self::push_part`] then finds fields: one copy in
    /// place of two for each.
    pub(crate) fn hold(&mut self, whole: &[u8]) {
        self.clear();
        self.bytes.reserve(whole.len() + EDITS);
        self.bytes.extend_from_slice(whole);
    }

    /// Adds a field of the head that is held.
    pub(crate) fn push_part(&mut self, whole: &[u8], name: &[u8], value: &[u8]) {
        let known = Name::of(name);
        let (name, value) = (self.part(whole, name), self.part(whole, value));
        self.push_spans(known, name, value);
    }

    /// Where a part of what is held stands.
    fn part(&mut self, whole: &[u8], part: &[u8]) -> Span {
        let at = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        match at.checked_add(part.len()) {
            Some(end) if end <= whole.len() => Span { at: at as u32, len: part.len() as u32 },
            // An empty one may be anywhere.
            _ => self.add(part),
        }
    }

    /// Bytes that it holds: of names and values, removed ones included, and of what stood around those that were held.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes it takes on the wire, as HTTP/1.1 writes it.
    pub(crate) fn wire_size(&self) -> u64 {
        // `GET / HTTP/1.1`, or `HTTP/1.1 200 OK`; the authority is a `host` there. Then two bytes for each end of a line.
        let line = match self.status {
            0 => self.method.len + self.target.len + 12,
            _ => 19,
        };
        let host = if self.authority.len > 0 { self.authority.len + 8 } else { 0 };
        let live = self.fields.iter().filter(|field| field.live);
        live.map(|field| u64::from(field.name.len + field.value.len) + 4).sum::<u64>() + u64::from(line + host + 2)
    }

    /// Whether it holds more memory than heads usually need.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes.capacity() > 8 * 1024
    }

    fn add(&mut self, bytes: &[u8]) -> Span {
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { at, len: bytes.len() as u32 }
    }

    fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.at as usize..][..span.len as usize]
    }

    /// As text; the codecs let no start line pass that is not ASCII.
    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.get(span)).unwrap_or_default()
    }

    /// Method, target and authority of a request, for whoever may not look at them.
    pub(crate) fn start(&self) -> (&[u8], &[u8], &[u8]) {
        (self.get(self.method), self.get(self.target), self.get(self.authority))
    }

    /// Method of a request.
    pub(crate) fn method(&self) -> &str {
        self.text(self.method)
    }

    /// Sets the method.
    pub(crate) fn set_method(&mut self, method: &[u8]) {
        self.method = self.add(method);
    }

    /// Path and query of a request, or `*`.
    pub(crate) fn target(&self) -> &str {
        self.text(self.target)
    }

    /// Sets path and query.
    pub(crate) fn set_target(&mut self, target: &[u8]) {
        self.target = self.add(target);
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// Query without `?`; `None` = there is none.
    pub(crate) fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// Host header or `:authority`, with its port; empty = none.
    pub(crate) fn authority(&self) -> &str {
        self.text(self.authority)
    }

    /// Sets the authority: the Host header of HTTP/1.1, `:authority` of HTTP/2.
    pub(crate) fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.add(authority);
    }

    /// Makes the first Host field the authority, without copying it; removes all of them.
    pub(crate) fn host_to_authority(&mut self) {
        if let Some(host) = usize::from(self.first[Name::Host as usize]).checked_sub(1) {
            self.authority = self.fields[host].value;
            self.remove(Name::Host);
        }
    }

    /// Adds a field.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_known(Name::of(name), name, value);
    }

    /// Adds a field with a known name.
    pub(crate) fn append(&mut self, name: Name, value: &[u8]) {
        self.push_known(name, name.text().as_bytes(), value);
    }

    fn push_known(&mut self, known: Name, name: &[u8], value: &[u8]) {
        let (name, value) = (self.add(name), self.add(value));
        self.push_spans(known, name, value);
    }

    fn push_spans(&mut self, known: Name, name: Span, value: Span) {
        // Fields are numbered by 16 bits. Whoever adds has bounds far below that.
        if self.fields.len() >= usize::from(u16::MAX) {
            return;
        }
        self.fields.push(Field { known, live: true, name, value });
        let first = &mut self.first[known as usize];
        if known != Name::Other && *first == 0 {
            *first = self.fields.len() as u16;
        }
    }

    /// Replaces all fields of a known name by one.
    pub(crate) fn set(&mut self, name: Name, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes all fields of a known name.
    pub(crate) fn remove(&mut self, name: Name) {
        let first = std::mem::take(&mut self.first[name as usize]);
        if first == 0 {
            return;
        }
        for field in self.fields.iter_mut().skip(usize::from(first) - 1) {
            field.live &= field.known != name;
        }
    }

    /// Removes the fields for which `which` holds: it is given name and value.
    pub(crate) fn remove_if(&mut self, which: impl Fn(Name, &[u8]) -> bool) {
        let mut removed = false;
        for number in 0..self.fields.len() {
            let field = self.fields[number];
            if field.live && which(field.known, self.get(field.name)) {
                self.fields[number].live = false;
                removed = true;
            }
        }
        if removed {
            self.first = [0; COUNT];
            for (number, field) in self.fields.iter().enumerate().rev() {
                if field.live && field.known != Name::Other {
                    self.first[field.known as usize] = number as u16 + 1;
                }
            }
        }
    }

    /// The first value of a known name.
    pub(crate) fn value(&self, name: Name) -> Option<&[u8]> {
        let first = usize::from(self.first[name as usize]).checked_sub(1)?;
        Some(self.get(self.fields.get(first)?.value))
    }

    /// As text; what is not UTF-8 is no value.
    pub(crate) fn str(&self, name: Name) -> Option<&str> {
        std::str::from_utf8(self.value(name)?).ok()
    }

    /// Whether there is a field of a known name.
    pub(crate) fn has(&self, name: Name) -> bool {
        self.first[name as usize] != 0
    }

    /// Every value of a known name, in order.
    pub(crate) fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let first = usize::from(self.first[name as usize]);
        let rest = if first == 0 { &[] } else { &self.fields[first - 1..] };
        rest.iter().filter(move |field| field.live && field.known == name).map(|field| self.get(field.value))
    }

    /// All fields in order: known name, name as spelled, value.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        let live = self.fields.iter().filter(|field| field.live);
        live.map(|field| (field.known, self.get(field.name), self.get(field.value)))
    }

    /// Several values of a known name become one, with this between them; empty ones add nothing.
    pub(crate) fn join(&mut self, name: Name, between: &[u8]) {
        if self.values(name).nth(1).is_some() {
            let joined = self.values(name).filter(|value| !value.is_empty()).collect::<Vec<_>>().join(between);
            self.set(name, &joined);
        }
    }

    /// What no proxy passes on: the fields that `Connection` names and the known ones of this hop (RFC 9110 section 7.6.1).
    ///
    /// # Errors
    /// `Connection` names a field that is meant for the other end.
    pub(crate) fn strip_hop_by_hop(&mut self) -> Result<(), &'static str> {
        if self.has(Name::Connection) {
            const USUAL: [&[u8]; 5] = [b"", b"close", b"keep-alive", b"upgrade", b"te"];
            let listed: Vec<Vec<u8>> = self
                .values(Name::Connection)
                .flat_map(|value| value.split(|byte| *byte == b','))
                .map(<[u8]>::trim_ascii)
                .filter(|name| !USUAL.iter().any(|usual| name.eq_ignore_ascii_case(usual)))
                .map(<[u8]>::to_ascii_lowercase)
                .collect();
            if listed.iter().any(|name| Name::of(name).is_end_to_end()) {
                return Err("Connection names a field that is meant for the other end");
            }
            if !listed.is_empty() {
                self.remove_if(|_, name| listed.iter().any(|one| one.eq_ignore_ascii_case(name)));
            }
        }
        // `te: trailers` is the one value that means the same to whoever comes next.
        let trailers = self.has(Name::Te)
            && self
                .values(Name::Te)
                .flat_map(|value| value.split(|byte| *byte == b','))
                .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        for name in [
            Name::Connection,
            Name::KeepAlive,
            Name::ProxyConnection,
            Name::Te,
            Name::TransferEncoding,
            Name::Upgrade,
            Name::Http2Settings,
        ] {
            self.remove(name);
        }
        if trailers {
            self.append(Name::Te, b"trailers");
        }
        Ok(())
    }
}

impl Headers for Head {
    fn nth<'a>(&'a self, name: &HeaderName, number: usize) -> Option<&'a [u8]> {
        let (known, text) = (Name::of(name.as_str().as_bytes()), name.as_str().as_bytes());
        let same = |field: &&Field| {
            field.live
                && if known == Name::Other {
                    field.known == Name::Other && self.get(field.name).eq_ignore_ascii_case(text)
                } else {
                    field.known == known
                }
        };
        self.fields.iter().filter(same).nth(number).map(|field| self.get(field.value))
    }
}

impl EditHeaders for Head {
    fn remove_all(&mut self, name: &HeaderName) {
        let text = name.as_str().as_bytes();
        match Name::of(text) {
            Name::Other => self.remove_if(|known, spelled| known == Name::Other && spelled.eq_ignore_ascii_case(text)),
            known => self.remove(known),
        }
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.remove_all(name);
        self.push(name.as_str().as_bytes(), value.as_bytes());
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        self.push(name.as_str().as_bytes(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(head: &Head) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        head.fields().map(|(_, name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    #[test]
    fn order_repetition_and_spelling_survive_and_edits_append() {
        let mut head = Head::default();
        for (name, value) in [("X-B", "1"), ("Cookie", "a"), ("x-a", "2"), ("cookie", "b"), ("X-B", "3")] {
            head.push(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(spelled(&head), ["X-B: 1", "Cookie: a", "x-a: 2", "cookie: b", "X-B: 3"]);
        head.join(Name::Cookie, b"; ");
        EditHeaders::remove_all(&mut head, &HeaderName::from_static("x-b"));
        head.set(Name::Server, b"s");
        head.set(Name::Server, b"t");
        assert_eq!(spelled(&head), ["x-a: 2", "cookie: a; b", "server: t"]);
        assert_eq!(head.value(Name::Cookie), Some(&b"a; b"[..]));
        assert_eq!(head.nth(&HeaderName::from_static("x-a"), 0), Some(&b"2"[..]));
        assert_eq!(head.nth(&HeaderName::from_static("x-a"), 1), None);
    }

    #[test]
    fn fields_of_a_head_that_is_held_are_found_where_they_stand() {
        let whole = b"GET / HTTP/1.1\r\nX-A: 1\r\nempty:\r\nHost: a.example\r\n\r\n";
        let mut head = Head::default();
        head.push(b"x-old", b"0");
        head.hold(whole);
        head.push_part(whole, &whole[16..19], &whole[21..22]);
        head.push_part(whole, &whole[24..29], &[]);
        head.push_part(whole, &whole[32..36], &whole[38..47]);
        head.append(Name::Server, b"s");
        assert_eq!(spelled(&head), ["X-A: 1", "empty: ", "Host: a.example", "server: s"]);
        assert_eq!(head.value(Name::Host), Some(&b"a.example"[..]));
        head.host_to_authority();
        assert_eq!(head.authority(), "a.example");
    }

    #[test]
    fn what_connection_names_goes_and_what_it_must_not_name_is_an_error() {
        let mut head = Head::default();
        for (name, value) in [("Connection", "X-Hop, close"), ("x-hop", "1"), ("TE", "gzip, trailers"), ("x-end", "2")]
        {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head.strip_hop_by_hop().unwrap();
        assert_eq!(spelled(&head), ["x-end: 2", "te: trailers"]);
        let mut head = Head::default();
        head.push(b"connection", b"x-forwarded-for");
        assert!(head.strip_hop_by_hop().is_err());
    }
}
