//! A workload's certificate from a CA that is asked for it: a fresh key, the request (CSR), and what is checked of the answer.

use std::fmt;

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::identity::SpiffeId;
use crate::pem::Bundle;
use crate::request::{self, KeyKind};
use crate::workload::{Parts, WorkloadIdentity};
use crate::{Error, identity, pem};

/// A request that is on its way; it is made for one answer.
pub struct Application {
    key: KeyPair,
    csr_pem: String,
    id: SpiffeId,
}

impl Application {
    /// With a new key, which no other request has. RSA keys take up to some seconds of computing: do that on a blocking
    /// thread. Istio's CA takes nothing but the key from it; others want to find the identity in there.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn new(kind: KeyKind, id: &SpiffeId) -> Result<Self, Error> {
        let key = request::new_key(kind)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = Ia5String::try_from(id.as_str()).map_err(Error::Issue)?;
        params.subject_alt_names = vec![SanType::URI(name)];
        let csr_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(Error::Issue)?;
        Ok(Self { key, csr_pem, id: id.clone() })
    }

    /// The request, as PEM.
    pub fn pem(&self) -> &str {
        &self.csr_pem
    }

    /// Takes an answer of Istio's form: the workload's certificate, its issuers, and last a bundle of roots. `now`: seconds
    /// since 1970.
    ///
    /// # Errors
    /// It is not for this key, not for this identity, does not lead to its own roots, or is not of this time.
    pub fn accept(&self, answer: &[String], now: i64) -> Result<Grant, Error> {
        let (roots, chain) = match answer.split_last() {
            Some((roots, chain)) if !chain.is_empty() => (roots, chain),
            _ => return Err(Error::Unfit(format!("it has {} parts, of a chain and its roots", answer.len()))),
        };
        let chain = pem::certificates(chain.concat().as_bytes())?;
        let roots = pem::certificates(roots.as_bytes())?;
        let grant = Grant { chain, key: PrivatePkcs8KeyDer::from(self.key.serialize_der()).into(), roots };
        grant.with(None)?.identity.check(&self.id, now)?;
        Ok(grant)
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a CA gave, and the key that it is for. What is trusted besides may change while it is in use.
pub struct Grant {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Vec<CertificateDer<'static>>,
}

/// An identity, and how the roots that the CA gave compare with those that are mounted.
#[derive(Debug)]
pub struct Granted {
    /// It trusts all of them.
    pub identity: WorkloadIdentity,
    /// Roots that the CA gave and that are not mounted.
    pub only_given: usize,
    /// Roots that are mounted and that the CA did not give.
    pub only_mounted: usize,
}

impl Grant {
    /// When the certificate begins and ends, in seconds since 1970.
    pub fn validity(&self) -> (i64, i64) {
        // It was read when it was accepted.
        self.chain.first().and_then(|own| identity::validity(own).ok()).unwrap_or_default()
    }

    /// The identity that trusts the CA's roots, and those of a bundle beside them.
    ///
    /// # Errors
    /// The bundle cannot be read.
    pub fn with(&self, mounted: Option<&[u8]>) -> Result<Granted, Error> {
        let mounted = mounted.map(pem::bundle).transpose()?;
        let (mounted, remarks) = mounted.map(|it| (it.certificates, it.remarks)).unwrap_or_default();
        let only_given = self.roots.iter().filter(|root| !mounted.contains(root)).count();
        let mut roots = self.roots.clone();
        for root in mounted {
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        let only_mounted = roots.len() - self.roots.len();
        let whole = |certificates, remarks| Bundle { certificates, remarks, restricted: Vec::new() };
        let parts = Parts {
            chain: whole(self.chain.clone(), Vec::new()),
            keys: vec![self.key.clone_key()],
            roots: whole(roots, remarks),
        };
        Ok(Granted { identity: WorkloadIdentity::assemble(parts)?, only_given, only_mounted })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").finish_non_exhaustive()
    }
}
