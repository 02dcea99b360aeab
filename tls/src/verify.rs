//! What is checked of a peer's certificate beyond its chain: the identity in it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::client::Names;
use crate::identity::{self, SCHEME};
use crate::provider;
use crate::san::{Sans, printable};

/// The chain is good, but not who is at its end; travels through rustls and comes out as `Error::WrongIdentity`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

/// Which clients a server takes, once their chain is verified.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Exactly one URI SAN, `spiffe://<one of these>/...`; `None`: not a mesh server. Empty: any trust domain.
    pub(crate) trust_domains: Option<Vec<String>>,
    /// One of these among the names of the certificate; empty: any name.
    pub(crate) sans: Vec<String>,
}

impl Clients {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if self.trust_domains.is_none() && self.sans.is_empty() {
            return Ok(());
        }
        let parsed = parse(certificate)?;
        let sans = names(&parsed)?;
        if let Some(domains) = &self.trust_domains {
            let id = one_spiffe("client", &sans)?;
            if !domains.is_empty() && !domains.iter().any(|domain| is_in_domain(id, domain)) {
                return Err(refused(format!(
                    "the client's identity {} is in none of the trust domains {}",
                    printable(id),
                    domains.join(", ")
                )));
            }
        }
        expect_one_of("client", &sans, &self.sans)
    }
}

/// A client certificate verifier of webpki, and [`Clients`] after it.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) clients: Clients,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.clients.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Chain without a DNS name, then the names; `roots` of `None` verifies nothing but that the peer holds its key.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    roots: Option<Arc<RootCertStore>>,
    names: Names,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(crate) fn new(roots: Option<Arc<RootCertStore>>, names: Names) -> Self {
        Self { roots, names, algorithms: provider::provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, self.algorithms.all)?;
        match &self.names {
            Names::Any => {}
            Names::Host => verify_server_name(&certificate, server_name)?,
            Names::Sans(expected) => check_server(&names(&parse(end_entity)?)?, expected)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Where SPIFFE ids are expected and the server has one, it must have exactly one URI SAN: a second one
/// would be an identity nobody looked at.
fn check_server(sans: &Sans<'_>, expected: &[String]) -> Result<(), rustls::Error> {
    let wants_spiffe = expected.iter().any(|name| name.starts_with(SCHEME));
    if wants_spiffe && sans.uris.len() > 1 {
        one_spiffe("server", sans)?;
    }
    expect_one_of("server", sans, expected)
}

fn expect_one_of(side: &str, sans: &Sans<'_>, expected: &[String]) -> Result<(), rustls::Error> {
    if expected.is_empty() || expected.iter().any(|name| sans.holds(name)) {
        return Ok(());
    }
    let found = sans.describe();
    Err(refused(format!("the {side}'s identity {found} is not one of the expected {}", expected.join(", "))))
}

fn one_spiffe<'a>(side: &str, sans: &Sans<'a>) -> Result<&'a str, rustls::Error> {
    identity::spiffe(sans).ok_or_else(|| {
        refused(format!(
            "the {side}'s certificate must have exactly one URI SAN, and that a SPIFFE id; it has {}",
            sans.describe()
        ))
    })
}

/// `spiffe://<domain>/`: the slash matters, `cluster.local.evil` is another trust domain.
fn is_in_domain(id: &str, domain: &str) -> bool {
    id.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix(domain)).is_some_and(|path| path.starts_with('/'))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, rustls::Error> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|_| CertificateError::BadEncoding.into())
}

fn names<'a>(certificate: &X509Certificate<'a>) -> Result<Sans<'a>, rustls::Error> {
    Sans::of(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

fn refused(text: String) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(text)))))
}

#[cfg(test)]
mod tests {
    use super::is_in_domain;

    #[test]
    fn a_trust_domain_is_matched_whole() {
        assert!(is_in_domain("spiffe://cluster.local/ns/a/sa/b", "cluster.local"));
        assert!(!is_in_domain("spiffe://cluster.local.evil/ns/a/sa/b", "cluster.local"));
        assert!(!is_in_domain("spiffe://cluster.local", "cluster.local"));
        assert!(!is_in_domain("spiffe://cluster.local/ns/a/sa/b", ""));
    }
}
