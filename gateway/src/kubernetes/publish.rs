//! The leader's work on statuses: finds out which differ from what they should say, and writes those, newest change first
//! and no faster than an API server likes.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use routing::resources::Kind;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::{
    conditions::{self, Condition, Index, KINDS, Key, Wanted},
    kinds::resource,
    pace::Pace,
    reflect::Wait,
    replicas::Alive,
};
use crate::applied::Latest;

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Writes per second, and how many may come at once.
const PER_SECOND: f64 = 20.0;
const BURST: f64 = 50.0;
/// So long replicas may take before it is told that some of them lag: mostly they need less, and one write is enough.
const PATIENCE: Duration = Duration::from_millis(1500);
/// So long another deployment, which wrote a status before, may take to do it again.
const COURTESY: Duration = Duration::from_secs(10);
/// Contents that are remembered, to tell what a lagging replica has in force.
const HISTORY: usize = 256;
/// Longest wait for one answer of the API server.
const ANSWER: Duration = Duration::from_secs(10);
/// Before an object is tried again that may not be written.
const REFUSED: Duration = Duration::from_secs(60);
/// What starts the name of every field manager that writes conditions for Sluice.
const MANAGER: &str = "sluice-";

/// What is known of an object's status, as little as will do: there may be many.
#[derive(Debug, Default)]
struct Entry {
    /// [`conditions::digest`] of what it says; `None` = not known.
    told: Option<u64>,
    /// The generation at which it says that every replica has it.
    programmed: Option<i64>,
    /// What is in force here, and since which content and when.
    generation: i64,
    uid: Option<String>,
    rejected: bool,
    since: u64,
    changed: Option<Instant>,
    /// There are no conditions at all at this resourceVersion, so that it can be written without being read.
    blank: Option<Box<str>>,
    /// Another deployment wrote it.
    other: bool,
    not_before: Option<Instant>,
}

/// See the module. Lives as long as a leadership.
pub(super) struct Publisher {
    client: Client,
    manager: String,
    entries: HashMap<Key, Entry>,
    /// Contents in force here, the newest last, with their numbers.
    history: VecDeque<(u64, u64)>,
    number: u64,
    /// Which version of a kind the API server knows.
    versions: HashMap<Kind, usize>,
    pace: Pace,
    wait: Wait,
    warned: bool,
}

/// What came of a write.
enum Written {
    /// The status says what it should.
    Done,
    /// It has to be done again, at that time.
    Again(Instant),
}

impl Publisher {
    /// For the gateways of this workload of a namespace.
    pub(super) fn new(client: Client, namespace: &str, workload: &str) -> Self {
        Self {
            client,
            manager: manager(namespace, workload),
            entries: HashMap::new(),
            history: VecDeque::new(),
            number: 0,
            versions: HashMap::new(),
            pace: Pace::new(PER_SECOND, BURST),
            wait: Wait::default(),
            warned: false,
        }
    }

