//! Kubernetes `Secret` (v1).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::scalar::Bytes;

/// Kubernetes `Secret`. Its contents are never printed.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "SecretFields")]
pub struct Secret {
    /// As `kubernetes.io/tls`; `Opaque` when unset. Istio does not look at it.
    pub kind: String,
    /// `data` decoded, with `stringData` on top as Kubernetes merges them.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Secret").field("kind", &self.kind).field("keys", &keys).finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SecretFields {
    #[serde(rename = "type")]
    kind: String,
    data: BTreeMap<String, Bytes>,
    string_data: BTreeMap<String, String>,
}

impl From<SecretFields> for Secret {
    fn from(fields: SecretFields) -> Self {
        let mut data: BTreeMap<String, Vec<u8>> =
            fields.data.into_iter().map(|(key, Bytes(value))| (key, value)).collect();
        data.extend(fields.string_data.into_iter().map(|(key, value)| (key, value.into_bytes())));
        let kind = if fields.kind.is_empty() { "Opaque".to_owned() } else { fields.kind };
        Self { kind, data }
    }
}
