//! Where a source writes what it has, and reads who the proxy has to be.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tls::{identity::SpiffeId, workload::WorkloadIdentity};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::telemetry::metrics::{Attempt, Metrics};

/// What a source has, and how it is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// In use from now on; `None`: none was there yet.
    pub(crate) identity: Option<Arc<WorkloadIdentity>>,
    /// For people.
    report: Report,
}

/// How a source is doing. Never holds keys or tokens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Report {
    /// `files`, `ca` or `workload-api`.
    kind: &'static str,
    /// Which one.
    place: Arc<str>,
    /// When the next identity is asked for, milliseconds since 1970.
    renewal: Option<i64>,
    /// In a row.
    failures: u32,
    /// What went wrong the last time, and when; `None`: nothing did.
    error: Option<(Arc<str>, i64)>,
    /// When it is tried again, milliseconds since 1970.
    next: Option<i64>,
    /// What is trusted and why, where that is not what everybody would think.
    trust: Option<Arc<str>>,
}

impl Standing {
    /// What a proxy without any identity waits for.
    pub(crate) fn awaited(&self) -> Option<String> {
        if self.identity.is_some() {
            return None;
        }
        let Report { kind, place, error, .. } = &self.report;
        let why = error.as_ref().map_or("it was not asked yet", |(text, _)| text);
        Some(format!("there is no identity in the mesh yet ({kind} {place}): {why}"))
    }

    /// For the admin pages.
    pub(crate) fn json(&self) -> Value {
        let time = |at: i64| Timestamp::from_millisecond(at).ok().and_then(|at| at.round(jiff::Unit::Second).ok());
        let time = |at: Option<i64>| at.and_then(time).map(|at| at.to_string());
        let (report, identity) = (&self.report, self.identity.as_deref());
        let state = match (identity, &report.error) {
            (Some(identity), _) if identity.not_after <= now() / 1000 => "ended",
            (Some(_), None) => "served",
            (Some(_), Some(_)) => "kept",
            (None, _) => "waiting",
        };
        json!({
            "source": format!("{} {}", report.kind, report.place),
            "state": state,
            "principal": identity.and_then(|it| it.spiffe.as_deref()),
            "roots": identity.map(WorkloadIdentity::roots),
            "revocationLists": identity.map(WorkloadIdentity::looks_at_lists),
            "trust": report.trust,
            "nextRenewal": time(report.renewal),
            "failures": report.failures,
            "lastError": report.error.as_ref().map(|(text, _)| text),
            "lastErrorAt": time(report.error.as_ref().map(|(_, at)| *at)),
            "nextAttempt": time(report.next),
        })
    }
}

/// See the module.
pub(super) struct Board {
    told: watch::Sender<Arc<Standing>>,
    expected: watch::Receiver<Option<SpiffeId>>,
    metrics: Arc<Metrics>,
    /// The end of the identity was told.
    ended: bool,
}

impl Board {
    /// Of a source of this kind at this place.
    pub(super) fn new(
        kind: &'static str,
        place: &str,
        expected: watch::Receiver<Option<SpiffeId>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let report = Report { kind, place: place.into(), ..Report::default() };
        let told = watch::Sender::new(Arc::new(Standing { identity: None, report }));
        Self { told, expected, metrics, ended: false }
    }

    /// Who reads it.
    pub(super) fn told(&self) -> watch::Receiver<Arc<Standing>> {
        self.told.subscribe()
    }

    /// What is held.
    pub(super) fn identity(&self) -> Option<Arc<WorkloadIdentity>> {
        self.told.borrow().identity.clone()
    }

    /// Whether this is another identity than the one that is held, or there is something else to know of what it trusts.
    pub(super) fn is_news(&self, identity: &WorkloadIdentity, trust: Option<&str>) -> bool {
        let standing = self.told.borrow();
        let known = standing.identity.as_ref().map(|held| held.generation);
        known != Some(identity.generation) || standing.report.trust.as_deref() != trust
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.told.borrow().report.failures
    }

