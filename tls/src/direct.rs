//! Certificates that webpki does not take and that are trusted all the same: one that is itself among the trusted ones, and
//! one of X.509 version 1 that a trusted CA has issued directly. And the reverse, at which webpki does not look: key usages, and
//! what a trusted CA says of its own end, of purposes and of the length of chains.
//!
//! Nothing else of version 1 is taken: such a certificate cannot say that it is no CA, so in the middle of a chain anybody's
//! leaf could issue identities.

use std::borrow::Cow;
use std::cell::Cell;
use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, DigitallySignedStruct, ExtendedKeyPurpose};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, RawPublicKeyEntity, RevocationCheckDepth, RevocationOptionsBuilder, VerifiedPath,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use crate::anchors::Anchors;
use crate::block::{content_of, first_sequence};
use crate::verify::Refused;

/// Who shows the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A client of ours.
    Client,
    /// A server that we are a client of.
    Server,
}

/// A revocation list, and what webpki has read in it.
pub(crate) type RevocationList = (CertificateRevocationListDer<'static>, CertRevocationList<'static>);

/// What is needed to look at such a certificate.
pub(crate) struct Direct<'a> {
    pub(crate) anchors: &'a Anchors,
    /// When there are any, the certificate must be covered by one.
    pub(crate) lists: &'a [RevocationList],
    pub(crate) algorithms: &'a WebPkiSupportedAlgorithms,
    pub(crate) now: UnixTime,
}

