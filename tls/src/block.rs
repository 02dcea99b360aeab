//! The blocks of a PEM text, read as generously as their meaning stays certain, and what binary files hold.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// What stands between a BEGIN and an END line.
#[derive(Debug)]
pub(crate) struct Block {
    /// Which block of the text it is, from 1.
    number: usize,
    /// Such as `CERTIFICATE`.
    pub(crate) label: String,
    /// It says that it is encrypted (RFC 1421 headers).
    pub(crate) encrypted: bool,
    /// Its content, or why it cannot be read.
    pub(crate) der: Result<Vec<u8>, String>,
}

impl Block {
    /// `block 2 (CERTIFICATE)`.
    pub(crate) fn describe(&self) -> String {
        name(self.number, &self.label)
    }
}

fn name(number: usize, label: &str) -> String {
    format!("block {number} ({})", label.escape_debug())
}

/// The values of a binary file.
#[derive(Debug)]
pub(crate) struct Der<'a> {
    pub(crate) values: Vec<&'a [u8]>,
    /// What follows them.
    pub(crate) rest: &'a [u8],
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// More than any label, so that a stray BEGIN takes no page of text with it.
const LONGEST_LABEL: usize = 64;

/// The blocks of a text, in order. A damaged one is among them; text between them is nobody's.
///
/// # Errors
/// When the text cannot be PEM at all, or a block's lines are malformed, so that nobody can say where it ends.
pub(crate) fn blocks(text: &[u8]) -> Result<Vec<Block>, Cow<'static, str>> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err("the text is UTF-16; save it as UTF-8 or ASCII".into());
    }
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(start) = next_begin(text, at) {
        let number = blocks.len() + 1;
        let Some((label, body)) = label(text, start + BEGIN.len()) else {
            return Err(format!("a PEM block starts with a malformed BEGIN line (block {number})").into());
        };
        let end = find(text, END, body);
        let next = next_begin(text, body).unwrap_or(text.len());
        let Some(end) = end.filter(|end| *end < next) else {
            return Err(format!("a PEM block is cut off: the END line of {} is missing", name(number, label)).into());
        };
        let Some((closing, after)) = self::label(text, end + END.len()) else {
            return Err(format!("a PEM block is cut off within the END line of {}", name(number, label)).into());
        };
        if closing != label {
            let (opened, closing) = (name(number, label), closing.escape_debug());
            return Err(
                format!("a PEM block ends with the END line of another kind: {opened} with END {closing}").into()
            );
        }
        let (encrypted, der) = content(&text[body..end]);
        let der = der.map_err(|why| format!("a PEM block holds {why}: {}", name(number, label)));
        blocks.push(Block { number, label: label.to_owned(), encrypted, der });
        at = after;
    }
    Ok(blocks)
}

/// A BEGIN counts at the start of a line, indented or not, or right behind the END of another block: what is commented out
/// or quoted in a sentence does not.
fn next_begin(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = find(text, BEGIN, at)?;
        let line = &text[..found];
        let before = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | 0xef | 0xbb | 0xbf));
        let starts = before.is_none_or(|last| matches!(line[last], b'\n' | b'\r') || last + 1 == from);
        if starts || found == from {
            return Some(found);
        }
        at = found + BEGIN.len();
    }
}

/// The label that begins at `from`, and where its dashes end.
fn label(text: &[u8], from: usize) -> Option<(&str, usize)> {
    let end = find(text, DASHES, from).filter(|end| *end - from <= LONGEST_LABEL)?;
    let label = std::str::from_utf8(&text[from..end]).ok()?.trim();
    let plain = label.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (plain && !label.is_empty()).then_some((label, end + DASHES.len()))
}

fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// Whether a block says that it is encrypted, and what it holds.
fn content(body: &[u8]) -> (bool, Result<Vec<u8>, &'static str>) {
    let (headers, body) = headers(body);
    if find(headers, b"ENCRYPTED", 0).is_some() {
        return (true, Err("encrypted content"));
    }
    // OpenSSL takes control characters for blanks, too.
    let letters: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte > b' ').collect();
    let decoded = match base64().decode(&letters) {
        Ok(der) if der.is_empty() => Err("nothing"),
        Ok(der) => Ok(der),
        Err(_) if find(body, b"\\n", 0).is_some() => {
            Err("a backslash and an n where lines should end, so characters that are not base64")
        }
        Err(base64::DecodeError::InvalidByte(..)) => Err("characters that are not base64"),
        Err(_) => Err("base64 that is cut off"),
    };
    (false, decoded)
}

