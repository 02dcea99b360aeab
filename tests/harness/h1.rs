//! HTTP/1.1 by hand, as both sides of a story need it.

use std::{fmt::Write as _, io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::raw::Raw;

/// A head: the first line, and the fields.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// Word `number` of the first line.
    pub(crate) fn word(&self, number: usize) -> &str {
        self.start.split(' ').nth(number).unwrap_or_default()
    }

    /// The status in the first line.
    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_default()
    }
}

/// Reads a head.
pub(crate) async fn read_head(raw: &mut Raw) -> io::Result<Head> {
    let text = raw.read_until("\r\n\r\n").await?;
    let mut lines = text.trim_end().split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        add(&mut headers, line)?;
    }
    Ok(Head { start, headers })
}

/// Reads the body that follows such a head, and its trailers. `until_close`: without a length it lasts as long as the
/// connection.
pub(crate) async fn read_body(raw: &mut Raw, headers: &HeaderMap, until_close: bool) -> io::Result<(Bytes, HeaderMap)> {
    let mut trailers = HeaderMap::new();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        let mut body = Vec::new();
        loop {
            let line = raw.read_until("\r\n").await?;
            let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            body.extend(raw.read(size).await?);
            raw.read(2).await?;
        }
        loop {
            let line = raw.read_until("\r\n").await?;
            if line == "\r\n" {
                return Ok((body.into(), trailers));
            }
            add(&mut trailers, line.trim_end())?;
        }
    }
    if let Some(length) = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok()) {
        return Ok((raw.read(length).await?.into(), trailers));
    }
    if until_close {
        return Ok((raw.hear(PATIENCE).await.text.into(), std::mem::take(&mut trailers)));
    }
    Ok((Bytes::new(), trailers))
}

/// A head as bytes.
pub(crate) fn head(start: &str, headers: &HeaderMap) -> String {
    format!("{start}\r\n{}\r\n", fields(headers))
}

/// One chunk.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// What follows the last chunk.
pub(crate) fn last_chunk(trailers: &HeaderMap) -> String {
    format!("0\r\n{}\r\n", fields(trailers))
}

fn fields(headers: &HeaderMap) -> String {
    headers.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        text
    })
}

fn add(headers: &mut HeaderMap, line: &str) -> io::Result<()> {
    let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("no field: {line}")))?;
    let name: HeaderName = name.parse().map_err(io::Error::other)?;
    headers.append(name, HeaderValue::from_str(value.trim()).map_err(io::Error::other)?);
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(15);
