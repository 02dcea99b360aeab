//! The certificates that a server or a client was told to trust: which of them may issue others, and which vouch for
//! themselves only.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::{DistinguishedName, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::block::content_of;
use crate::pem::Bundle;
use crate::san::printable;
use crate::{Error, direct, subject};

/// Certificates that are trusted.
#[derive(Debug)]
pub(crate) struct Anchors {
    /// Those that may issue others, as webpki wants them.
    pub(crate) roots: Arc<RootCertStore>,
    /// All of them: each vouches for itself.
    given: Vec<CertificateDer<'static>>,
    /// Those that may issue others, by what is in their subject.
    issuers: HashMap<Box<[u8]>, Vec<usize>>,
    /// Of those that somebody has chosen.
    limits: Option<Limits>,
    /// What an operator should know of them, a sentence each.
    pub(crate) remarks: Vec<String>,
}

/// What of some CAs may forbid what they have issued.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// When the last of them begins.
    begin: UnixTime,
    /// When the first of them ends.
    end: UnixTime,
    /// One of them limits chains or purposes.
    limited: bool,
}

impl Limits {
    fn of(issuer: &X509Certificate<'_>) -> Self {
        let (begin, end) = (direct::begin(issuer), direct::end(issuer));
        Self { begin, end, limited: direct::is_limited(issuer) }
    }

    fn and(self, other: Self) -> Self {
        let (begin, end) = (self.begin.max(other.begin), self.end.min(other.end));
        Self { begin, end, limited: self.limited || other.limited }
    }
}

impl Anchors {
    /// Of a file's certificates. Those that can be none are left out, as OpenSSL does, each with a remark.
    ///
    /// # Errors
    /// When none is left.
    pub(crate) fn new(bundle: Bundle) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let mut given = Vec::with_capacity(bundle.certificates.len());
        let mut issuers: HashMap<Box<[u8]>, Vec<usize>> = HashMap::new();
        let mut limits = None;
        let mut remarks = bundle.remarks;
        for (index, certificate) in bundle.certificates.into_iter().enumerate() {
            let number = index + 1;
            if bundle.restricted.binary_search(&index).is_ok() {
                let why = "says itself what it is trusted for (TRUSTED CERTIFICATE), which is not honoured, so it is not used";
                remarks.push(format!("CA certificate {number} {why}; `openssl x509 -clrtrust` writes a plain one"));
                continue;
            }
            let Ok((_, parsed)) = X509Certificate::from_der(&certificate) else {
                remarks.push(format!("CA certificate {number} is not a valid X.509 certificate and is not used"));
                continue;
            };
            let named = || format!("CA certificate {number} ({})", printable(&subject::rfc2253(parsed.subject())));
            match issues(&parsed).and_then(|()| roots.add(certificate.clone()).map_err(|_| UNREADABLE)) {
                Ok(()) => {
                    if parsed.version() == X509Version::V1 {
                        remarks.push(format!("{} {VERSION_1}", named()));
                    }
                    let subject = content_of(parsed.subject().as_raw()).unwrap_or_default();
                    issuers.entry(subject.into()).or_default().push(given.len());
                    let own = Limits::of(&parsed);
                    limits = Some(limits.map_or(own, |all: Limits| all.and(own)));
                }
                Err(why) => remarks.push(format!("{} {why}; it is trusted itself, and nothing it issued is", named())),
            }
            given.push(certificate);
        }
        if given.is_empty() {
            return Err(remarks.into_iter().next().map_or(Error::NoRoots, Error::NoUsableRoot));
        }
        Ok(Self { roots: Arc::new(roots), given, issuers, limits, remarks: bounded(remarks) })
    }

    /// Of the system's certificates, of which whoever maintains them knows the ends.
    pub(crate) fn of(certificates: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let bundle = Bundle { certificates, remarks: Vec::new(), restricted: Vec::new() };
        Ok(Self { limits: None, ..Self::new(bundle)? })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.given.len()
    }

    /// Whether one of them has ended, has not begun, or limits what it may issue.
    pub(crate) fn are_limited(&self, now: UnixTime) -> bool {
        self.limits.is_some_and(|all| all.limited || now < all.begin || now > all.end)
    }

    /// Whether this very certificate is trusted.
    pub(crate) fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        self.given.iter().any(|given| given == certificate)
    }

    /// Those that may issue certificates and have this in their subject (DER, without its head).
    pub(crate) fn issuers(&self, subject: &[u8]) -> impl Iterator<Item = X509Certificate<'_>> {
        let found = self.issuers.get(subject).into_iter().flatten();
        found.filter_map(|index| X509Certificate::from_der(self.given.get(*index)?).ok().map(|(_, parsed)| parsed))
    }

    /// The subjects of all, which help a client with several certificates to choose; none when they are too long for the
    /// 64 KiB that a CertificateRequest has for them (RFC 8446 section 4.2.4).
    pub(crate) fn hints(&self) -> Vec<DistinguishedName> {
        let parsed = self.given.iter().filter_map(|given| X509Certificate::from_der(given).ok());
        let subjects = parsed.filter_map(|(_, parsed)| content_of(parsed.subject().as_raw()).map(<[u8]>::to_vec));
        let hints: Vec<_> = subjects.map(|subject| DistinguishedName::in_sequence(&subject)).collect();
        let bytes: usize = hints.iter().map(|hint| hint.as_ref().len() + 2).sum();
        if bytes > LONGEST_HINTS { Vec::new() } else { hints }
    }
}

/// Bytes of names in a CertificateRequest; more than a full record would make every handshake slow.
const LONGEST_HINTS: usize = 16 * 1024;
const UNREADABLE: &str = "is of a form that cannot issue";
const VERSION_1: &str = "is of X.509 version 1: it cannot say that it is a CA, for what its certificates may be used, nor how \
                         long a chain may be; make one of version 3 (`openssl req -x509` does)";

/// Whether a certificate may issue others, by OpenSSL's rules (`X509_check_ca`): a CA that was given as a trust anchor must
/// be one all the same, else whoever holds the key of a trusted leaf could make identities.
fn issues(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    let unreadable = "has extensions that cannot be read";
    let usage = certificate.key_usage().map_err(|_| unreadable)?;
    if usage.as_ref().is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("may not issue certificates by its key usage");
    }
    match certificate.basic_constraints().map_err(|_| unreadable)? {
        Some(constraints) if constraints.value.ca => Ok(()),
        Some(_) => Err("is no CA by its basic constraints"),
        None if usage.is_some() => Ok(()),
        None if certificate.version() != X509Version::V3 && certificate.subject() == certificate.issuer() => Ok(()),
        None => Err("does not say that it is a CA (basic constraints)"),
    }
}

/// A bundle of thousands must not become thousands of lines.
pub(crate) fn bounded(mut remarks: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 8;
    let more = remarks.len().saturating_sub(SHOWN);
    if more > 0 {
        remarks.truncate(SHOWN);
        remarks.push(format!("{more} more of its parts have something to remark"));
    }
    remarks
}
