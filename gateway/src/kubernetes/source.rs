//! Configuration from an API server, with the same two functions as configuration from files.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::Client;
use routing::{
    acme::ISSUER,
    compile::{Proxy, named_secrets},
    problem::Problem,
    resources::{Kind, Resources, Store},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    kinds::{KINDS, OPTIONAL, Which, is_read, which},
    objects::{Objects, Part},
    reflect::{self, Wait},
    secrets,
};

/// This long without a further change ends a burst of changes.
const QUIET: Duration = Duration::from_millis(50);
/// A burst is told after this long even if it goes on.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// How long a load waits for the first list of the namespace's Secrets.
const FIRST_SECRETS: Duration = Duration::from_secs(3);
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
    /// Whether the API server offers streaming lists.
    streaming: bool,
    /// Whether the names of Secrets are followed.
    follows_secrets: bool,
    retry: Wait,
    retry_at: Option<Instant>,
}

/// A wait that is explained.
struct Waiting {
    started: Instant,
    told: String,
    /// When it is explained again.
    next: Instant,
}

impl Waiting {
    fn new() -> Self {
        let started = Instant::now();
        Self { started, told: String::new(), next: started + EXPLAIN }
    }

    fn tell(&mut self, awaited: String, tell: impl Fn(&str)) {
        if awaited != self.told {
            tell(&awaited);
            self.told = awaited;
        }
        if Instant::now() >= self.next {
            self.next = Instant::now() + EXPLAIN;
            warn!(waiting_s = self.started.elapsed().as_secs(), "not ready: {}", self.told);
        }
    }
}

/// Changes that come close together.
#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

/// Whether a Gateway whose selector `counts` names an issuer, so that Issuers would be missed.
pub(super) fn orders_certificates(resources: &Resources, counts: impl Fn(&BTreeMap<String, String>) -> bool) -> bool {
    let mut gateways = resources.gateways.iter();
    gateways.any(|gateway| gateway.meta.annotations.contains_key(ISSUER) && counts(&gateway.spec.selector))
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
            streaming: false,
            follows_secrets: false,
            retry: Wait::default(),
            retry_at: None,
        }
    }

    /// Starts the watches and waits until each has given its first list, and until the Secrets that something names are
    /// read, however long that takes. `tell` is called with a sentence about what is waited for. Cancel safe.
    pub(crate) async fn synced(&mut self, tell: impl Fn(&str)) {
        let optional = OPTIONAL.into_iter().filter(|kind| is_read(*kind, &self.proxy));
        let parts =
            |kind| which(kind, &self.proxy).into_iter().enumerate().map(move |(part, which)| ((kind, part), which));
        let asked: Vec<(Part, Which)> = KINDS.into_iter().chain(optional).flat_map(parts).collect();
        if self.watches.is_empty() {
            self.streaming = reflect::streams_lists(&self.client).await;
            for (part, which) in asked.iter().cloned() {
                let objects = Arc::clone(&self.objects);
                self.watches.spawn(reflect::follow_kind(self.client.clone(), part, which, objects, self.streaming));
            }
        }
        let mut waiting = Waiting::new();
        while let Some(awaited) = self.objects.awaited(asked.iter().map(|(part, _)| *part)) {
            waiting.tell(awaited, &tell);
            // The timeout only makes the explanation come round.
            let _ = timeout_at(waiting.next, self.objects.changed.notified()).await;
        }
        loop {
            self.load().await;
            let Some(awaited) = self.objects.awaited_secrets() else { break };
            waiting.tell(awaited, &tell);
            let _ = timeout_at(waiting.next, self.changed()).await;
        }
        let duration_ms = waiting.started.elapsed().as_millis() as u64;
        info!(objects = self.objects.len(), duration_ms, "read the cluster");
    }

    /// What is there now. Whatever is broken is a problem, and its last good version stays among the resources. Reads
    /// Secrets that are named and not read yet.
    pub(crate) async fn load(&mut self) -> (Resources, Vec<Problem>) {
        let (mut resources, mut problems) = self.store.replace(self.objects.documents());
        let wanted = named_secrets(&resources, &self.proxy);
        if !wanted.is_empty() && !self.follows_secrets {
            self.follow_secrets().await;
        }
        if secrets::read_wanted(&self.client, &self.proxy.namespace, wanted, &self.objects).await {
            (resources, problems) = self.store.replace(self.objects.documents());
        }
        let orders = orders_certificates(&resources, |it| self.proxy.selected_by(it));
        problems.extend(self.objects.problems(|kind| match kind {
            Kind::Issuer => orders,
            Kind::Node => false,
            _ => true,
        }));
        self.retry_at = secrets::some_unread(&self.objects).then(|| Instant::now() + self.retry.next());
        if self.retry_at.is_none() {
            self.retry.reset();
        }
        (resources, problems)
    }

    /// Follows the namespace's Secrets from now on, since something names one: a proxy that needs none needs no
    /// permission to see them. Waits for their first list, but not for long.
    async fn follow_secrets(&mut self) {
        self.follows_secrets = true;
        let (client, namespace) = (self.client.clone(), self.proxy.namespace.clone());
        self.watches.spawn(secrets::follow_names(client, namespace, Arc::clone(&self.objects), self.streaming));
        let end = Instant::now() + FIRST_SECRETS;
        let done = |objects: &Objects| {
            let secrets = objects.secrets();
            secrets.synced || secrets.failure.is_some()
        };
        while !done(&self.objects) && timeout_at(end, self.objects.changed.notified()).await.is_ok() {}
        // Whatever else has changed meanwhile is not loaded yet.
        self.objects.changed.notify_one();
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
