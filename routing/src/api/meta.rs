//! What every object carries about itself.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Kubernetes `ObjectMeta`, as far as routing reads it; unknown metadata fields are fine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; `default` when the document has none.
    pub namespace: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`, RFC 3339 in UTC as Kubernetes writes it, so that text order is time order.
    /// Objects from files usually have none and count as oldest.
    pub creation_timestamp: Option<String>,
    /// `metadata.generation`; 0 when unset.
    pub generation: i64,
    /// `metadata.uid`: tells an object from a later one of the same name. Not kept of Pods and EndpointSlices.
    pub uid: Option<String>,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
}
