//! What is read of a peer's certificate only when somebody asks for it.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{PeerIdentity, hex};
use crate::san::Sans;
use crate::subject;

impl PeerIdentity {
    /// The issuer as one line of RFC 2253.
    pub fn issuer(&self) -> String {
        self.read(|certificate| subject::rfc2253(certificate.issuer())).unwrap_or_default()
    }

    /// The serial number in lower-case hex.
    pub fn serial(&self) -> String {
        self.read(|certificate| {
            let bytes = certificate.raw_serial();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len().saturating_sub(1));
            hex(&bytes[zeros..])
        })
        .unwrap_or_default()
    }

    /// When the certificate begins, in seconds since 1970.
    pub fn not_before(&self) -> Option<i64> {
        self.read(|certificate| certificate.validity().not_before.timestamp())
    }

    /// SHA-1 of the certificate's DER, in lower-case hex: for those who look certificates up by it.
    pub fn sha1_hex(&self) -> String {
        hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der).as_ref())
    }

    /// All IP addresses among the SANs, in the certificate's order.
    pub fn ip_sans(&self) -> Vec<IpAddr> {
        self.read(|certificate| Sans::of(certificate).map(|sans| sans.addresses()).unwrap_or_default())
            .unwrap_or_default()
    }

    /// All mail addresses among the SANs, in the certificate's order.
    pub fn email_sans(&self) -> Vec<String> {
        self.read(|certificate| {
            let sans = Sans::of(certificate);
            sans.map(|sans| sans.emails.iter().map(|&email| email.to_owned()).collect()).unwrap_or_default()
        })
        .unwrap_or_default()
    }

    fn read<T>(&self, what: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
        // It was read before, or there would be no identity.
        X509Certificate::from_der(&self.der).ok().map(|(_, certificate)| what(&certificate))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber};

    use super::*;

    #[test]
    fn details_are_those_of_the_certificate() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "client");
        params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xff]));
        params.subject_alt_names = vec![
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::Rfc822Name("ops@example.com".try_into().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let identity = PeerIdentity::from_der(certificate.der()).unwrap();
        assert_eq!(identity.issuer(), &*identity.subject);
        assert!(identity.issuer().contains("CN=client"));
        assert_eq!(identity.serial(), "0aff");
        assert_eq!(identity.ip_sans(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(identity.email_sans(), ["ops@example.com"]);
        assert_eq!(identity.sha1_hex().len(), 40);
        assert!(identity.not_before().is_some_and(|begin| begin < identity.not_after));
    }
}
