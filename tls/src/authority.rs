//! Certificate authorities: that of a mesh ([`signer`]), and a small one for the demo and for tests.

pub mod lists;
pub mod renewal;
pub mod request;
pub mod roots;
pub mod signer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, string::Ia5String,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::{Error, pem};

/// A CA that issues ECDSA P-256 certificates; cheap to clone.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    certificate_pem: Arc<str>,
    /// What "now" is for the certificates issued; `None`: the real time.
    time: Option<SystemTime>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    /// PEM: the certificate. It is signed by the root directly, so the chain is one certificate long.
    pub chain_pem: String,
    /// PEM: the private key, PKCS#8.
    pub key_pem: String,
}

impl Authority {
    /// A new root with a new key, valid for ten years.
    pub fn new(common_name: &str) -> Result<Self, Error> {
        let params = signing(common_name);
        let key = KeyPair::generate().map_err(Error::Issue)?;
        let certificate_pem = params.self_signed(&key).map_err(Error::Issue)?.pem();
        Ok(Self { issuer: Arc::new(Issuer::new(params, key)), certificate_pem: certificate_pem.into(), time: None })
    }

    /// A CA below this one with a new key, valid as long; what it issues leads here by its own certificate
    /// ([`root_pem`](Self::root_pem)).
    pub fn below(&self, common_name: &str) -> Result<Self, Error> {
        let mut params = signing(common_name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(Error::Issue)?;
        let certificate_pem = params.signed_by(&key, &self.issuer).map_err(Error::Issue)?.pem();
        Ok(Self { issuer: Arc::new(Issuer::new(params, key)), certificate_pem: certificate_pem.into(), time: None })
    }

    /// PEM: its revocation list, with these certificates (PEM) on it.
    pub fn revocation_list(&self, revoked: &[&str]) -> Result<String, Error> {
        let now = self.time.unwrap_or_else(SystemTime::now);
        let revoked_certs = revoked.iter().map(|certificate| listed(certificate, now)).collect::<Result<_, _>>()?;
        let list = CertificateRevocationListParams {
            this_update: (now - BACKDATED).into(),
            next_update: (now + 30 * DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(Error::Issue)
    }

    /// A root kept earlier: what [`root_pem`](Self::root_pem) and [`key_pem`](Self::key_pem) gave.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        pem::certificates(certificate.as_bytes())?;
        pem::private_key(key.as_bytes())?;
        let key = KeyPair::from_pem(key).map_err(Error::Issue)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(Error::Issue)?;
        Ok(Self { issuer: Arc::new(issuer), certificate_pem: certificate.into(), time: None })
    }

    /// The same authority at another time, to issue certificates that are expired or not valid yet.
    #[must_use]
    pub fn at(&self, time: SystemTime) -> Self {
        Self { time: Some(time), ..self.clone() }
    }

    /// PEM: the root certificate; of a CA below another its own.
    pub fn root_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// PEM: the root's private key, PKCS#8.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server's certificate for DNS names (wildcards too) and IP addresses.
    pub fn issue_server(&self, dns_names: &[&str], valid_for: Duration) -> Result<Issued, Error> {
        let mut params = leaf(dns_names)?;
        params.distinguished_name = named(dns_names.first().copied().unwrap_or("server"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, valid_for)
    }

    /// A mesh certificate as Istio issues them: one URI SAN, critical because the subject is empty, for both sides.
    pub fn issue_workload(&self, spiffe: &str, valid_for: Duration) -> Result<Issued, Error> {
        let mut params = leaf(&[spiffe])?;
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, valid_for)
    }

    /// A client's certificate, valid for a day; a SAN with `://` is a URI, with `@` an e-mail address.
    pub fn issue_client(&self, cn: &str, sans: &[&str]) -> Result<Issued, Error> {
        let mut params = leaf(sans)?;
        params.distinguished_name = named(cn);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, DAY)
    }

    fn issue(&self, mut params: CertificateParams, valid_for: Duration) -> Result<Issued, Error> {
        let now = self.time.unwrap_or_else(SystemTime::now);
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + valid_for).into();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(Error::Issue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::Issue)?;
        Ok(Issued { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

const DAY: Duration = Duration::from_secs(86_400);
/// Peers whose clock is behind must not find a certificate of the future; Istio backdates by two minutes.
const BACKDATED: Duration = Duration::from_secs(120);
/// The root starts earlier, so that what it issues at another time lies inside its own lifetime.
const BACKDATED_ROOT: Duration = Duration::from_secs(30 * 86_400);

fn signing(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED_ROOT).into();
    params.not_after = (now + 3650 * DAY).into();
    params
}

fn listed(certificate: &str, now: SystemTime) -> Result<RevokedCertParams, Error> {
    let certificates = pem::certificates(certificate.as_bytes())?;
    let own = certificates.first().ok_or(Error::NoCertificate)?;
    let (_, own) = X509Certificate::from_der(own).map_err(|_| Error::BadCertificate(None))?;
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from_slice(own.raw_serial()),
        revocation_time: (now - BACKDATED).into(),
        reason_code: None,
        invalidity_date: None,
    })
}

fn leaf(names: &[&str]) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
    Ok(params)
}

fn san(name: &str) -> Result<SanType, Error> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let text = Ia5String::try_from(name).map_err(Error::Issue)?;
    Ok(if name.contains("://") {
        SanType::URI(text)
    } else if name.contains('@') {
        SanType::Rfc822Name(text)
    } else {
        SanType::DnsName(text)
    })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
