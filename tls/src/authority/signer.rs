//! The CA of a mesh: it signs what it is asked to, with the names that its caller says and no others.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, UnknownStatusPolicy, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::lists::{self, Lists, Untrusted};
use super::request::Request;
use super::roots::Roots;
use crate::identity::{hex, x509_pem};
use crate::{Error, facts, facts::Facts, pem, provider};

/// What a CA is made of, as PEM, by Istio's names.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Material {
    /// `ca-cert.pem`: the certificate that signs.
    pub certificate: Vec<u8>,
    /// `ca-key.pem`.
    pub key: Vec<u8>,
    /// `cert-chain.pem`: the same certificate and its issuers; may be empty.
    pub chain: Vec<u8>,
    /// `root-cert.pem`.
    pub roots: Vec<u8>,
    /// `ca-crl.pem`: which CAs of the chain are revoked; may be empty.
    pub crl: Vec<u8>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").finish_non_exhaustive()
    }
}

/// A CA that was proven to be one: what it signs is accepted by whoever trusts its roots.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// Between the leaf and the roots, PEM with a newline at the end.
    chain: Vec<String>,
    intermediates: Vec<CertificateDer<'static>>,
    roots: Roots,
    /// Which CAs of its roots are revoked.
    lists: Lists,
    /// When the first of its own certificate and those above it ends, without the root.
    chain_ends: SystemTime,
    /// The root that it leads to; of several with one key the one that lasts longest.
    root: Facts,
    serial: String,
}

/// A certificate that was signed.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// PEM, with a newline at the end.
    pub pem: String,
    /// In lower-case hex.
    pub serial: String,
    /// Its end, in seconds since 1970.
    pub not_after: u64,
}

/// Why nothing is signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The CA's certificate, or one above it, has ended.
    #[error("the CA's own certificate, or one above it, has ended")]
    Ended,
    /// The library's words.
    #[error("the certificate cannot be made: {0}")]
    Failed(String),
}

