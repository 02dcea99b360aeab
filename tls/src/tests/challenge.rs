//! A CA's look at a host over TLS (RFC 8737).

use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::challenge::{ALPN, ChallengeTls};
use crate::san::Sans;

const HOST: &str = "cargo.example";

/// A validator reads the certificate itself: no library takes one with the extension.
#[derive(Debug)]
struct Validator;

impl ServerCertVerifier for Validator {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::provider().signature_verification_algorithms.supported_schemes()
    }
}

fn validator(alpn: &[&str]) -> TlsConnector {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider::provider()))
        .with_safe_default_protocol_versions()
        .expect("has versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Validator))
        .with_no_client_auth();
    config.alpn_protocols = protocols(alpn);
    TlsConnector::from(Arc::new(config))
}

async fn look(
    offered: &[&str],
    challenge: &ChallengeTls,
) -> (bool, Result<(), Error>, Result<TlsStream<DuplexStream>, Error>) {
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let hello = accept::hello(Stream::new(far)).await.expect("is a hello");
        (hello.is_challenge(), hello.answer_challenge(challenge).await)
    };
    let connector = validator(offered);
    let ask = connector.connect(ServerName::try_from(HOST).expect("is a name"), near);
    let ((is_challenge, answered), asked) = tokio::join!(serve, ask);
    (is_challenge, answered, asked.map_err(Error::from_io))
}

#[tokio::test]
async fn a_validator_sees_the_certificate_that_proves_the_host() {
    let challenge = ChallengeTls::new(HOST, "token.thumbprint").expect("can be made");

    let (is_challenge, answered, asked) = look(&["acme-tls/1"], &challenge).await;

    assert!(is_challenge);
    answered.expect("answers");
    let mut asked = asked.expect("shakes hands");
    assert_eq!(asked.get_ref().1.alpn_protocol(), Some(ALPN));
    let chain = asked.get_ref().1.peer_certificates().expect("shows one").to_vec();
    assert_eq!(chain.len(), 1);
    let (_, certificate) = X509Certificate::from_der(&chain[0]).expect("is a certificate");
    let names = Sans::of(&certificate).expect("has names");
    assert_eq!((names.dns.as_slice(), names.uris.len()), ([HOST].as_slice(), 0));
    let identifier = certificate.extensions().iter().find(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    let identifier = identifier.expect("has the extension");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"token.thumbprint");
    assert!(identifier.critical);
    assert_eq!(identifier.value, [&[4, 32], hash.as_ref()].concat());
    certificate.verify_signature(None).expect("is self-signed");
    assert_eq!(asked.read(&mut [0; 8]).await.expect("is closed in order"), 0);
}

#[tokio::test]
async fn only_who_offers_nothing_else_is_a_validator() {
    let challenge = ChallengeTls::new(HOST, "token.thumbprint").expect("can be made");

    assert!(!look(&["acme-tls/1", "h2"], &challenge).await.0);
    assert!(!look(&["h2", "acme-tls/1"], &challenge).await.0);
    assert!(!look(&[], &challenge).await.0);
    let (is_challenge, answered, asked) = look(&["h2"], &challenge).await;
    assert!(!is_challenge);
    assert_eq!(asked.expect_err("is refused").reason(), "AlertNoApplicationProtocol");
    answered.expect_err("refuses");
    assert_eq!(format!("{challenge:?}"), "ChallengeTls { .. }");
}

#[tokio::test]
async fn an_ordinary_server_never_agrees_on_the_validators_protocol() {
    let ca = authority();
    let (near, far) = duplex(64 * 1024);
    let serving = server(&server_spec(&ca));
    let serve = async { accept::hello(Stream::new(far)).await?.accept(&serving).await };
    let connector = validator(&["acme-tls/1"]);
    let ask = connector.connect(ServerName::try_from(HOST).expect("is a name"), near);

    let (served, asked) = tokio::join!(serve, ask);

    assert_eq!(served.expect("serves").alpn(), None);
    assert_eq!(asked.expect("shakes hands").get_ref().1.alpn_protocol(), None);
}
