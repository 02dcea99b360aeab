//! What is checked of a peer's certificate beyond its chain: the identity in it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::anchors::Anchors;
use crate::client::Names;
use crate::direct::{Direct, RevocationList, Side, key_of_version_1, verify_tls12_signature_with_raw_key};
use crate::identity::{self, SCHEME, SpiffeId};
use crate::pins::Pins;
use crate::provider;
use crate::san::{Sans, dns_matches, printable};

/// Why a certificate is refused that webpki may well have taken; travels through rustls as `CertificateError::Other`.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    /// As in [`crate::Error::reason`].
    pub(crate) reason: &'static str,
    text: String,
}

impl Refused {
    /// The chain is good, but not who is at its end.
    fn identity(text: String) -> Self {
        Self { reason: WRONG_IDENTITY, text }
    }

    pub(crate) fn version_1() -> Self {
        let text = "the peer's certificate is of X.509 version 1 and was not issued by one of the trusted CAs directly, but \
                    below an intermediate one; only certificates of version 3 can stand in such a chain";
        Self { reason: "Version1", text: text.to_owned() }
    }

    /// A server that has no subjectAltName; `common_name` when it was looked at.
    fn unnamed(host: &str, common_name: Option<&str>) -> Self {
        let host = printable(host);
        let text = match common_name {
            Some(name) => {
                let name = printable(name);
                format!("the server's certificate has no subjectAltName, and its common name {name} is not {host}")
            }
            None => format!("the server's certificate has no subjectAltName, so it is not known to be for {host}"),
        };
        Self { reason: "WrongName", text }
    }

    pub(crate) fn critical_extension() -> Self {
        let text = "the peer's certificate has a critical extension that nobody here knows";
        Self { reason: "CriticalExtension", text: text.to_owned() }
    }

    /// What a trusted CA says of itself does not allow the chain; `reason` says which.
    pub(crate) fn limits(reason: &'static str) -> Self {
        let text = match reason {
            "CaExpired" => {
                "the peer's certificate was issued by a trusted CA whose own certificate has ended or not begun"
            }
            "ChainTooLong" => "the peer's chain is longer than the trusted CA allows (path length)",
            "WrongPurpose" => {
                "the peer's certificate was issued by a trusted CA that may not issue for this (extended key usage)"
            }
            _ => "the peer's chain is not one that a trusted CA allows",
        };
        Self { reason, text: text.to_owned() }
    }

    pub(crate) fn no_signer() -> Self {
        let text = "the peer's certificate was issued by a certificate that may not issue any (key usage)";
        Self { reason: "NoCaInChain", text: text.to_owned() }
    }

    /// The chain is good, and nobody asked for this certificate.
    pub(crate) fn not_pinned() -> Self {
        let text = "the client's certificate is none of those that are named by their digest (verifyCertificateSpki, \
                    verifyCertificateHash)";
        Self { reason: "NotPinned", text: text.to_owned() }
    }

    pub(crate) fn key_usage() -> Self {
        let text = "the peer's certificate may not be used for TLS (key usage without digital signature)";
        Self { reason: "WrongPurpose", text: text.to_owned() }
    }
}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

pub(crate) const WRONG_IDENTITY: &str = "WrongIdentity";

/// Which clients a server takes, once their chain is verified.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Exactly one URI SAN, `spiffe://<one of these>/...`; `None`: not a mesh server. Empty: any trust domain.
    pub(crate) trust_domains: Option<Vec<String>>,
    /// One of these among the names of the certificate; empty: any name.
    pub(crate) sans: Vec<String>,
    /// It has one of these digests.
    pub(crate) pins: Pins,
}

impl Clients {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        self.pins.check(certificate)?;
        if self.trust_domains.is_none() && self.sans.is_empty() {
            return Ok(());
        }
        let parsed = parse(certificate)?;
        let sans = names(&parsed)?;
        if let Some(domains) = &self.trust_domains {
            let id = one_spiffe("client", &sans)?;
            if !domains.is_empty() && !domains.iter().any(|domain| domain == id.trust_domain()) {
                return Err(refused(format!(
                    "the client's identity {} is in none of the trust domains {}",
                    id,
                    domains.join(", ")
                )));
            }
        }
        expect_one_of("client", &sans, &self.sans)
    }
}

