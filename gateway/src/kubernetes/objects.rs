//! What is known of the cluster: the objects as they were read, and how the watches are doing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use routing::{
    problem::{ObjectRef, Problem, Severity},
    resources::{AnyObject, Kind, Parsed},
};
use tokio::sync::Notify;

use super::kinds::OPTIONAL;

/// Namespace and name.
pub(super) type Name = (String, String);

/// What one watch follows: a kind, and which part of it where there are several.
pub(super) type Part = (Kind, usize);

/// Written by the watches, read by the source.
#[derive(Debug, Default)]
pub(super) struct Objects {
    kinds: Mutex<BTreeMap<Part, Reflected>>,
    secrets: Mutex<Secrets>,
    /// Something that may matter is different.
    pub(super) changed: Notify,
}

/// The objects of a part of a kind.
#[derive(Debug, Default)]
pub(super) struct Reflected {
    objects: HashMap<Name, Parsed>,
    /// What a list that is not finished has given so far.
    listing: HashMap<Name, Parsed>,
    /// The first list is complete, or the cluster does not know the kind.
    synced: bool,
    /// Why the watch does not work now.
    failure: Option<Failure>,
}

/// Why something cannot be read from the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    /// Stable name for programs.
    pub(super) code: &'static str,
    /// A sentence.
    pub(super) message: String,
}

/// The namespace's Secrets: which there are, and what was read.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Name and version of each. Their contents are not here.
    pub(super) versions: HashMap<String, String>,
    /// As above, while a list is not finished.
    pub(super) listing: HashMap<String, String>,
    /// Names that something names, whether or not there is such a Secret.
    pub(super) wanted: BTreeSet<String>,
    /// Those that something names, with the version that was read.
    pub(super) read: HashMap<String, (String, Parsed)>,
    /// The first list is complete.
    pub(super) synced: bool,
    /// Why the watch does not work now.
    pub(super) failure: Option<Failure>,
    /// Why one could not be read.
    pub(super) unread: BTreeMap<String, Failure>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Objects {
    /// Changes what is known of a part, and tells when the change `matters`.
    pub(super) fn change(&self, part: Part, change: impl FnOnce(&mut Reflected) -> bool) {
        if change(locked(&self.kinds).entry(part).or_default()) {
            self.changed.notify_one();
        }
    }

    /// The Secrets.
    pub(super) fn secrets(&self) -> MutexGuard<'_, Secrets> {
        locked(&self.secrets)
    }

    /// What is waited for before the first configuration can be put together, as a sentence; `None` when nothing is.
    pub(super) fn awaited(&self, parts: impl IntoIterator<Item = Part>) -> Option<String> {
        let known = locked(&self.kinds);
        for part in parts {
            match known.get(&part) {
                Some(Reflected { synced: true, .. }) => {}
                Some(Reflected { failure: Some(failure), .. }) => return Some(failure.message.clone()),
                _ => return Some(format!("waiting for the API server's list of {}", client_name(part.0))),
            }
        }
        None
    }

    /// The same for the Secrets that something names.
    pub(super) fn awaited_secrets(&self) -> Option<String> {
        let secrets = self.secrets();
        match (secrets.wanted.is_empty() || secrets.synced, &secrets.failure) {
            (true, _) => secrets.unread.values().next().map(|failure| failure.message.clone()),
            (false, Some(failure)) => Some(failure.message.clone()),
            (false, None) => Some("waiting for the API server's list of Secrets".to_owned()),
        }
    }

    /// Every object that was read, each as a document of its own.
    pub(super) fn documents(&self) -> Vec<(String, Parsed)> {
        let mut documents = Vec::new();
        for reflected in locked(&self.kinds).values() {
            documents.extend(reflected.objects.values().map(|parsed| (String::new(), parsed.clone())));
        }
        documents.extend(self.secrets().read.values().map(|(_, parsed)| (String::new(), parsed.clone())));
        documents
    }

    /// What is wrong with the watches. That the cluster lacks a kind which proxies need not have is told when something
    /// `misses` it.
    pub(super) fn problems(&self, misses: impl Fn(Kind) -> bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        for ((kind, part), reflected) in locked(&self.kinds).iter() {
            let failure = reflected.failure.as_ref().filter(|failure| misses(*kind) || !failure.is_lack(*kind));
            let problem = failure.map(|failure| failure.problem(kind.name(), "", ""));
            // What is wrong with one part of a kind is wrong with the others.
            problems.extend(problem.filter(|problem| *part == 0 || !problems.contains(problem)));
        }
        let secrets = self.secrets();
        problems.extend(secrets.failure.as_ref().map(|failure| failure.problem("Secret", "", "")));
        problems.extend(secrets.unread.iter().map(|(name, failure)| failure.problem("Secret", "", name)));
        problems
    }

    /// How many objects are held.
    pub(super) fn len(&self) -> usize {
        let objects: usize = locked(&self.kinds).values().map(|reflected| reflected.objects.len()).sum();
        objects + self.secrets().read.len()
    }
}

