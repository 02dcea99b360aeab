//! The key of an account, made and kept before the CA hears of it.

use std::fmt;

use instant_acme::Key;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::error::Error;
use crate::pem;

/// An account's private key: ECDSA on P-256, the one kind that every ACME CA takes.
pub struct AccountKey {
    pkcs8: PrivatePkcs8KeyDer<'static>,
    pem: String,
}

impl AccountKey {
    /// A new key.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| Error::Key(error.to_string()))?;
        Ok(Self { pkcs8: PrivatePkcs8KeyDer::from(key.serialize_der()), pem: key.serialize_pem() })
    }

    /// PEM: PKCS#8.
    pub fn to_pem(&self) -> String {
        self.pem.clone()
    }

    /// A key kept earlier: what [`to_pem`](Self::to_pem) gave.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let key = pem::private_key(text.as_bytes()).map_err(|error| Error::Key(error.to_string()))?;
        let PrivateKeyDer::Pkcs8(pkcs8) = key else {
            return Err(Error::Key("it is not in the form PKCS#8 (BEGIN PRIVATE KEY)".to_owned()));
        };
        let key = Self { pkcs8, pem: text.to_owned() };
        key.to_acme()?;
        Ok(key)
    }

    /// As instant-acme wants it.
    pub(super) fn to_acme(&self) -> Result<(Key, PrivateKeyDer<'static>), Error> {
        let key = Key::from_pkcs8_der(self.pkcs8.clone_key())
            .map_err(|_| Error::Key("it is not an ECDSA key on P-256".to_owned()))?;
        Ok((key, PrivateKeyDer::Pkcs8(self.pkcs8.clone_key())))
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountKey").finish_non_exhaustive()
    }
}
