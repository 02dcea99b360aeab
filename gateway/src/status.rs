//! What the admin pages tell of this process.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use routing::{
    compile::LIMITS_NOTHING,
    explain::{Explanation, Question, explain},
    problem::Problem,
};
use tokio::sync::Notify;

use crate::{
    acme,
    admin::{
        Readiness, View, clusters_text,
        schema::{
            Answer,
            certs::{Certificate, Certificates},
            clusters::Clusters,
            json,
            listeners::Listeners,
            overview::Proxy,
            problems::Problems,
            routes::Routes,
        },
        tell,
    },
    drain::Drain,
    identity::Standing,
    live::Live,
    trust::{Served, WORKLOAD},
    upstream::endpoints::Upstream,
};

/// See the module.
pub(crate) struct Status {
    live: Arc<Live>,
    drain: Arc<Drain>,
    told: Mutex<Told>,
    /// The first configuration is applied and its sockets are open.
    ready: AtomicBool,
    /// Somebody asked for a drain; and whether the process shall end with it.
    pub(crate) drain_asked: Notify,
    /// As above.
    pub(crate) quit_asked: Notify,
}

#[derive(Default)]
struct Told {
    problems: Vec<Problem>,
    certificates: Vec<Served>,
    orders: Vec<acme::report::Told>,
    bind_failures: Vec<String>,
    /// What the first configuration waits for.
    awaited: Option<String>,
    /// `None`: the proxy has no source of an identity.
    identity: Option<Arc<Standing>>,
}

impl Told {
    /// Those that are served, those that are only ordered, and the identity that is waited for.
    fn certificates(&self) -> Vec<Certificate> {
        let order = |secret: &str| self.orders.iter().find(|it| it.secret == secret).map(|it| it.json.clone());
        let identity = self.identity.as_ref();
        let served = self.certificates.iter().map(|it| Certificate {
            name: it.server.clone(),
            hosts: it.hosts.clone(),
            secret: it.secret.clone(),
            issuer: Some(it.issuer.clone()),
            serial: Some(it.serial.clone()),
            not_after: Some(jiff::Timestamp::from_second(it.not_after).map(|end| end.to_string()).unwrap_or_default()),
            kept: it.kept.as_deref().map(str::to_owned),
            order: order(&it.secret),
            identity: identity.filter(|_| it.secret == WORKLOAD).map(|identity| identity.json()),
        });
        let nobody = identity.filter(|identity| identity.identity.is_none()).map(|identity| Certificate {
            name: WORKLOAD.to_owned(),
            secret: WORKLOAD.to_owned(),
            identity: Some(identity.json()),
            ..Certificate::default()
        });
        let missing = self.orders.iter().filter(|it| self.certificates.iter().all(|served| served.secret != it.secret));
        let missing = missing.map(|it| Certificate {
            name: it.gateways.clone(),
            hosts: it.hosts.clone(),
            secret: it.secret.clone(),
            order: Some(it.json.clone()),
            ..Certificate::default()
        });
        served.chain(missing).chain(nobody).collect()
    }
}

