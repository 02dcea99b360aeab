//! The leader's work on statuses: finds out which differ from what they should say, and writes those, newest change first,
//! several at once, and no faster than an API server likes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use routing::resources::Kind;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::warn;

use super::{
    conditions::{self, Condition, Index, KINDS, Key, Wanted},
    kinds::resource,
    pace::Pace,
    reflect::Wait,
    replicas::Alive,
    write::{ANSWER, AT_ONCE, BURST, COURTESY, Failed, Job, PER_SECOND, Written, manager, of_another},
};
use crate::applied::Latest;

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// So long replicas may take before it is told that some of them lag: mostly they need less, and one write is enough.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Contents that are remembered, to tell what a lagging replica has in force.
const HISTORY: usize = 256;
/// The first and the longest pause of an object whose status cannot be written, for a reason that may be its own alone.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The least pause of one that may not be written.
const REFUSED: Duration = Duration::from_secs(60);

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
    /// How often it could not be written since it last was.
    failures: u32,
}

/// What one object's status needs.
#[derive(Debug, Eq, PartialEq)]
enum Need {
    /// Nothing.
    Nothing,
    /// To be written.
    Writing,
    /// To be looked at again then.
    Later(Instant),
}

/// The work on what is in force now.
struct Desk {
    index: Index,
    replicas: Alive,
    /// The objects whose status has to be written, the most urgent last.
    due: Vec<Key>,
    /// When to look at all of them again without a change.
    next: Option<Instant>,
}

impl Desk {
    fn look_again_at(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// Resolves when it is time to look at all objects again.
    async fn again(next: Option<Instant>) {
        match next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }
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
    /// Statuses that are being written.
    flying: HashSet<Key>,
    /// Nothing is written before, since the API server could not be reached or has asked for a pause.
    paused: Option<Instant>,
    wait: Wait,
    warned: bool,
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
            flying: HashSet::new(),
            paused: None,
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
        // Both are there before there is anything to say.
        let (Ok(_), Ok(_)) = (applied.wait_for(Option::is_some).await, alive.wait_for(Option::is_some).await) else {
            return;
        };
        let mut flying = FuturesUnordered::new();
        let mut desk: Option<Desk> = None;
        loop {
            let [new_content, new_replicas] =
                [applied.has_changed(), alive.has_changed()].map(|it| it.unwrap_or(false));
            if desk.is_none() || new_content || new_replicas {
                let latest = applied.borrow_and_update().clone();
                let (Some(latest), Some(replicas)) = (latest, alive.borrow_and_update().clone()) else { return };
                let index = match desk {
                    Some(desk) if !new_content => desk.index,
                    _ => self.follow(Index::new(latest)),
                };
                desk = Some(Desk { index, replicas, due: Vec::new(), next: None });
                desk.iter_mut().for_each(|desk| self.survey(desk));
            }
            let Some(now) = &mut desk else { return };
            while let Some(job) = self.start(now) {
                flying.push(async move { (job.run().await, job) });
            }
            tokio::select! {
                Some((written, job)) = flying.next() => self.landed(now, job, written),
                changed = applied.changed() => match changed {
                    // It is looked at above.
                    Ok(()) => applied.mark_changed(),
                    Err(_) => return,
                },
                changed = alive.changed() => match changed {
                    Ok(()) => alive.mark_changed(),
                    Err(_) => return,
                },
                () = Desk::again(now.next) => self.survey(now),
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
    fn follow(&mut self, index: Index) -> Index {
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
                    failures: 0,
                    ..std::mem::take(entry)
                };
            }
        }
        let keys: HashSet<&Key> = keys.iter().collect();
        let nothing = conditions::digest(&[], 0);
        // What says nothing and should say nothing need not be remembered; deleted objects go on their first 404.
        self.entries.retain(|key, entry| {
            keys.contains(key) || (!entry.other && entry.told.is_some_and(|told| told != nothing))
        });
        index
    }

    /// Looks at every object: which are due, and when others may be.
    fn survey(&self, desk: &mut Desk) {
        let now = Instant::now();
        (desk.due, desk.next) = (Vec::new(), None);
        let mut due = Vec::new();
        for (key, entry) in self.entries.iter().filter(|(key, _)| !self.flying.contains(*key)) {
            match self.need(entry, desk.index.wanted(key).as_ref(), &desk.replicas, now) {
                Need::Nothing => {}
                Need::Writing => due.push(((entry.since, entry.changed), key)),
                Need::Later(at) => desk.look_again_at(at),
            }
        }
        due.sort_unstable();
        desk.due = due.into_iter().map(|(_, key)| key.clone()).collect();
    }