/// Headers (`Proc-Type: 4,ENCRYPTED`) end with an empty line.
fn headers(body: &[u8]) -> (&[u8], &[u8]) {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(body.len());
    let first = body[start..].split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    if !first.contains(&b':') {
        return (&[], body);
    }
    let ends = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"];
    let end = ends.iter().filter_map(|end| find(body, end, start).map(|at| at + end.len())).min();
    body.split_at(end.unwrap_or(body.len()))
}

fn base64() -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&alphabet::STANDARD, config)
}

/// The ASN.1 SEQUENCEs of a binary file; `None` when it is text.
pub(crate) fn der(bytes: &[u8]) -> Option<Der<'_>> {
    if find(bytes, BEGIN, 0).is_some() {
        return None;
    }
    let mut parts = Der { values: Vec::new(), rest: bytes };
    while let Some((value, rest)) = first_sequence(parts.rest) {
        parts.values.push(value);
        parts.rest = rest;
    }
    // Text may begin with the digit 0, but not be a whole SEQUENCE with content of its kind.
    let nested = parts.values.first().and_then(|value| content_of(value)).and_then(|content| content.first().copied());
    matches!(nested, Some(SEQUENCE | INTEGER | OID)).then_some(parts)
}

/// What holds certificates or keys and is neither, when a binary value is that.
pub(crate) fn container(der: &[u8]) -> Option<&'static str> {
    const PKCS7: &[u8] = &[OID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7];
    let content = content_of(der)?;
    if content.starts_with(PKCS7) {
        return Some("a PKCS#7 bundle stands (`openssl pkcs7 -inform der -print_certs` unpacks it)");
    }
    let is_pkcs12 = content.starts_with(&[INTEGER, 1, 3, SEQUENCE]);
    is_pkcs12.then_some("a PKCS#12 file stands (`openssl pkcs12 -nodes` unpacks it)")
}

/// Whether a binary value is a private key. A certificate is SEQUENCE { SEQUENCE, SEQUENCE, BIT STRING }.
pub(crate) fn key_kind(der: &[u8]) -> Option<&'static str> {
    match content_of(der)?.first() {
        Some(&INTEGER) => Some("a binary (DER) private key stands"),
        Some(&SEQUENCE) if is_encrypted_key(der) => Some("an encrypted private key stands"),
        _ => None,
    }
}

/// `EncryptedPrivateKeyInfo` (RFC 5958 section 3): an algorithm and an OCTET STRING, no more.
pub(crate) fn is_encrypted_key(der: &[u8]) -> bool {
    const OCTET_STRING: u8 = 4;
    let after = content_of(der).and_then(first_sequence).map(|(_, rest)| rest);
    after.and_then(<[u8]>::first).is_some_and(|tag| *tag == OCTET_STRING)
}

/// What a text without any block is, when it can be told.
pub(crate) fn disguise(text: &[u8]) -> Option<&'static str> {
    if text.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) {
        return Some("is a Java keystore (JKS); PEM text with BEGIN and END lines is expected");
    }
    if find(text, b"BEGIN ", 0).is_some() {
        return Some(
            "has a malformed BEGIN line: it must be -----BEGIN ... ----- with five dashes, on a line of its own",
        );
    }
    let letters: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = base64().decode(&letters).ok()?;
    if find(&decoded, BEGIN, 0).is_some() {
        return Some("is base64 of PEM text: it was encoded once too often");
    }
    first_sequence(&decoded).map(|_| "is base64 without its BEGIN and END lines")
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const OID: u8 = 6;

/// A whole SEQUENCE at the start of some bytes, and the bytes behind it.
pub(crate) fn first_sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, length) = head(bytes).filter(|_| bytes.first() == Some(&SEQUENCE))?;
    bytes.split_at_checked(head.checked_add(length)?)
}

/// What is in the value at the start of some bytes.
pub(crate) fn content_of(value: &[u8]) -> Option<&[u8]> {
    let (start, length) = head(value)?;
    value.get(start..start.checked_add(length)?)
}

/// The length of a value's head, and that of its content (X.690 section 8.1.3).
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let [_, first, rest @ ..] = bytes else { return None };
    if *first < 0x80 {
        return Some((2, usize::from(*first)));
    }
    let octets = usize::from(first & 0x7f);
    let length = rest.get(..octets).filter(|_| (1..=4).contains(&octets))?;
    Some((2 + octets, length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet))))
}
