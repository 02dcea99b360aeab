//! The server side: a description of what a listener wants, and the configuration made from it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions,
    VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, OtherError, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateRevocationListDer;
use webpki::OwnedCertRevocationList;

use crate::anchors::Anchors;
use crate::direct::RevocationList;
use crate::pins::Pins;
use crate::remarks::{self, Shown};
use crate::verify::{AnyClient, ClientVerifier, Clients};
use crate::workload::{WorkloadIdentity, certified_key};
use crate::{Error, cipher, curve, facts, identity, pem, provider};

/// How a server's TLS behaves. Equal specs (and equal identities) give equal servers, so it can key a cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerSpec {
    /// The certificates, one per kind of key; the first whose key the client can verify is shown. Unused with [`ClientAuth::Mesh`].
    pub certificates: Vec<CertifiedPem>,
    /// Whether clients must, may or need not show a certificate.
    pub client: ClientAuth,
    /// The lowest version accepted. Source: Istio `ServerTLSSettings.minProtocolVersion`.
    pub min_version: Version,
    /// The highest version accepted. Source: Istio `ServerTLSSettings.maxProtocolVersion`.
    pub max_version: Version,
    /// OpenSSL names of the TLS 1.2 suites offered; empty: all. See [`unsupported_cipher_suites`].
    pub cipher_suites: Vec<String>,
    /// The protocols offered, best first. A client that shares none of them is served without ALPN.
    pub alpn: Vec<Vec<u8>>,
    /// Certificates that clients may show; none of these: any that the CAs vouch for.
    pub pins: Pins,
    /// BoringSSL's names of the groups of key exchange, in order; empty: the provider's own. See [`unsupported_curves`].
    pub curves: Vec<String>,
}

impl Default for ServerSpec {
    /// No certificate yet, no client certificates, TLS 1.2 to 1.3, all suites, no ALPN.
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            client: ClientAuth::None,
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            cipher_suites: Vec::new(),
            alpn: Vec::new(),
            pins: Pins::default(),
            curves: Vec::new(),
        }
    }
}

/// A certificate chain with its key, as they stand in a Secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertifiedPem {
    /// PEM: the server's own certificate, then its issuers.
    pub chain: Vec<u8>,
    /// PEM: the private key.
    pub key: Vec<u8>,
    /// DER: the OCSP response to staple, sent as it is.
    pub ocsp: Option<Vec<u8>>,
}

impl fmt::Debug for CertifiedPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedPem").field("chain_bytes", &self.chain.len()).finish_non_exhaustive()
    }
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// Nothing. Source: Istio `ServerTLSSettings.mode: SIMPLE`.
    None,
    /// A certificate that chains to a CA. Source: Istio mode `MUTUAL`.
    Required {
        /// PEM: the CAs.
        roots_pem: Vec<u8>,
        /// PEM: revocation lists; when given, every certificate of the chain must be covered by one.
        crl: Option<Vec<u8>>,
        /// One of these (DNS, URI, e-mail or IP) must be among the certificate's names; empty: any name.
        sans: Vec<String>,
    },
    /// As `Required`, for clients that send a certificate; others are served too. Source: Istio mode `OPTIONAL_MUTUAL`.
    Optional {
        /// PEM: the CAs.
        roots_pem: Vec<u8>,
        /// PEM: revocation lists; when given, every certificate of the chain must be covered by one.
        crl: Option<Vec<u8>>,
        /// One of these (DNS, URI, e-mail or IP) must be among the certificate's names; empty: any name.
        sans: Vec<String>,
    },
    /// A certificate that nobody verifies: who the client is stays unknown. Source: Istio
    /// `ServerTLSSettings.insecureSkipVerify`.
    Unverified {
        /// Whether there must be one: Istio mode `MUTUAL`, and not `OPTIONAL_MUTUAL`.
        required: bool,
    },
    /// A mesh certificate; the server shows the workload identity. Source: Istio mode `ISTIO_MUTUAL`.
    Mesh {
        /// Client ids must be `spiffe://<one of these>/...`; empty: any trust domain the roots vouch for.
        trust_domains: Vec<String>,
        /// One of these must be among the certificate's names; empty: any. Source: Istio `ServerTLSSettings.subjectAltNames`.
        sans: Vec<String>,
    },
}

/// The TLS versions there are; older ones are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Those of `names` that are ignored: rustls has no CBC suites and no RSA key exchange.
///
/// When all are, the server offers what it offers without a list.
pub fn unsupported_cipher_suites(names: &[String]) -> Vec<String> {
    cipher::unsupported(names)
}

/// Those of `names` that cannot be offered: this build has no P-521, for one.
///
/// When all are, the server offers what it offers without a list.
pub fn unsupported_curves(names: &[String]) -> Vec<String> {
    curve::unsupported(names)
}

/// A server configuration, ready for handshakes; cheap to clone.
///
/// Each has its own ticket keys: sessions of an older configuration are not resumed, so neither are the identities
/// it had verified. Keep it while the spec is the same.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Configs>);