    fn need(&self, entry: &Entry, wanted: Option<&Wanted>, replicas: &Alive, now: Instant) -> Need {
        let (target, patience) = self.target(entry, wanted, replicas);
        if entry.told == Some(conditions::digest(&target, entry_generation(wanted))) {
            return Need::Nothing;
        }
        let changed = entry.changed.unwrap_or(now);
        let courtesy = if entry.other { changed + COURTESY } else { now };
        let patience = if patience { changed + PATIENCE } else { now };
        let at = entry.not_before.unwrap_or(now).max(courtesy).max(patience);
        if at <= now { Need::Writing } else { Need::Later(at) }
    }

    /// Begins to write the most urgent status, as long as there is one and not too many are being written.
    fn start(&mut self, desk: &mut Desk) -> Option<Job> {
        if self.flying.len() >= AT_ONCE {
            return None;
        }
        let now = Instant::now();
        if let Some(paused) = self.paused.filter(|it| *it > now) {
            if !desk.due.is_empty() {
                desk.look_again_at(paused);
            }
            return None;
        }
        loop {
            let key = desk.due.pop()?;
            if self.flying.contains(&key) {
                // It is looked at when that one has ended.
                continue;
            }
            let Some(entry) = self.entries.get(&key) else { continue };
            let wanted = desk.index.wanted(&key);
            let (target, _) = self.target(entry, wanted.as_ref(), &desk.replicas);
            let generation = entry_generation(wanted.as_ref());
            let mut job = Job {
                api: self.api(key.0, Some(&key.1)),
                manager: self.manager.clone(),
                told: conditions::digest(&target, generation),
                target,
                generation,
                uid: entry.uid.clone(),
                rejected: wanted.as_ref().map(|it| it.rejected),
                changed: entry.changed,
                blank: entry.blank.clone(),
                not_before: now,
                key,
            };
            for _ in 0..job.requests() {
                job.not_before = self.pace.next();
            }
            self.flying.insert(job.key.clone());
            return Some(job);
        }
    }

    /// Takes note of what came of a write.
    fn landed(&mut self, desk: &mut Desk, job: Job, written: Result<Written, Failed>) {
        self.flying.remove(&job.key);
        let Some(entry) = self.entries.get_mut(&job.key) else { return };
        // Another object of the same name has come meanwhile.
        let same = entry.uid == job.uid;
        entry.blank = None;
        match written {
            Ok(Written::Gone) if same => drop(self.entries.remove(&job.key)),
            Ok(Written::Done { programmed }) => {
                if same {
                    (entry.told, entry.programmed) = (Some(job.told), programmed);
                }
                (entry.not_before, entry.failures) = (None, 0);
                self.wait.reset();
                (self.warned, self.paused) = (false, None);
            }
            Ok(Written::Again(at)) => entry.not_before = Some(at),
            Ok(Written::Gone) => {}
            Err(failed) => self.failed(&job.key, &failed),
        }
        let Some(entry) = self.entries.get(&job.key) else { return };
        match self.need(entry, desk.index.wanted(&job.key).as_ref(), &desk.replicas, Instant::now()) {
            Need::Nothing => {}
            Need::Writing => desk.due.push(job.key),
            Need::Later(at) => desk.look_again_at(at),
        }
    }

    /// That a write has failed: its object waits, longer each time, and all others too where it was not about the object.
    fn failed(&mut self, key: &Key, failed: &Failed) {
        let now = Instant::now();
        if !failed.refused {
            self.paused = Some(now + failed.after.unwrap_or_else(|| self.wait.next()));
        }
        if let Some(entry) = self.entries.get_mut(key) {
            let least = if failed.refused { REFUSED } else { FIRST_PAUSE };
            let pause = least.saturating_mul(1 << entry.failures.min(10)).min(LONGEST_PAUSE);
            entry.failures = entry.failures.saturating_add(1);
            // An API server that is away for all says nothing about this object.
            entry.not_before = Some(if failed.away { self.paused.unwrap_or(now) } else { now + pause });
        }
        let (kind, namespace, name) = (key.0.name(), &key.1, &key.2);
        self.warn(&format!("the status of {kind} {namespace}/{name} cannot be written: {}", failed.text));
    }

    /// Says what does not work, once until it works.
    fn warn(&mut self, what: &str) {
        if !self.warned {
            warn!("{what}; it is tried again");
        }
        self.warned = true;
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
}

fn entry_generation(wanted: Option<&Wanted>) -> i64 {
    wanted.map_or(0, |it| it.generation)
}
