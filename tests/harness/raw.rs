//! Bytes as they are: for what no well-behaved client would send.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::tls_peer::Stream;

/// A connection without a protocol.
pub struct Raw {
    stream: Box<dyn Stream>,
}

/// What was read until the peer closed or the deadline came.
#[derive(Debug)]
pub struct Heard {
    /// All bytes, as text.
    pub text: String,
    /// True when the peer ended the connection (with FIN, reset or an error).
    pub closed: bool,
    /// How long it took.
    pub after: Duration,
}

impl Heard {
    /// Status of the first response; 0 = none came.
    pub fn status(&self) -> u16 {
        self.statuses().first().copied().unwrap_or_default()
    }

    /// Status of every response in the bytes.
    pub fn statuses(&self) -> Vec<u16> {
        self.text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
    }
}

impl Raw {
    /// Connects without TLS.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream)))
    }

    /// Over a stream that is open already, TLS for instance.
    pub fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream }
    }

    /// The stream below.
    pub fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    /// Sends bytes; an error means that the peer is gone already.
    ///
    /// # Errors
    /// As the socket says.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Ends the sending side.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.ok();
    }

    /// Reads until the peer closes, or the deadline.
    pub async fn hear(&mut self, deadline: Duration) -> Heard {
        let start = Instant::now();
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        let closed = loop {
            let left = deadline.saturating_sub(start.elapsed());
            match timeout(left, self.stream.read(&mut buffer)).await {
                Err(_) => break false,
                Ok(Ok(0) | Err(_)) => break true,
                Ok(Ok(count)) => bytes.extend_from_slice(&buffer[..count]),
            }
        };
        Heard { text: String::from_utf8_lossy(&bytes).into_owned(), closed, after: start.elapsed() }
    }

    /// Reads exactly this many bytes.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await??;
        Ok(bytes)
    }

    /// Reads until `mark` was seen; gives everything read.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn read_until(&mut self, mark: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(mark.as_bytes()) {
            bytes.extend(self.read(1).await?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Sends bytes on a fresh plain connection and hears the end of it.
pub async fn probe(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Heard {
    let mut raw = Raw::connect(address).await.expect("somebody listens");
    raw.send(bytes).await.ok();
    raw.hear(SHORT).await
}

const PATIENCE: Duration = Duration::from_secs(15);

/// An answer to bad bytes comes at once.
const SHORT: Duration = Duration::from_secs(3);