#[derive(Debug)]
struct Configs {
    alpn: Arc<ServerConfig>,
    /// The same without ALPN: rustls ends the handshake when both sides offer and none is common, Envoy goes on.
    plain: Arc<ServerConfig>,
    local: Option<Arc<str>>,
    clients: Arc<dyn ClientCertVerifier>,
    /// Whether what a client shows says who it is.
    verifies: bool,
    not_after: i64,
    /// Serial number and issuer of the first certificate.
    shown: (Box<str>, Box<str>),
    remarks: Vec<Remark>,
}

/// Something an operator should know of certificates that serve all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Which certificates.
    pub part: Part,
    /// A sentence.
    pub text: String,
}

/// The certificates of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its own, with their chain.
    Chain,
    /// The CAs of its clients.
    Roots,
}

impl ServerTls {
    /// Check the spec and make the configuration; `identity` is needed for [`ClientAuth::Mesh`] only.
    pub fn build(spec: &ServerSpec, identity: Option<&WorkloadIdentity>) -> Result<Self, Error> {
        let mut remarks = Vec::new();
        let (keys, local) = match &spec.client {
            ClientAuth::Mesh { .. } => {
                let identity = identity.ok_or(Error::NoIdentity)?;
                (vec![Arc::clone(&identity.certified)], identity.spiffe.clone())
            }
            _ => (spec.certificates.iter().map(|own| load(own, &mut remarks)).collect::<Result<_, _>>()?, None),
        };
        let not_after = earliest_end(&keys)?;
        let first = keys.first().and_then(|certified| certified.cert.first()).ok_or(Error::NoCertificate)?;
        // A certificate that is odd elsewhere can be served all the same.
        let shown =
            facts::of_der(first).map_or_else(|_| ("".into(), "".into()), |it| (it.serial.into(), it.issuer.into()));
        let verifier = client_verifier(spec, identity, &mut remarks)?;
        let verifies = !matches!(spec.client, ClientAuth::Unverified { .. });
        let provider = curve::restricted(cipher::restricted(&spec.cipher_suites), &spec.curves);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(spec)?)
            .map_err(Error::Config)?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_cert_resolver(Arc::new(ByKey(keys)));
        // TLS 1.3 and most TLS 1.2 clients resume by ticket, which costs no memory; the store is for the rest.
        config.ticketer = Ticketer::new().map_err(Error::Config)?;
        config.session_storage = Arc::new(Sessions::default());
        let plain = Arc::new(config.clone());
        config.alpn_protocols.clone_from(&spec.alpn);
        let alpn = Arc::new(config);
        Ok(Self(Arc::new(Configs { alpn, plain, local, clients: verifier, verifies, not_after, shown, remarks })))
    }

    /// One that has no certificate, for ClientHellos that nobody could answer: rustls finds the words.
    pub(crate) fn nobody() -> Result<Arc<ServerConfig>, Error> {
        static NOBODY: OnceLock<Arc<ServerConfig>> = OnceLock::new();
        if let Some(config) = NOBODY.get() {
            return Ok(Arc::clone(config));
        }
        let config = ServerConfig::builder_with_provider(Arc::clone(provider::provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(Error::Config)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByKey(Vec::new())));
        Ok(Arc::clone(NOBODY.get_or_init(|| Arc::new(config))))
    }

    /// What an operator should know of the certificates: parts that are not used, old versions.
    pub fn remarks(&self) -> &[Remark] {
        &self.0.remarks
    }

    /// When the first of the certificates ends, in seconds since 1970; in the past, clients will refuse it.
    pub fn not_after(&self) -> i64 {
        self.0.not_after
    }

    /// Serial number of the first certificate, in lower-case hex.
    pub fn serial(&self) -> &str {
        &self.0.shown.0
    }

    /// Who issued the first certificate: the common name, or the whole name as RFC 2253 writes it.
    pub fn issuer(&self) -> &str {
        &self.0.shown.1
    }

    /// The own URI SAN, when the certificate is the workload identity's.
    pub fn local(&self) -> Option<&Arc<str>> {
        self.0.local.as_ref()
    }

    /// Whether what a client shows says who it is.
    pub(crate) fn verifies(&self) -> bool {
        self.0.verifies
    }

    /// What judges the certificates of clients.
    pub(crate) fn clients(&self) -> &dyn ClientCertVerifier {
        &*self.0.clients
    }

    /// The variant for a client that offers these protocols.
    pub(crate) fn config_for<'a>(&self, mut offered: impl Iterator<Item = &'a [u8]>) -> Arc<ServerConfig> {
        let ours = &self.0.alpn.alpn_protocols;
        let is_common = offered.any(|protocol| ours.iter().any(|own| own == protocol));
        Arc::clone(if is_common { &self.0.alpn } else { &self.0.plain })
    }
}

/// Sessions remembered for TLS 1.2 clients that resume by session id.
const SESSIONS: usize = 1024;

