//! PEM text to DER, with errors that name what is wrong.

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::Error;

/// All certificates of a PEM file, in order; other blocks and text between them are passed over.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = all(pem)?;
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    Err(Error::BadPem(if holds(pem, b"PRIVATE KEY-----") {
        "a private key stands where a certificate is expected (no BEGIN CERTIFICATE block)"
    } else if holds(pem, b"-----BEGIN TRUSTED CERTIFICATE-----") {
        "the certificate is in OpenSSL's own TRUSTED CERTIFICATE form, a plain BEGIN CERTIFICATE block is expected"
    } else if looks_like_der(pem) {
        "the certificate is binary (DER), PEM text with a BEGIN CERTIFICATE block is expected"
    } else if is_blank(pem) {
        "the certificate is empty"
    } else {
        "no BEGIN CERTIFICATE block"
    }))
}

/// The first private key of a PEM file: PKCS#8, PKCS#1 (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    if holds(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Error::EncryptedKey);
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(Error::BadPem(if holds(pem, b"-----BEGIN CERTIFICATE-----") {
            "a certificate stands where the private key is expected (no BEGIN PRIVATE KEY block)"
        } else if looks_like_der(pem) {
            "the private key is binary (DER), PEM text with a BEGIN PRIVATE KEY block is expected"
        } else if is_blank(pem) {
            "the private key is empty"
        } else {
            "no BEGIN PRIVATE KEY block"
        })),
        Err(error) => Err(syntax(&error)),
    }
}

/// All certificate revocation lists of a PEM file.
pub(crate) fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let lists = all(pem)?;
    if lists.is_empty() {
        return Err(Error::BadPem("the certificate revocation list has no BEGIN X509 CRL block"));
    }
    Ok(lists)
}

fn all<T: PemObject>(pem: &[u8]) -> Result<Vec<T>, Error> {
    T::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| syntax(&error))
}

fn syntax(error: &pem::Error) -> Error {
    Error::BadPem(match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block is cut off: its END line is missing",
        pem::Error::IllegalSectionStart { .. } => "a PEM block starts with a malformed BEGIN line",
        pem::Error::Base64Decode(_) => "a PEM block holds characters that are not base64",
        pem::Error::SectionTooLarge => "a PEM block is larger than any certificate",
        _ => "the PEM text cannot be read",
    })
}

fn holds(pem: &[u8], marker: &[u8]) -> bool {
    pem.windows(marker.len()).any(|window| window == marker)
}

/// A DER certificate or key is an ASN.1 SEQUENCE with a long length.
fn looks_like_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81 | 0x82, ..])
}

fn is_blank(pem: &[u8]) -> bool {
    pem.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n";
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";

    fn certificates_error(pem: &str) -> String {
        certificates(pem.as_bytes()).expect_err("must not parse").to_string()
    }

    fn key_error(pem: &str) -> String {
        private_key(pem.as_bytes()).expect_err("must not parse").to_string()
    }

    #[test]
    fn every_certificate_of_a_bundle_is_read_in_order() {
        let bundle = format!("# comment\n{CERTIFICATE}{KEY}{CERTIFICATE}");
        assert_eq!(certificates(bundle.as_bytes()).expect("is a bundle").len(), 2);
    }

    #[test]
    fn a_bad_certificate_says_what_is_there_instead() {
        assert_eq!(certificates_error(" \n"), "the certificate is empty");
        assert_eq!(certificates_error("hello"), "no BEGIN CERTIFICATE block");
        assert!(certificates_error(KEY).starts_with("a private key stands where"));
        assert!(certificates_error("0\u{81}").contains("no BEGIN CERTIFICATE block"));
        assert!(certificates_error("-----BEGIN CERTIFICATE-----\nMAMCAQA=\n").contains("END line"));
        assert!(certificates_error(&CERTIFICATE.replace("MAM", "(()")).contains("not base64"));
    }

    #[test]
    fn a_bad_key_says_what_is_there_instead() {
        assert_eq!(key_error(""), "the private key is empty");
        assert_eq!(key_error("hello"), "no BEGIN PRIVATE KEY block");
        assert!(key_error(CERTIFICATE).starts_with("a certificate stands where"));
        assert!(key_error(&KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")).contains("encrypted"));
        let legacy =
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAMCAQA=\n-----END RSA PRIVATE KEY-----\n";
        assert!(key_error(legacy).contains("encrypted"));
    }

    #[test]
    fn a_binary_file_is_recognised() {
        let error = private_key(&[0x30, 0x82, 1, 2]).expect_err("must not parse").to_string();
        assert!(error.contains("binary (DER)"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            proptest::prop_assert!(certificates(&bytes).is_err());
            proptest::prop_assert!(private_key(&bytes).is_err());
        }
    }
}