/// A client certificate verifier of webpki, [`Direct`] for what that does not take, and [`Clients`] after it.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    /// `None` when nothing that is trusted may issue certificates.
    pub(crate) chain: Option<Arc<dyn ClientCertVerifier>>,
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) lists: Vec<RevocationList>,
    pub(crate) clients: Clients,
    /// Whether clients must show a certificate.
    pub(crate) mandatory: bool,
    /// Names of the CAs that clients are told of.
    pub(crate) hints: Vec<DistinguishedName>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let (anchors, lists, algorithms) = (&*self.anchors, &*self.lists, &self.algorithms);
        let direct = Direct { anchors, lists, algorithms, now };
        direct.judge(end_entity, intermediates, Side::Client, |intermediates| match &self.chain {
            Some(chain) => chain.verify_client_cert(end_entity, intermediates, now).map(drop),
            None => Err(CertificateError::UnknownIssuer.into()),
        })?;
        self.clients.check(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_tls12(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify_tls12_signature(message, cert, dss, algorithms).or_else(|error| {
        let key = key_of_version_1(cert).ok_or(error)?;
        verify_tls12_signature_with_raw_key(message, &key, dss, algorithms)?;
        Ok(HandshakeSignatureValid::assertion())
    })
}

fn verify_tls13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify_tls13_signature(message, cert, dss, algorithms).or_else(|error| {
        let key = key_of_version_1(cert).ok_or(error)?;
        verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
    })
}

/// Asks for a certificate and believes nothing of it but that the client has its key.
#[derive(Debug)]
pub(crate) struct AnyClient {
    /// Whether clients must show one.
    pub(crate) mandatory: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Chain without a DNS name, then the names; anchors of `None` verify nothing but that the peer holds its key.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    anchors: Option<Arc<Anchors>>,
    names: Names,
    /// Whether somebody has chosen the anchors for these servers: a certificate without any subjectAltName that they have
    /// issued directly is then named by its subject, as curl and OpenSSL do.
    chosen: bool,
    /// When there are any, every certificate of the chain must be covered by one.
    lists: Vec<RevocationList>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(crate) fn new(anchors: Option<Arc<Anchors>>, chosen: bool, names: Names, lists: Vec<RevocationList>) -> Self {
        let algorithms = provider::provider().signature_verification_algorithms;
        Self { anchors, chosen, names, lists, algorithms }
    }

    /// The host, among the names of the certificate.
    fn check_host(
        &self,
        direct: &Direct<'_>,
        certificate: &CertificateDer<'_>,
        host: &ServerName<'_>,
    ) -> Result<(), rustls::Error> {
        let parsed = parse(certificate)?;
        let unnamed = parsed.subject_alternative_name().is_ok_and(|names| names.is_none());
        if !unnamed {
            return verify_server_name(&ParsedCertificate::try_from(certificate)?, host);
        }
        let ours = self.chosen
            && (direct.anchors.holds(certificate)
                || direct.issued_directly(certificate, &parsed, Side::Server).unwrap_or(false));
        // The last one is the most specific.
        let common_name = parsed.subject().iter_common_name().last().and_then(|name| name.as_str().ok());
        match (host, common_name) {
            (ServerName::DnsName(host), Some(name)) if ours && dns_matches(name, host.as_ref()) => Ok(()),
            _ => Err(Refused::unnamed(&host.to_str(), common_name.filter(|_| ours)).into()),
        }
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
        let Some(anchors) = &self.anchors else {
            return Ok(ServerCertVerified::assertion());
        };
        let direct = Direct { anchors, lists: &self.lists, algorithms: &self.algorithms, now };
        let roots = &anchors.roots;
        direct.judge(end_entity, intermediates, Side::Server, |intermediates| {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, self.algorithms.all)?;
            direct.is_covered(end_entity, intermediates)
        })?;
        match &self.names {
            Names::Any => {}
            Names::Host => self.check_host(&direct, end_entity, server_name)?,
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
        verify_tls12(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Where SPIFFE ids are expected and the server shows a URI SAN, it must be one, and the only one: a second would be an
/// identity nobody looked at.
fn check_server(sans: &Sans<'_>, expected: &[String]) -> Result<(), rustls::Error> {
    let wants_spiffe = expected.iter().any(|name| name.starts_with(SCHEME));
    let claims = sans.uris.len() > 1 || sans.uris.iter().any(|uri| claims_spiffe(uri));
    if wants_spiffe && claims {
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

fn one_spiffe(side: &str, sans: &Sans<'_>) -> Result<SpiffeId, rustls::Error> {
    if let [uri] = sans.uris[..]
        && claims_spiffe(uri)
    {
        return identity::of_peer(uri)
            .map_err(|why| refused(format!("the {side}'s certificate names {}, which is {why}", printable(uri))));
    }
    Err(refused(format!(
        "the {side}'s certificate must have exactly one URI SAN, and that a SPIFFE id; it has {}",
        sans.describe()
    )))
}

/// Others may read schemes without regard to case.
fn claims_spiffe(uri: &str) -> bool {
    uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, rustls::Error> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|_| CertificateError::BadEncoding.into())
}

fn names<'a>(certificate: &X509Certificate<'a>) -> Result<Sans<'a>, rustls::Error> {
    Sans::of(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

fn refused(text: String) -> rustls::Error {
    Refused::identity(text).into()
}
