//! Heads as blocks of fields, both ways (RFC 9113 section 8).

use super::hpack::{self, Kept};
use crate::http::{
    failure::Failure,
    h1::read::content_length,
    head::{Head, Length, Upgrade, Version},
    limits::{FIELDS, HEAD_BYTES},
    name::Name,
};

/// What each field counts beside its text (RFC 9113 section 6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE).
const FIELD: usize = 32;

/// Reads the fields of one block into a head. What is wrong is kept until the block is over, because the rest of it changes
/// the connection's table all the same.
pub(super) struct Fields<'a> {
    head: &'a mut Head,
    /// Bits of the pseudo-header fields that have come.
    pseudo: u8,
    /// A field that is none has come.
    regular: bool,
    size: usize,
    count: usize,
    large: bool,
    wrong: Option<&'static str>,
    scheme: bool,
    websocket: bool,
}

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;
const PROTOCOL: u8 = 16;
const STATUS: u8 = 32;

impl<'a> Fields<'a> {
    pub(super) fn new(head: &'a mut Head) -> Self {
        head.clear();
        head.version = Version::Http2;
        Self {
            head,
            pseudo: 0,
            regular: false,
            size: 0,
            count: 0,
            large: false,
            wrong: None,
            scheme: false,
            websocket: false,
        }
    }

    /// Takes the next field.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        // The crumbs of a cookie are one field (RFC 9113 section 8.2.3).
        let crumb = name == b"cookie" && self.head.has(Name::Cookie);
        self.size += name.len() + value.len() + if crumb { 0 } else { FIELD };
        self.count += usize::from(!crumb);
        if self.large || self.size > HEAD_BYTES {
            self.large = true;
            return;
        }
        if let Err(why) = check_value(value) {
            self.wrong.get_or_insert(why);
            return;
        }
        if let [b':', ..] = name {
            self.take_pseudo(name, value);
            return;
        }
        self.regular = true;
        self.large |= self.count > FIELDS + 5;
        if name.is_empty() || !name.iter().all(|byte| IN_NAME[usize::from(*byte)]) {
            self.wrong.get_or_insert("the name of a header is malformed");
            return;
        }
        self.head.push(name, value);
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) {
        let bit = match name {
            b":method" => METHOD,
            b":scheme" => SCHEME,
            b":authority" => AUTHORITY,
            b":path" => PATH,
            b":protocol" => PROTOCOL,
            b":status" => STATUS,
            _ => 0,
        };
        if bit == 0 || self.pseudo & bit != 0 || self.regular {
            self.wrong.get_or_insert("a pseudo-header field is unknown, repeated, or stands behind others");
            return;
        }
        self.pseudo |= bit;
        match bit {
            METHOD => self.head.set_method(value),
            AUTHORITY => self.head.set_authority(value),
            PATH => self.head.set_target(value),
            SCHEME => self.scheme = value.eq_ignore_ascii_case(b"https") || value.eq_ignore_ascii_case(b"http"),
            PROTOCOL => self.websocket = value == b"websocket",
            _ => self.head.status = status(value).unwrap_or_default(),
        }
    }

    /// A request; `ended`: there is no body.
    ///
    /// # Errors
    /// What the client got wrong.
    pub(super) fn request(self, ended: bool) -> Result<(), Failure> {
        let (pseudo, websocket, head) = (self.pseudo, self.websocket, self.head);
        if self.large || self.count > FIELDS + pseudo.count_ones() as usize {
            return Err(Failure::HeadTooLarge);
        }
        if let Some(why) = self.wrong {
            return Err(Failure::BadRequest(why));
        }
        if pseudo & METHOD == 0 || pseudo & STATUS != 0 {
            return Err(Failure::BadRequest("there is no :method, or there is a :status"));
        }
        let method = head.method().as_bytes();
        if method.is_empty() || !method.iter().all(|byte| IN_METHOD[usize::from(*byte)]) {
            return Err(Failure::BadRequest("the method is malformed"));
        }
        let connect = method == b"CONNECT";
        if connect && pseudo & PROTOCOL == 0 {
            return Err(Failure::MethodNotServed);
        }
        if pseudo & (SCHEME | PATH) != SCHEME | PATH || !self.scheme {
            return Err(Failure::BadRequest("there is no :path, or no :scheme of http and https"));
        }
        no_connection_fields(head).map_err(Failure::BadRequest)?;
        authority(head, pseudo & AUTHORITY != 0)?;
        target(head).map_err(Failure::BadRequest)?;
        if pseudo & PROTOCOL != 0 {
            if !connect || !websocket {
                return Err(Failure::BadRequest("only CONNECT has a :protocol, and it is websocket"));
            }
            // RFC 8441 section 4: to everybody behind us it is the GET that it would have been.
            head.set_method(b"GET");
            head.upgrade = Some(Upgrade::WebSocket);
            head.remove(Name::ContentLength);
        } else {
            head.length = length(head, ended).map_err(Failure::BadRequest)?;
        }
        head.join(Name::Cookie, b"; ");
        if head.method() == "TRACE" && !matches!(head.length, Length::Empty | Length::Exact(0)) {
            return Err(Failure::MethodNotServed);
        }
        Ok(())
    }

    /// A response; `ended`: nothing follows, `bodiless`: because nothing may.
    ///
    /// # Errors
    /// What the endpoint got wrong.
    pub(super) fn response(self, ended: bool, bodiless: bool) -> Result<(), &'static str> {
        if self.large || self.count > FIELDS + 1 {
            return Err("the response head is too large");
        }
        if let Some(why) = self.wrong {
            return Err(why);
        }
        let head = self.head;
        if self.pseudo != STATUS || !(100..=599).contains(&head.status) || head.status == 101 {
            return Err("the response has no :status that HTTP/2 knows");
        }
        no_connection_fields(head)?;
        let none = bodiless || head.status < 200 || matches!(head.status, 204 | 304);
        head.length = match ended {
            _ if none => Length::Empty,
            true => length(head, true).map(|_| Length::Exact(0))?,
            false => length(head, false)?,
        };
        if head.status < 200 || head.status == 204 {
            head.remove(Name::ContentLength);
        }
        head.remove(Name::Te);
        Ok(())
    }

    /// Fields behind a body; those that mean something only in a head are dropped.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn trailers(self) -> Result<(), &'static str> {
        if self.large || self.wrong.is_some() || self.pseudo != 0 || no_connection_fields(self.head).is_err() {
            return Err("the trailers are malformed");
        }
        self.head.remove_if(|_, name| !Name::may_trail(name));
        Ok(())
    }
}