/// A cache of sessions that takes its memory when the first one is put: with thousands of servers few ever meet such a
/// client.
#[derive(Debug, Default)]
struct Sessions(OnceLock<Arc<ServerSessionMemoryCache>>);

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.get_or_init(|| ServerSessionMemoryCache::new(SESSIONS)).put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get()?.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get()?.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// The first certificate whose key can sign what the client can verify.
#[derive(Debug)]
struct ByKey(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByKey {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes();
        let fitting = self.0.iter().find(|certified| certified.key.choose_scheme(schemes).is_some());
        fitting.or(self.0.first()).cloned()
    }
}

fn load(certificate: &CertifiedPem, remarks: &mut Vec<Remark>) -> Result<Arc<CertifiedKey>, Error> {
    let chain = pem::bundle(&certificate.chain)?;
    let texts = remarks::own(&chain, Shown::ToClients);
    remarks.extend(texts.into_iter().map(|text| Remark { part: Part::Chain, text }));
    let mut certified = certified_key(chain.certificates, pem::private_keys(&certificate.key)?)?;
    certified.ocsp.clone_from(&certificate.ocsp);
    Ok(Arc::new(certified))
}

fn earliest_end(keys: &[Arc<CertifiedKey>]) -> Result<i64, Error> {
    let mut earliest = None;
    for own in keys.iter().filter_map(|certified| certified.cert.first()) {
        let end = identity::not_after(own)?;
        earliest = Some(earliest.map_or(end, |other: i64| other.min(end)));
    }
    earliest.ok_or(Error::NoCertificate)
}

fn versions(spec: &ServerSpec) -> Result<&'static [&'static SupportedProtocolVersion], Error> {
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match (spec.min_version, spec.max_version) {
        (Version::Tls12, Version::Tls13) => Ok(&BOTH),
        (Version::Tls12, Version::Tls12) => Ok(&BOTH[1..]),
        (Version::Tls13, Version::Tls13) => Ok(&BOTH[..1]),
        (Version::Tls13, Version::Tls12) => Err(Error::NoVersion),
    }
}

fn client_verifier(
    spec: &ServerSpec,
    identity: Option<&WorkloadIdentity>,
    remarks: &mut Vec<Remark>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let algorithms = provider::provider().signature_verification_algorithms;
    let pins = spec.pins.clone();
    let (mandatory, sans, roots_pem, crl) = match &spec.client {
        ClientAuth::None => return Ok(Arc::new(NoClientAuth)),
        ClientAuth::Unverified { required } => return Ok(Arc::new(AnyClient { mandatory: *required, algorithms })),
        ClientAuth::Required { roots_pem, crl, sans } => (true, sans, roots_pem, crl),
        ClientAuth::Optional { roots_pem, crl, sans } => (false, sans, roots_pem, crl),
        ClientAuth::Mesh { trust_domains, sans } => {
            let identity = identity.ok_or(Error::NoIdentity)?;
            let anchors = Arc::clone(&identity.anchors);
            let clients = Clients { trust_domains: Some(trust_domains.clone()), sans: sans.clone(), pins };
            // Mesh clients have one certificate; naming the roots would only make the handshake longer.
            return Ok(Arc::new(verifier(anchors, identity.lists.to_vec(), clients)?));
        }
    };
    let anchors = Arc::new(Anchors::new(pem::bundle(roots_pem)?)?);
    remarks.extend(anchors.remarks.iter().map(|text| Remark { part: Part::Roots, text: text.clone() }));
    let lists = crl.as_deref().map(pem::revocation_lists).transpose()?.unwrap_or_default();
    let hints = anchors.hints();
    if hints.is_empty() {
        let text = "the CA certificates have more names than a handshake should carry, so clients are told none of them: one \
                    with several certificates has to know which to show";
        remarks.push(Remark { part: Part::Roots, text: text.to_owned() });
    }
    let clients = Clients { trust_domains: None, sans: sans.clone(), pins };
    Ok(Arc::new(ClientVerifier { mandatory, hints, ..verifier(anchors, lists, clients)? }))
}

/// Each list with what webpki has read in it.
pub(crate) fn revocation_lists(
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Vec<RevocationList>, Error> {
    let read = |der: CertificateRevocationListDer<'static>| match OwnedCertRevocationList::from_der(&der) {
        Ok(list) => Ok((der, list.into())),
        Err(error) => Err(Error::BadRevocationList(CertificateError::Other(OtherError(Arc::new(error))).into())),
    };
    lists.into_iter().map(read).collect()
}

/// One that demands a certificate and names no CA.
fn verifier(
    anchors: Arc<Anchors>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    clients: Clients,
) -> Result<ClientVerifier, Error> {
    let chain = (!anchors.roots.is_empty()).then(|| {
        let roots = Arc::clone(&anchors.roots);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider::provider()));
        builder.with_crls(lists.iter().cloned()).build().map_err(|error| match error {
            VerifierBuilderError::InvalidCrl(error) => Error::BadRevocationList(rustls::Error::from(error)),
            _ => Error::NoRoots,
        })
    });
    let chain = chain.transpose()?.map(|chain| -> Arc<dyn ClientCertVerifier> { chain });
    let lists = revocation_lists(lists)?;
    let algorithms = provider::provider().signature_verification_algorithms;
    Ok(ClientVerifier { chain, anchors, lists, clients, mandatory: true, hints: Vec::new(), algorithms })
}
