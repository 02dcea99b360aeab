//! Configuration from an API server, with the same two functions as configuration from files.

use std::{sync::Arc, time::Duration};

use kube::Client;
use routing::{
    compile::{Proxy, named_secrets},
    problem::Problem,
    resources::{Resources, Store},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    objects::Objects,
    reflect::{self, KINDS, Wait},
    secrets,
};

/// This long without a further change ends a burst of changes.
const QUIET: Duration = Duration::from_millis(50);
/// A burst is told after this long even if it goes on.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// How often the wait for the first lists is explained.
const EXPLAIN: Duration = Duration::from_secs(5);

/// What an API server holds, as one set of resources. One reader: [`KubernetesSource::synced`], then
/// [`KubernetesSource::load`], then [`KubernetesSource::changed`], and load again. Watches end when it is dropped.
pub(crate) struct KubernetesSource {
    client: Client,
    /// Whose Secrets are read.
    proxy: Proxy,
    objects: Arc<Objects>,
    store: Store,
    watches: JoinSet<()>,
    /// A change was seen and not yet told; kept here so that a dropped `changed()` future loses nothing.
    pending: Option<Burst>,
    retry: Wait,
    retry_at: Option<Instant>,
}

/// Changes that come close together.
#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl KubernetesSource {
    /// Of this API server, for this proxy. Asks for nothing yet.
    pub(crate) fn new(client: Client, proxy: Proxy) -> Self {
        Self {
            client,
            proxy,
            objects: Arc::default(),
            store: Store::default(),
            watches: JoinSet::new(),
            pending: None,
            retry: Wait::default(),
            retry_at: None,
        }
    }

    /// Starts the watches and waits until each has given its first list, however long that takes. `tell` is called with
    /// a sentence about what is waited for. Cancel safe.
    pub(crate) async fn synced(&mut self, tell: impl Fn(&str)) {
        if self.watches.is_empty() {
            self.watch().await;
        }
        let started = Instant::now();
        let mut told = String::new();
        let mut next = Instant::now();
        while let Some(awaited) = self.objects.awaited(&KINDS) {
            if awaited != told {
                tell(&awaited);
                told = awaited;
            }
            if Instant::now() >= next {
                next = Instant::now() + EXPLAIN;
                if started.elapsed() >= EXPLAIN {
                    warn!(waiting_s = started.elapsed().as_secs(), "not ready: {told}");
                }
            }
            // The timeout only makes the explanation come round.
            let _ = timeout_at(next, self.objects.changed.notified()).await;
        }
        info!(objects = self.objects.len(), duration_ms = started.elapsed().as_millis() as u64, "read the cluster");
    }

    async fn watch(&mut self) {
        let streaming = reflect::streams_lists(&self.client).await;
        for kind in KINDS {
            let objects = Arc::clone(&self.objects);
            self.watches.spawn(reflect::follow_kind(self.client.clone(), kind, objects, streaming));
        }
        let (client, namespace) = (self.client.clone(), self.proxy.namespace.clone());
        self.watches.spawn(secrets::follow_names(client, namespace, Arc::clone(&self.objects), streaming));
    }

    /// What is there now. Whatever is broken is a problem, and its last good version stays among the resources. Reads
    /// Secrets that are named and not read yet.
    pub(crate) async fn load(&mut self) -> (Resources, Vec<Problem>) {
        let (documents, watches) = self.objects.documents();
        let (mut resources, mut problems) = self.store.replace(documents);
        problems.extend(watches);
        let wanted = named_secrets(&resources, &self.proxy);
        if secrets::read_wanted(&self.client, &self.proxy.namespace, wanted, &self.objects).await {
            let (documents, watches) = self.objects.documents();
            (resources, problems) = self.store.replace(documents);
            problems.extend(watches);
        }
        self.retry_at = secrets::some_unread(&self.objects).then(|| Instant::now() + self.retry.next());
        if self.retry_at.is_none() {
            self.retry.reset();
        }
        (resources, problems)
    }

    /// Resolves after a change that may matter, once it is quiet for 50 ms, 500 ms after the first change at the latest.
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) {
        let mut burst = match self.pending {
            Some(burst) => burst,
            None => {
                self.first_change().await;
                let now = Instant::now();
                Burst { first: now, last: now }
            }
        };
        loop {
            self.pending = Some(burst);
            let end = (burst.last + QUIET).min(burst.first + LONGEST_BURST);
            if timeout_at(end, self.objects.changed.notified()).await.is_err() {
                break;
            }
            burst.last = Instant::now();
        }
        self.pending = None;
    }

    async fn first_change(&mut self) {
        match self.retry_at {
            None => self.objects.changed.notified().await,
            Some(at) => tokio::select! {
                () = self.objects.changed.notified() => {}
                () = sleep_until(at) => {}
            },
        }
    }
}
