//! Events that the leader tells about Gateways and other objects: certificates that end, cannot be used or cannot be
//! ordered, and versions that are rejected.
//!
//! An event is named after what it tells, so that a new leader does not tell it again while the API server still has it
//! (an hour, mostly).

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DynamicObject, ObjectMeta, PostParams},
};
use routing::{
    problem::{ObjectRef, Severity},
    resources::Kind,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::{
    conditions::{Index, KINDS, camel},
    kinds::resource,
    pace::Pace,
};
use crate::{
    acme::report::{ORDER_FAILED, RENEWAL_FAILED},
    applied::Latest,
    settings::Settings,
};

/// Told again after so long, as long as it is so.
const AGAIN: Duration = Duration::from_secs(3600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(30);
/// Events per second, and how many may come at once.
const PER_SECOND: f64 = 1.0;
const BURST: f64 = 25.0;
/// Longest wait for one answer of the API server.
const ANSWER: Duration = Duration::from_secs(10);
/// Most bytes of a note, as the API server demands.
const LONGEST: usize = 1024;

/// Something to tell about an object.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Note {
    about: ObjectRef,
    /// As `CertificateExpired`.
    reason: String,
    text: String,
}

/// Everything that there is to tell now.
fn notes(index: &Index) -> BTreeSet<Note> {
    let mut notes = BTreeSet::new();
    let applied = index.applied();
    for certificate in &applied.certificates {
        let (Some(why), Some(about)) = (&certificate.kept, gateway_of(&certificate.server)) else { continue };
        let text = format!("{why}; the last good certificate of {} keeps serving", certificate.secret);
        notes.insert(Note { about, reason: "CertificateKept".to_owned(), text });
    }
    for (gateway, problem) in index.certificate_problems() {
        if problem.severity == Severity::Info {
            continue;
        }
        let text = format!("Secret {}/{}: {}", problem.object.namespace, problem.object.name, problem.message);
        notes.insert(Note { about: gateway.reference(), reason: camel(problem.code), text });
    }
    let failed = applied.problems.iter().filter(|it| [ORDER_FAILED, RENEWAL_FAILED].contains(&it.code));
    notes.extend(failed.map(|it| Note { about: it.object.clone(), reason: camel(it.code), text: it.message.clone() }));
    for about in applied.resources.kept().iter().filter(|it| KINDS.iter().any(|kind| kind.name() == it.kind)) {
        let errors = applied.problems.iter().filter(|it| it.object == *about && it.severity == Severity::Error);
        let first = errors.map(|it| format!("{}: {}", it.field, it.message)).next().unwrap_or_default();
        notes.insert(Note { about: about.clone(), reason: "Rejected".to_owned(), text: first });
    }
    notes
}

/// The Gateway of a server that is called `namespace/gateway/port name`.
fn gateway_of(server: &str) -> Option<ObjectRef> {
    let mut parts = server.splitn(3, '/');
    let (namespace, name, _) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ObjectRef::new(Kind::Gateway.name(), namespace, name))
}

/// See the module. Lives as long as a leadership.
pub(super) struct Events {
    client: Client,
    instance: String,
    /// What was told, and when it may be told again.
    told: HashMap<Note, Instant>,
    pace: Pace,
    warned: bool,
}

impl Events {
    /// Told by the process with these settings.
    pub(super) fn new(client: Client, settings: &Settings) -> Self {
        let pace = Pace::new(PER_SECOND, BURST);
        Self { client, instance: settings.replica.clone(), told: HashMap::new(), pace, warned: false }
    }

    /// Tells what there is to tell, until dropped.
    pub(super) async fn run(&mut self, mut applied: watch::Receiver<Latest>) {
        loop {
            let latest = applied.borrow_and_update().clone();
            let notes = latest.map(|latest| notes(&Index::without_policies(latest))).unwrap_or_default();
            self.told.retain(|note, _| notes.contains(note));
            for note in notes {
                if self.told.get(&note).is_some_and(|again| *again > Instant::now()) {
                    continue;
                }
                sleep_until(self.pace.next()).await;
                let result = match timeout(ANSWER, self.tell(&note)).await {
                    Ok(result) => result.map_err(|error| error.to_string()),
                    Err(_) => Err("no answer".to_owned()),
                };
                let pause = if result.is_ok() { AGAIN } else { RETRY };
                match result {
                    Err(error) if !self.warned => warn!(error, "events cannot be told; it is tried again"),
                    Err(error) => debug!(error, "events cannot be told"),
                    Ok(()) => {}
                }
                self.warned = pause == RETRY;
                self.told.insert(note, Instant::now() + pause);
            }
            let next = self.told.values().min().copied();
            tokio::select! {
                changed = applied.changed() => if changed.is_err() {
                    return;
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    async fn tell(&self, note: &Note) -> kube::Result<()> {
        let Some(kind) = KINDS.into_iter().find(|kind| kind.name() == note.about.kind) else { return Ok(()) };
        let mut found = None;
        for version in 0..kind.group_versions().1.len() {
            let resource = resource(kind, version);
            let objects: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &note.about.namespace, &resource);
            found = objects.get_opt(&note.about.name).await?.map(|object| (resource, object.metadata.uid));
            if found.is_some() {
                break;
            }
        }
        // `kubectl describe` finds events by the uid of their object.
        let Some((resource, uid)) = found else { return Ok(()) };
        let mut hasher = DefaultHasher::new();
        (note, &uid).hash(&mut hasher);
        let event = Event {
            metadata: ObjectMeta {
                namespace: Some(note.about.namespace.clone()),
                name: Some(format!("{}.{:016x}", note.about.name, hasher.finish())),
                ..ObjectMeta::default()
            },
            regarding: Some(ObjectReference {
                api_version: Some(resource.api_version.clone()),
                kind: Some(note.about.kind.clone()),
                namespace: Some(note.about.namespace.clone()),
                name: Some(note.about.name.clone()),
                uid,
                ..ObjectReference::default()
            }),
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some("Warning".to_owned()),
            reason: Some(note.reason.clone()),
            action: Some("Serve".to_owned()),
            note: Some(cut(&note.text)),
            reporting_controller: Some("sluice.dev/gateway".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &note.about.namespace);
        match events.create(&PostParams::default(), &event).await {
            // It was told before, by whoever led then.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }
}

fn cut(text: &str) -> String {
    let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}
