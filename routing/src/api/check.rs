//! What is wrong inside one object: findings with the path of their field.
//!
//! For Istio's kinds the rules are those of its validation webhook; there is one file of them per kind.

mod authorization_policy;
mod destination_rule;
mod extension_provider;
mod fault;
mod gateway;
mod headers;
mod http_match;
mod http_route;
mod issuer;
mod load_balancer;
pub mod mesh_config;
mod names;
mod peer_authentication;
mod punycode;
mod rate_limit;
mod request_authentication;
mod service_entry;
mod sidecar;
mod target_reference;
mod telemetry;
mod virtual_service;
mod workload_group;

use std::fmt::{self, Write as _};

pub(crate) use names::{is_host_name, is_object_name};
pub(crate) use request_authentication::LONGEST_FETCH;
pub use request_authentication::MOST_KEYS;

use super::scalar::{Percent, ProtoDuration};
use crate::problem::Severity;

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path from the object's root, as `spec.servers[0].tls.mode`.
    pub field: String,
    /// Stable name for programs.
    pub code: &'static str,
    /// An error rejects the object.
    pub severity: Severity,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Finding {
    /// An error about a field.
    pub fn error(field: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), code, severity: Severity::Error, message: message.into() }
    }
}

/// Findings of one object, and the path of the field that is being looked at.
#[derive(Debug, Default)]
pub struct Findings {
    path: Vec<Step>,
    found: Vec<Finding>,
}

/// One step of a path.
#[derive(Clone, Debug)]
enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

/// A value of a field was wrong.
pub const BAD_VALUE: &str = "bad-value";
/// A field that must be there is not.
pub const MISSING_FIELD: &str = "missing-field";
/// A field that the kind does not have.
pub const UNKNOWN_FIELD: &str = "unknown-field";
/// A field in snake_case.
pub const FIELD_SPELLING: &str = "field-spelling";
/// Fields that exclude each other.
pub const CONFLICT: &str = "conflicting-fields";
/// A field that Istio replaced by another.
pub const DEPRECATED_FIELD: &str = "deprecated-field";
/// A field that has no effect here.
pub const NO_EFFECT: &str = "no-effect";

impl Findings {
    /// Looks at a field of a struct.
    pub fn within(&mut self, field: &'static str, look: impl FnOnce(&mut Self)) {
        self.step(Step::Field(field), look);
    }

    /// Looks at what stands below a path of plain names, as `data.mesh`; empty: below the root.
    pub(crate) fn at_path(&mut self, path: &str, look: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        self.path.extend(path.split('.').filter(|key| !key.is_empty()).map(|key| Step::Key(key.to_owned())));
        look(self);
        self.path.truncate(before);
    }

    /// Looks at every item of a list.
    pub fn each<'t, T>(&mut self, field: &'static str, items: &'t [T], mut look: impl FnMut(&mut Self, usize, &'t T)) {
        self.within(field, |findings| {
            for (index, item) in items.iter().enumerate() {
                findings.step(Step::Index(index), |findings| look(findings, index, item));
            }
        });
    }

    /// Looks at every entry of a map.
    pub fn each_key<'m, K: fmt::Display + 'm, V: 'm>(
        &mut self,
        field: &'static str,
        entries: impl IntoIterator<Item = (&'m K, &'m V)>,
        mut look: impl FnMut(&mut Self, &'m K, &'m V),
    ) {
        self.within(field, |findings| {
            for (key, value) in entries {
                findings.step(Step::Key(key.to_string()), |findings| look(findings, key, value));
            }
        });
    }

    /// Adds an error about the field that is being looked at.
    pub fn error(&mut self, code: &'static str, message: impl Into<String>) {
        let field = render(&self.path);
        self.add(Finding { field, code, severity: Severity::Error, message: message.into() });
    }

    /// Adds an error about a field below.
    pub fn error_at(&mut self, field: &'static str, code: &'static str, message: impl Into<String>) {
        self.within(field, |findings| findings.error(code, message));
    }

    /// Adds a warning about a field below.
    pub fn warn_at(&mut self, field: &'static str, code: &'static str, message: impl Into<String>) {
        self.within(field, |findings| findings.warn(code, message));
    }

    /// Adds a warning about the field that is being looked at.
    pub fn warn(&mut self, code: &'static str, message: impl Into<String>) {
        let field = render(&self.path);
        self.add(Finding { field, code, severity: Severity::Warning, message: message.into() });
    }

    /// Where the field stands that is being looked at.
    fn here(&self) -> String {
        render(&self.path)
    }

    /// Adds one that was made elsewhere.
    pub fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    /// As [`Self::add`], unless it is there.
    pub fn add_once(&mut self, finding: Finding) {
        if !self.found.contains(&finding) {
            self.add(finding);
        }
    }

    /// Whether any is an error, which rejects the object.
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Whether any has this code.
    pub fn has(&self, code: &str) -> bool {
        self.found.iter().any(|finding| finding.code == code)
    }

    /// All of them, in the order they were found.
    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }

    /// A duration of at least one millisecond, as Istio's `ValidateDuration` wants it.
    fn positive(&mut self, field: &'static str, duration: Option<ProtoDuration>, instead_of_zero: &str) {
        if duration.is_some_and(|duration| duration.get().is_zero()) {
            self.error_at(field, BAD_VALUE, format!("0s is too short, at least 1ms is wanted; {instead_of_zero}"));
        }
    }

    /// Istio's fractional percent: 0, or 0.0001 to 100.
    fn percent(&mut self, field: &'static str, percent: Option<Percent>) {
        let Some(Percent { value }) = percent else { return };
        if value != 0.0 && !(0.0001..=100.0).contains(&value) {
            self.within(field, |findings| {
                findings.error_at(
                    "value",
                    BAD_VALUE,
                    format!("{value} is not a percentage; 0, or 0.0001 to 100 is wanted"),
                );
            });
        }
    }

    fn step(&mut self, step: Step, look: impl FnOnce(&mut Self)) {
        self.path.push(step);
        look(self);
        self.path.pop();
    }
}

fn render(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => push_key(&mut text, name),
            Step::Key(key) => push_key(&mut text, key),
            Step::Index(index) => push_index(&mut text, *index),
        }
    }
    text
}

/// Appends a key to a path; keys that would not read well stand in brackets, as `headers["x.y"]`.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !plain {
        // Debug quotes and escapes; `resources::position` undoes it.
        let _ = write!(path, "[{key:?}]");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// Appends an index to a path.
pub(crate) fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}
