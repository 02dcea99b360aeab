//! Heads from bytes. Line ends and framing are ours, names and values are `httparse`'s.

use std::mem::MaybeUninit;

use httparse::{Error, Status};
use memchr::memchr;

use crate::http::{
    failure::Failure,
    head::{Head, Length, Upgrade, Version},
    limits::{EMPTY_LINES, FIELDS, HEAD_BYTES},
    name::Name,
};

/// Looks for the end of a head, over as many reads as it takes, at each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// Bytes looked at.
    seen: usize,
    /// Where the current line begins.
    line: usize,
    /// Lines that have ended.
    lines: usize,
}

impl Scan {
    /// The length of the head at the start of `bytes`; `None` = more is needed. `bytes` only ever grows between calls.
    ///
    /// # Errors
    /// A line that ends in LF alone (RFC 9112 section 2.2 lets a reader accept it; one that does and one that does not
    /// disagree on where a message ends), or a head over the limits.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        while let Some(found) = memchr(b'\n', &bytes[self.seen..]) {
            let at = self.seen + found;
            if at == 0 || bytes[at - 1] != b'\r' {
                return Err(Failure::BadRequest("a line of the head ends in LF without CR"));
            }
            self.seen = at + 1;
            let empty = at - 1 == self.line;
            self.line = at + 1;
            if empty {
                if self.lines > 0 {
                    return if at < HEAD_BYTES { Ok(Some(at + 1)) } else { Err(Failure::HeadTooLarge) };
                }
                // As RFC 9112 section 2.2 lets a server do, and as others do with answers.
                if at >= 2 * usize::from(EMPTY_LINES) {
                    return Err(Failure::BadRequest("empty lines stand where a request should"));
                }
                continue;
            }
            if self.lines == 0 && at > HEAD_BYTES {
                return Err(Failure::TargetTooLong);
            }
            self.lines += 1;
            if self.lines > FIELDS + 1 {
                return Err(Failure::HeadTooLarge);
            }
        }
        self.seen = bytes.len();
        match bytes.len() > HEAD_BYTES {
            true if self.lines == 0 => Err(Failure::TargetTooLong),
            true => Err(Failure::HeadTooLarge),
            false => Ok(None),
        }
    }
}

/// Looks at the first byte of a request: what can be no method is refused at once, and not when the rest of a head has
/// not come for a while.
///
/// # Errors
/// What the client got wrong.
pub(crate) fn begins_request(bytes: &[u8]) -> Result<(), Failure> {
    match bytes.first() {
        Some(b'\r') => Err(Failure::BadRequest("empty lines stand where a request should")),
        // A record that holds a handshake (RFC 8446 section 5.1).
        Some(0x16) => Err(Failure::TlsToPlain),
        Some(byte) if !byte.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(byte) => {
            Err(Failure::BadRequest("the request line is malformed"))
        }
        _ => Ok(()),
    }
}

/// Whether a head of an answer can begin like this, as far as it has come.
pub(crate) fn may_begin_answer(bytes: &[u8]) -> bool {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes[blank..].iter().zip(b"HTTP/1.").all(|(one, other)| one == other)
}

/// Reads a request head that [`Scan`] has found complete.
///
/// # Errors
/// The first rule that it breaks.
pub(crate) fn request(bytes: &[u8], head: &mut Head) -> Result<(), Failure> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(Failure::BadRequest("the request head ends too early")),
        Err(Error::Version) => return Err(version(bytes)),
        Err(Error::TooManyHeaders) => return Err(Failure::HeadTooLarge),
        Err(Error::HeaderName) => return Err(Failure::BadRequest("the name of a header is malformed")),
        Err(Error::HeaderValue) => return Err(Failure::BadRequest("the value of a header holds a control character")),
        Err(_) => return Err(Failure::BadRequest("the request line is malformed")),
    }
    head.hold(bytes);
    if parsed.version != Some(1) {
        return Err(Failure::LowVersion);
    }
    head.version = Version::Http11;
    head.set_method(parsed.method.unwrap_or_default().as_bytes());
    if head.method() == "CONNECT" {
        return Err(Failure::MethodNotServed);
    }
    for field in parsed.headers.iter() {
        head.push_part(bytes, field.name.as_bytes(), field.value);
    }
    target(parsed.path.unwrap_or_default(), head)?;
    head.length = framing(head).map_err(|wrong| match wrong {
        Framing::Coding => Failure::UnknownCoding,
        Framing::Wrong(why) => Failure::BadRequest(why),
    })?;
    if head.method() == "TRACE" && !matches!(head.length, Length::Empty | Length::Exact(0)) {
        return Err(Failure::MethodNotServed);
    }
    head.upgrade = upgrade(head);
    if head.upgrade.is_some() {
        head.length = Length::Empty;
        head.remove(Name::ContentLength);
    }
    head.close = listed(head, b"close");
    if !listed(head, b"te") {
        // RFC 9110 section 10.1.4: for the next hop, or for nobody.
        head.remove(Name::Te);
    }
    head.strip_hop_by_hop().map_err(Failure::BadRequest)
}