/// Fields of one hop have no place in HTTP/2 (RFC 9113 section 8.2.2); of TE one value has.
fn no_connection_fields(head: &mut Head) -> Result<(), &'static str> {
    let known = [Name::Connection, Name::KeepAlive, Name::ProxyConnection, Name::TransferEncoding, Name::Upgrade];
    let te = head.values(Name::Te).all(|value| value.eq_ignore_ascii_case(b"trailers"));
    if known.into_iter().any(|name| head.has(name)) || !te {
        return Err("a header is one of HTTP/1.1 connections, which HTTP/2 does not have");
    }
    head.remove(Name::Http2Settings);
    Ok(())
}

fn authority(head: &mut Head, told: bool) -> Result<(), Failure> {
    if head.values(Name::Host).nth(1).is_some() {
        return Err(Failure::BadRequest("there is more than one Host header"));
    }
    match head.value(Name::Host) {
        Some(host) if told && !head.authority().as_bytes().eq_ignore_ascii_case(host) => {
            return Err(Failure::BadRequest(":authority and the Host header name different hosts"));
        }
        Some(_) if !told => {
            head.host_to_authority();
            return Ok(());
        }
        None if !told => return Err(Failure::MissingHost),
        _ => {}
    }
    head.remove(Name::Host);
    Ok(())
}

fn target(head: &Head) -> Result<(), &'static str> {
    let target = head.target();
    if !target.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'#') {
        return Err("the request target holds a byte that no target has");
    }
    match target.starts_with('/') || (target == "*" && head.method() == "OPTIONS") {
        true => Ok(()),
        false => Err("the request target has no path"),
    }
}

fn length(head: &Head, ended: bool) -> Result<Length, &'static str> {
    let mut lengths = head.values(Name::ContentLength);
    let told = match lengths.next() {
        None => None,
        Some(text) => Some(content_length(text).ok_or("Content-Length is not a plain number")?),
    };
    if lengths.next().is_some() {
        return Err("Content-Length is given more than once");
    }
    match (told, ended) {
        (Some(0) | None, true) => Ok(Length::Empty),
        (Some(_), true) => Err("Content-Length promises a body that does not come"),
        (Some(bytes), false) => Ok(Length::Exact(bytes)),
        (None, false) => Ok(Length::Unknown),
    }
}

fn status(text: &[u8]) -> Option<u16> {
    let digits = text.len() == 3 && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

fn check_value(value: &[u8]) -> Result<(), &'static str> {
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err("the value of a header holds a control character");
    }
    match value {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Err("the value of a header begins or ends with white space"),
        _ => Ok(()),
    }
}

/// RFC 9110 section 5.6.2, lower case alone (RFC 9113 section 8.2.1).
static IN_NAME: [bool; 256] = token(false);
/// RFC 9110 section 5.6.2.
static IN_METHOD: [bool; 256] = token(true);

const fn token(upper: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let one = byte as u8;
        let mark = matches!(
            one,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        table[byte] = mark || one.is_ascii_lowercase() || one.is_ascii_digit() || (upper && one.is_ascii_uppercase());
        byte += 1;
    }
    table
}

