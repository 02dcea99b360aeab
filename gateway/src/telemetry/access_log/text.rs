//! Writing pieces of a line into a byte buffer, without allocating for each.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use routing::unix;

/// What bytes must be changed into so that a client can neither end a line nor a quoted field.
#[derive(Clone, Copy)]
pub(crate) enum Escape {
    /// In a quoted field of the text format: `\"`, `\\`, and `\x0a` for control characters.
    Quoted,
    /// In a field that a space ends: as [`Escape::Quoted`], and spaces become `_` as Envoy does in details.
    Bare,
    /// In a JSON string.
    Json,
}

/// Appends text, escaped. Text is mostly clean: it is copied in stretches.
pub(crate) fn escaped(out: &mut Vec<u8>, bytes: &[u8], escape: Escape) {
    let mut clean = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let special = byte < 0x20 || byte == 0x7f || byte == b'"' || byte == b'\\';
        if !(special || (byte == b' ' && matches!(escape, Escape::Bare))) {
            continue;
        }
        out.extend_from_slice(&bytes[clean..at]);
        clean = at + 1;
        match (byte, escape) {
            (b' ', _) => out.push(b'_'),
            (b'"' | b'\\', _) => out.extend_from_slice(&[b'\\', byte]),
            (_, Escape::Json) => {
                out.extend_from_slice(b"\\u00");
                hex(out, byte);
            }
            _ => {
                out.extend_from_slice(b"\\x");
                hex(out, byte);
            }
        }
    }
    out.extend_from_slice(&bytes[clean..]);
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends `10.0.0.1:80` or `[fd00::1]:80`.
pub(crate) fn address(out: &mut Vec<u8>, address: SocketAddr) {
    let IpAddr::V4(ip) = address.ip() else {
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{}", unix::shown(address));
        return;
    };
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        number(out, u64::from(octet));
    }
    out.push(b':');
    number(out, u64::from(address.port()));
}
