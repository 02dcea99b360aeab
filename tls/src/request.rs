//! What a certificate is ordered with: a key, and the request (CSR) that names the hosts.

use std::net::IpAddr;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256,
    RsaKeySize, SanType,
};

use crate::{Error, pem};

/// The kinds of keys that certificates are ordered for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

/// A new private key: PKCS#8 as PEM. RSA keys take up to some seconds of computing: do that on a blocking thread.
pub fn generate_key(kind: KeyKind) -> Result<String, Error> {
    Ok(new_key(kind)?.serialize_pem())
}

/// The same, not written out yet.
pub(crate) fn new_key(kind: KeyKind) -> Result<KeyPair, Error> {
    let key = match kind {
        KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyKind::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
    };
    key.map_err(Error::Issue)
}

/// A request for a certificate: DER of a PKCS#10 CSR with an empty subject and the hosts as SANs, signed with the key.
///
/// `key_pem` is what [`generate_key`] gave, or a key of another source in any form [`pem::private_key`] reads. Hosts
/// are DNS names (wildcards too) and IP addresses.
pub fn signing_request(key_pem: &str, hosts: &[String]) -> Result<Vec<u8>, Error> {
    let key = KeyPair::try_from(&pem::private_key(key_pem.as_bytes())?).map_err(Error::Issue)?;
    let request = unnamed(hosts)?.serialize_request(&key).map_err(Error::Issue)?;
    Ok(request.der().to_vec())
}

/// A certificate's parameters with an empty subject and these names.
pub(crate) fn unnamed(hosts: &[String]) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = hosts.iter().map(|host| san(host)).collect::<Result<_, _>>()?;
    Ok(params)
}

fn san(host: &str) -> Result<SanType, Error> {
    Ok(match host.parse::<IpAddr>() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName(Ia5String::try_from(host).map_err(Error::Issue)?),
    })
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivateKeyDer;
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn key_of(request: &X509CertificationRequest<'_>) -> Vec<u8> {
        request.certification_request_info.subject_pki.subject_public_key.data.to_vec()
    }

    fn asks_with(kind: KeyKind, signature: &str) {
        let key = generate_key(kind).expect("a key can be made");
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "not PKCS#8");
        let der = signing_request(&key, &hosts(&["a.example", "*.b.example", "10.0.0.1"])).expect("is a request");
        let (rest, request) = X509CertificationRequest::from_der(&der).expect("is a CSR");

        assert!(rest.is_empty());
        assert_eq!(request.signature_algorithm.algorithm.to_id_string(), signature);
        assert_eq!(request.certification_request_info.subject.iter().count(), 0);
        let extensions: Vec<_> = request.requested_extensions().expect("has extensions").collect();
        let [ParsedExtension::SubjectAlternativeName(names)] = extensions[..] else { panic!("{extensions:?}") };
        let expected = [
            GeneralName::DNSName("a.example"),
            GeneralName::DNSName("*.b.example"),
            GeneralName::IPAddress(&[10, 0, 0, 1]),
        ];
        assert_eq!(names.general_names, expected);
        let pair = KeyPair::from_pem(&key).expect("is a key");
        assert_eq!(key_of(&request), rcgen::PublicKeyData::der_bytes(&pair));
    }

    #[test]
    fn a_request_has_the_hosts_and_the_key_and_no_subject() {
        asks_with(KeyKind::EcdsaP256, "1.2.840.10045.4.3.2");
        asks_with(KeyKind::EcdsaP384, "1.2.840.10045.4.3.3");
        asks_with(KeyKind::Rsa2048, "1.2.840.113549.1.1.11");
    }

    #[test]
    fn rsa_keys_have_their_size() {
        let key = generate_key(KeyKind::Rsa3072).expect("a key can be made");
        let der = signing_request(&key, &hosts(&["a.example"])).expect("is a request");
        let (_, request) = X509CertificationRequest::from_der(&der).expect("is a CSR");
        let public = request.certification_request_info.subject_pki.parsed().expect("is a key");
        assert_eq!(public.key_size(), 3072);
    }

    #[test]
    fn a_key_that_is_none_is_told() {
        let error = signing_request("hello", &hosts(&["a.example"])).expect_err("no key");
        assert_eq!(error.to_string(), "no BEGIN PRIVATE KEY block");
        assert!(matches!(
            pem::private_key(generate_key(KeyKind::EcdsaP256).unwrap().as_bytes()),
            Ok(PrivateKeyDer::Pkcs8(_))
        ));
    }
}
