//! Where certificates, accounts and orders are kept: as Secrets of an API server, or as their manifests in a folder.

mod files;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub(crate) use files::{FileVault, TLS};

use crate::kubernetes::vault::SecretVault;

/// A Secret as it is kept.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Stored {
    /// `type`.
    pub(crate) kind: String,
    /// `metadata.labels`.
    pub(crate) labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub(crate) annotations: BTreeMap<String, String>,
    /// `data`, decoded.
    pub(crate) data: BTreeMap<String, Vec<u8>>,
    /// What was read; `None` = it is new.
    pub(crate) version: Option<Version>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Stored").field("kind", &self.kind).field("keys", &keys).finish_non_exhaustive()
    }
}

impl Stored {
    /// A value that is text; an empty one is none.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(|value| std::str::from_utf8(value).ok()).filter(|text| !text.is_empty())
    }
}

/// Tells whether a Secret is still the one that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Version(pub(crate) String);

/// Why a Secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// Somebody else has changed it since it was read.
    #[error("Secret `{0}` was changed by somebody else meanwhile")]
    Conflict(String),
    /// The API server does not let this proxy; a sentence that says what grants it.
    #[error("{0}")]
    Forbidden(String),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Failed(String),
}

/// Either place.
#[derive(Clone)]
pub(crate) enum Vault {
    /// A folder.
    Files(FileVault),
    /// The proxy's namespace.
    Kubernetes(Arc<SecretVault>),
}

impl Vault {
    /// A Secret by its name.
    ///
    /// # Errors
    /// It cannot be read. That it does not exist is no error.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Stored>, VaultError> {
        match self {
            Self::Files(files) => files.get(name),
            Self::Kubernetes(secrets) => secrets.get(name).await,
        }
    }

    /// Writes a Secret that is still in the version that it carries, or is not there when it carries none. Gives the new
    /// version.
    ///
    /// # Errors
    /// [`VaultError::Conflict`] when it is another one by now; or it cannot be written.
    pub(crate) async fn put(&self, name: &str, stored: &Stored) -> Result<Version, VaultError> {
        match self {
            Self::Files(files) => files.put(name, stored),
            Self::Kubernetes(secrets) => secrets.put(name, stored).await,
        }
    }

    /// Removes a Secret. That it does not exist is fine.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), VaultError> {
        match self {
            Self::Files(files) => files.delete(name),
            Self::Kubernetes(secrets) => secrets.delete(name).await,
        }
    }

    /// All Secrets with a label, by name.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) async fn list(&self, label: (&str, &str)) -> Result<BTreeMap<String, Stored>, VaultError> {
        match self {
            Self::Files(files) => files.list(label),
            Self::Kubernetes(secrets) => secrets.list(label).await,
        }
    }
}
