//! What a control plane tells of itself on the page.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::telemetry::holders::{Holder, Refusal};

/// Certificates, roots and pods, as this process has counted them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Control {
    /// Requests for certificates.
    pub(crate) asked: u64,
    /// Certificates that were issued, by the proof of who asked.
    pub(crate) issued: BTreeMap<String, u64>,
    /// Requests that got none, by reason.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// Times that roots were written to a namespace, by result.
    pub(crate) roots_written: BTreeMap<String, u64>,
    /// Pods that the webhook was asked about: `injected`, `skipped`, `failed`.
    pub(crate) pods: BTreeMap<&'static str, u64>,
    /// Objects that were judged before they were written.
    pub(crate) validated: Vec<Validated>,
    /// Open connections, by listener.
    pub(crate) connections: BTreeMap<String, u64>,
    /// Whose certificates this process has issued, the last one first.
    pub(crate) holders: Vec<Holder>,
    /// How many more there are.
    pub(crate) more_holders: usize,
    /// Who was refused a certificate, the last one first.
    pub(crate) refusals: Vec<Refusal>,
}

/// Objects of a kind.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Validated {
    /// As `VirtualService`.
    pub(crate) kind: String,
    /// Those that are in order.
    pub(crate) allowed: u64,
    /// Those that are not, and were not written.
    pub(crate) refused: u64,
}
