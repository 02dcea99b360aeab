//! A Secret that the gateway writes itself, wherever it is kept: what it holds, and why it could not be read or written.

use std::{collections::BTreeMap, fmt};

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
