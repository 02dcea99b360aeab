//! The roots of a mesh: certificates that are handed out together, each once.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;

use crate::{Error, facts, facts::Facts, identity::x509_pem, pem};

/// Some roots, in the order in which they were given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roots(pub(super) Vec<CertificateDer<'static>>);

impl Roots {
    /// Of PEM.
    ///
    /// # Errors
    /// There is no certificate in it.
    pub fn read(text: &[u8]) -> Result<Self, Error> {
        let mut roots = Self::default();
        pem::certificates(text)?.into_iter().for_each(|root| roots.add(root));
        Ok(roots)
    }

    fn add(&mut self, root: CertificateDer<'static>) {
        if !self.0.contains(&root) {
            self.0.push(root);
        }
    }

    /// These, and behind them what the others have besides.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let mut all = self.clone();
        others.0.iter().cloned().for_each(|root| all.add(root));
        all
    }

    /// Whether all of the others are here.
    pub fn hold(&self, others: &Self) -> bool {
        others.0.iter().all(|root| self.0.contains(root))
    }

    /// Those that have not ended.
    #[must_use]
    pub fn lasting(&self, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        let lasts = |root: &&CertificateDer<'static>| facts::of_der(root).is_ok_and(|root| root.not_after > now);
        Self(self.0.iter().filter(lasts).cloned().collect())
    }

    /// As PEM.
    pub fn pem(&self) -> String {
        self.0.iter().map(|root| x509_pem(root)).collect()
    }

    /// What each says about itself, as far as it can be read.
    pub fn facts(&self) -> Vec<Facts> {
        self.0.iter().filter_map(|root| facts::of_der(root).ok()).collect()
    }
}
