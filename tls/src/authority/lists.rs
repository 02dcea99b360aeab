//! The revocation lists of the CAs of a mesh, as they are handed out together.

use webpki::{CertRevocationList, RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::direct::RevocationList;
use crate::san::printable;
use crate::server::revocation_lists;
use crate::{Error, pem, subject};

/// Some lists; who looks at any refuses what is revoked, and whatever has an issuer without a list.
#[derive(Debug, Default)]
pub struct Lists(Vec<RevocationList>);

impl Lists {
    /// Of PEM. Nothing, or blanks, is no lists.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(text: &[u8]) -> Result<Self, Error> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        pem::revocation_lists(text).and_then(revocation_lists).map(Self)
    }

    /// Whether there are none, so that nobody is found to be revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the others are exactly these.
    pub fn are(&self, others: &Self) -> bool {
        let holds = |one: &Self, other: &Self| other.0.iter().all(|(der, _)| one.0.iter().any(|(own, _)| own == der));
        holds(self, others) && holds(others, self)
    }

    /// Whose lists are among the others and not here any more, by name: what they have issued is refused from now on. Nobody's,
    /// where there are no lists.
    pub fn miss(&self, others: &Self) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let (own, theirs) = (self.issuers(), others.issuers());
        theirs.into_iter().filter(|issuer| !own.contains(issuer)).collect()
    }

    fn issuers(&self) -> Vec<String> {
        let parsed = self.0.iter().filter_map(|(der, _)| CertificateRevocationList::from_der(der).ok());
        parsed.map(|(_, list)| printable(&subject::rfc2253(list.issuer()))).collect()
    }

    pub(super) fn each(&self) -> Vec<&CertRevocationList<'static>> {
        self.0.iter().map(|(_, list)| list).collect()
    }
}

/// How rustls asks: each of a chain must be in a list of its issuer's reach. `None`: there are no lists.
pub(super) fn options<'a>(
    lists: &'a [&'a CertRevocationList<'a>],
    unknown: UnknownStatusPolicy,
) -> Option<RevocationOptions<'a>> {
    let options = RevocationOptionsBuilder::new(lists).ok()?;
    Some(options.with_status_policy(unknown).build())
}

/// Why what a CA signs is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Untrusted {
    /// By a revocation list.
    #[error("the CA, or one above it, is revoked")]
    Revoked,
    /// There are lists, and none of an issuer of the chain.
    #[error("there is no revocation list of the CA, or of one above it")]
    Unlisted,
    /// In words that are the same at any time.
    #[error("{0}")]
    Otherwise(String),
}