impl Status {
    /// Of a process that has nothing yet.
    pub(crate) fn new(live: Arc<Live>, drain: Arc<Drain>) -> Self {
        Self {
            live,
            drain,
            told: Mutex::default(),
            ready: AtomicBool::new(false),
            drain_asked: Notify::new(),
            quit_asked: Notify::new(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of these problems that were not there before.
    pub(crate) fn unknown<'a>(&self, problems: &'a [Problem]) -> Vec<&'a Problem> {
        let told = self.told();
        let known: HashSet<&Problem> = told.problems.iter().collect();
        problems.iter().filter(|problem| !known.contains(problem)).collect()
    }

    /// What is wrong with the configuration now.
    pub(crate) fn set_problems(&self, problems: Vec<Problem>) {
        self.told().problems = problems;
    }

    /// The certificates in use.
    pub(crate) fn set_certificates(&self, certificates: Vec<Served>) {
        self.told().certificates = certificates;
    }

    /// How the orders of certificates are doing.
    pub(crate) fn set_orders(&self, orders: Vec<acme::report::Told>) {
        self.told().orders = orders;
    }

    /// How the workload's identity is doing. The process is not ready before there is one, where there is to be one.
    pub(crate) fn set_identity(&self, identity: Arc<Standing>) {
        self.told().identity = Some(identity);
    }

    /// What the first configuration waits for, as a sentence.
    pub(crate) fn set_awaited(&self, awaited: &str) {
        self.told().awaited = Some(awaited.to_owned());
    }

    /// The sockets are open, but for these. The process is ready once there was no failure.
    pub(crate) fn set_bound(&self, failures: Vec<String>) {
        if failures.is_empty() {
            self.ready.store(true, Ordering::Release);
        }
        self.told().bind_failures = failures;
    }
}

/// What should be limited and is not, as nobody can read how: no reason to serve nobody, and one to look.
fn unlimited(problems: &[Problem]) -> Option<String> {
    let mut names = problems.iter().filter(|it| it.code == LIMITS_NOTHING).map(|it| it.object.to_string());
    let first = names.next()?;
    Some(match names.count() {
        0 => format!("{first} cannot be read and limits nothing"),
        more => format!("{first} and {more} more cannot be read and limit nothing"),
    })
}

impl View for Status {
    fn readiness(&self) -> Readiness {
        if self.drain.draining() {
            return Readiness::NotReady("draining: new traffic belongs elsewhere".to_owned());
        }
        let told = self.told();
        if self.ready.load(Ordering::Acquire) {
            let awaited = told.identity.as_ref().and_then(|identity| identity.awaited());
            let ready = || unlimited(&told.problems).map_or(Readiness::Ready, Readiness::ReadyBut);
            return awaited.map_or_else(ready, Readiness::NotReady);
        }
        let why = told.bind_failures.first().or(told.awaited.as_ref());
        Readiness::NotReady(why.cloned().unwrap_or_else(|| "the first configuration is not applied yet".to_owned()))
    }

    fn config_dump(&self) -> serde_json::Value {
        let installed = self.live.pin();
        json(&Answer::new(tell::dump(&installed.snapshot, installed.generation, &self.told().problems)))
    }

    fn clusters(&self) -> String {
        let installed = self.live.pin();
        clusters_text(&installed.snapshot, &installed.upstreams)
    }

    fn limits(&self) -> Vec<(Arc<str>, &'static str, u32, u64)> {
        let installed = self.live.pin();
        let all = installed.upstreams.iter().chain(installed.pools.values());
        let limited = all.filter_map(|it| Some((&it.cluster.name, it.breaker.as_ref()?)));
        limited
            .flat_map(|(name, breaker)| {
                breaker.figures().map(|(limit, now, reached)| (Arc::clone(name), limit, now, reached))
            })
            .collect()
    }

    fn rate_limits(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        self.live.buckets.counted()
    }

    fn ejected(&self) -> Vec<(Arc<str>, usize)> {
        let installed = self.live.pin();
        let ejected = |upstream: &Upstream| Some((Arc::clone(&upstream.cluster.name), upstream.varying()?.ejected()?));
        installed.upstreams.iter().filter_map(|upstream| ejected(upstream)).collect()
    }

    fn cluster_list(&self) -> Clusters {
        let installed = self.live.pin();
        tell::clusters(&installed.snapshot, &installed.upstreams)
    }

    fn listeners(&self) -> Listeners {
        let installed = self.live.pin();
        tell::listeners(&installed.snapshot, &installed.port_map, self.told().bind_failures.clone())
    }

    fn summary(&self) -> Proxy {
        let (installed, readiness) = (self.live.pin(), self.readiness());
        let told = self.told();
        let summary =
            tell::summary((&installed.snapshot, &installed.port_map), installed.generation, &told.problems, &readiness);
        tell::with_certificates(summary, told.certificates())
    }

    fn routes(&self, wanted: &str, from: usize) -> Routes {
        let installed = self.live.pin();
        tell::routes(&installed.snapshot, installed.generation, (wanted, from))
    }

    fn problems(&self, wanted: &str, from: usize) -> Problems {
        tell::problems(&self.told().problems, self.live.pin().generation, (wanted, from))
    }

    fn explain(&self, question: &Question) -> Option<Explanation> {
        let installed = self.live.pin();
        Some(explain(&installed.snapshot, &installed.port_map, question))
    }

    fn certificates(&self) -> serde_json::Value {
        json(&Answer::new(Certificates { certificates: self.told().certificates() }))
    }

    fn drain(&self) {
        self.drain_asked.notify_one();
    }

    fn quit(&self) {
        self.quit_asked.notify_one();
    }
}
