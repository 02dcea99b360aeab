//! What each replica of a gateway has in force, told in a Lease of its own: read by the leader and by `sluice status`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use routing::problem::Severity;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::reflect::Wait;
use crate::{
    applied::{Applied, Latest},
    settings::Settings,
};

/// Label of a replica's Lease: the workload it belongs to.
pub(super) const REPLICA_OF: &str = "sluice.dev/replica-of";
/// Annotation: hash of what was read, comparable between replicas.
pub(super) const CONTENT: &str = "sluice.dev/content";
/// Annotation: digest of the snapshot.
pub(super) const SNAPSHOT: &str = "sluice.dev/snapshot";
/// Annotation: version of the binary.
pub(super) const VERSION: &str = "sluice.dev/version";
/// Annotation: JSON, `count`, `kept` and `next` (when the first one ends).
pub(super) const CERTIFICATES: &str = "sluice.dev/certificates";
/// Annotation: tokens of CAs that it answers, shortened, joined by commas.
const ANSWERS: &str = "sluice.dev/answers";
/// Annotation: JSON, `errors`, `warnings` and `infos`.
pub(super) const PROBLEMS: &str = "sluice.dev/problems";

/// A replica that has not told anything for so long is not counted any more.
const DURATION: Duration = Duration::from_secs(30);
/// How often it tells, when nothing changed.
const RENEW: Duration = Duration::from_secs(10);
/// Least time between two writes of one replica.
const LEAST: Duration = Duration::from_secs(1);
/// The leader removes the Lease of a replica that was silent for so long.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// How often the leader looks who is silent.
const LOOK: Duration = Duration::from_secs(2);
/// Longest wait for one answer of the API server.
const ANSWER: Duration = Duration::from_secs(5);
/// Most characters of a label's value.
const LABEL: usize = 63;

/// The value of [`REPLICA_OF`] for a workload.
pub(super) fn label(workload: &str) -> &str {
    let short = workload.get(..LABEL).unwrap_or(workload);
    short.trim_end_matches(|one: char| !one.is_ascii_alphanumeric())
}

/// This replica's own Lease.
pub(super) struct Own {
    leases: Api<Lease>,
    workload: String,
    replica: String,
    pod_uid: Option<String>,
}

impl Own {
    /// Of the process with these settings.
    pub(super) fn new(client: Client, settings: &Settings) -> Self {
        Self {
            leases: Api::namespaced(client, &settings.namespace),
            workload: settings.name.clone(),
            replica: settings.replica.clone(),
            pod_uid: settings.pod_uid.clone(),
        }
    }

    fn name(&self) -> String {
        format!("sluice-{}-{}", self.workload, self.replica)
    }