impl Signer {
    /// Checks the parts, and proves that they are a CA: a certificate is signed, and judged as a peer would.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn load(material: &Material, now: SystemTime) -> Result<Self, String> {
        let own = pem::certificates(&material.certificate).map_err(|error| format!("ca-cert.pem: {error}"))?;
        let own = own.into_iter().next().ok_or("ca-cert.pem: there is no certificate")?;
        facts::fits(x509_pem(&own).as_bytes(), &material.key).map_err(|error| match error {
            Error::KeyMismatch => "ca-key.pem: the key does not belong to ca-cert.pem".to_owned(),
            other => format!("ca-key.pem: {other}"),
        })?;
        is_authority(&own)?;
        let roots = Roots::read(&material.roots).map_err(|error| format!("root-cert.pem: {error}"))?;
        let intermediates = between(&own, &material.chain, &roots)?;
        let chain_ends = earliest_end(&own, &intermediates)?;
        if chain_ends <= now {
            return Err(
                "ca-cert.pem or one of cert-chain.pem has ended; nothing that it signs would be accepted".into()
            );
        }
        let key = pem::private_key(&material.key).map_err(|error| format!("ca-key.pem: {error}"))?;
        let key = KeyPair::try_from(&key).map_err(|error| format!("ca-key.pem: {error}"))?;
        let issuer = Issuer::from_ca_cert_der(&own, key).map_err(|error| format!("ca-cert.pem: {error}"))?;
        let chain = intermediates.iter().map(|it| x509_pem(it)).collect();
        let facts = facts::of_der(&own).map_err(|error| format!("ca-cert.pem: {error}"))?;
        let (lists, serial) =
            (Lists::read(&material.crl).map_err(|why| format!("ca-crl.pem: {why}"))?, facts.serial.clone());
        let mut signer = Self { issuer, chain, intermediates, roots, lists, chain_ends, serial, root: facts };
        signer.root = signer.leads_to(&signer.roots, &Lists::default(), now).map_err(|why| {
            format!("what ca-cert.pem signs is not accepted by whoever trusts root-cert.pem: {why}; is cert-chain.pem whole?")
        })?;
        if !signer.lists.is_empty() {
            signer.stands_in_its_lists(now)?;
        }
        if signer.ends() <= now {
            let serial = &signer.root.serial;
            return Err(format!(
                "root-cert.pem: the root that ca-cert.pem leads to ({serial}) has ended; nothing that it signs would be accepted"
            ));
        }
        Ok(signer)
    }

    fn stands_in_its_lists(&self, now: SystemTime) -> Result<(), String> {
        self.is_trusted(&self.roots, &self.lists, now).map_err(|why| {
            let advice = match why {
                Untrusted::Unlisted => "; each CA of the chain, the root too, needs its own list in it",
                _ => "",
            };
            format!("ca-crl.pem: what ca-cert.pem signs would be refused by whoever looks at it: {why}{advice}")
        })
    }

    /// Whether somebody who trusts these roots and looks at these lists accepts what is signed here, whenever the roots end: not
    /// everybody looks at that.
    ///
    /// # Errors
    /// Why not.
    pub fn is_trusted(&self, roots: &Roots, lists: &Lists, now: SystemTime) -> Result<(), Untrusted> {
        self.leads_to(roots, lists, now).map(drop)
    }

    /// Which of these roots a certificate that is signed here leads to, for somebody who looks at these lists.
    fn leads_to(&self, roots: &Roots, lists: &Lists, now: SystemTime) -> Result<Facts, Untrusted> {
        let otherwise = |words: String| Untrusted::Otherwise(words);
        // A key that nobody keeps.
        let key = KeyPair::generate().map_err(|error| otherwise(error.to_string()))?;
        let mut params = leaf();
        params.subject_alt_names = vec![SanType::URI(ia5("spiffe://probe/ns/probe/sa/probe").map_err(otherwise)?)];
        let signed = self.sign(params, &key, Duration::from_secs(60), now);
        let (signed, _) = signed.map_err(|why| otherwise(why.to_string()))?;
        let anchors: Vec<_> = roots.0.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let certificate = EndEntityCert::try_from(signed.der()).map_err(|error| otherwise(error.to_string()))?;
        let lists = lists.each();
        let judged = |unknown| {
            certificate.verify_for_usage(
                provider::provider().signature_verification_algorithms.all,
                &anchors,
                &self.intermediates,
                UnixTime::since_unix_epoch(since),
                KeyUsage::client_auth(),
                lists::options(&lists, unknown),
                None,
            )
        };
        let path = judged(UnknownStatusPolicy::Deny).map_err(|error| match error {
            webpki::Error::CertExpired { .. } => otherwise("one of its certificates has ended".to_owned()),
            webpki::Error::CertNotValidYet { .. } => otherwise("one of its certificates has not begun yet".to_owned()),
            webpki::Error::CertRevoked => Untrusted::Revoked,
            // Another one of the chain may be revoked all the same.
            webpki::Error::UnknownRevocationStatus => match judged(UnknownStatusPolicy::Allow).err() {
                Some(webpki::Error::CertRevoked) => Untrusted::Revoked,
                _ => Untrusted::Unlisted,
            },
            other => otherwise(other.to_string()),
        })?;
        let found = path.anchor();
        let same = |root: &&CertificateDer<'static>| {
            anchor_from_trusted_cert(root).is_ok_and(|anchor| {
                anchor.subject == found.subject && anchor.subject_public_key_info == found.subject_public_key_info
            })
        };
        let facts = roots.0.iter().filter(same).filter_map(|root| facts::of_der(root).ok());
        facts.max_by_key(|root| root.not_after).ok_or_else(|| otherwise("its root cannot be read".to_owned()))
    }

    /// Signs the certificate of a workload as Istio does: one URI SAN, critical because the subject is empty, for both sides
    /// of a connection. It ends with the CA at the latest.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn workload(
        &self,
        request: &Request,
        spiffe: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Certificate, Refused> {
        let mut params = leaf();
        params.subject_alt_names = vec![SanType::URI(ia5(spiffe).map_err(Refused::Failed)?)];
        self.sign(params, &request.key, lifetime, now).map(|(_, certificate)| certificate)
    }

    /// Signs the certificate of a server, with a key that is made for it. Gives its chain and the key, as PEM.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn server(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(String, String, Certificate), Refused> {
        let failed = |error: rcgen::Error| Refused::Failed(error.to_string());
        let mut params = leaf();
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(ia5(name).map_err(Refused::Failed)?),
            });
        }
        let key = KeyPair::generate().map_err(failed)?;
        let (_, certificate) = self.sign(params, &key, lifetime, now)?;
        let chain = std::iter::once(&certificate.pem).chain(&self.chain).cloned().collect();
        Ok((chain, key.serialize_pem(), certificate))
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(rcgen::Certificate, Certificate), Refused> {
        let last = self.ends();
        if last <= now {
            return Err(Refused::Ended);
        }
        let end = now.checked_add(lifetime).map_or(last, |end| end.min(last));
        let serial = serial().map_err(Refused::Failed)?;
        params.not_before = (now - BACKDATED).into();
        params.not_after = end.into();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(key, &self.issuer).map_err(|error| Refused::Failed(error.to_string()))?;
        let not_after = end.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let certificate = Certificate { pem: x509_pem(signed.der()), serial: hex(&serial), not_after };
        Ok((signed, certificate))
    }

    /// What stands between a certificate and the roots, PEM with a newline at the end each.
    pub fn chain(&self) -> &[String] {
        &self.chain
    }

    /// What its peers have to trust.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Which CAs of its roots are revoked, as its peers are to know; none of them: nobody looks.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// When the first of its own certificate, those above it and its root ends: nothing that it signs lasts longer.
    pub fn ends(&self) -> SystemTime {
        self.chain_ends.min(self.root_ends())
    }

    /// When the first of its own certificate and those above it ends, without the root.
    pub fn chain_ends(&self) -> SystemTime {
        self.chain_ends
    }

    /// When the root ends that it leads to.
    pub fn root_ends(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.root.not_after).unwrap_or(0))
    }

    /// The root that it leads to; of several with one key the one that lasts longest.
    pub fn root(&self) -> &Facts {
        &self.root
    }

    /// The serial number of its own certificate, in lower-case hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// A root that signs itself, as Istio makes it: RSA with 2048 bits, the trust domain as its organisation. With a key it is the
