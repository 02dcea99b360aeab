//! What operators and schedules want to know of a certificate.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::identity::hex;
use crate::san::Sans;
use crate::workload::certified_key;
use crate::{Error, pem, subject};

/// What a certificate says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The serial number in lower-case hex, without leading zero bytes.
    pub serial: String,
    /// Who issued it: the issuer's common name, or its whole name as RFC 2253 writes it.
    pub issuer: String,
    /// When it begins, in seconds since 1970.
    pub not_before: i64,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
    /// The DNS names it is for, in the certificate's order.
    pub dns_names: Vec<String>,
}

/// Reads the first certificate of PEM text.
pub fn facts(chain_pem: &[u8]) -> Result<Facts, Error> {
    let chain = pem::certificates(chain_pem)?;
    of_der(chain.first().ok_or(Error::NoCertificate)?)
}

/// The same of DER.
pub(crate) fn of_der(own: &[u8]) -> Result<Facts, Error> {
    let (_, certificate) = X509Certificate::from_der(own).map_err(|_| Error::BadCertificate(None))?;
    let sans = Sans::of(&certificate).map_err(|_| Error::BadCertificate(None))?;
    let issuer = certificate.issuer();
    let common_name = issuer.iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(Facts {
        serial: serial(certificate.raw_serial()),
        issuer: common_name.map_or_else(|| subject::rfc2253(issuer), str::to_owned),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        dns_names: sans.dns.iter().map(|name| (*name).to_owned()).collect(),
    })
}

/// Whether the first certificate of `chain_pem` and the key belong together; the error says what is wrong with which.
pub fn fits(chain_pem: &[u8], key_pem: &[u8]) -> Result<(), Error> {
    certified_key(pem::certificates(chain_pem)?, pem::private_keys(key_pem)?).map(drop)
}

/// DER puts a zero byte before a number whose first bit is set; nobody prints it.
fn serial(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    hex(&bytes[start..])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::authority::Authority;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_certificate_tells_its_facts() {
        let ca = Authority::new("test root").expect("a CA can be made");
        let issued = ca.issue_server(&["a.example", "*.b.example", "10.0.0.1"], HOUR).expect("issues");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs() as i64;

        let facts = facts(issued.chain_pem.as_bytes()).expect("is a certificate");

        assert_eq!(facts.issuer, "test root");
        assert_eq!(facts.dns_names, ["a.example", "*.b.example"]);
        assert!(facts.not_before < now && (now + 3500..now + 3700).contains(&facts.not_after));
        assert!(!facts.serial.is_empty() && facts.serial.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
    }

    #[test]
    fn a_serial_is_printed_as_openssl_does() {
        assert_eq!(serial(&[0, 0xab, 0x01]), "ab01");
        assert_eq!(serial(&[0x0c]), "0c");
        assert_eq!(serial(&[0]), "00");
    }

    #[test]
    fn certificate_and_key_fit_or_not() {
        let ca = Authority::new("test root").expect("a CA can be made");
        let (one, two) =
            (ca.issue_server(&["a"], HOUR).expect("issues"), ca.issue_server(&["a"], HOUR).expect("issues"));

        assert!(fits(one.chain_pem.as_bytes(), one.key_pem.as_bytes()).is_ok());
        let error = fits(one.chain_pem.as_bytes(), two.key_pem.as_bytes()).expect_err("do not fit");
        assert_eq!(error.reason(), "KeyMismatch");
        assert_eq!(fits(b"", one.key_pem.as_bytes()).expect_err("is empty").reason(), "BadPem");
        assert!(facts(b"?").is_err());
    }
}
