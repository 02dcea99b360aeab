//! Kubernetes `Node` (v1): its labels say where the pods on it are.

use serde::Deserialize;

/// Kubernetes `Node`. Nothing is read of it but what its labels say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Node {}
