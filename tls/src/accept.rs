//! Taking a TLS connection in two steps: read the ClientHello, then go on with the configuration it selects.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::server::Acceptor;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::challenge::{self, ChallengeTls};
use crate::identity::PeerIdentity;
use crate::server::ServerTls;
use crate::{Error, cipher};

/// Read the ClientHello. Without a deadline of its own: the caller bounds this and [`ClientHello::accept`] together.
pub async fn hello<IO>(io: IO) -> Result<ClientHello<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(Error::from_io)?;
    let sni = start.client_hello().server_name().map(Box::from);
    Ok(ClientHello { start, sni })
}

/// What a client asked for; nothing has been answered yet.
pub struct ClientHello<IO> {
    start: StartHandshake<IO>,
    sni: Option<Box<str>>,
}

/// Why a ClientHello gets no handshake, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No server of this listener serves the SNI, or a name is needed and none was sent.
    UnrecognizedName,
    /// The server is there, but its certificate is missing or broken.
    NoCertificate,
}

impl<IO> ClientHello<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// The server name asked for, in lower case.
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// The protocols offered, best first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.start.client_hello().alpn().into_iter().flatten()
    }

    /// The client is an ACME validator: `acme-tls/1` is the only protocol it offers (RFC 8737 section 3).
    pub fn is_challenge(&self) -> bool {
        let mut offered = self.alpn();
        offered.next() == Some(challenge::ALPN) && offered.next().is_none()
    }

    /// Complete the handshake with the challenge's certificate, and close: nothing is said under `acme-tls/1`.
    ///
    /// Without a deadline of its own.
    pub async fn answer_challenge(self, challenge: &ChallengeTls) -> Result<(), Error> {
        let mut stream = self.start.into_stream(Arc::clone(&challenge.0)).await.map_err(Error::from_io)?;
        stream.shutdown().await.map_err(Error::from_io)
    }

    /// Complete the handshake.
    pub async fn accept(self, tls: &ServerTls) -> Result<ServerStream<IO>, Error> {
        let config = tls.config_for(self.alpn());
        let stream = self.start.into_stream(config).await.map_err(Error::from_io)?;
        let (_, connection) = stream.get_ref();
        let peer = match connection.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => Some(PeerIdentity::from_der(certificate).map_err(|_| Error::unreadable_peer())?),
            None => None,
        };
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        // A ticket may outlive the certificate it was given for, and resumption verifies no certificate.
        if resumed && peer.as_ref().is_some_and(|peer| is_expired(peer, SystemTime::now())) {
            return Err(Error::expired_peer());
        }
        Ok(ServerStream { stream, peer: peer.map(Arc::new), local: tls.local().cloned() })
    }

    /// The transport, with the ClientHello taken out of it: one that remembers what was read can pass
    /// the connection on unterminated.
    pub fn into_inner(self) -> IO {
        self.start.io
    }

    /// Send the alert that says why, and close.
    pub async fn refuse(self, refusal: Refusal) -> Result<(), Error> {
        let alert = match refusal {
            Refusal::UnrecognizedName => UNRECOGNIZED_NAME,
            Refusal::NoCertificate => INTERNAL_ERROR,
        };
        let mut io = self.start.io;
        // Before the ServerHello there are no keys: an alert is one plain record (RFC 8446 section 5.1 and 6).
        let record = [ALERT, 0x03, 0x03, 0, 2, FATAL, alert];
        io.write_all(&record).await.map_err(Error::from_io)?;
        io.shutdown().await.map_err(Error::from_io)
    }
}

const ALERT: u8 = 21;
const FATAL: u8 = 2;
const UNRECOGNIZED_NAME: u8 = 112;
const INTERNAL_ERROR: u8 = 80;

fn is_expired(peer: &PeerIdentity, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).is_ok_and(|now| now > peer.not_after)
}

/// An accepted TLS connection.
#[derive(Debug)]
pub struct ServerStream<IO> {
    stream: TlsStream<IO>,
    /// Who the client is; `None` when it sent no certificate.
    pub peer: Option<Arc<PeerIdentity>>,
    /// The own URI SAN, when the server showed the workload identity.
    pub local: Option<Arc<str>>,
}

impl<IO> ServerStream<IO> {
    /// The transport below TLS.
    pub fn get_ref(&self) -> &IO {
        self.stream.get_ref().0
    }

    /// The transport below TLS; reading or writing it breaks the connection.
    pub fn get_mut(&mut self) -> &mut IO {
        self.stream.get_mut().0
    }

    /// The protocol agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    /// The server name the client asked for, in lower case.
    pub fn sni(&self) -> Option<&str> {
        self.stream.get_ref().1.server_name()
    }

    /// `TLSv1.3` or `TLSv1.2`, as Envoy's `%DOWNSTREAM_TLS_VERSION%`.
    pub fn version(&self) -> &'static str {
        version_name(self.stream.get_ref().1.protocol_version())
    }

    /// The cipher suite, as Envoy's `%DOWNSTREAM_TLS_CIPHER%`.
    pub fn cipher(&self) -> &'static str {
        self.stream.get_ref().1.negotiated_cipher_suite().map_or("unknown", |suite| cipher::name(suite.suite()))
    }

    /// Whether the handshake was a resumption: no certificate was exchanged, `peer` is who it was the first time.
    pub fn resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl<IO> ServerStream<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// Wait for bytes without taking them: `true` when the next read gives some, `false` when the client is gone.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        poll_readable(Pin::new(&mut self.stream), cx)
    }
}

/// `false` at the end, with or without close_notify: between messages there is nothing to truncate.
pub(crate) fn poll_readable<S: AsyncBufRead>(stream: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
    Poll::Ready(match ready!(stream.poll_fill_buf(cx)) {
        Ok(bytes) => Ok(!bytes.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    })
}

pub(crate) fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authority::Authority;
    use crate::pem;

    #[test]
    fn a_resumed_peer_is_expired_when_its_certificate_is() {
        let hour = Duration::from_secs(3600);
        let ca = Authority::new("test root").expect("a CA can be made");
        let issued = ca.issue_workload("spiffe://td/a", hour).expect("issues");
        let chain = pem::certificates(issued.chain_pem.as_bytes()).expect("is PEM");
        let peer = PeerIdentity::from_der(&chain[0]).expect("is a certificate");

        assert!(!is_expired(&peer, SystemTime::now()));
        assert!(is_expired(&peer, SystemTime::now() + 2 * hour));
    }
}