impl Direct<'_> {
    /// Verifies a chain: by webpki, which is `by_chain`, and by what that does not look at.
    pub(crate) fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        by_chain: impl FnOnce(&[CertificateDer<'_>]) -> Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        let signers = signers(intermediates);
        match by_chain(&signers) {
            Ok(()) => {
                let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
                signs(&parsed, side)?;
                if self.anchors.are_limited(self.now) && !self.anchors.holds(certificate) {
                    return self.is_within_limits(certificate, &signers, side);
                }
                Ok(())
            }
            Err(refusal)
                if signers.len() < intermediates.len() && refusal == CertificateError::UnknownIssuer.into() =>
            {
                self.verify(certificate, &signers, side, Refused::no_signer().into())
            }
            Err(refusal) => self.verify(certificate, &signers, side, refusal),
        }
    }

    /// Whether revocation lists, when there are any, cover the chain of a server and revoke nothing of it; webpki has taken
    /// it otherwise.
    pub(crate) fn is_covered(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|(_, list)| list).collect();
        let Ok(builder) = RevocationOptionsBuilder::new(&lists) else { return Ok(()) };
        let revocation = Some(builder.with_depth(RevocationCheckDepth::Chain).build());
        let (all, roots) = (self.algorithms.all, &self.anchors.roots.roots);
        let usage = webpki::KeyUsage::server_auth();
        let end_entity = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        match end_entity.verify_for_usage(all, roots, intermediates, self.now, usage, revocation, None) {
            Ok(_) => Ok(()),
            Err(webpki::Error::CertRevoked) => Err(CertificateError::Revoked.into()),
            Err(_) => Err(CertificateError::UnknownRevocationStatus.into()),
        }
    }

    /// Whether there is a chain that a trusted CA allows.
    fn is_within_limits(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
    ) -> Result<(), rustls::Error> {
        let broken = Cell::new("CaLimits");
        let allows = |path: &VerifiedPath<'_>| {
            let (key, between) = (webpki::spki_for_anchor(path.anchor()), path.intermediate_certificates().count());
            let mut issuers = self.anchors.issuers(&path.anchor().subject);
            let allowed = issuers.any(|issuer| {
                let verdict = allows(&issuer, between, side, self.now);
                verdict.map_err(|why| broken.set(why)).is_ok() && issuer.public_key().raw == &*key
            });
            if allowed { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        let usage = match side {
            Side::Client => webpki::KeyUsage::client_auth(),
            Side::Server => webpki::KeyUsage::server_auth(),
        };
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|(_, list)| list).collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok();
        // As rustls does: the whole chain is covered, and lists do not end.
        let revocation = revocation.map(|builder| builder.with_depth(RevocationCheckDepth::Chain).build());
        let (all, roots) = (self.algorithms.all, &self.anchors.roots.roots);
        let end_entity = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let found = end_entity.verify_for_usage(all, roots, intermediates, self.now, usage, revocation, Some(&allows));
        found.map(drop).map_err(|_| Refused::limits(broken.get()).into())
    }

    /// Accepts what webpki refused with `refusal`, or says better why it is refused.
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        refusal: rustls::Error,
    ) -> Result<(), rustls::Error> {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Err(refusal) };
        if self.anchors.holds(certificate) {
            return self.check(&parsed, side);
        }
        if parsed.version() != X509Version::V1 {
            return Err(refusal);
        }
        if self.issued_directly(certificate, &parsed, side)? {
            return self.check(&parsed, side);
        }
        let between = intermediates.iter().filter_map(|der| X509Certificate::from_der(der).ok());
        let issuer = between.map(|(_, between)| between).find(|it| it.subject().as_raw() == parsed.issuer().as_raw());
        if issuer.is_some_and(|issuer| self.signed(certificate, issuer.public_key().raw).is_ok()) {
            return Err(Refused::version_1().into());
        }
        Err(CertificateError::UnknownIssuer.into())
    }

    /// Whether a trusted CA has signed the certificate itself.
    ///
    /// # Errors
    /// When a CA of that name may have, and that cannot be verified or it has ended.
    pub(crate) fn issued_directly(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &X509Certificate<'_>,
        side: Side,
    ) -> Result<bool, rustls::Error> {
        let mut failure = None;
        for issuer in self.anchors.issuers(content_of(parsed.issuer().as_raw()).unwrap_or_default()) {
            let constrained = issuer.name_constraints().map_or(true, |constraints| constraints.is_some());
            let signed = parsed.tbs_certificate.signature == parsed.signature_algorithm;
            // The names of a certificate without subjectAltName cannot be held against constraints.
            if constrained || !signed {
                continue;
            }
            match self.signed(certificate, issuer.public_key().raw) {
                Ok(()) => {
                    return allows(&issuer, 0, side, self.now)
                        .map(|()| true)
                        .map_err(|why| Refused::limits(why).into());
                }
                // A namesake: the CA that did sign it is not known.
                Err(CertificateError::BadSignature) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(false), |failure| Err(failure.into()))
    }

    /// What a trusted or directly issued certificate says of itself must fit all the same.
    fn check(&self, parsed: &X509Certificate<'_>, side: Side) -> Result<(), rustls::Error> {
        is_valid(parsed, self.now)?;
        is_for(parsed, side)?;
        Ok(self.is_not_revoked(parsed)?)
    }

    fn is_not_revoked(&self, parsed: &X509Certificate<'_>) -> Result<(), CertificateError> {
        let mut covered = self.lists.is_empty();
        for (der, _) in self.lists {
            let Ok((_, list)) = CertificateRevocationList::from_der(der) else { continue };
            // A list for a part of the certificates says so in a critical extension.
            let partial = list.extensions().iter().any(|extension| extension.critical);
            if partial || list.issuer().as_raw() != parsed.issuer().as_raw() {
                continue;
            }
            let mut issuers = self.anchors.issuers(content_of(list.issuer().as_raw()).unwrap_or_default());
            if !issuers.any(|issuer| signs_lists(&issuer) && self.signed(der, issuer.public_key().raw).is_ok()) {
                continue;
            }
            if list.iter_revoked_certificates().any(|revoked| revoked.raw_serial() == parsed.raw_serial()) {
                return Err(CertificateError::Revoked);
            }
            covered = true;
        }
        if covered { Ok(()) } else { Err(CertificateError::UnknownRevocationStatus) }
    }

    /// Whether the key (SubjectPublicKeyInfo) signed a certificate or a revocation list, which have the same outer form.
    fn signed(&self, der: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        let (message, algorithm, signature) = parts(der).ok_or(CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(key);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let candidates = self.algorithms.all.iter().filter(|known| known.signature_alg_id().as_ref() == algorithm);
        for candidate in candidates {
            match key.verify_signature(*candidate, message, signature) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
                Err(_) => return Err(CertificateError::BadSignature),
            }
        }
        Err(CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: algorithm.to_vec(),
            supported_algorithms: Vec::new(),
        })
    }
}

/// SEQUENCE { what is signed, algorithm, BIT STRING }: the first whole, of the second its content, of the third its bytes.
fn parts(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    const BIT_STRING: u8 = 3;
    let (message, rest) = first_sequence(content_of(der)?)?;
    let (algorithm, signature) = first_sequence(rest)?;
    match (signature.first(), content_of(signature)?) {
        (Some(&BIT_STRING), [0, bytes @ ..]) => Some((message, content_of(algorithm)?, bytes)),
        _ => None,
    }
}

