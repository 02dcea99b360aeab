//! Taking a TLS connection in two steps: read the ClientHello, then go on with the configuration it selects.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::Error;
use crate::challenge::{self, ChallengeTls};
use crate::client_hello::{self, Hello, Parsed};
use crate::identity::PeerIdentity;
use crate::server::ServerTls;
use crate::session::Session;
use crate::stream::Stream;

/// A ClientHello may be this large, bytes: post-quantum key shares and long lists fit many times.
const HELLO: usize = 64 * 1024;
/// How long a refused client may take to hear why.
const LINGER: Duration = Duration::from_secs(1);

/// Read the ClientHello. Without a deadline of its own: the caller bounds this and [`ClientHello::accept`] together.
///
/// # Errors
/// The socket's, or [`Error::NotTls`].
pub async fn hello<IO>(mut stream: Stream<IO>) -> Result<ClientHello<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match client_hello::parse(stream.input()) {
            Parsed::Hello(hello) => return Ok(ClientHello { stream, hello }),
            Parsed::Incomplete if stream.input().len() < HELLO => {}
            Parsed::Incomplete | Parsed::Invalid => return Err(invalid(stream).await),
        }
        if !poll_fn(|cx| stream.poll_fill(cx)).await.map_err(Error::from_io)? {
            return Err(Error::PeerClosed);
        }
    }
}

/// rustls says best what is wrong with a ClientHello, to us and to the client.
async fn invalid<IO: AsyncRead + AsyncWrite + Unpin>(stream: Stream<IO>) -> Error {
    let Ok(session) = ServerTls::nobody().and_then(Session::server) else { return Error::NotTls };
    match stream.handshake(session).await {
        Ok(_) => Error::NotTls,
        Err((error, stream)) => {
            tell(stream).await;
            Error::from_io(error)
        }
    }
}

/// Brings what was written last, such as an alert, to the client: closing at once, with bytes of its unread, would take it
/// back.
pub async fn tell<IO: AsyncRead + AsyncWrite + Unpin>(mut stream: Stream<IO>) {
    let work = async {
        if poll_fn(|cx| stream.poll_close(cx)).await.is_ok() {
            let mut io = stream;
            let mut rest = 64 * 1024_usize;
            while let Some(left) = rest.checked_sub(io.discard().await) {
                if left == rest {
                    return;
                }
                rest = left;
            }
        }
    };
    let _ = timeout(LINGER, work).await;
}

/// What a client asked for; nothing has been answered yet.
pub struct ClientHello<IO> {
    stream: Stream<IO>,
    hello: Hello,
}

/// Why a ClientHello gets no handshake, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No server of this listener serves the SNI, or a name is needed and none was sent.
    UnrecognizedName,
    /// The server is there, but its certificate is missing or broken.
    NoCertificate,
    /// None of the protocols offered is one of those that the server is for (RFC 7301 section 3.2).
    NoProtocol,
}

impl<IO> ClientHello<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// The server name asked for, in lower case.
    pub fn sni(&self) -> Option<&str> {
        self.hello.sni.as_deref()
    }

    /// The protocols offered, best first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.hello.alpn.iter().map(Vec::as_slice)
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
        let mut stream = shake(self.stream, Session::server(Arc::clone(&challenge.0))?).await?;
        stream.shutdown().await.map_err(Error::from_io)
    }

    /// Complete the handshake.
    pub async fn accept(self, tls: &ServerTls) -> Result<Stream<IO>, Error> {
        let session = Session::server(tls.config_for(self.alpn()))?;
        let mut stream = shake(self.stream, session).await?;
        let peer = match stream.certificate().filter(|_| tls.verifies()) {
            Some(certificate) => Some(PeerIdentity::from_der(certificate).map_err(|_| Error::unreadable_peer())?),
            None => None,
        };
        // A ticket may outlive the certificate it was given for, and resumption verifies no certificate.
        if stream.resumed() && peer.as_ref().is_some_and(|peer| is_expired(peer, SystemTime::now())) {
            return Err(Error::expired_peer());
        }
        stream.sni = self.hello.sni.map(String::into_boxed_str);
        stream.peer = peer.map(Arc::new);
        stream.local = tls.local().cloned();
        Ok(stream)
    }

    /// The stream, with the ClientHello unread: to pass the connection on unterminated.
    pub fn into_inner(self) -> Stream<IO> {
        self.stream
    }

    /// Send the alert that says why, and close.
    pub async fn refuse(self, refusal: Refusal) -> Result<(), Error> {
        let alert = match refusal {
            Refusal::UnrecognizedName => UNRECOGNIZED_NAME,
            Refusal::NoCertificate => INTERNAL_ERROR,
            Refusal::NoProtocol => NO_APPLICATION_PROTOCOL,
        };
        let mut stream = self.stream;
        // Before the ServerHello there are no keys: an alert is one plain record (RFC 8446 section 5.1 and 6).
        let record = [ALERT, 0x03, 0x03, 0, 2, FATAL, alert];
        stream.write_all(&record).await.map_err(Error::from_io)?;
        stream.flush().await.map_err(Error::from_io)?;
        tell(stream).await;
        Ok(())
    }
}

async fn shake<IO: AsyncRead + AsyncWrite + Unpin>(stream: Stream<IO>, session: Session) -> Result<Stream<IO>, Error> {
    match stream.handshake(session).await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            let error = Error::from_io(error);
            if !matches!(error, Error::PeerClosed | Error::Io(_)) {
                tell(stream).await;
            }
            Err(error)
        }
    }
}

const ALERT: u8 = 21;
const FATAL: u8 = 2;
const UNRECOGNIZED_NAME: u8 = 112;
const INTERNAL_ERROR: u8 = 80;
const NO_APPLICATION_PROTOCOL: u8 = 120;

fn is_expired(peer: &PeerIdentity, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).is_ok_and(|now| now > peer.not_after)
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