/// same CA for longer: what either has signed is accepted by whoever trusts one of the two. Takes up to some seconds of
/// computing. Gives certificate and key, as PEM.
///
/// # Errors
/// The key cannot be read, or none can be made.
pub fn self_signed(
    organisation: &str,
    key: Option<&[u8]>,
    lifetime: Duration,
    now: SystemTime,
) -> Result<(String, String), Error> {
    let key = match key {
        Some(pem) => KeyPair::try_from(&pem::private_key(pem)?).map_err(Error::Issue)?,
        None => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(Error::Issue)?,
    };
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organisation);
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number =
        Some(SerialNumber::from_slice(&serial().map_err(|_| Error::Issue(rcgen::Error::RingUnspecified))?));
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + lifetime).into();
    let certificate = params.self_signed(&key).map_err(Error::Issue)?;
    Ok((x509_pem(certificate.der()), key.serialize_pem()))
}

/// Peers whose clock is behind must not find a certificate of the future; Istio backdates by two minutes.
pub(super) const BACKDATED: Duration = Duration::from_secs(120);

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn ia5(text: &str) -> Result<Ia5String, String> {
    Ia5String::try_from(text).map_err(|error| error.to_string())
}

/// 128 bits by chance, of which the first is 0 and the second 1: a positive number of full length.
pub(super) fn serial() -> Result<[u8; 16], String> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| "there are no random numbers".to_owned())?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn is_authority(der: &[u8]) -> Result<(), String> {
    let unreadable = || "ca-cert.pem cannot be read".to_owned();
    let (_, parsed) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
    let constraints = parsed.basic_constraints().map_err(|_| unreadable())?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err("ca-cert.pem is no CA: its basic constraints do not say so".to_owned());
    }
    match parsed.key_usage().map_err(|_| unreadable())? {
        Some(usage) if !usage.value.key_cert_sign() => {
            Err("ca-cert.pem is no CA: its key usage has no keyCertSign".to_owned())
        }
        _ => Ok(()),
    }
}

/// What has to be shown beside a leaf: the signer and those above it, without the roots, which peers have.
fn between(own: &CertificateDer<'static>, chain: &[u8], roots: &Roots) -> Result<Vec<CertificateDer<'static>>, String> {
    if roots.0.contains(own) {
        return Ok(Vec::new());
    }
    let mut all = vec![own.clone()];
    if !chain.iter().all(u8::is_ascii_whitespace) {
        let given = pem::certificates(chain).map_err(|error| format!("cert-chain.pem: {error}"))?;
        for certificate in given {
            if !all.contains(&certificate) && !roots.0.contains(&certificate) {
                all.push(certificate);
            }
        }
    }
    Ok(all)
}

fn earliest_end(own: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<SystemTime, String> {
    let mut ends = Vec::new();
    for der in std::iter::once(own).chain(above) {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| "cert-chain.pem cannot be read".to_owned())?;
        ends.push(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0));
    }
    Ok(UNIX_EPOCH + Duration::from_secs(ends.into_iter().min().unwrap_or(0)))
}