    /// Tells what is in force and which tokens are answered, at every change of it and every few seconds, until dropped.
    pub(super) async fn publish(
        &self,
        applied: &mut watch::Receiver<Latest>,
        answers: &mut watch::Receiver<BTreeSet<String>>,
    ) {
        let (mut wait, mut failing) = (Wait::default(), false);
        loop {
            let Some(latest) = applied.borrow_and_update().clone() else {
                if applied.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let answered = answers.borrow_and_update().iter().cloned().collect::<Vec<_>>().join(",");
            let result = match timeout(ANSWER, self.write(&latest, answered)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("no answer".to_owned()),
            };
            let told = latest.content;
            drop(latest);
            if let Err(error) = result {
                if !failing {
                    warn!(lease = self.name(), error, "what is in force here cannot be told to the other replicas");
                }
                failing = true;
                wait.pause().await;
                continue;
            }
            failing = false;
            wait.reset();
            let again = Instant::now() + RENEW.mul_f64(1.0 - 0.2 * fastrand::f64());
            sleep(LEAST).await;
            tokio::select! {
                () = sleep_until(again) => {}
                changed = answers.changed() => if changed.is_err() {
                    return;
                },
                // Endpoints change all the time, and nobody waits for them.
                changed = applied.wait_for(|latest| latest.as_ref().is_none_or(|it| it.content != told)) => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn write(&self, applied: &Applied, answers: String) -> kube::Result<()> {
        let owner = self.pod_uid.as_ref().map(|uid| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: self.replica.clone(),
            uid: uid.clone(),
            ..OwnerReference::default()
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name()),
                labels: Some(BTreeMap::from([(REPLICA_OF.to_owned(), label(&self.workload).to_owned())])),
                annotations: Some(annotations(applied, answers)),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.replica.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        let params = PatchParams::apply("sluice").force();
        self.leases.patch(&self.name(), &params, &Patch::Apply(&lease)).await.map(drop)
    }

    /// Removes the Lease: this replica ends.
    pub(super) async fn delete(&self) {
        if let Err(error) = self.leases.delete(&self.name(), &DeleteParams::default()).await {
            debug!(lease = self.name(), %error, "the Lease of this replica is left to the leader");
        }
    }
}

/// What a replica tells of its configuration.
fn annotations(applied: &Applied, answers: String) -> BTreeMap<String, String> {
    let count = |severity| applied.problems.iter().filter(|problem| problem.severity == severity).count();
    let problems = json!({
        "errors": count(Severity::Error), "warnings": count(Severity::Warning), "infos": count(Severity::Info),
    });
    let next = applied.certificates.iter().map(|it| it.not_after).min();
    let certificates = json!({
        "count": applied.certificates.len(),
        "kept": applied.certificates.iter().filter(|it| it.kept.is_some()).count(),
        "next": next.and_then(|end| Timestamp::from_second(end).ok()).map(|end| end.to_string()),
    });
    [
        (CONTENT, format!("{:016x}", applied.content)),
        (SNAPSHOT, format!("{:016x}", applied.snapshot)),
        (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (CERTIFICATES, certificates.to_string()),
        (PROBLEMS, problems.to_string()),
        (ANSWERS, answers),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The hash of what was read, which a replica's Lease tells.
pub(super) fn content(lease: &Lease) -> Option<u64> {
    let text = lease.metadata.annotations.as_ref()?.get(CONTENT)?;
    u64::from_str_radix(text, 16).ok()
}

/// The tokens that a replica's Lease tells that it answers.
fn answers(lease: &Lease) -> BTreeSet<String> {
    let told = lease.metadata.annotations.as_ref().and_then(|it| it.get(ANSWERS)).map(String::as_str).unwrap_or_default();
    told.split(',').filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// Replicas that are alive, by the name of their Lease.
pub(crate) type Alive = BTreeMap<String, Replica>;

/// What a replica that is alive tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Replica {
    /// Hash of what it has read.
    pub(crate) content: Option<u64>,
    /// Tokens that it answers, shortened.
    pub(crate) answers: BTreeSet<String>,
}

/// All replicas that have a Lease, as the leader sees them.
#[derive(Debug, Default)]
struct Replicas {
    known: HashMap<String, Known>,
    listing: HashMap<String, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    replica: Replica,
    renewed: Option<MicroTime>,
    duration: Duration,
    /// When it was seen to tell something, by the own clock.
    since: Instant,
}

impl Replicas {
    /// Takes one event of the watch.
    fn take(&mut self, event: Event<Lease>, now: Instant) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(lease) => {
                let (name, replica) = self.read(&lease, now);
                self.listing.insert(name, replica);
            }
            Event::InitDone => self.known = std::mem::take(&mut self.listing),
            Event::Apply(lease) => {
                let (name, replica) = self.read(&lease, now);
                self.known.insert(name, replica);
            }
            Event::Delete(lease) => {
                self.known.remove(&lease.metadata.name.unwrap_or_default());
            }
        }
    }

    fn read(&self, lease: &Lease, now: Instant) -> (String, Known) {
        let name = lease.metadata.name.clone().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        let duration =
            spec.lease_duration_seconds.and_then(|it| it.try_into().ok()).map_or(DURATION, Duration::from_secs);
        let before = self.known.get(&name).filter(|it| it.renewed == spec.renew_time);
        let since = before.map_or(now, |it| it.since);
        let replica = Replica { content: content(lease), answers: answers(lease) };
        (name, Known { replica, renewed: spec.renew_time, duration, since })
    }

    fn alive(&self, now: Instant) -> Alive {
        let alive = self.known.iter().filter(|(_, it)| now < it.since + it.duration);
        alive.map(|(name, it)| (name.clone(), it.replica.clone())).collect()
    }

    fn forgotten(&self, now: Instant) -> Vec<String> {
        self.known.iter().filter(|(_, it)| now >= it.since + FORGOTTEN).map(|(name, _)| name.clone()).collect()
    }
}

/// Follows the Leases of a workload's replicas until dropped, and removes those of replicas that are long gone. `alive` is
/// `None` until the first list is complete.
pub(super) async fn follow(leases: &Api<Lease>, workload: &str, alive: &watch::Sender<Option<Alive>>) {
    let config = watcher::Config::default().labels(&format!("{REPLICA_OF}={}", label(workload)));
    let mut events = pin!(watcher(leases.clone(), config).default_backoff());
    let mut replicas = Replicas::default();
    let mut whole = false;
    loop {
        match timeout(LOOK, events.next()).await {
            Ok(Some(Ok(event))) => {
                whole |= matches!(event, Event::InitDone);
                replicas.take(event, Instant::now());
            }
            Ok(Some(Err(error))) => debug!(%error, "watching the Leases of replicas"),
            Ok(None) => return,
            Err(_) => {}
        }
        if whole {
            let now = replicas.alive(Instant::now());
            alive.send_if_modified(|before| {
                let news = before.as_ref() != Some(&now);
                *before = Some(now);
                news
            });
        }
        for name in replicas.forgotten(Instant::now()) {
            let deleted = timeout(ANSWER, leases.delete(&name, &DeleteParams::default())).await;
            debug!(lease = name, ?deleted, "the Lease of a replica that is gone");
            replicas.known.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, content: u64, renewed: i64) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                annotations: Some(BTreeMap::from([
                    (CONTENT.to_owned(), format!("{content:016x}")),
                    (ANSWERS.to_owned(), "token-a,token-b".to_owned()),
                ])),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                renew_time: Timestamp::from_second(renewed).ok().map(MicroTime),
                lease_duration_seconds: Some(30),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_replica_lives_as_long_as_it_tells_something() {
        let told = |content| Replica {
            content: Some(content),
            answers: BTreeSet::from(["token-a".to_owned(), "token-b".to_owned()]),
        };
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut replicas = Replicas::default();
        replicas.take(Event::Init, start);
        replicas.take(Event::InitApply(lease("a", 7, 1)), start);
        replicas.take(Event::InitApply(lease("b", 8, 1)), start);
        assert_eq!(replicas.alive(start), Alive::new(), "a list counts when it is complete");
        replicas.take(Event::InitDone, start);
        assert_eq!(replicas.alive(start), Alive::from([("a".to_owned(), told(7)), ("b".to_owned(), told(8))]));

        replicas.take(Event::Apply(lease("a", 9, 11)), later(20));
        // Seen again, but nothing new in it.
        replicas.take(Event::Apply(lease("b", 8, 1)), later(20));
        assert_eq!(replicas.alive(later(31)), Alive::from([("a".to_owned(), told(9))]));
        assert_eq!(replicas.forgotten(later(299)), Vec::<String>::new());
        assert_eq!(replicas.forgotten(later(301)), ["b"]);
        replicas.take(Event::Delete(lease("a", 9, 11)), later(32));
        assert_eq!(replicas.alive(later(32)), Alive::new());
    }

    #[test]
    fn a_label_is_no_longer_than_kubernetes_allows() {
        assert_eq!(label("istio-ingressgateway"), "istio-ingressgateway");
        let long = format!("{}-{}", "a".repeat(62), "b".repeat(9));
        assert_eq!(label(&long), "a".repeat(62));
    }
}
