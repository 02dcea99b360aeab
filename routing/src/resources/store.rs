//! What survives a reload: the last good version of every object.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::parsed::SKIPPED;
use super::{AnyObject, Parsed, Rejection, Resources};
use crate::hashed::HashMap;
use crate::problem::{ObjectRef, Problem, Severity};

/// The last good version of every object, so that a broken file takes nothing away that worked.
#[derive(Debug, Default)]
pub struct Store {
    good: HashMap<ObjectRef, AnyObject>,
}

impl Store {
    /// Takes the state of all files, and gives what now holds together with everything that is wrong.
    ///
    /// An object whose document is broken keeps its last good version, and the problem says so; an object that is in
    /// no file any more is gone. Of two objects with the same identity the first by file name holds.
    pub fn replace(&mut self, files: Vec<(String, Parsed)>) -> (Resources, Vec<Problem>) {
        let mut files = files;
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut next = Next::default();
        for (_, parsed) in &files {
            next.take_good(parsed);
        }
        for (file, parsed) in files {
            let kept = self.keep(&file, &parsed, &mut next);
            let mut closed = BTreeSet::new();
            let known = kept.known(&parsed);
            for rejection in parsed.rejected {
                if !rejection.object.is_complete() && known.contains(&rejection.object.kind) {
                    continue;
                }
                if rejection.closes() && !kept.named.contains(&rejection.object) {
                    closed.insert(rejection.object.clone());
                }
                match next.rejected.entry(rejection.object.clone()) {
                    Entry::Vacant(entry) => _ = entry.insert(rejection),
                    Entry::Occupied(mut entry) => entry.get_mut().join(rejection),
                }
            }
            next.tell(parsed.problems, &kept, &closed);
        }
        next.rejected.retain(|reference, _| !next.objects.contains_key(reference));
        let (kept, rejected) = (next.kept, next.rejected);
        let resources = Resources { kept, ..Resources::collect(next.objects.values().cloned()).without(rejected) };
        next.objects.retain(|reference, _| !next.partial.contains(reference));
        self.good = next.objects;
        (resources, next.problems)
    }

    /// Keeps what a file broke, as far as a good version is known.
    fn keep(&self, file: &str, parsed: &Parsed, next: &mut Next) -> Kept {
        let mut kept = Kept::default();
        for reference in parsed.rejected.iter().map(|rejection| &rejection.object) {
            // A good document of the same identity elsewhere serves already.
            if next.objects.contains_key(reference) && !next.kept.contains(reference) {
                continue;
            }
            if let Some(object) = self.good.get(reference) {
                next.keep(reference, object);
                kept.named.insert(reference.clone());
            } else if let Some(sound) = parsed.sound.iter().find(|object| object.reference() == *reference) {
                next.objects.insert(reference.clone(), sound.clone());
                next.partial.insert(reference.clone());
                kept.partial.insert(reference.clone());
            }
        }
        if parsed.unreadable {
            for (reference, object) in self.good.iter().filter(|(_, object)| object.source().file() == file) {
                if !next.objects.contains_key(reference) {
                    next.keep(reference, object);
                    *kept.unnamed.entry(reference.kind.clone()).or_default() += 1;
                }
            }
        }
        kept
    }
}

/// What one file's broken documents keep.
#[derive(Default)]
struct Kept {
    named: BTreeSet<ObjectRef>,
    /// Those of which no good version is known, and only what is sound is kept.
    partial: BTreeSet<ObjectRef>,
    /// How many of each kind are kept because the file has documents of which nobody knows what they are.
    unnamed: BTreeMap<String, usize>,
}

impl Kept {
    /// Kinds of which a file has no more documents without a name than objects that are kept: they are those.
    fn known(&self, parsed: &Parsed) -> BTreeSet<String> {
        let of = |kind: &str| {
            let mine = parsed.rejected.iter().filter(|it| !it.object.is_complete() && it.object.kind == kind);
            mine.count()
        };
        self.unnamed.iter().filter(|(kind, count)| of(kind) <= **count).map(|(kind, _)| kind.clone()).collect()
    }
}

/// The state that is being put together.
#[derive(Default)]
struct Next {
    objects: HashMap<ObjectRef, AnyObject>,
    kept: BTreeSet<ObjectRef>,
    /// Those that hold in part.
    partial: BTreeSet<ObjectRef>,
    rejected: BTreeMap<ObjectRef, Rejection>,
    problems: Vec<Problem>,
    /// Ignored kinds that were already named, by message.
    ignored: BTreeSet<String>,
}

impl Next {
    fn take_good(&mut self, parsed: &Parsed) {
        for object in &parsed.objects {
            let reference = object.reference();
            if let Some(first) = self.objects.get(&reference) {
                let first = first.source().place("");
                let first = first.map_or_else(String::new, |place| format!(" in {}:{}", place.file, place.line));
                let place = object.source().place("");
                let here =
                    place.as_ref().map_or_else(String::new, |place| format!(" in {}:{}", place.file, place.line));
                let message = format!(
                    "the same object is written twice: the first{first} holds, the one{here} is ignored; remove one"
                );
                let field = String::new();
                let (code, severity) = ("duplicate-object", Severity::Warning);
                self.problems.push(Problem { code, severity, object: reference, field, place, message });
            } else {
                self.objects.insert(reference, object.clone());
            }
        }
    }

    fn keep(&mut self, reference: &ObjectRef, object: &AnyObject) {
        self.objects.insert(reference.clone(), object.clone());
        self.kept.insert(reference.clone());
    }

    fn tell(&mut self, problems: Vec<Problem>, kept: &Kept, closed: &BTreeSet<ObjectRef>) {
        for mut problem in problems {
            if problem.code == "ignored-kind" && !self.ignored.insert(problem.message.clone()) {
                continue;
            }
            // A template that would close something only warns.
            let fails = problem.severity == Severity::Error || problem.code == SKIPPED;
            if fails && closed.contains(&problem.object) && !self.objects.contains_key(&problem.object) {
                problem.message.push_str("; until it can be read it fails closed, for all that it may select");
            } else if problem.severity == Severity::Error {
                if kept.named.contains(&problem.object) {
                    problem.message.push_str("; the last good version keeps serving");
                } else if kept.partial.contains(&problem.object) {
                    problem.message.push_str("; it is passed over, and the rest holds");
                } else if !kept.unnamed.is_empty() && !problem.object.is_complete() {
                    problem.message.push_str(&match kept.unnamed.values().sum::<usize>() {
                        1 => "; the last good version of 1 object of this file keeps serving".to_owned(),
                        count => format!("; the last good versions of {count} objects of this file keep serving"),
                    });
                }
            }
            self.problems.push(problem);
        }
    }
}
