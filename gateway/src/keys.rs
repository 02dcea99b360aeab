//! The keys of the issuers of tokens: fetched, refreshed ahead, kept when their issuer is away. They outlive every reload.

mod fetch;
mod misses;
pub(crate) mod report;
pub(crate) mod verified;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use routing::{
    snapshot::Snapshot,
    tokens::{KeySource, TokenRule},
};
use tls::jwt::Keys;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

pub(crate) use self::fetch::Asking;
use self::misses::Misses;
use crate::telemetry::metrics::Metrics;

/// How long a configuration waits for keys that were never asked for: an issuer that is away must not stop it.
const FIRST: Duration = Duration::from_secs(4);

// What `check` lets pass can be read: the two crates that say how many keys a set may have do not know each other.
const _: () = assert!(routing::api::check::MOST_KEYS == tls::jwt::MOST_KEYS);

/// The keys of one source.
#[derive(Debug)]
pub(crate) struct Slot {
    source: KeySource,
    keys: ArcSwap<Keys>,
    state: Mutex<State>,
    /// Tokens that came and no key fits.
    misses: Arc<Misses>,
    /// Whether there was an answer, or the lack of one.
    tried: watch::Sender<bool>,
}

/// How a source is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Why the last try failed.
    pub(crate) error: Option<Arc<str>>,
    /// Whether there are keys.
    pub(crate) has_keys: bool,
}

impl Slot {
    fn new(source: KeySource) -> Self {
        let (mut state, mut keys) = (State::default(), Keys::nobodys());
        if let KeySource::Inline(text) = &source {
            match Keys::read(text.as_bytes()) {
                Ok(read) => (keys, state.has_keys) = (read, true),
                Err(fault) => state.error = Some(fault.into()),
            }
        }
        let tried = matches!(source, KeySource::Inline(_));
        Self {
            source,
            keys: ArcSwap::from_pointee(keys),
            state: Mutex::new(state),
            misses: Arc::new(Misses::new(Instant::now())),
            tried: watch::Sender::new(tried),
        }
    }

    /// The keys in force.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// A token came that names a key (or none) and none fits: perhaps there are new ones.
    pub(crate) fn miss(&self, name: Option<&str>) {
        if !matches!(self.source, KeySource::Inline(_)) {
            self.misses.miss(name);
        }
    }

    /// How it is doing.
    pub(crate) fn state(&self) -> State {
        lock(&self.state).clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Whoever fetches for it looks whether it is still there.
        self.misses.wake();
    }
}

/// The keys of all issuers, by source.
#[derive(Debug)]
pub(crate) struct KeyBook {
    slots: Mutex<HashMap<KeySource, Arc<Slot>>>,
    changed: watch::Sender<u64>,
}

impl Default for KeyBook {
    fn default() -> Self {
        Self { slots: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl KeyBook {
    /// Looks after the keys that a snapshot names, and waits for those that were never asked for, but not for long.
    pub(crate) async fn want(self: &Arc<Self>, snapshot: &Snapshot, asking: &Asking, metrics: &Arc<Metrics>) {
        let mut waits = Vec::new();
        for rule in rules(snapshot) {
            let slot = self.enter(&rule.keys, asking, metrics);
            if !*slot.tried.borrow() {
                waits.push(slot);
            }
        }
        let all = async {
            for slot in &waits {
                // The sender is here.
                let _ = slot.tried.subscribe().wait_for(|tried| *tried).await;
            }
        };
        if tokio::time::timeout(FIRST, all).await.is_err() {
            warn!("the keys of an issuer are not here yet; until they are, its tokens are refused");
            // It is waited for once: other changes are not to be late because of it.
            for slot in &waits {
                slot.tried.send_replace(true);
            }
        }
    }

    /// The slots of a snapshot's rules, in their order; what no snapshot names any more is forgotten.
    pub(crate) fn slots(&self, snapshot: &Snapshot) -> Vec<Arc<Slot>> {
        let mut known = lock(&self.slots);
        let found: Vec<Arc<Slot>> = rules(snapshot)
            .map(|rule| known.get(&rule.keys).map_or_else(|| Arc::new(Slot::new(rule.keys.clone())), Arc::clone))
            .collect();
        known.retain(|_, slot| Arc::strong_count(slot) > 1);
        found
    }

    /// Tells of every source that is doing better or worse.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn enter(self: &Arc<Self>, source: &KeySource, asking: &Asking, metrics: &Arc<Metrics>) -> Arc<Slot> {
        let mut known = lock(&self.slots);
        if let Some(slot) = known.get(source) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new(source.clone()));
        if !matches!(source, KeySource::Inline(_)) {
            let book = Arc::downgrade(self);
            tokio::spawn(fetch::look_after(Arc::downgrade(&slot), book, asking.clone(), Arc::clone(metrics)));
        }
        known.insert(source.clone(), Arc::clone(&slot));
        slot
    }
}

fn rules(snapshot: &Snapshot) -> impl Iterator<Item = &TokenRule> {
    snapshot.guard.iter().filter_map(|guard| guard.tokens.as_ref()).flat_map(|tokens| &tokens.rules)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