/// Whether a CA that is trusted allows a chain with so many others between it and the end; else the reason.
fn allows(issuer: &X509Certificate<'_>, between: usize, side: Side, now: UnixTime) -> Result<(), &'static str> {
    if is_valid(issuer, now).is_err() {
        return Err("CaExpired");
    }
    let constraints = issuer.basic_constraints().ok().flatten();
    let longest = constraints.and_then(|constraints| constraints.value.path_len_constraint);
    if longest.is_some_and(|longest| between > longest as usize) {
        return Err("ChainTooLong");
    }
    let extended = issuer.extended_key_usage().map_err(|_| "WrongPurpose")?;
    if extended.is_some_and(|usage| !serves(usage.value, side)) {
        return Err("WrongPurpose");
    }
    Ok(())
}

/// Whether a CA limits the length of chains or what its certificates are for.
pub(crate) fn is_limited(issuer: &X509Certificate<'_>) -> bool {
    let constraints = issuer.basic_constraints().ok().flatten();
    let length = constraints.is_some_and(|constraints| constraints.value.path_len_constraint.is_some());
    length || !matches!(issuer.extended_key_usage(), Ok(None))
}

/// When a certificate begins.
pub(crate) fn begin(parsed: &X509Certificate<'_>) -> UnixTime {
    at(parsed.validity().not_before.timestamp())
}

/// When a certificate ends.
pub(crate) fn end(parsed: &X509Certificate<'_>) -> UnixTime {
    at(parsed.validity().not_after.timestamp())
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0).unsigned_abs()))
}

fn serves(usage: &ExtendedKeyUsage<'_>, side: Side) -> bool {
    usage.any
        || match side {
            Side::Client => usage.client_auth,
            Side::Server => usage.server_auth,
        }
}

fn is_valid(parsed: &X509Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let validity = parsed.validity();
    let (not_before, not_after) = (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    Ok(())
}

/// Whether the usages that a certificate names allow this side of TLS, by OpenSSL's rules.
fn is_for(parsed: &X509Certificate<'_>, side: Side) -> Result<(), rustls::Error> {
    let unreadable = |_| CertificateError::BadEncoding;
    let unknown = |extension: &ParsedExtension<'_>| {
        matches!(
            extension,
            ParsedExtension::UnsupportedExtension { .. }
                | ParsedExtension::ParseError { .. }
                | ParsedExtension::Unparsed
        )
    };
    if parsed.iter_extensions().any(|extension| extension.critical && unknown(extension.parsed_extension())) {
        return Err(Refused::critical_extension().into());
    }
    signs(parsed, side)?;
    let extended = parsed.extended_key_usage().map_err(unreadable)?;
    let fits = extended.is_none_or(|usage| serves(usage.value, side));
    if fits {
        return Ok(());
    }
    let required = match side {
        Side::Client => ExtendedKeyPurpose::ClientAuth,
        Side::Server => ExtendedKeyPurpose::ServerAuth,
    };
    Err(CertificateError::InvalidPurposeContext { required, presented: Vec::new() }.into())
}

/// Whether the key usage allows the signature of a handshake, by OpenSSL's rules.
fn signs(parsed: &X509Certificate<'_>, side: Side) -> Result<(), rustls::Error> {
    let usage = parsed.key_usage().map_err(|_| CertificateError::BadEncoding)?;
    let signs = usage.is_none_or(|usage| {
        let encrypts = side == Side::Server && usage.value.key_encipherment();
        usage.value.digital_signature() || usage.value.key_agreement() || encrypts
    });
    if signs { Ok(()) } else { Err(Refused::key_usage().into()) }
}

/// Those of a chain that may sign certificates by their key usage, at which webpki does not look.
fn signers<'c, 'd>(intermediates: &'c [CertificateDer<'d>]) -> Cow<'c, [CertificateDer<'d>]> {
    let may_sign = |der: &CertificateDer<'_>| {
        let parsed = X509Certificate::from_der(der);
        let usage = parsed.as_ref().map(|(_, parsed)| parsed.key_usage());
        !usage.is_ok_and(|usage| usage.is_ok_and(|usage| usage.is_some_and(|usage| !usage.value.key_cert_sign())))
    };
    if intermediates.iter().all(may_sign) {
        return Cow::Borrowed(intermediates);
    }
    Cow::Owned(intermediates.iter().filter(|der| may_sign(der)).cloned().collect())
}

fn signs_lists(issuer: &X509Certificate<'_>) -> bool {
    issuer.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
}

/// The public key of a certificate of an old version, with which webpki verifies nothing.
pub(crate) fn key_of_version_1(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    (parsed.version() != X509Version::V3).then(|| parsed.public_key().raw.to_vec().into())
}

/// As rustls's `verify_tls12_signature`, with a bare key: TLS 1.2 does not say which of several algorithms it is.
pub(crate) fn verify_tls12_signature_with_raw_key(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), rustls::Error> {
    let key = RawPublicKeyEntity::try_from(key).map_err(|_| CertificateError::BadEncoding)?;
    let candidates = algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme).map(|(_, known)| *known);
    for candidate in candidates.unwrap_or_default() {
        match key.verify_signature(*candidate, message, dss.signature()) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => break,
        }
    }
    Err(CertificateError::BadSignature.into())
}