    /// Reads what statuses say, then keeps them right until dropped.
    pub(super) async fn run(
        &mut self,
        mut applied: watch::Receiver<Latest>,
        mut alive: watch::Receiver<Option<Alive>>,
    ) {
        for kind in KINDS {
            while let Err(error) = self.read(kind).await {
                self.warn(&format!("statuses of {}s cannot be read: {error}", kind.name()));
                self.wait.pause().await;
            }
            self.wait.reset();
        }
        let mut index: Option<Index> = None;
        loop {
            if index.is_none() || applied.has_changed().unwrap_or(false) {
                index = applied.borrow_and_update().clone().map(Index::new);
                if let Some(index) = &index {
                    self.follow(index);
                }
            }
            let replicas = alive.borrow_and_update().clone();
            let next = match (&index, replicas) {
                (Some(index), Some(replicas)) => self.catch_up(index, &replicas, &applied, &alive).await,
                _ => None,
            };
            tokio::select! {
                changed = applied.changed() => match changed {
                    // It is looked at above.
                    Ok(()) => applied.mark_changed(),
                    Err(_) => return,
                },
                changed = alive.changed() => if changed.is_err() {
                    return;
                },
                () = async {
                    match next {
                        Some(next) => sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Reads what the statuses of a kind say now, so that what is right is not written again.
    async fn read(&mut self, kind: Kind) -> kube::Result<()> {
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let listed = match timeout(ANSWER, self.api(kind, None).list(&params)).await {
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                    let version = self.versions.entry(kind).or_default();
                    *version += 1;
                    // The cluster has no such kind; its objects, when there are any one day, are read one by one.
                    if *version >= kind.group_versions().1.len() {
                        *version = 0;
                        return Ok(());
                    }
                    continue;
                }
                Ok(listed) => listed?,
                Err(_) => return Err(kube::Error::Service("no answer in time".into())),
            };
            let next = listed.metadata.continue_.filter(|it| !it.is_empty());
            for object in &listed.items {
                self.remember(kind, object);
            }
            match next {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    fn remember(&mut self, kind: Kind, object: &DynamicObject) {
        let (namespace, name) = (object.metadata.namespace.clone(), object.metadata.name.clone());
        let key = (kind, namespace.unwrap_or_default(), name.unwrap_or_default());
        let entry = self.entries.entry(key).or_default();
        let status = &object.data["status"];
        let (written, generation) = conditions::read(status);
        entry.told = Some(conditions::digest(&written, generation));
        entry.programmed = conditions::programmed_at(&written, generation);
        entry.other = of_another(object, &self.manager);
        entry.uid.clone_from(&object.metadata.uid);
        if status["conditions"].as_array().is_none_or(Vec::is_empty) {
            entry.blank = object.metadata.resource_version.as_deref().map(Box::from);
        }
    }

    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = resource(kind, self.versions.get(&kind).copied().unwrap_or(0));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Takes note of what is in force now, and of the objects in which that is new.
    fn follow(&mut self, index: &Index) {
        let content = index.applied().content;
        if self.history.back().is_none_or(|(newest, _)| *newest != content) {
            self.number += 1;
            self.history.push_back((content, self.number));
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        let (number, now) = (self.number, Instant::now());
        let keys = index.keys();
        for key in &keys {
            let Some(wanted) = index.wanted(key) else { continue };
            let entry = self.entries.entry(key.clone()).or_default();
            if entry.uid.is_some() && wanted.uid.is_some() && entry.uid != wanted.uid {
                // Another object of the same name.
                *entry = Entry::default();
            }
            if (entry.generation, entry.rejected) != (wanted.generation, wanted.rejected) || entry.changed.is_none() {
                let blank = entry.blank.take().filter(|_| entry.changed.is_none() && !wanted.rejected);
                *entry = Entry {
                    generation: wanted.generation,
                    uid: wanted.uid,
                    rejected: wanted.rejected,
                    since: number,
                    changed: Some(now),
                    blank,
                    not_before: None,
                    ..std::mem::take(entry)
                };
            }
        }
        let keys: std::collections::HashSet<&Key> = keys.iter().collect();
        let nothing = conditions::digest(&[], 0);
        // What says nothing and should say nothing need not be remembered; deleted objects go on their first 404.
        self.entries.retain(|key, entry| {
            keys.contains(key) || (!entry.other && entry.told.is_some_and(|told| told != nothing))
        });
    }

    /// Writes what differs. Gives when something has to be looked at again without a change.
    async fn catch_up(
        &mut self,
        index: &Index,
        replicas: &Alive,
        applied: &watch::Receiver<Latest>,
        alive: &watch::Receiver<Option<Alive>>,
    ) -> Option<Instant> {
        let (mut due, mut next) = self.due(index, replicas);
        let mut began = false;
        while let Some(key) = due.pop() {
            // What is newer is more urgent than the rest of this; but one is written each time, however fast it changes.
            if began && (applied.has_changed().unwrap_or(true) || alive.has_changed().unwrap_or(true)) {
                return Some(Instant::now());
            }
            began = true;
            sleep_until(self.pace.next()).await;
            let written = match timeout(ANSWER, self.write(index, replicas, &key)).await {
                Ok(written) => written.map_err(|error| (error.to_string(), refused(&error))),
                Err(_) => Err(("no answer".to_owned(), false)),
            };
            let again = match written {
                Ok(Written::Done) => {
                    self.wait.reset();
                    self.warned = false;
                    continue;
                }
                Ok(Written::Again(at)) => at,
                Err((error, refused)) => {
                    self.warn(&format!(
                        "the status of {} {}/{} cannot be written: {error}",
                        key.0.name(),
                        key.1,
                        key.2
                    ));
                    Instant::now() + if refused { REFUSED } else { self.wait.next() }
                }
            };
            if let Some(entry) = self.entries.get_mut(&key) {
                (entry.not_before, entry.blank) = (Some(again), None);
            }
            next = Some(next.map_or(again, |next| next.min(again)));
        }
        next
    }

    /// Says what does not work, once until it works.
    fn warn(&mut self, what: &str) {
        if !self.warned {
            warn!("{what}; it is tried again");
        }
        self.warned = true;
    }

    /// The objects whose status has to be written, the most urgent last, and when others may have to be.
    fn due(&self, index: &Index, replicas: &Alive) -> (Vec<Key>, Option<Instant>) {
        let (mut due, mut next) = (Vec::new(), None::<Instant>);
        let now = Instant::now();
        for (key, entry) in &self.entries {
            let wanted = index.wanted(key);
            let (target, patience) = self.target(entry, wanted.as_ref(), replicas);
            if entry.told == Some(conditions::digest(&target, entry_generation(wanted.as_ref()))) {
                continue;
            }
            let changed = entry.changed.unwrap_or(now);
            let courtesy = if entry.other { changed + COURTESY } else { now };
            let patience = if patience { changed + PATIENCE } else { now };
            let at = entry.not_before.unwrap_or(now).max(courtesy).max(patience);
            if at <= now {
                due.push(((entry.since, entry.changed), key));
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        due.sort_unstable();
        (due.into_iter().map(|(_, key)| key.clone()).collect(), next)
    }

    /// What a status should say now, and whether replicas that lag may change it soon.
    fn target(&self, entry: &Entry, wanted: Option<&Wanted>, replicas: &Alive) -> (Vec<Condition>, bool) {
        let Some(wanted) = wanted else { return (Vec::new(), false) };
        let mut target = wanted.conditions.clone();
        if !wanted.programmed {
            return (target, false);
        }
        let all = replicas.len();
        // A replica that comes later starts with it, so what was once true stays.
        let before = !wanted.rejected && entry.programmed == Some(wanted.generation);
        let ready = if before { all } else { replicas.values().filter(|it| self.has(it.content, entry.since)).count() };
        let told = conditions::programmed(wanted, ready.max(usize::from(before)), all.max(usize::from(before)));
        let lagging = !told.status && !wanted.rejected;
        target.push(told);
        (target, lagging)
    }

    /// Whether a replica with this content has in force what came with content number `since`.
    fn has(&self, content: Option<u64>, since: u64) -> bool {
        let found = self.history.iter().rev().find(|(known, _)| Some(*known) == content);
        found.is_some_and(|(_, number)| *number >= since)
    }

    async fn write(&mut self, index: &Index, replicas: &Alive, key: &Key) -> kube::Result<Written> {
        let wanted = index.wanted(key);
        let Some(entry) = self.entries.get(key) else { return Ok(Written::Done) };
        let (target, _) = self.target(entry, wanted.as_ref(), replicas);
        let mut generation = entry_generation(wanted.as_ref());
        let told = conditions::digest(&target, generation);
        let changed = entry.changed;
        let api = self.api(key.0, Some(&key.1));
        let (before, version) = match &entry.blank {
            Some(version) => (Value::Null, Some(version.to_string())),
            None => {
                let Some(object) = api.get_opt(&key.2).await? else {
                    self.entries.remove(key);
                    return Ok(Written::Done);
                };
                if wanted.as_ref().is_some_and(|it| it.rejected) {
                    generation = object.metadata.generation.unwrap_or_default();
                }
                let status = object.data["status"].clone();
                if wanted.is_none() && !status_managers(&object).any(|manager| manager == self.manager) {
                    // None of our gateways serves it, and none of them wrote these conditions.
                    self.settle(key, told, &[], 0);
                    return Ok(Written::Done);
                }
                if of_another(&object, &self.manager) {
                    let observed = conditions::read(&status).1;
                    if observed >= generation || wanted.is_none() {
                        self.settle(key, told, &[], 0);
                        return Ok(Written::Done);
                    }
                    let until = changed.unwrap_or_else(Instant::now) + COURTESY;
                    if Instant::now() < until {
                        return Ok(Written::Again(until));
                    }
                }
                (status, object.metadata.resource_version)
            }
        };
        if let Some(status) = conditions::merge(&before, &target, generation, &Timestamp::now().to_string()) {
            let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
            let params = PatchParams { field_manager: Some(self.manager.clone()), ..PatchParams::default() };
            match api.patch_status(&key.2, &params, &Patch::Merge(patch)).await {
                Ok(_) => debug!(kind = key.0.name(), namespace = key.1, name = key.2, "status written"),
                // Changed meanwhile: it has to be read.
                Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Written::Again(Instant::now())),
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    self.entries.remove(key);
                    return Ok(Written::Done);
                }
                Err(error) => return Err(error),
            }
        }
        self.settle(key, told, &target, generation);
        Ok(Written::Done)
    }

    /// A status says now what it should.
    fn settle(&mut self, key: &Key, told: u64, target: &[Condition], generation: i64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        (entry.told, entry.blank, entry.not_before) = (Some(told), None, None);
        entry.programmed = conditions::programmed_at(target, generation);
    }
}

fn entry_generation(wanted: Option<&Wanted>) -> i64 {
    wanted.map_or(0, |it| it.generation)
}

/// Whether the status was written last by the gateways of another workload.
fn of_another(object: &DynamicObject, own: &str) -> bool {
    let mut sluices = status_managers(object).filter(|manager| manager.starts_with(MANAGER)).peekable();
    sluices.peek().is_some() && sluices.all(|manager| manager != own)
}

/// Who has written the status.
fn status_managers(object: &DynamicObject) -> impl Iterator<Item = &str> {
    let fields = object.metadata.managed_fields.as_deref().unwrap_or_default();
    let of_status = |it: &&ManagedFieldsEntry| it.subresource.as_deref() == Some("status");
    fields.iter().filter(of_status).filter_map(|it| it.manager.as_deref())
}

/// The field manager of a workload's gateways. Workloads of two namespaces may share a name, and Kubernetes allows 128
/// bytes, which two names can exceed.
fn manager(namespace: &str, workload: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (namespace, workload).hash(&mut hasher);
    let short: String = workload.chars().take(64).collect();
    format!("{MANAGER}{short}-{:016x}", hasher.finish())
}

fn refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 422))
}