/// As `VirtualServices`.
fn client_name(kind: Kind) -> String {
    let name = kind.name();
    match name.strip_suffix('y') {
        Some(stem) if !name.ends_with("way") => format!("{stem}ies"),
        _ => format!("{name}s"),
    }
}

impl Reflected {
    /// A list begins.
    pub(super) fn begin(&mut self) -> bool {
        self.listing.clear();
        false
    }

    /// An object of a list.
    pub(super) fn listed(&mut self, name: Name, parsed: Parsed) -> bool {
        self.listing.insert(name, parsed);
        false
    }

    /// A list is complete: it replaces what was known.
    pub(super) fn complete(&mut self) -> bool {
        let listing = std::mem::take(&mut self.listing);
        let same = self.objects.len() == listing.len()
            && listing.iter().all(|(name, parsed)| self.objects.get(name).is_some_and(|old| alike(old, parsed)));
        self.objects = listing;
        let news = !same || !self.synced || self.failure.is_some();
        (self.synced, self.failure) = (true, None);
        news
    }

    /// An object is new or different.
    pub(super) fn apply(&mut self, name: Name, parsed: Parsed) -> bool {
        let news = self.objects.get(&name).is_none_or(|old| !alike(old, &parsed));
        self.objects.insert(name, parsed);
        news
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, name: &Name) -> bool {
        self.objects.remove(name).is_some()
    }

    /// The watch does not work, or works again; what is known stays.
    pub(super) fn fail(&mut self, failure: Option<Failure>) -> bool {
        let news = self.failure != failure;
        self.failure = failure;
        news
    }

    /// The cluster has no such kind, which is as good as an empty list the first time.
    pub(super) fn unknown(&mut self, failure: Failure) -> bool {
        let news = self.fail(Some(failure)) || !self.synced;
        self.synced = true;
        news
    }
}

/// Whether nothing that is read differs. A new generation counts, as status speaks of it.
pub(super) fn alike(old: &Parsed, new: &Parsed) -> bool {
    fn key(object: &AnyObject) -> (u64, i64, &Option<String>) {
        (object.digest(), object.meta().generation, &object.meta().creation_timestamp)
    }
    old.problems == new.problems
        && old.rejected == new.rejected
        && old.objects.iter().map(key).eq(new.objects.iter().map(key))
        && old.sound.iter().map(key).eq(new.sound.iter().map(key))
}

impl Failure {
    /// Whether it only means that a kind which nobody needs to have is not there for this proxy.
    pub(super) fn is_lack(&self, kind: Kind) -> bool {
        OPTIONAL.contains(&kind) && matches!(self.code, UNKNOWN_KIND | FORBIDDEN)
    }

    /// About a kind, or one object of it.
    pub(super) fn problem(&self, kind: &str, namespace: &str, name: &str) -> Problem {
        Problem {
            code: self.code,
            severity: if self.code == UNKNOWN_KIND { Severity::Warning } else { Severity::Error },
            object: ObjectRef::new(kind, namespace, name),
            field: String::new(),
            place: None,
            message: self.message.clone(),
        }
    }
}

/// The API server answers, but does not know the kind.
pub(super) const UNKNOWN_KIND: &str = "unknown-kind";
/// The API server refuses.
pub(super) const FORBIDDEN: &str = "forbidden";
/// The API server does not answer as it should.
pub(super) const UNREACHABLE: &str = "api-server";

#[cfg(test)]
mod tests {
    use routing::resources::parse_object;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_broken_policy_that_would_hold_elsewhere_is_news() {
        let policy = |meta: Value, spec: Value| {
            let mut object = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "spec": spec});
            object["metadata"] = json!({"name": "a", "namespace": "shop", "annotations": meta});
            parse_object(&object)
        };
        let broken = |app: &str, action: &str| {
            policy(json!({}), json!({"selector": {"matchLabels": {"app": app}}, "action": action, "rules": 3}))
        };
        let tried = json!({"selector": {"matchLabels": {"app": "web"}}, "action": "DENY", "rules": 3});
        let tried = policy(json!({"istio.io/dry-run": "true"}), tried);
        let old = broken("web", "DENY");
        assert!(alike(&old, &broken("web", "DENY")));
        for new in [broken("cart", "DENY"), broken("web", "ALLOW"), tried] {
            assert_eq!(old.problems, new.problems);
            assert!(!alike(&old, &new), "{new:?}");
        }
    }
}
