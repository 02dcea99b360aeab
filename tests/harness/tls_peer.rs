//! TLS of the peers in a story: plain rustls, so that the proxy never only talks to itself.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, crypto::CryptoProvider,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tls::authority::Issued;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Anything bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a TLS client offers and trusts.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts this root; offers TLS 1.2 and 1.3 and no ALPN.
    pub fn trusting(root_pem: &str) -> Self {
        Self::with(root_pem, None, rustls::ALL_VERSIONS)
    }

    /// Trusts this root and shows a certificate.
    pub fn identified(root_pem: &str, identity: &Issued) -> Self {
        Self::with(root_pem, Some(identity), rustls::ALL_VERSIONS)
    }

    /// Offers exactly these protocol versions.
    pub fn with(root_pem: &str, identity: Option<&Issued>, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider can do these versions")
            .with_root_certificates(roots(root_pem));
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = certified(identity);
                builder.with_client_auth_cert(chain, key).expect("the key belongs to the certificate")
            }
        };
        Self { config: Arc::new(config) }
    }

    /// Trusts this root for chain and dates but takes any name: what a mesh client does before it reads the SPIFFE id.
    pub fn for_mesh(root_pem: &str, identity: Option<&Issued>) -> Self {
        Self::with(root_pem, identity, rustls::ALL_VERSIONS).for_any_name(root_pem)
    }

    /// The same, taking any name in a certificate of this root.
    #[must_use]
    pub fn for_any_name(mut self, root_pem: &str) -> Self {
        let verifier = Arc::new(any_name::AnyName::new(root_pem));
        Arc::make_mut(&mut self.config).dangerous().set_certificate_verifier(verifier);
        self
    }

    /// Trusts whoever holds the key of the certificate that he shows: for certificates that no CA has signed.
    pub fn blind() -> Self {
        let mut this = Self::with("", None, rustls::ALL_VERSIONS);
        Arc::make_mut(&mut this.config).dangerous().set_certificate_verifier(Arc::new(any_name::AnyName::blind()));
        this
    }

    /// The same, offering these protocols.
    #[must_use]
    pub fn offering(mut self, alpn: &[&str]) -> Self {
        let protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::make_mut(&mut self.config).alpn_protocols = protocols;
        self
    }

    /// Connects and shakes hands with this SNI.
    ///
    /// # Errors
    /// When the connection or the handshake fails; the alert is in the text.
    pub async fn connect(&self, address: SocketAddr, sni: &str) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        self.shake(tcp, sni).await
    }

    /// Shakes hands on a connection, with this SNI.
    ///
    /// # Errors
    /// When the handshake fails; the alert is in the text.
    pub async fn shake(&self, tcp: TcpStream, sni: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(sni.to_owned()).expect("the SNI of a story is a name");
        let handshake = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp);
        timeout(HANDSHAKE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// A server that demands a client certificate of `client_root_pem`, or none when that is `None`.
pub fn server(identity: &Issued, client_root_pem: Option<&str>, alpn: &[&str]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("the provider can do these versions");
    let builder = match client_root_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)), provider())
                .build()
                .expect("the root is usable");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = certified(identity);
    let mut config = builder.with_single_cert(chain, key).expect("the key belongs to the certificate");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn certified(identity: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .expect("an issued chain is PEM");
    (chain, PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("an issued key is PEM"))
}

fn roots(pem: &str) -> RootCertStore {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(certificate.expect("a root is PEM")).expect("a root is a certificate");
    }
    store
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

const HANDSHAKE: Duration = Duration::from_secs(15);

mod any_name {
    //! Chain and dates are checked, the name is not; or not even those.

    use std::sync::Arc;

    use rustls::{
        CertificateError, DigitallySignedStruct, Error, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{verify_tls12_signature, verify_tls13_signature},
    };
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    /// `None` = no chain is checked.
    #[derive(Debug)]
    pub(super) struct AnyName(Option<Arc<WebPkiServerVerifier>>);

    impl AnyName {
        pub(super) fn new(root_pem: &str) -> Self {
            let roots = Arc::new(super::roots(root_pem));
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, super::provider()).build();
            Self(Some(verifier.expect("the root is usable")))
        }

        pub(super) fn blind() -> Self {
            Self(None)
        }
    }

    impl ServerCertVerifier for AnyName {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            server_name: &ServerName<'_>,
            ocsp_response: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            let Some(verifier) = &self.0 else { return Ok(ServerCertVerified::assertion()) };
            match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                verdict => verdict,
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(
                message,
                certificate,
                signature,
                &super::provider().signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(
                message,
                certificate,
                signature,
                &super::provider().signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            super::provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
