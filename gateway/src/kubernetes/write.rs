//! One status, from what it says to what it should say: read where it has to be, then written.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry, jiff::Timestamp};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::conditions::{self, Condition, Key};

/// Requests per second, and how many may come at once. API servers share themselves out among their clients and say 429 to
/// one that has had its share; this is a tenth of what the smallest of them answers.
pub(super) const PER_SECOND: f64 = 160.0;
pub(super) const BURST: f64 = 160.0;
/// Statuses that are written at once: an API server that is slow is asked less often.
pub(super) const AT_ONCE: usize = 12;
/// Longest wait for the answers to one status.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// So long another deployment, which wrote a status before, may take to do it again.
pub(super) const COURTESY: Duration = Duration::from_secs(10);
/// What starts the name of every field manager that writes conditions for Sluice.
const MANAGER: &str = "sluice-";
/// The pause that a server which is asked too much gets when it does not say how long.
const TOO_MUCH: Duration = Duration::from_secs(1);
/// The longest that is granted.
const LONGEST_AFTER: Duration = Duration::from_secs(60);

/// What one status should say.
pub(super) struct Job {
    pub(super) key: Key,
    /// Of the namespace.
    pub(super) api: Api<DynamicObject>,
    /// Whose conditions these are.
    pub(super) manager: String,
    pub(super) target: Vec<Condition>,
    /// Which generation that is about.
    pub(super) generation: i64,
    /// [`conditions::digest`] of both.
    pub(super) told: u64,
    /// `metadata.uid` of the object, where it is known.
    pub(super) uid: Option<String>,
    /// Whether its newest version is rejected; `None` = there is nothing to say about it.
    pub(super) rejected: Option<bool>,
    /// When it changed.
    pub(super) changed: Option<Instant>,
    /// There are no conditions at all at this resourceVersion, so that it can be written without being read.
    pub(super) blank: Option<Box<str>>,
    /// When the requests may be made.
    pub(super) not_before: Instant,
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// The status says what it should. `programmed` is the generation that it calls so.
    Done { programmed: Option<i64> },
    /// There is no such object.
    Gone,
    /// It has to be done again, at that time.
    Again(Instant),
}

/// Why a status could not be written.
#[derive(Debug)]
pub(super) struct Failed {
    /// In words.
    pub(super) text: String,
    /// The API server does not let us, or not for this object.
    pub(super) refused: bool,
    /// It cannot be reached, or answers nobody now.
    pub(super) away: bool,
    /// It has asked for such a pause.
    pub(super) after: Option<Duration>,
}

impl Job {
    /// How many requests it takes, at most.
    pub(super) fn requests(&self) -> usize {
        if self.blank.is_some() { 1 } else { 2 }
    }

    /// Does it, at its time.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn run(&self) -> Result<Written, Failed> {
        sleep_until(self.not_before).await;
        match timeout(ANSWER, self.write()).await {
            Ok(written) => written.map_err(|error| Failed::of(&error)),
            Err(_) => Err(Failed { text: "no answer".to_owned(), refused: false, away: true, after: None }),
        }
    }

    async fn write(&self) -> kube::Result<Written> {
        let name = &self.key.2;
        let mut generation = self.generation;
        let (before, version) = match &self.blank {
            Some(version) => (Value::Null, Some(version.to_string())),
            None => {
                let Some(object) = self.api.get_opt(name).await? else { return Ok(Written::Gone) };
                if self.rejected == Some(true) {
                    generation = object.metadata.generation.unwrap_or_default();
                }
                let status = object.data["status"].clone();
                if let Some(written) = self.of_others(&object, &status, generation) {
                    return Ok(written);
                }
                (status, object.metadata.resource_version)
            }
        };
        if let Some(status) = conditions::merge(&before, &self.target, generation, &Timestamp::now().to_string()) {
            let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
            let params = PatchParams { field_manager: Some(self.manager.clone()), ..PatchParams::default() };
            match self.api.patch_status(name, &params, &Patch::Merge(patch)).await {
                Ok(_) => debug!(kind = self.key.0.name(), namespace = self.key.1, name, "status written"),
                // Changed meanwhile: it has to be read.
                Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Written::Again(Instant::now())),
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Written::Gone),
                Err(error) => return Err(error),
            }
        }
        Ok(Written::Done { programmed: conditions::programmed_at(&self.target, generation) })
    }

    /// Leaves alone what others tell. `None` = it is ours to write.
    fn of_others(&self, object: &DynamicObject, status: &Value, generation: i64) -> Option<Written> {
        let settled = Written::Done { programmed: None };
        if self.rejected.is_none() && !status_managers(object).any(|manager| manager == self.manager) {
            // None of our gateways serves it, and none of them wrote these conditions.
            return Some(settled);
        }
        if !of_another(object, &self.manager) {
            return None;
        }
        let observed = conditions::read(status).1;
        if observed >= generation || self.rejected.is_none() {
            return Some(settled);
        }
        let until = self.changed.unwrap_or_else(Instant::now) + COURTESY;
        (Instant::now() < until).then_some(Written::Again(until))
    }
}

impl Failed {
    /// That somebody else changes the object each time.
    pub(super) fn of_changes() -> Self {
        Self { text: "somebody else changes it all the time".to_owned(), refused: true, away: false, after: None }
    }

    fn of(error: &kube::Error) -> Self {
        let text = error.to_string();
        let kube::Error::Api(status) = error else { return Self { text, refused: false, away: true, after: None } };
        let asked = status.details.as_ref().map(|it| Duration::from_secs(it.retry_after_seconds.into()));
        let asked = asked.filter(|it| !it.is_zero());
        let busy = matches!(status.code, 429 | 503);
        Self {
            text,
            refused: !busy && (400..500).contains(&status.code),
            away: busy,
            after: busy.then(|| asked.unwrap_or(TOO_MUCH).min(LONGEST_AFTER)),
        }
    }
}

/// Whether the status was written last by the gateways of another workload.
pub(super) fn of_another(object: &DynamicObject, own: &str) -> bool {
    let mut sluices = status_managers(object).filter(|manager| manager.starts_with(MANAGER)).peekable();
    sluices.peek().is_some() && sluices.all(|manager| manager != own)
}

/// Who has written the status.
pub(super) fn status_managers(object: &DynamicObject) -> impl Iterator<Item = &str> {
    let fields = object.metadata.managed_fields.as_deref().unwrap_or_default();
    let of_status = |it: &&ManagedFieldsEntry| it.subresource.as_deref() == Some("status");
    fields.iter().filter(of_status).filter_map(|it| it.manager.as_deref())
}

/// The field manager of a workload's gateways. Workloads of two namespaces may share a name, and Kubernetes allows 128
/// bytes, which two names can exceed.
pub(super) fn manager(namespace: &str, workload: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (namespace, workload).hash(&mut hasher);
    let short: String = workload.chars().take(64).collect();
    format!("{MANAGER}{short}-{:016x}", hasher.finish())
}
