//! The mesh identity of this process: certificate chain, key and the roots of the mesh.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY;
use x509_parser::prelude::FromDer;

use crate::anchors::Anchors;
use crate::pem::Bundle;
use crate::remarks::{self, Shown};
use crate::{Error, facts, identity, pem, provider, server};

/// Certificate, key and roots of one workload, checked to belong together; cheap to clone.
#[derive(Clone)]
pub struct WorkloadIdentity {
    /// Hash of the content: equal for equal files, different after a rotation of any of the three.
    pub generation: u64,
    /// SHA-256 of the roots: equal for equal roots, whatever becomes of certificate and key.
    pub roots_digest: [u8; 32],
    /// The URI SAN of the certificate, when there is exactly one and it is a SPIFFE id.
    pub spiffe: Option<Arc<str>>,
    /// When the certificate begins, in seconds since 1970.
    pub not_before: i64,
    /// When the certificate ends, in seconds since 1970. A past time is not an error here: peers will say so.
    pub not_after: i64,
    /// The certificate's serial number in lower-case hex; empty when its names cannot be read.
    pub serial: Arc<str>,
    /// Who issued it, as [`crate::facts::Facts::issuer`]; empty as above.
    pub issuer: Arc<str>,
    /// What an operator should know of the files, a sentence each: parts that are not used, old versions.
    pub remarks: Arc<[String]>,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) anchors: Arc<Anchors>,
    /// Which peers are refused although they lead to a root.
    pub(crate) lists: Arc<[CertificateRevocationListDer<'static>]>,
}

impl WorkloadIdentity {
    /// From PEM: the chain with the workload's own certificate first, its private key, the mesh's roots.
    pub fn from_pem(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Self, Error> {
        Self::assemble(Parts { chain: pem::bundle(chain)?, keys: pem::private_keys(key)?, roots: pem::bundle(roots)? })
    }

    /// From a folder with Istio's file names: `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    ///
    /// Fails with [`Error::KeyMismatch`] when read between the writes of a rotation; the next change repairs that.
    pub fn from_dir(path: &Path) -> Result<Self, Error> {
        let chain = read(path, CERT_CHAIN, pem::bundle)?;
        let keys = read(path, KEY, pem::private_keys)?;
        let roots = read(path, ROOT_CERT, pem::bundle)?;
        Self::assemble(Parts { chain, keys, roots }).map_err(|error| {
            let file = match error {
                Error::UnusableKey(_) | Error::KeyMismatch => KEY,
                Error::NoRoots | Error::NoUsableRoot(_) => ROOT_CERT,
                _ => CERT_CHAIN,
            };
            error.in_file(path.join(file))
        })
    }

    /// How many certificates it trusts.
    pub fn roots(&self) -> usize {
        self.anchors.count()
    }

    pub(crate) fn assemble(parts: Parts) -> Result<Self, Error> {
        let (generation, roots_digest) = (parts.hash(), digest(&parts.roots.certificates));
        let anchors = Arc::new(Anchors::new(parts.roots)?);
        let mut remarks = remarks::own(&parts.chain, Shown::ToServers);
        remarks.extend(anchors.remarks.iter().cloned());
        let certified = certified_key(parts.chain.certificates, parts.keys)?;
        let own = certified.cert.first().ok_or(Error::NoCertificate)?;
        let (not_before, not_after) = identity::validity(own)?;
        let facts = facts::of_der(own).ok();
        let (serial, issuer) = facts.map(|it| (it.serial.into(), it.issuer.into())).unwrap_or_default();
        Ok(Self {
            generation,
            roots_digest,
            spiffe: identity::spiffe_of(own).map(Arc::from),
            not_before,
            not_after,
            serial,
            issuer,
            remarks: remarks.into(),
            certified: Arc::new(certified),
            anchors,
            lists: Arc::new([]),
        })
    }

    /// The same, for which peers are refused whom these lists (PEM) revoke, or whose issuers have none in it.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn with_revocation_lists(mut self, text: &[u8]) -> Result<Self, Error> {
        let lists = checked_lists(text)?;
        let hash = aws_lc_rs::digest::digest(&SHA256, text);
        self.generation ^= hash.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        // What is made for these roots and no lists is another thing.
        self.roots_digest.iter_mut().zip(hash.as_ref()).for_each(|(byte, more)| *byte ^= more);
        self.lists = lists.into();
        Ok(self)
    }

    /// Whether there are revocation lists.
    pub fn looks_at_lists(&self) -> bool {
        !self.lists.is_empty()
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

/// Revocation lists (DER) as PEM.
pub fn revocation_lists_pem(lists: &[Vec<u8>]) -> Vec<u8> {
    lists.iter().flat_map(|list| identity::written_pem("X509 CRL", list).into_bytes()).collect()
}

/// Whether these are revocation lists (PEM).
///
/// # Errors
/// They cannot be read.
pub fn read_revocation_lists(text: &[u8]) -> Result<(), Error> {
    checked_lists(text).map(drop)
}

fn checked_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let lists = pem::revocation_lists(text)?;
    server::revocation_lists(lists.clone())?;
    Ok(lists)
}

/// Certificate and key as one: the first of the keys that belongs to the first certificate.
pub(crate) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
) -> Result<CertifiedKey, Error> {
    let provider = provider::provider();
    let own = chain.first().ok_or(Error::NoCertificate)?;
    let (_, own) = X509Certificate::from_der(own).map_err(|_| Error::BadCertificate(None))?;
    let written_out = own.public_key().algorithm.parameters.as_ref().is_some_and(|it| it.tag() == Tag::Sequence);
    let is_curve = own.public_key().algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY;
    if written_out && is_curve {
        let why =
            "the certificate's key is on a curve that is written out (explicit parameters) and cannot be used; name it";
        return Err(Error::BadPem(why.into()));
    }
    let (own, mut refused) = (own.public_key().raw.to_vec(), None);
    for key in keys {
        let key = match provider.key_provider.load_private_key(key) {
            Ok(key) => key,
            Err(error) => {
                refused = refused.or(Some(Error::UnusableKey(error)));
                continue;
            }
        };
        if key.public_key().is_none_or(|key| key.as_ref() == own) {
            return Ok(CertifiedKey::new(chain, key));
        }
    }
    Err(refused.unwrap_or(Error::KeyMismatch))
}

/// Istio's file names for the workload's own chain, its key and the mesh's roots.
const CERT_CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";
const ROOT_CERT: &str = "root-cert.pem";

/// What an identity is made of.
pub(crate) struct Parts {
    /// The workload's own certificate first.
    pub(crate) chain: Bundle,
    /// One of them is the certificate's.
    pub(crate) keys: Vec<PrivateKeyDer<'static>>,
    /// What is trusted.
    pub(crate) roots: Bundle,
}

impl Parts {
    fn hash(&self) -> u64 {
        let mut hash = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        };
        self.chain.certificates.iter().for_each(|certificate| add(certificate));
        self.keys.iter().for_each(|key| add(key.secret_der()));
        self.roots.certificates.iter().for_each(|certificate| add(certificate));
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
