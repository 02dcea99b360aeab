//! How the orders are doing: what the records say, and what could not be written into one because that is forbidden.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

use super::{
    Progress, now,
    record::{LastError, Record},
};

/// See the module.
#[derive(Default)]
pub(super) struct Gathered {
    parts: Mutex<Parts>,
    all: watch::Sender<Progress>,
}

#[derive(Default)]
struct Parts {
    records: Progress,
    /// By the name of the certificate's Secret; of the leader only.
    forbidden: BTreeMap<String, LastError>,
}

impl Gathered {
    /// Follows all of it.
    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.all.subscribe()
    }

    /// These are the records now.
    pub(super) fn recorded(&self, records: Progress) {
        self.change(|parts| parts.records = records);
    }

    /// What is known of this certificate's order may not be kept: why.
    pub(super) fn forbidden(&self, secret: &str, text: &str) {
        self.change(|parts| {
            let known = parts.forbidden.get(secret).is_some_and(|known| known.text == text);
            if !known {
                parts.forbidden.insert(secret.to_owned(), LastError::new(now(), text));
            }
        });
    }

    /// It may be kept, or nobody tries to any more.
    pub(super) fn permitted(&self, secret: &str) {
        let none = self.parts.lock().unwrap_or_else(PoisonError::into_inner).forbidden.is_empty();
        if !none {
            self.change(|parts| drop(parts.forbidden.remove(secret)));
        }
    }

    /// Nobody tries to keep anything here: another replica leads.
    pub(super) fn left_to_others(&self) {
        self.change(|parts| parts.forbidden.clear());
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let mut all = parts.records.clone();
        for (secret, error) in &parts.forbidden {
            let fresh = || Record { secret: secret.clone(), ..Record::default() };
            all.entry(secret.clone()).or_insert_with(fresh).last_error = Some(error.clone());
        }
        self.all.send_if_modified(|before| {
            let news = *before != all;
            *before = all;
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_is_told_beside_the_records_until_it_is_permitted() {
        let gathered = Gathered::default();
        let mut told = gathered.subscribe();
        let error = |told: &watch::Receiver<Progress>, secret: &str| {
            told.borrow().get(secret).and_then(|it| it.last_error.as_ref().map(|it| it.text.clone()))
        };
        gathered.forbidden("a", "no");
        assert_eq!(error(&told, "a").as_deref(), Some("no"));
        gathered.recorded(Progress::from([("b".to_owned(), Record { secret: "b".to_owned(), ..Record::default() })]));
        assert_eq!((error(&told, "a").as_deref(), error(&told, "b")), (Some("no"), None));

        told.mark_unchanged();
        gathered.forbidden("a", "no");
        assert!(!told.has_changed().unwrap(), "the same again is no news");
        gathered.permitted("a");
        assert_eq!(told.borrow_and_update().keys().collect::<Vec<_>>(), ["b"]);
        gathered.forbidden("b", "no");
        gathered.left_to_others();
        assert_eq!(error(&told, "b"), None);
    }
}
