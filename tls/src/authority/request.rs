//! What a workload asks a certificate with: of its request (CSR) only the public key is used.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA1WITHRSA,
    OID_SHA1_WITH_RSA, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo as ParsedKey;

use crate::block;

/// A larger request is none: the largest key that is taken makes 3 KiB.
const LONGEST: usize = 64 * 1024;
/// Bits of an RSA key: fewer are too weak, more make every handshake slow and are read by nobody.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A request whose signature proves that whoever asks has the key.
#[derive(Debug)]
pub struct Request {
    pub(super) key: SubjectPublicKeyInfo,
}

/// Why a request is none, for whoever asks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadRequest {
    /// It cannot be read.
    #[error("failed to parse the certificate signing request: {0}")]
    Unreadable(&'static str),
    /// Whoever asks has not shown that the key is his.
    #[error("the certificate signing request is not signed by its own key")]
    Signature,
    /// The key is too weak, or of a kind that peers do not take.
    #[error("{0}; RSA from 2048 bits, ECDSA on P-256 and P-384, and Ed25519 are taken")]
    Key(String),
}

impl Request {
    /// Reads PEM, and checks the signature and the strength of the key. What else it asks for is nobody's business.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn read(pem: &str) -> Result<Self, BadRequest> {
        if pem.len() > LONGEST {
            return Err(BadRequest::Unreadable("it is longer than 64 KiB"));
        }
        let blocks = block::blocks(pem.as_bytes()).map_err(|_| BadRequest::Unreadable("it is not PEM"))?;
        let wanted = |label: &str| matches!(label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST");
        let block = blocks.iter().find(|block| wanted(&block.label));
        let block = block.ok_or(BadRequest::Unreadable("there is no BEGIN CERTIFICATE REQUEST block"))?;
        let der = block.der.as_ref().map_err(|_| BadRequest::Unreadable("its base64 is broken"))?;
        let parsed = X509CertificationRequest::from_der(der);
        let (rest, request) = parsed.map_err(|_| BadRequest::Unreadable("it is not PKCS#10"))?;
        if !rest.is_empty() {
            return Err(BadRequest::Unreadable("something stands behind it"));
        }
        let public = &request.certification_request_info.subject_pki;
        strong(public)?;
        let algorithm = &request.signature_algorithm.algorithm;
        if *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == OID_SHA1_WITH_RSA {
            return Err(BadRequest::Unreadable("it is signed with SHA-1, which proves nothing any more"));
        }
        request.verify_signature().map_err(|_| BadRequest::Signature)?;
        let key = SubjectPublicKeyInfo::from_der(public.raw);
        Ok(Self { key: key.map_err(|_| BadRequest::Key("a key of an unusual form".to_owned()))? })
    }
}

fn strong(key: &ParsedKey<'_>) -> Result<(), BadRequest> {
    let refused = |what: &str| Err(BadRequest::Key(what.to_owned()));
    let kind = &key.algorithm.algorithm;
    if *kind == OID_PKCS1_RSAENCRYPTION {
        let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return refused("an RSA key that cannot be read") };
        let bits = rsa.key_size();
        if !RSA_BITS.contains(&bits) {
            return Err(BadRequest::Key(format!("an RSA key of {bits} bits")));
        }
        return match rsa.try_exponent() {
            Ok(exponent) if exponent >= 3 && exponent % 2 == 1 => Ok(()),
            _ => refused("an RSA key with a weak exponent"),
        };
    }
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => Ok(()),
            _ => refused("an ECDSA key on another curve"),
        };
    }
    if *kind == OID_SIG_ED25519 { Ok(()) } else { refused("a key of another kind") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{KeyKind, generate_key, signing_request};

    fn pem(der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }

    fn der(kind: KeyKind) -> Vec<u8> {
        signing_request(&generate_key(kind).expect("a key"), &["a.example".to_owned()]).expect("a request")
    }

    #[test]
    fn keys_that_are_strong_enough_are_taken() {
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Rsa2048] {
            assert!(Request::read(&pem(&der(kind))).is_ok(), "{kind:?}");
        }
    }

    #[test]
    fn a_signature_that_is_not_by_the_key_is_refused() {
        let mut other = der(KeyKind::EcdsaP256);
        let last = other.len() - 1;
        other[last] ^= 1;
        assert_eq!(Request::read(&pem(&other)).unwrap_err(), BadRequest::Signature);
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let whole = der(KeyKind::EcdsaP256);
        let long = [whole.as_slice(), b"\x30\x00"].concat();
        for text in ["", "hello", &pem(&whole[..20]), &pem(&long), &"x".repeat(70_000)] {
            assert!(matches!(Request::read(text), Err(BadRequest::Unreadable(_))), "{}", &text[..text.len().min(40)]);
        }
        let certificate = pem(&whole).replace("CERTIFICATE REQUEST", "CERTIFICATE");
        let error = Request::read(&certificate).unwrap_err().to_string();
        assert!(error.contains("no BEGIN CERTIFICATE REQUEST"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            proptest::prop_assert!(Request::read(&pem(&bytes)).is_err());
        }
    }
}
