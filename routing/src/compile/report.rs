//! Problems as the compiler finds them: each told once, and no more of a kind per object than a person reads.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use super::absent::Absence;
use crate::{
    problem::{ObjectRef, Problem, Problems, Severity},
    resources::{Object, Rejection, Source, forget_places},
};

/// What is asked for and not honoured.
pub(super) const UNSUPPORTED: &str = "unsupported-field";
/// A `credentialName` that only a gateway can use, where a sidecar meets it.
pub(super) const CREDENTIAL_AT_A_SIDECAR: &str = "credential-at-a-sidecar";
/// A Secret that does not exist or lacks what is needed.
pub(super) const MISSING_SECRET: &str = "missing-secret";
/// A destination, or the host of a DestinationRule, that no service has.
pub(super) const UNKNOWN_HOST: &str = "unknown-host";
/// Something that was rejected, and told already.
pub(super) const REJECTED_REFERENCE: &str = "rejected-reference";
/// A value that means nothing here.
pub(super) const BAD_VALUE: &str = "bad-value";

/// Collects problems. It is shared by reference all over the compiler, hence the cells.
#[derive(Default)]
pub(super) struct Report {
    general: RefCell<Problems>,
    objects: RefCell<HashMap<ObjectRef, Told>>,
    told: Cell<usize>,
}

/// What was told about one object. Places are looked up at the end, since that reads the object's document again.
struct Told {
    source: Source,
    problems: Vec<Problem>,
    seen: HashSet<(String, String)>,
    kinds: HashMap<&'static str, Count>,
}

struct Count {
    number: usize,
    worst: Severity,
}

const LISTED: usize = 20;
/// Objects with problems whose fields are looked up: that reads the object's document again, in each compilation.
const PLACED: usize = 1000;

impl Report {
    /// Something asked for does not work.
    pub(super) fn error<T>(&self, at: &Object<T>, code: &'static str, field: &str, message: impl Into<String>) {
        self.add(at, (Severity::Error, code), field, message.into());
    }

    /// It works, but perhaps not as meant.
    pub(super) fn warning<T>(&self, at: &Object<T>, code: &'static str, field: &str, message: impl Into<String>) {
        self.add(at, (Severity::Warning, code), field, message.into());
    }

    /// Worth knowing.
    pub(super) fn info<T>(&self, at: &Object<T>, code: &'static str, field: &str, message: impl Into<String>) {
        self.add(at, (Severity::Info, code), field, message.into());
    }

    /// Something named is not there; `rest` ends the sentence.
    pub(super) fn absent<T>(&self, at: &Object<T>, field: &str, absence: Absence, rest: &str) {
        self.add(at, (absence.severity, absence.code), field, absence.words + rest);
    }

    /// A problem of no object in particular.
    pub(super) fn general(&self, severity: Severity, code: &'static str, message: String) {
        let object = ObjectRef::default();
        self.general.borrow_mut().push(Problem { code, severity, object, field: String::new(), place: None, message });
    }

    /// A problem of an object that gave none.
    pub(super) fn of_rejection(
        &self,
        rejection: &Rejection,
        (severity, code): (Severity, &'static str),
        message: String,
    ) {
        let (object, place) = (rejection.object.clone(), rejection.place.clone());
        self.general.borrow_mut().push(Problem { code, severity, object, field: String::new(), place, message });
    }

    /// How often something was told about an object, in these words before or not.
    pub(super) fn told(&self) -> usize {
        self.told.get()
    }

    /// Whatever it is.
    pub(super) fn add<T>(
        &self,
        at: &Object<T>,
        (severity, code): (Severity, &'static str),
        field: &str,
        message: String,
    ) {
        self.told.set(self.told.get() + 1);
        let object = at.reference();
        let mut objects = self.objects.borrow_mut();
        let told = objects.entry(object.clone()).or_insert_with(|| Told::new(&at.source));
        if !told.seen.insert((field.to_owned(), message.clone())) {
            return;
        }
        let count = told.kinds.entry(code).or_insert(Count { number: 0, worst: severity });
        count.number += 1;
        count.worst = count.worst.min(severity);
        if count.number <= LISTED {
            told.problems.push(Problem { code, severity, object, field: field.to_owned(), place: None, message });
        }
    }

    /// Everything found, by place.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.general.into_inner();
        let mut objects: Vec<(ObjectRef, Told)> = self.objects.into_inner().into_iter().collect();
        // Objects of one document together, so that it is read once for all of them.
        objects.sort_by(|(_, a), (_, b)| a.source.order(&b.source));
        for (number, (object, told)) in objects.into_iter().enumerate() {
            problems.extend(told.into_problems(&object, number < PLACED));
        }
        forget_places();
        let mut problems = problems.into_sorted();
        problems.iter_mut().for_each(Problem::clip);
        problems
    }
}

impl Told {
    fn new(source: &Source) -> Self {
        Self { source: source.clone(), problems: Vec::new(), seen: HashSet::new(), kinds: HashMap::new() }
    }

    /// With the places of their fields, or of the object where those are not `exact`.
    fn into_problems(self, object: &ObjectRef, exact: bool) -> Vec<Problem> {
        let mut problems = self.problems;
        for (code, count) in self.kinds.into_iter().filter(|(_, count)| count.number > LISTED) {
            // Stands where the last one that is listed stands.
            let last = problems.iter().rfind(|problem| problem.code == code);
            let field = last.map(|last| last.field.clone()).unwrap_or_default();
            let message = format!("and {} more of this kind in this object", count.number - LISTED);
            problems.push(Problem { code, severity: count.worst, object: object.clone(), field, place: None, message });
        }
        let places = self.source.places(problems.iter().map(|problem| if exact { problem.field.as_str() } else { "" }));
        for (problem, place) in problems.iter_mut().zip(places) {
            problem.place = place;
        }
        problems
    }
}
