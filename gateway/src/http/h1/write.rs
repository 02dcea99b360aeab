//! Heads and bodies to bytes.

use std::io::Write as _;

use tls::buffer::Buffer;

use crate::http::{
    head::{Head, Length, Upgrade},
    name::Name,
};

/// How the body that follows is told apart from what comes next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Framing {
    /// By its length, or there is none.
    #[default]
    Plain,
    /// By chunks.
    Chunked,
}

/// Writes a request head. An unknown length goes in chunks.
pub(crate) fn request(head: &Head, close: bool, out: &mut Buffer) -> Framing {
    for part in [head.method().as_bytes(), b" ", head.target().as_bytes(), b" HTTP/1.1\r\nhost: "] {
        out.push(part);
    }
    out.push(head.authority().as_bytes());
    out.push(b"\r\n");
    // RFC 9110 section 10.1.4: TE is for the next hop, and `Connection` has to say so.
    match (head.upgrade, close, head.has(Name::Te)) {
        (Some(Upgrade::WebSocket), _, false) => out.push(b"connection: upgrade\r\nupgrade: websocket\r\n"),
        (Some(Upgrade::WebSocket), _, true) => out.push(b"connection: upgrade, te\r\nupgrade: websocket\r\n"),
        (None, true, true) => out.push(b"connection: close, te\r\n"),
        (None, true, false) => out.push(b"connection: close\r\n"),
        (None, false, true) => out.push(b"connection: te\r\n"),
        (None, false, false) => {}
    }
    fields(head, out);
    let framing = framing(head, out);
    out.push(b"\r\n");
    framing
}

/// Writes a response head; `close` says that the connection ends behind it, `content` that a body follows where the head
/// does not tell by its length.
pub(crate) fn response(head: &Head, close: bool, out: &mut Buffer) -> Framing {
    status_line(head.status, out);
    if head.upgrade == Some(Upgrade::WebSocket) {
        out.push(b"connection: upgrade\r\nupgrade: websocket\r\n");
        fields(head, out);
        out.push(b"\r\n");
        return Framing::Plain;
    }
    if close && head.status >= 200 {
        out.push(b"connection: close\r\n");
    }
    fields(head, out);
    let framing = framing(head, out);
    out.push(b"\r\n");
    framing
}

fn fields(head: &Head, out: &mut Buffer) {
    for (_, name, value) in head.fields() {
        let needed = name.len() + value.len() + 4;
        let room = &mut out.room(needed)[..needed];
        let (into, rest) = room.split_at_mut(name.len());
        into.copy_from_slice(name);
        rest[..2].copy_from_slice(b": ");
        rest[2..2 + value.len()].copy_from_slice(value);
        rest[2 + value.len()..].copy_from_slice(b"\r\n");
        out.filled(needed);
    }
}

fn framing(head: &Head, out: &mut Buffer) -> Framing {
    match head.length {
        // Some servers want it said of methods that usually have a body (RFC 9110 section 8.6).
        Length::Empty if matches!(head.method(), "POST" | "PUT" | "PATCH") && !head.has(Name::ContentLength) => {
            number(b"content-length: ", 0, out);
            Framing::Plain
        }
        Length::Empty => Framing::Plain,
        Length::Exact(bytes) => {
            if !head.has(Name::ContentLength) {
                number(b"content-length: ", bytes, out);
            }
            Framing::Plain
        }
        Length::Unknown => {
            out.push(b"transfer-encoding: chunked\r\n");
            Framing::Chunked
        }
    }
}

fn number(name: &[u8], number: u64, out: &mut Buffer) {
    let mut text = [0; 24];
    let mut rest = &mut text[..];
    // A u64 has at most 20 digits.
    let _ = write!(rest, "{number}\r\n");
    let left = rest.len();
    out.push(name);
    out.push(&text[..24 - left]);
}

fn status_line(status: u16, out: &mut Buffer) {
    let mut text = *b"HTTP/1.1 000 ";
    text[9] = b'0' + (status / 100 % 10) as u8;
    text[10] = b'0' + (status / 10 % 10) as u8;
    text[11] = b'0' + (status % 10) as u8;
    out.push(&text);
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    out.push(reason.unwrap_or_default().as_bytes());
    out.push(b"\r\n");
}

/// Writes some content as a chunk.
pub(crate) fn chunk(bytes: &[u8], out: &mut Buffer) {
    if bytes.is_empty() {
        return;
    }
    let mut text = [0; 24];
    let mut rest = &mut text[..];
    // A usize has at most 16 hexadecimal digits.
    let _ = write!(rest, "{:x}\r\n", bytes.len());
    let left = rest.len();
    out.push(&text[..24 - left]);
    out.push(bytes);
    out.push(b"\r\n");
}

/// Writes the end of a body.
pub(crate) fn end(trailers: Option<&Head>, framing: Framing, out: &mut Buffer) {
    if framing == Framing::Plain {
        return;
    }
    out.push(b"0\r\n");
    if let Some(trailers) = trailers {
        fields(trailers, out);
    }
    out.push(b"\r\n");
}
