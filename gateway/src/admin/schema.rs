//! What the admin pages answer in JSON. A field keeps its name and its meaning as long as [`SCHEMA`] stays; new ones may come.

pub(crate) mod certs;
pub(crate) mod clusters;
pub(crate) mod control;
pub(crate) mod dump;
pub(crate) mod listeners;
pub(crate) mod overview;
pub(crate) mod problems;
pub(crate) mod process;
pub(crate) mod routes;

use serde::Serialize;
use serde_json::Value;

/// The number of this schema.
pub(crate) const SCHEMA: u32 = 1;

/// An answer with the number of its schema.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<T> {
    schema: u32,
    #[serde(flatten)]
    content: T,
}

impl<T: Serialize> Answer<T> {
    /// In this schema.
    pub(crate) fn new(content: T) -> Self {
        Self { schema: SCHEMA, content }
    }
}

/// As JSON. What the pages tell has names as keys and no number that JSON lacks, so that nothing is lost.
pub(crate) fn json(content: &impl Serialize) -> Value {
    serde_json::to_value(content).unwrap_or_default()
}
