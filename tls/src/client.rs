//! The client side: how to speak TLS to the endpoints of one cluster.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::anchors::Anchors;
use crate::remarks::{self, Shown};
use crate::server::revocation_lists;
use crate::session::Session;
use crate::stream::Stream;
use crate::verify::ServerVerifier;
use crate::workload::{WorkloadIdentity, certified_key};
use crate::{Error, cipher, curve, pem};

/// How to speak TLS to a cluster. Equal specs (and equal identities) give equal clients, so it can key a cache.
///
/// Istio's ISTIO_MUTUAL is `Roots::Mesh`, `Names::Sans` of the service accounts and `Certificate::Mesh`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientSpec {
    /// Who may issue the server's certificate.
    pub roots: Roots,
    /// Which server the certificate must name.
    pub names: Names,
    /// The certificate shown when the server asks for one.
    pub certificate: Certificate,
    /// The protocols offered, best first; empty: the extension is not sent.
    pub alpn: Vec<Vec<u8>>,
    /// PEM: revocation lists; when given, every certificate of the server's chain must be covered by one.
    pub crl: Option<Vec<u8>>,
    /// OpenSSL names of the TLS 1.2 suites offered; empty: all.
    pub cipher_suites: Vec<String>,
    /// BoringSSL's names of the groups of key exchange, in order; empty: the provider's own.
    pub curves: Vec<String>,
}

/// Who may issue the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Roots {
    /// The roots of the workload identity.
    Mesh,
    /// The operating system's trust store, read once per process.
    System,
    /// The CAs in this PEM text.
    Pem(Vec<u8>),
    /// Anybody: neither chain nor names are verified. Source: Istio `ClientTLSSettings.insecureSkipVerify`.
    Insecure,
}

/// Which server the certificate must name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Names {
    /// One of these among its URI, DNS, e-mail or IP names; empty: any. With SPIFFE ids in the list, the certificate
    /// may have only one URI SAN.
    Sans(Vec<String>),
    /// The name given to [`ClientTls::connect`], as web browsers check it. A certificate without any subjectAltName is named
    /// by its subject's common name, where [`Roots::Pem`] has it or its issuer: as curl and OpenSSL do.
    Host,
    /// Any name: the chain is enough.
    Any,
}

/// The certificate shown to the server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// None. Source: Istio mode `SIMPLE`.
    None,
    /// The workload identity. Source: Istio mode `ISTIO_MUTUAL`.
    Mesh,
    /// This one. Source: Istio mode `MUTUAL`.
    Pem {
        /// PEM: the client's own certificate, then its issuers.
        chain: Vec<u8>,
        /// PEM: the private key.
        key: Vec<u8>,
    },
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Mesh => "Mesh",
            Self::Pem { .. } => "Pem",
        })
    }
}

/// A client configuration, ready for handshakes; cheap to clone.
///
/// Sessions are kept per configuration: one made from a new identity never resumes a session of the old one.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) is_name_needed: bool,
    pub(crate) remarks: Arc<[String]>,
}

impl ClientTls {
    /// Check the spec and make the configuration; `identity` is needed for what says `Mesh`.
    pub fn build(spec: &ClientSpec, identity: Option<&WorkloadIdentity>) -> Result<Self, Error> {
        let anchors = match &spec.roots {
            Roots::Mesh => Some(Arc::clone(&identity.ok_or(Error::NoIdentity)?.anchors)),
            Roots::System => Some(system_anchors()?),
            Roots::Pem(text) => Some(Arc::new(Anchors::new(pem::bundle(text)?)?)),
            Roots::Insecure => None,
        };
        let is_chosen = matches!(spec.roots, Roots::Pem(_));
        let mut remarks = match &anchors {
            Some(anchors) if is_chosen => anchors.remarks.clone(),
            _ => Vec::new(),
        };
        let is_name_needed = anchors.is_some() && spec.names == Names::Host;
        let mut lists = spec.crl.as_deref().map(pem::revocation_lists).transpose()?.unwrap_or_default();
        if let (Roots::Mesh, Some(identity)) = (&spec.roots, identity) {
            lists.extend(identity.lists.iter().cloned());
        }
        let lists = revocation_lists(lists)?;
        let verifier = ServerVerifier::new(anchors, is_chosen, spec.names.clone(), lists);
        let provider = curve::restricted(cipher::restricted(&spec.cipher_suites), &spec.curves);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(Error::Config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let own = own_certificate(&spec.certificate, identity, &mut remarks)?;
        let mut config = match own {
            None => builder.with_no_client_auth(),
            // Shown whatever CAs the server names, as Envoy does.
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        };
        config.alpn_protocols.clone_from(&spec.alpn);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Self { config: Arc::new(config), is_name_needed, remarks: remarks.into() })
    }

    /// What an operator should know of the certificates, a sentence each: parts that are not used, old versions.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Shake hands over `io`. An empty `sni` sends none; an IP address is verified but not sent (RFC 6066 section 3).
    ///
    /// Without a deadline of its own. In TLS 1.3 this can succeed although the server refuses our certificate:
    /// that shows with the first read, and [`Error::from_io`] names it.
    pub async fn connect<IO>(&self, sni: &str, io: IO) -> Result<Stream<IO>, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match ServerName::try_from(sni) {
            Ok(name) => name.to_owned(),
            Err(_) if sni.is_empty() && self.is_name_needed => return Err(Error::NoServerName),
            // rustls sends no SNI for an IP address, and the names expected are not checked against this one.
            Err(_) if sni.is_empty() => Ipv4Addr::UNSPECIFIED.into(),
            Err(_) => return Err(Error::BadServerName(sni.escape_debug().to_string())),
        };
        let session = Session::client(Arc::clone(&self.config), name)?;
        Stream::new(io).handshake(session).await.map_err(|(error, _)| Error::from_io(error))
    }
}

/// Servers whose sessions are remembered by one configuration.
const SESSIONS: usize = 256;

fn own_certificate(
    certificate: &Certificate,
    identity: Option<&WorkloadIdentity>,
    remarks: &mut Vec<String>,
) -> Result<Option<Arc<CertifiedKey>>, Error> {
    match certificate {
        Certificate::None => Ok(None),
        Certificate::Mesh => Ok(Some(Arc::clone(&identity.ok_or(Error::NoIdentity)?.certified))),
        Certificate::Pem { chain, key } => {
            let chain = pem::bundle(chain)?;
            remarks.extend(remarks::own(&chain, Shown::ToServers));
            Ok(Some(Arc::new(certified_key(chain.certificates, pem::private_keys(key)?)?)))
        }
    }
}

/// Read on first use: parsing some 140 certificates takes milliseconds, and most meshes never need them.
pub(crate) fn system_anchors() -> Result<Arc<Anchors>, Error> {
    static SYSTEM: OnceLock<Arc<Anchors>> = OnceLock::new();
    if let Some(anchors) = SYSTEM.get() {
        return Ok(Arc::clone(anchors));
    }
    let found = rustls_native_certs::load_native_certs();
    let anchors = Anchors::of(found.certs).map_err(|_| Error::NoSystemRoots)?;
    Ok(Arc::clone(SYSTEM.get_or_init(|| Arc::new(anchors))))
}

/// The system's and others. A system without any is none the worse for it.
pub(crate) fn system_anchors_and(more: &[u8]) -> Result<Arc<Anchors>, Error> {
    let mut all = rustls_native_certs::load_native_certs().certs;
    all.extend(pem::certificates(more)?);
    Anchors::of(all).map(Arc::new)
}
