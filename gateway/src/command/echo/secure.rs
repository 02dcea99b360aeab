//! TLS of the application itself, as that of somebody outside of the mesh.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use tls::{
    accept,
    identity::PeerIdentity,
    server::{CertifiedPem, ClientAuth, ServerSpec, ServerTls},
    stream::Stream,
};
use tokio::{net::TcpStream, time::timeout};

use crate::cli::EchoFlags;

/// For a whole handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What shakes hands.
pub(crate) struct Secure(ServerTls);

/// What a handshake told.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// The name that the client asked for.
    sni: Option<String>,
    /// Who the client is: the first URI, else the first DNS name, else the subject of its certificate.
    client: Option<String>,
}

impl Secure {
    /// As the flags say; `None` = ports are plain.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be.
    pub(crate) fn of(flags: &EchoFlags) -> anyhow::Result<Option<Self>> {
        let (Some(chain), Some(key)) = (&flags.tls_cert, &flags.tls_key) else { return Ok(None) };
        let client = match &flags.client_ca {
            None => ClientAuth::None,
            Some(ca) => ClientAuth::Required { roots_pem: read(ca)?, crl: None, sans: Vec::new() },
        };
        let spec = ServerSpec {
            certificates: vec![CertifiedPem { chain: read(chain)?, key: read(key)?, ocsp: None }],
            client,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            ..ServerSpec::default()
        };
        let tls = ServerTls::build(&spec, None).with_context(|| format!("cannot serve with {}", chain.display()))?;
        Ok(Some(Self(tls)))
    }

    /// Shakes hands; `None`: it came to nothing.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> Option<(Stream<TcpStream>, Shown)> {
        let handshake = async { accept::hello(Stream::new(tcp)).await?.accept(&self.0).await };
        let stream = timeout(HANDSHAKE, handshake).await.ok()?.ok()?;
        let shown = Shown { sni: stream.sni().map(str::to_owned), client: stream.peer.as_deref().map(name) };
        Some((stream, shown))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn name(peer: &PeerIdentity) -> String {
    let mut names = peer.uri_sans.iter().chain(&peer.dns_sans);
    names.next().unwrap_or(&peer.subject).to_string()
}
