//! The mesh identity of this process: certificate chain, key and the roots of the mesh.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, identity, pem, provider};

/// Certificate, key and roots of one workload, checked to belong together; cheap to clone.
#[derive(Clone)]
pub struct WorkloadIdentity {
    /// Hash of the content: equal for equal files, different after a rotation of any of the three.
    pub generation: u64,
    /// SHA-256 of the roots: equal for equal roots, whatever becomes of certificate and key.
    pub roots_digest: [u8; 32],
    /// The URI SAN of the certificate, when there is exactly one and it is a SPIFFE id.
    pub spiffe: Option<Arc<str>>,
    /// When the certificate ends, in seconds since 1970. A past time is not an error here: peers will say so.
    pub not_after: i64,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) roots: Arc<RootCertStore>,
}

impl WorkloadIdentity {
    /// From PEM: the chain with the workload's own certificate first, its private key, the mesh's roots.
    pub fn from_pem(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Self, Error> {
        Self::assemble(Parts {
            chain: pem::certificates(chain)?,
            key: pem::private_key(key)?,
            roots: pem::certificates(roots)?,
        })
    }

    /// From a folder with Istio's file names: `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    ///
    /// Fails with [`Error::KeyMismatch`] when read between the writes of a rotation; the next change repairs that.
    pub fn from_dir(path: &Path) -> Result<Self, Error> {
        let chain = read(path, CERT_CHAIN, pem::certificates)?;
        let key = read(path, KEY, pem::private_key)?;
        let roots = read(path, ROOT_CERT, pem::certificates)?;
        Self::assemble(Parts { chain, key, roots }).map_err(|error| {
            let file = match error {
                Error::UnusableKey(_) | Error::KeyMismatch => KEY,
                Error::NoRoots => ROOT_CERT,
                _ => CERT_CHAIN,
            };
            error.in_file(path.join(file))
        })
    }

    fn assemble(parts: Parts) -> Result<Self, Error> {
        let (generation, roots_digest) = (parts.hash(), digest(&parts.roots));
        let roots = Arc::new(trust_anchors(parts.roots)?);
        let certified = certified_key(parts.chain, parts.key)?;
        let own = certified.cert.first().ok_or(Error::NoCertificate)?;
        Ok(Self {
            generation,
            roots_digest,
            spiffe: identity::spiffe_of(own).map(Arc::from),
            not_after: identity::not_after(own)?,
            certified: Arc::new(certified),
            roots,
        })
    }
}

impl fmt::Debug for WorkloadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadIdentity")
            .field("spiffe", &self.spiffe)
            .field("generation", &self.generation)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Certificate and key as one, once they are known to be a pair.
pub(crate) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let provider = provider::provider();
    let key = provider.key_provider.load_private_key(key).map_err(Error::UnusableKey)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Error::KeyMismatch),
        Err(error) => Err(Error::BadCertificate(Some(error))),
    }
}

/// The certificates as trust anchors; those that cannot be one are passed over, as OpenSSL does, unless it is all of them.
pub(crate) fn trust_anchors(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(Error::NoRoots);
    }
    Ok(roots)
}

/// Istio's file names for the workload's own chain, its key and the mesh's roots.
const CERT_CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";
const ROOT_CERT: &str = "root-cert.pem";

struct Parts {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Vec<CertificateDer<'static>>,
}

impl Parts {
    fn hash(&self) -> u64 {
        let mut hash = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        };
        self.chain.iter().for_each(|certificate| add(certificate));
        add(self.key.secret_der());
        self.roots.iter().for_each(|certificate| add(certificate));
        hash.finish().as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn digest(certificates: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for certificate in certificates {
        hash.update(&certificate.len().to_be_bytes());
        hash.update(certificate);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

fn read<T>(folder: &Path, file: &str, parse: fn(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
    let path: PathBuf = folder.join(file);
    match fs::read(&path) {
        Ok(bytes) => parse(&bytes).map_err(|error| error.in_file(path)),
        Err(source) => Err(Error::File { path, source }),
    }
}