/// Writes the block of a request.
pub(super) fn write_request(head: &Head, block: &mut Vec<u8>, kept: &mut Kept) {
    let tunnel = head.upgrade.is_some();
    hpack::write_pseudo(hpack::METHOD, if tunnel { b"CONNECT" } else { head.method().as_bytes() }, block);
    hpack::write_scheme(head.value(Name::XForwardedProto) == Some(b"https"), block);
    hpack::write_pseudo(hpack::AUTHORITY, head.authority().as_bytes(), block);
    hpack::write_pseudo(hpack::PATH, head.target().as_bytes(), block);
    if tunnel {
        hpack::write_field(Name::Other, b":protocol", b"websocket", block);
    }
    write_fields(head, Name::SecWebSocketKey, (block, kept));
}

/// Writes the block of a response. A tunnel begins with 200 (RFC 8441 section 4).
pub(super) fn write_response(head: &Head, block: &mut Vec<u8>, kept: &mut Kept) {
    hpack::write_status(if head.upgrade.is_some() { 200 } else { head.status }, block);
    write_fields(head, Name::SecWebSocketAccept, (block, kept));
}

/// Writes a block of trailers.
pub(super) fn write_trailers(head: &Head, block: &mut Vec<u8>, kept: &mut Kept) {
    write_fields(head, Name::Other, (block, kept));
}

fn write_fields(head: &Head, not_in_tunnels: Name, (block, kept): (&mut Vec<u8>, &mut Kept)) {
    let skipped = head.upgrade.map(|_| not_in_tunnels);
    for (known, name, value) in head.fields().filter(|(known, ..)| Some(*known) != skipped) {
        kept.write(known, name, value, block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], ended: bool) -> Result<Head, Failure> {
        let mut head = Head::default();
        let mut reader = Fields::new(&mut head);
        for (name, value) in fields {
            reader.take(name.as_bytes(), value.as_bytes());
        }
        reader.request(ended)?;
        Ok(head)
    }

    const PLAIN: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/b?c")];

    fn with(more: &[(&'static str, &'static str)]) -> Result<Head, Failure> {
        read(&[&PLAIN[..], more].concat(), true)
    }

    #[test]
    fn a_request_reads_as_it_was_meant() {
        let head = with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]).unwrap();
        assert_eq!((head.method(), head.target(), head.authority()), ("GET", "/b?c", "a"));
        assert_eq!((head.str(Name::Cookie), head.length), (Some("a=1; b=2"), Length::Empty));
        let mut block = Vec::new();
        write_request(&head, &mut block, &mut Kept::default());
        let mut again = Head::default();
        let mut reader = Fields::new(&mut again);
        hpack::Decoder::default().decode(&block, |name, value| reader.take(name, value)).unwrap();
        reader.request(true).unwrap();
        assert_eq!((again.target(), again.fields().count()), ("/b?c", 2));
    }

    #[test]
    fn a_websocket_is_a_get_to_everybody_else() {
        let mut fields = PLAIN.to_vec();
        fields[0].1 = "CONNECT";
        assert_eq!(read(&fields, false).unwrap_err(), Failure::MethodNotServed);
        fields.insert(1, (":protocol", "websocket"));
        let head = read(&fields, false).unwrap();
        assert_eq!((head.method(), head.upgrade), ("GET", Some(Upgrade::WebSocket)));
        fields[1].1 = "connect-udp";
        assert!(read(&fields, false).is_err());
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        for more in [
            ("X", "1"),
            ("a b", "1"),
            ("", "1"),
            ("a", "b\nc"),
            ("a", " b"),
            ("a", "b\t"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("te", "gzip"),
            ("host", "other"),
            (":method", "GET"),
            (":status", "200"),
            (":other", "1"),
            ("content-length", "5"),
            ("content-length", "+0"),
        ] {
            assert!(matches!(with(&[more]), Err(Failure::BadRequest(_))), "{more:?}");
        }
        for (without, (name, _)) in PLAIN.iter().enumerate() {
            let mut fields = PLAIN.to_vec();
            fields.remove(without);
            assert!(read(&fields, true).is_err(), "without {name}");
        }
        for (index, value) in [(0, "G T"), (0, ""), (1, "ftp"), (3, ""), (3, "b"), (3, "*"), (3, "/a b"), (3, "/#a")] {
            let mut fields = PLAIN.to_vec();
            fields[index].1 = value;
            assert!(read(&fields, true).is_err(), "{value:?}");
        }
        assert!(with(&[("te", "trailers"), ("host", "A")]).is_ok());
        let many: Vec<_> = std::iter::repeat_n(("a", "b"), FIELDS + 1).collect();
        assert_eq!(with(&many).unwrap_err(), Failure::HeadTooLarge);
        assert!(with(&many[1..]).is_ok());
        assert!(with(&vec![("cookie", "a"); 3 * FIELDS]).is_ok());
    }
}
