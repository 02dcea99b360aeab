//! What one file holds.

use super::{AnyObject, Rejection};
use crate::problem::{ObjectRef, Place, Problem, Severity};

/// A document that is not read because another program is to work on it first.
pub(super) const SKIPPED: &str = "skipped";

/// The code of the problem that a file, or a folder, could not be read.
pub const UNREADABLE_FILE: &str = "unreadable-file";

/// What a file holds. Cheap to clone, so that a file that did not change need not be read again.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The good objects, in the order of the file.
    pub objects: Vec<AnyObject>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Objects that are named in the file but broken: their last good version should keep serving.
    pub rejected: Vec<Rejection>,
    /// Of those, what is sound by itself: it holds as long as no good version is known.
    pub sound: Vec<AnyObject>,
    /// Something in the file could not even be named: nothing that the file held before may be forgotten.
    pub unreadable: bool,
}

impl Parsed {
    /// A file that could not be opened or is not text; `reason` is a sentence.
    pub fn unreadable(file: &str, reason: &str) -> Self {
        let problem = Problem {
            code: UNREADABLE_FILE,
            severity: Severity::Error,
            object: ObjectRef::default(),
            field: String::new(),
            place: Some(Place { file: file.into(), line: 1, column: 1 }),
            message: reason.to_owned(),
        };
        Self { problems: vec![problem], unreadable: true, ..Self::default() }
    }

    /// A file that is a patch of what other files hold, by the kustomization of this name: nothing in it is an object.
    pub fn patch(file: &str, kustomization: &str) -> Self {
        let problem = Problem {
            code: SKIPPED,
            severity: Severity::Info,
            object: ObjectRef::default(),
            field: String::new(),
            place: Some(Place { file: file.into(), line: 1, column: 1 }),
            message: format!(
                "this is a patch, as {kustomization} says, so it is not read; check what `kustomize build` prints"
            ),
        };
        Self { problems: vec![problem], ..Self::default() }
    }
}

/// Problems of one file that are kept one by one.
pub(super) const MOST: usize = 1000;

impl Parsed {
    /// With what was read behind it.
    pub(super) fn append(&mut self, behind: Self) {
        self.objects.extend(behind.objects);
        // Each part names the foreign kinds that it meets; the store tells each once.
        self.problems.extend(behind.problems);
        self.rejected.extend(behind.rejected);
        self.unreadable |= behind.unreadable;
    }

    /// Keeps no more problems than somebody could ever read, and counts the rest. Nothing of what serves depends on them.
    pub(super) fn limit(&mut self, file: &str) {
        self.problems.iter_mut().for_each(Problem::clip);
        let more = self.problems.split_off(self.problems.len().min(MOST));
        let Some(severity) = more.iter().map(|problem| problem.severity).min() else { return };
        self.problems.push(Problem {
            code: "more-problems",
            severity,
            object: ObjectRef::default(),
            field: String::new(),
            place: Some(more[0].place.clone().unwrap_or_else(|| Place { file: file.into(), line: 1, column: 1 })),
            message: format!("and {} more problems from here to the end of this file", more.len()),
        });
    }
}