    /// Who the proxy has to be. Until that is known there is nothing to ask for.
    pub(super) async fn expected(&mut self) -> SpiffeId {
        loop {
            if let Some(id) = self.expected.borrow_and_update().clone() {
                return id;
            }
            let text = "its own Pod, WorkloadEntry or Deployment, which names the service account, is not known yet";
            self.tell(|report| report.error = Some((text.into(), now())));
            self.expects_another().await;
        }
    }

    /// Resolves when the proxy has to be somebody else. Cancel safe.
    pub(super) async fn expects_another(&self) {
        let mut expected = self.expected.clone();
        if expected.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The same, for who cannot hold the board meanwhile.
    pub(super) fn expectation(&self) -> watch::Receiver<Option<SpiffeId>> {
        self.expected.clone()
    }

    /// This identity is used from now on, and another one asked for at `renewal`.
    pub(super) fn took(&mut self, identity: WorkloadIdentity, renewal: Option<i64>, trust: Option<String>) {
        let known = self.identity().map(|it| it.generation);
        if known != Some(identity.generation) {
            let principal = identity.spiffe.as_deref().unwrap_or("none");
            info!(principal, source = %self.source(), ends = %second(identity.not_after), "workload identity loaded");
            identity.remarks.iter().for_each(|remark| warn!("workload identity: {remark}"));
        }
        let trust: Option<Arc<str>> = trust.map(Into::into);
        if let Some(trust) = trust.as_ref().filter(|trust| self.told.borrow().report.trust.as_ref() != Some(trust)) {
            warn!("workload identity: {trust}");
        }
        self.ended = false;
        self.metrics.set_identity(identity.not_after, renewal.map(|at| at / 1000));
        self.told.send_modify(|standing| {
            let Report { kind, place, .. } = standing.report.clone();
            let report = Report { kind, place, renewal, trust, ..Report::default() };
            *standing = Arc::new(Standing { identity: Some(Arc::new(identity)), report });
        });
    }

    /// The same identity with other roots or revocation lists. How asking goes is as it was.
    pub(super) fn trusts(&mut self, identity: WorkloadIdentity, trust: Option<String>) {
        let (roots, lists) = (identity.roots(), identity.looks_at_lists());
        info!(roots, lists, "the roots or revocation lists of the mesh have changed, and are looked at");
        if let Some(trust) = &trust {
            warn!("workload identity: {trust}");
        }
        self.told.send_modify(|standing| {
            let standing = Arc::make_mut(standing);
            standing.report.trust = trust.map(Into::into);
            standing.identity = Some(Arc::new(identity));
        });
    }

    /// There was nothing to take; it is tried again at `next`.
    pub(super) fn failed(&mut self, text: &str, next: Option<i64>) {
        let held = self.identity();
        let news = self.told.borrow().report.error.as_ref().is_none_or(|(known, _)| &**known != text);
        if news {
            let source = self.source();
            warn!(%source, kept = held.is_some(), "the workload identity cannot be had: {text}");
        }
        if let Some(held) = held.filter(|held| held.not_after <= now() / 1000 && !self.ended) {
            self.ended = true;
            error!(ended = %second(held.not_after), "the workload's certificate has ended; peers refuse it until there is another");
        }
        self.tell(|report| {
            report.failures = report.failures.saturating_add(1);
            report.error = Some((text.into(), now()));
            report.next = next;
        });
    }

    /// Counts one try.
    pub(super) fn count(&self, attempt: Attempt) {
        self.metrics.identity_attempt(attempt);
    }

    fn source(&self) -> String {
        let standing = self.told.borrow();
        format!("{} {}", standing.report.kind, standing.report.place)
    }

    fn tell(&self, change: impl FnOnce(&mut Report)) {
        self.told.send_modify(|standing| change(&mut Arc::make_mut(standing).report));
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Waits for a point in time. In short steps: clocks are set, and machines sleep.
pub(super) async fn until(at: i64) {
    const STEP: i64 = 10_000;
    loop {
        let left = at.saturating_sub(now());
        if left <= 0 {
            return;
        }
        let step = u64::try_from(left.min(STEP)).unwrap_or_default();
        tokio::time::sleep(std::time::Duration::from_millis(step)).await;
    }
}

fn second(at: i64) -> String {
    Timestamp::from_second(at).map(|at| at.to_string()).unwrap_or_default()
}
