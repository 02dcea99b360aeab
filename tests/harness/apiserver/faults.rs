//! What the server was asked, and what it does wrong on purpose.

use std::{collections::BTreeMap, time::Duration};

/// One request that the server saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; else the HTTP method.
    pub verb: String,
    /// Plural with the subresource (`gateways/status`); empty for discovery and health.
    pub resource: String,
    /// Namespace; empty = all, or cluster scoped.
    pub namespace: String,
    /// Name; empty = all.
    pub name: String,
    /// Path and query as they came.
    pub target: String,
    /// Who asked.
    pub user: String,
    /// What was answered.
    pub status: u16,
}

/// Requests, in order of their answers.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub Vec<Seen>);

impl Requests {
    /// How many were of this verb and resource.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        self.0.iter().filter(|seen| seen.verb == verb && seen.resource == resource).count()
    }

    /// Counts by verb and resource, for messages and notes.
    pub fn counts(&self) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for seen in &self.0 {
            *counts.entry((seen.verb.clone(), seen.resource.clone())).or_default() += 1;
        }
        counts
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This HTTP status with a `Status` object; 429 and 503 with `Retry-After: 1`.
    Status(u16),
    /// The right answer, this much later.
    Delay(Duration),
    /// The connection is cut instead of an answer.
    Cut,
}

/// Faults that wait for their requests.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(String, Fault, usize)>);

impl Faults {
    /// The next `times` requests whose path and query hold `text` meet this fault.
    pub(crate) fn add(&mut self, text: &str, fault: Fault, times: usize) {
        self.0.push((text.to_owned(), fault, times));
    }

    /// The fault of this request.
    pub(crate) fn take(&mut self, target: &str) -> Option<Fault> {
        let (_, fault, times) =
            self.0.iter_mut().find(|(text, _, times)| *times > 0 && target.contains(text.as_str()))?;
        *times -= 1;
        Some(*fault)
    }

    /// How many requests will still meet a fault of this text.
    pub(crate) fn left(&self, text: &str) -> usize {
        self.0.iter().filter(|(of, _, _)| of == text).map(|(_, _, times)| times).sum()
    }

    /// No more faults.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
