//! Certificates and keys that are named by their digest: whoever has a chain that is good and is not among them is refused.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::verify::Refused;

/// SHA-256 digests of which a client's certificate must have one, in either list; without any there is nothing to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pins {
    /// Of the public key (SubjectPublicKeyInfo). Source: Istio `ServerTLSSettings.verifyCertificateSpki`.
    pub keys: Vec<[u8; 32]>,
    /// Of the whole certificate. Source: Istio `ServerTLSSettings.verifyCertificateHash`.
    pub certificates: Vec<[u8; 32]>,
}

impl Pins {
    /// Whether nothing is asked.
    pub fn are_none(&self) -> bool {
        self.keys.is_empty() && self.certificates.is_empty()
    }

    pub(crate) fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if self.are_none() || holds(&self.certificates, certificate) {
            return Ok(());
        }
        if !self.keys.is_empty() {
            let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
            if holds(&self.keys, parsed.public_key().raw) {
                return Ok(());
            }
        }
        Err(Refused::not_pinned().into())
    }
}

fn holds(digests: &[[u8; 32]], bytes: &[u8]) -> bool {
    !digests.is_empty() && digests.iter().any(|known| known == digest(&SHA256, bytes).as_ref())
}
