//! Both sides of HTTP/1.1, byte for byte.

use std::io;

use fastrand::Rng;
use harness::{mesh::HOST, tls_peer::Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::message::{Case, Content, Fields, Heard, Message};

/// A connection.
pub(super) struct One {
    io: BufReader<Box<dyn Stream>>,
    rng: Rng,
}

impl One {
    pub(super) fn new(io: Box<dyn Stream>, rng: Rng) -> Self {
        Self { io: BufReader::new(io), rng }
    }

    /// Sends a request and reads its answer.
    pub(super) async fn ask(&mut self, case: &Case) -> io::Result<Heard> {
        let start = format!("{} HTTP/1.1", case.request.start);
        let mut request = case.request.clone();
        let (at, name) = if self.rng.bool() { (0, "hOsT") } else { (request.fields.len(), "Host") };
        request.fields.insert(at, (name.to_owned(), HOST.into()));
        self.send(&start, &request, true).await?;
        let mut interim = Vec::new();
        loop {
            let (start, fields) = self.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = start.split(' ').nth(1).unwrap_or_default().to_owned();
            if status.starts_with('1') {
                interim.push((status.parse().unwrap_or_default(), fields));
                continue;
            }
            let (body, trailers) = if case.has_body() { self.content(&fields).await? } else { Default::default() };
            return Ok(Heard { start: status, fields, body, trailers, interim });
        }
    }

    /// The next request; `None` at the end.
    pub(super) async fn hear(&mut self) -> io::Result<Option<Heard>> {
        let Some((start, fields)) = self.head().await? else { return Ok(None) };
        let start = start.strip_suffix(" HTTP/1.1").ok_or_else(|| io::Error::other(start.clone()))?.to_owned();
        let (body, trailers) = self.content(&fields).await?;
        Ok(Some(Heard { start, fields, body, trailers, interim: Vec::new() }))
    }

    /// Answers; whether the connection goes on.
    pub(super) async fn answer(&mut self, case: &Case) -> io::Result<bool> {
        for (status, fields) in &case.interim {
            let interim = Message { fields: fields.clone(), ..Message::default() };
            self.send(&format!("HTTP/1.1 {status} Soon"), &interim, false).await?;
        }
        let start = format!("HTTP/1.1 {} Done", case.answer.start);
        self.send(&start, &case.answer, case.has_body()).await?;
        let goes_on = !matches!(case.answer.content, Content::Close(_));
        if !goes_on {
            self.io.shutdown().await?;
        }
        Ok(goes_on)
    }

    async fn send(&mut self, start: &str, message: &Message, framed: bool) -> io::Result<()> {
        let mut bytes = format!("{start}\r\n").into_bytes();
        let mut line = |name: &str, value: &[u8]| bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        message.fields.iter().for_each(|(name, value)| line(name, value));
        match &message.content {
            Content::Length(body) if framed => line("Content-Length", body.len().to_string().as_bytes()),
            Content::Open(_) if framed => line("Transfer-Encoding", b"chunked"),
            Content::None if framed && start.starts_with("HTTP/1.1") => line("Content-Length", b"0"),
            _ => {}
        }
        bytes.extend(b"\r\n");
        match &message.content {
            Content::Open(body) => self.chunks(body, &message.trailers, &mut bytes),
            other => bytes.extend(other.bytes()),
        }
        self.io.write_all(&bytes).await?;
        self.io.flush().await
    }

    fn chunks(&mut self, mut body: &[u8], trailers: &Fields, bytes: &mut Vec<u8>) {
        while !body.is_empty() {
            let most = if self.rng.bool() { 20_000 } else { 2000 };
            let (chunk, rest) = body.split_at(self.rng.usize(1..=most).min(body.len()));
            let extension = if self.rng.u8(..8) == 0 { ";a=\"b\"" } else { "" };
            let size = if self.rng.bool() { format!("{:X}", chunk.len()) } else { format!("{:03x}", chunk.len()) };
            bytes.extend([format!("{size}{extension}\r\n").as_bytes(), chunk, b"\r\n"].concat());
            body = rest;
        }
        bytes.extend(b"0\r\n");
        trailers.iter().for_each(|(name, value)| bytes.extend([name.as_bytes(), b":", value, b"\r\n"].concat()));
        bytes.extend(b"\r\n");
    }

    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if self.io.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(Some(line.to_vec())),
            None => Err(io::Error::other(format!("a line {}", line.escape_ascii()))),
        }
    }

    async fn head(&mut self) -> io::Result<Option<(String, Fields)>> {
        let Some(start) = self.line().await? else { return Ok(None) };
        let start = String::from_utf8(start).map_err(io::Error::other)?;
        Ok(Some((start, self.fields().await?)))
    }

    /// Fields to the empty line behind them.
    async fn fields(&mut self) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let colon = colon.ok_or_else(|| io::Error::other(format!("a field {}", line.escape_ascii())))?;
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    /// The body behind a head, and its trailers.
    async fn content(&mut self, fields: &Fields) -> io::Result<(Vec<u8>, Fields)> {
        let value = |name: &str| {
            let found = fields.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let mut body = Vec::new();
        if value("transfer-encoding").is_some() {
            loop {
                let line = self.line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = usize::from_str_radix(&String::from_utf8_lossy(&line), 16).map_err(io::Error::other)?;
                if size == 0 {
                    return Ok((body, self.fields().await?));
                }
                let before = body.len();
                body.resize(before + size, 0);
                self.io.read_exact(&mut body[before..]).await?;
                if self.line().await?.as_deref() != Some(&[]) {
                    return Err(io::Error::other("a chunk that ends elsewhere"));
                }
            }
        }
        if let Some(length) = value("content-length") {
            body.resize(length.parse().map_err(io::Error::other)?, 0);
            self.io.read_exact(&mut body).await?;
        }
        Ok((body, Vec::new()))
    }
}
