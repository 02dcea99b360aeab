//! The first bytes of a connection tell what it speaks.

use std::{future::poll_fn, io};

use tls::stream::Stream;
use tokio::net::TcpStream;

/// HTTP/2's connection preface (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest method we wait for before calling the bytes something else than HTTP.
const METHOD: usize = 24;
/// Largest ClientHello that is looked at, bytes.
const HELLO: usize = 64 * 1024;

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sniffed {
    /// A TLS record (RFC 8446 section 5.1: handshake = 22).
    Tls,
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Anything else.
    Opaque,
    /// Nothing came.
    Closed,
}

/// Reads as far as needed to tell, consuming nothing.
pub(crate) async fn sniff(stream: &mut Stream<TcpStream>) -> io::Result<Sniffed> {
    loop {
        if let Some(found) = classify(stream.input()) {
            return Ok(found);
        }
        if !poll_fn(|cx| stream.poll_fill(cx)).await? {
            return Ok(if stream.input().is_empty() { Sniffed::Closed } else { Sniffed::Opaque });
        }
    }
}

/// The ClientHello at the start of the stream, read as far as needed, consuming nothing.
pub(crate) async fn client_hello(stream: &mut Stream<TcpStream>) -> io::Result<Option<tls::client_hello::Hello>> {
    loop {
        match tls::client_hello::parse(stream.input()) {
            tls::client_hello::Parsed::Hello(hello) => return Ok(Some(hello)),
            tls::client_hello::Parsed::Invalid => return Ok(None),
            tls::client_hello::Parsed::Incomplete => {}
        }
        if stream.input().len() > HELLO || !poll_fn(|cx| stream.poll_fill(cx)).await? {
            return Ok(None);
        }
    }
}

/// `None`: more bytes are needed.
fn classify(bytes: &[u8]) -> Option<Sniffed> {
    let first = *bytes.first()?;
    if first == 0x16 {
        return Some(Sniffed::Tls);
    }
    if bytes.starts_with(H2_PREFACE) {
        return Some(Sniffed::Http2);
    }
    if H2_PREFACE.starts_with(bytes) {
        return None;
    }
    let token = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_')).count();
    match bytes.get(token) {
        Some(b' ') if token > 0 => Some(Sniffed::Http1),
        None if token < METHOD => None,
        // A client may send an empty line before its request (RFC 9112 section 2.2).
        Some(b'\r' | b'\n') if token == 0 => Some(Sniffed::Http1),
        _ => Some(Sniffed::Opaque),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        assert_eq!(classify(b""), None);
        assert_eq!(classify(&[0x16, 3, 1]), Some(Sniffed::Tls));
        assert_eq!(classify(b"GET "), Some(Sniffed::Http1));
        assert_eq!(classify(b"GE"), None);
        assert_eq!(classify(b"M-SEARCH /"), Some(Sniffed::Http1));
        assert_eq!(classify(b"PRI * HTT"), None);
        assert_eq!(classify(H2_PREFACE), Some(Sniffed::Http2));
        assert_eq!(classify(b"PRI /x"), Some(Sniffed::Http1));
        assert_eq!(classify(b"SSH-2.0-x"), Some(Sniffed::Opaque));
        assert_eq!(classify(&[0, 0, 0, 1]), Some(Sniffed::Opaque));
        assert_eq!(classify(&[b'A'; 30]), Some(Sniffed::Opaque));
    }
}