/// What stands where the version should is another one, or the rest of a target with a space in it.
fn version(bytes: &[u8]) -> Failure {
    let line = bytes.split(|byte| *byte == b'\r').find(|line| line.len() > 1).unwrap_or_default();
    let spaces = line.iter().filter(|byte| **byte == b' ').count();
    let version = line.rsplit(|byte| *byte == b' ').next().and_then(|version| version.strip_prefix(b"HTTP/"));
    match spaces == 2 && matches!(version, Some([b'0'..=b'9', b'.', b'0'..=b'9'])) {
        true => Failure::BadVersion,
        false => Failure::BadRequest("the request line is not a method, a target and a version"),
    }
}

/// RFC 9112 sections 3.2 and 3.3: origin form, absolute form, or `*` of OPTIONS; and the one host of both.
fn target(target: &str, head: &mut Head) -> Result<(), Failure> {
    if !target.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
        return Err(Failure::BadRequest("the request target holds a byte that no target has"));
    }
    if target.contains('#') {
        return Err(Failure::BadRequest("the request target holds a fragment"));
    }
    if head.values(Name::Host).nth(1).is_some() {
        return Err(Failure::BadRequest("there is more than one Host header"));
    }
    if !head.has(Name::Host) {
        return Err(Failure::MissingHost);
    }
    head.host_to_authority();
    if target.starts_with('/') || (target == "*" && head.method() == "OPTIONS") {
        head.set_target(target.as_bytes());
        return Ok(());
    }
    let (scheme, rest) = target.split_once("://").ok_or(Failure::BadRequest("the request target has no path"))?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Failure::BadRequest("the request target has a scheme other than http and https"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let port = if scheme.eq_ignore_ascii_case("https") { b":443".as_slice() } else { b":80" };
    if !same_authority(authority.as_bytes(), head.authority().as_bytes(), port) {
        return Err(Failure::BadRequest("the request target and the Host header name different hosts"));
    }
    match path.starts_with('/') {
        true => head.set_target(path.as_bytes()),
        false => head.set_target(format!("/{path}").as_bytes()),
    }
    head.set_authority(authority.as_bytes());
    Ok(())
}

/// Case and the default port of the scheme are no difference.
fn same_authority(one: &[u8], other: &[u8], default: &[u8]) -> bool {
    let plain = |text: &[u8]| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    plain(one) == plain(other)
}

