//! A certificate that nobody trusts, for a server whose real one is still being ordered.

use std::time::{Duration, SystemTime};

use rcgen::{DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};

use crate::Error;
use crate::request::unnamed;
use crate::server::CertifiedPem;

/// A new self-signed certificate for these hosts (DNS names, wildcards and IP addresses), valid for a year.
pub fn placeholder(hosts: &[String]) -> Result<CertifiedPem, Error> {
    let mut params = unnamed(hosts)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, COMMON_NAME);
    params.distinguished_name = name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 365 * DAY).into();
    let key = KeyPair::generate().map_err(Error::Issue)?;
    let certificate = params.self_signed(&key).map_err(Error::Issue)?;
    Ok(CertifiedPem { chain: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes(), ocsp: None })
}

/// What people see who look at the certificate in a browser.
const COMMON_NAME: &str = "Sluice placeholder";
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts;
    use crate::server::{ServerSpec, ServerTls};

    #[test]
    fn a_server_can_show_it() {
        let certified = placeholder(&["a.example".to_owned(), "*.b.example".to_owned()]).expect("can be made");

        let facts = facts::facts(&certified.chain).expect("is a certificate");
        assert_eq!((facts.issuer.as_str(), facts.dns_names.len()), (COMMON_NAME, 2));
        let spec = ServerSpec { certificates: vec![certified], ..ServerSpec::default() };
        assert_eq!(ServerTls::build(&spec, None).expect("is a server").not_after(), facts.not_after);
    }
}
