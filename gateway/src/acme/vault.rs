//! Where certificates, accounts and orders are kept: as Secrets of an API server, or as their manifests in a folder.

mod files;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use files::{FileVault, TLS};

use crate::{
    kubernetes::vault::SecretVault,
    stored::{Stored, VaultError, Version},
};

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