/// What is wrong with the framing of a message.
enum Framing {
    /// A transfer coding that is not ours.
    Coding,
    /// Anything else.
    Wrong(&'static str),
}

/// RFC 9112 section 6: exactly one way to tell where the body ends.
fn framing(head: &Head) -> Result<Length, Framing> {
    let mut codings = head.values(Name::TransferEncoding);
    if let Some(coding) = codings.next() {
        if head.has(Name::ContentLength) {
            return Err(Framing::Wrong("there are both Transfer-Encoding and Content-Length"));
        }
        if codings.next().is_some() {
            return Err(Framing::Wrong("there is more than one Transfer-Encoding"));
        }
        let mut last_first =
            coding.rsplit(|byte| *byte == b',').map(|one| one.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        // RFC 9112 section 6.3: without chunked at its end, where a request ends cannot be told.
        return match (last_first.next(), last_first.next()) {
            (Some(true), None) => Ok(Length::Unknown),
            (Some(true), Some(false)) if !last_first.any(|chunked| chunked) => Err(Framing::Coding),
            (Some(true), Some(_)) => Err(Framing::Wrong("the body is chunked more than once")),
            _ => Err(Framing::Wrong("the last transfer coding is not chunked")),
        };
    }
    let mut lengths = head.values(Name::ContentLength);
    let Some(length) = lengths.next() else { return Ok(Length::Empty) };
    if lengths.next().is_some() {
        return Err(Framing::Wrong("Content-Length is given more than once"));
    }
    content_length(length).map(Length::Exact).ok_or(Framing::Wrong("Content-Length is not a plain number"))
}

/// A number of bytes, written in digits and nothing else.
pub(crate) fn content_length(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 18 && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Whether `Connection` lists an option.
fn listed(head: &Head, wanted: &[u8]) -> bool {
    let mut all = head.values(Name::Connection).flat_map(|value| value.split(|byte| *byte == b','));
    all.any(|one| one.trim_ascii().eq_ignore_ascii_case(wanted))
}

/// RFC 9110 section 7.8: `Upgrade` counts when `Connection` says so. A request with a body is no upgrade.
fn upgrade(head: &Head) -> Option<Upgrade> {
    let bodiless = matches!(head.length, Length::Empty | Length::Exact(0));
    let mut wanted = head.values(Name::Upgrade).flat_map(|value| value.split(|byte| *byte == b','));
    let asked = wanted.any(|one| one.trim_ascii().eq_ignore_ascii_case(b"websocket")) && listed(head, b"upgrade");
    (asked && head.method() == "GET" && bodiless).then_some(Upgrade::WebSocket)
}

/// What the answer to a request looks like on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// HEAD: there is no body whatever the head says.
    pub(crate) head: bool,
    /// The request asked for an upgrade, so 101 is an answer.
    pub(crate) upgrade: bool,
}

/// What a response head says of its connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct After {
    /// It can take another request.
    pub(crate) keep: bool,
    /// Its end is the end of the body.
    pub(crate) until_close: bool,
}

/// Reads a response head that [`Scan`] has found complete.
///
/// # Errors
/// Why it cannot be passed on, in words.
pub(crate) fn response(bytes: &[u8], asked: Asked, head: &mut Head) -> Result<After, &'static str> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err("the response head ends too early"),
        Err(Error::TooManyHeaders) => return Err("the response has too many headers"),
        Err(_) => return Err("the response head is malformed"),
    }
    head.hold(bytes);
    head.version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    head.status = parsed.code.unwrap_or_default();
    for field in parsed.headers.iter() {
        head.push_part(bytes, field.name.as_bytes(), field.value);
    }
    if !(100..=599).contains(&head.status) {
        return Err("the response has a status that HTTP does not know");
    }
    if head.status == 101 {
        return switched(head, asked);
    }
    let bodiless = head.status < 200 || head.status == 204;
    let framed = framing(head).map_err(|wrong| match wrong {
        Framing::Coding => "the response has a transfer coding other than chunked",
        Framing::Wrong(why) => why,
    })?;
    let mut after = After { keep: !listed(head, b"close"), until_close: false };
    after.keep &= head.version == Version::Http11 || listed(head, b"keep-alive");
    if head.version == Version::Http10 && framed == Length::Unknown {
        return Err("a response of HTTP/1.0 has a Transfer-Encoding");
    }
    head.length = match framed {
        _ if bodiless || asked.head || head.status == 304 => Length::Empty,
        Length::Empty if !head.has(Name::ContentLength) => {
            after = After { keep: false, until_close: true };
            Length::Unknown
        }
        framed => framed,
    };
    if bodiless {
        head.remove(Name::ContentLength);
    }
    head.strip_hop_by_hop().map_err(|_| "Connection of the response names a field that is meant for the client")?;
    head.remove(Name::Te);
    Ok(after)
}

/// RFC 9110 section 15.2.2.
fn switched(head: &mut Head, asked: Asked) -> Result<After, &'static str> {
    if !asked.upgrade {
        return Err("it switched protocols without being asked");
    }
    let mut protocols = head.values(Name::Upgrade).flat_map(|value| value.split(|byte| *byte == b','));
    if !protocols.any(|one| one.trim_ascii().eq_ignore_ascii_case(b"websocket")) {
        return Err("it switched to another protocol than it was asked for");
    }
    drop(protocols);
    head.remove(Name::ContentLength);
    head.strip_hop_by_hop().map_err(|_| "Connection of the response names a field that is meant for the client")?;
    head.length = Length::Unknown;
    head.upgrade = Some(Upgrade::WebSocket);
    Ok(After { keep: false, until_close: true })
}

#[cfg(test)]
mod tests;
