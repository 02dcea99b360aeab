//! Whether an identity that somebody hands out is the one that was asked for, and one that peers will take.

use std::time::Duration;

use rustls::CertificateError;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::direct::{Direct, Side};
use crate::identity::SpiffeId;
use crate::san::{Sans, printable};
use crate::server::revocation_lists;
use crate::workload::WorkloadIdentity;
use crate::{Error, provider};

/// Clocks differ by so many seconds, and not by more: a certificate that begins later is one of a wrong clock.
pub const SKEW: i64 = 600;

impl WorkloadIdentity {
    /// That this is the identity of `expected` alone, that its chain leads to its own roots for both sides of TLS as peers
    /// will look at it, and that it is of this time (seconds since 1970), or will be soon.
    ///
    /// # Errors
    /// [`Error::Unfit`], which says what is wrong.
    pub fn check(&self, expected: &SpiffeId, now: i64) -> Result<(), Error> {
        let own = self.certified.cert.first().ok_or(Error::NoCertificate)?;
        is_named(own, expected)?;
        if self.not_after <= now {
            let ago = now.saturating_sub(self.not_after);
            return Err(Error::Unfit(format!("the certificate has ended {ago} s ago; is a clock wrong?")));
        }
        let ahead = self.not_before.saturating_sub(now);
        if ahead > SKEW {
            return Err(Error::Unfit(format!("the certificate begins in {ahead} s only; is a clock wrong?")));
        }
        let at = u64::try_from(now.max(self.not_before)).unwrap_or_default();
        let (at, intermediates) = (UnixTime::since_unix_epoch(Duration::from_secs(at)), &self.certified.cert[1..]);
        for side in [Side::Server, Side::Client] {
            self.leads(own, intermediates, side, at).map_err(Error::unfit)?;
        }
        Ok(())
    }

    /// What its own revocation lists say of it at this time (seconds since 1970): its peers have the same, mostly.
    ///
    /// # Errors
    /// They revoke it or one of its CAs, or do not know those.
    pub fn is_listed(&self, now: i64) -> Result<(), Error> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let (own, above) = self.certified.cert.split_first().ok_or(Error::NoCertificate)?;
        let algorithms = &provider::provider().signature_verification_algorithms;
        // Whether it is of this time is another question.
        let at = u64::try_from(now.min(self.not_after).max(self.not_before)).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let lists = revocation_lists(self.lists.to_vec())?;
        let judge = Direct { anchors: &self.anchors, lists: &lists, algorithms, now };
        judge.is_covered(own, above).map_err(Error::unfit)
    }

    fn leads(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let algorithms = &provider::provider().signature_verification_algorithms;
        let roots = &self.anchors.roots;
        let judge = Direct { anchors: &self.anchors, lists: &[], algorithms, now };
        judge.judge(own, intermediates, side, |intermediates| match side {
            Side::Server => {
                let parsed = ParsedCertificate::try_from(own)?;
                verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms.all)
            }
            // The server's side has told of everything else by now.
            Side::Client => {
                let usage = webpki::KeyUsage::client_auth();
                let parsed = EndEntityCert::try_from(own).map_err(|_| CertificateError::BadEncoding)?;
                let found =
                    parsed.verify_for_usage(algorithms.all, &roots.roots, intermediates, now, usage, None, None);
                found.map(drop).map_err(|_| CertificateError::InvalidPurpose.into())
            }
        })
    }
}

fn is_named(own: &CertificateDer<'_>, expected: &SpiffeId) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(own).map_err(|_| Error::BadCertificate(None))?;
    let sans = Sans::of(&parsed).map_err(|_| Error::Unfit("its names cannot be read".to_owned()))?;
    match sans.uris[..] {
        [uri] if uri == expected.as_str() => Ok(()),
        [] => Err(Error::Unfit(format!("it names no identity ({}), and {expected} is asked for", sans.describe()))),
        [uri] => Err(Error::Unfit(format!("it is for {}, and {expected} is asked for", printable(uri)))),
        _ => {
            let count = sans.uris.len();
            Err(Error::Unfit(format!("it has {count} URI names, and an identity is one alone: {}", sans.describe())))
        }
    }
}
