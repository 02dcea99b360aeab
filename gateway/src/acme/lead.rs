//! What the leader does: it looks after every certificate when its time has come, a few at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use routing::acme::Ordered;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::{
    Acme, Progress, Wanted,
    accounts::Accounts,
    now,
    record::Record,
    replicas::Replicas,
    schedule::Failed,
    tend::{Tended, tend},
    vault::Vault,
};

/// Certificates ordered at the same time.
const AT_ONCE: usize = 4;
/// Every certificate is looked at so often, whatever its plan says: clocks may be set, Secrets may be changed.
const LOOK: Duration = Duration::from_secs(3600);
/// Least time between two looks.
const LEAST: Duration = Duration::from_millis(100);
/// An issuer that was asked too often by one certificate is left alone by the others for so long, at most.
const REST: Duration = Duration::from_secs(60);
/// The same for one that cannot be reached: thousands of certificates do not all find that out by themselves.
const BREATH: Duration = Duration::from_secs(2);
/// The record of a certificate that nobody wants any more is removed after this time.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A certificate to look after.
struct Planned {
    ordered: Arc<Ordered>,
    at: Instant,
    busy: bool,
    /// It has changed while it was busy.
    again: bool,
}

/// What one leadership needs.
pub(super) struct Leader<'a> {
    pub(super) acme: &'a Acme,
    pub(super) vault: &'a Vault,
    pub(super) accounts: Accounts,
    pub(super) replicas: Replicas,
}

impl Acme {
    /// Orders and renews until dropped.
    pub(crate) async fn lead(&self, vault: &Vault, replicas: Replicas) {
        self.something_wanted().await;
        let leader = Leader { acme: self, vault, accounts: Accounts::new(vault.clone()), replicas };
        leader.run().await;
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.acme.progress.left_to_others();
    }
}

impl Leader<'_> {
    async fn run(&self) {
        let (mut wanted, mut progress) = (self.acme.wanted.subscribe(), self.acme.progress());
        let mut plan = Plan::default();
        let mut running = FuturesUnordered::new();
        plan.take(&wanted.borrow_and_update());
        loop {
            while running.len() < AT_ONCE
                && let Some(due) = plan.start()
            {
                running.push(async move {
                    let tended = tend(self, &due).await;
                    (due, tended)
                });
            }
            let idle = running.len() < AT_ONCE;
            let next = plan.next();
            tokio::select! {
                Some((ordered, tended)) = running.next(), if !running.is_empty() => plan.done(&ordered, &tended),
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    plan.take(&wanted.borrow_and_update());
                }
                changed = progress.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Once for each change: what is followed lags behind what is kept.
                    plan.asked(&progress.borrow_and_update());
                }
                () = sleep_until(next), if idle => {}
            }
            self.forget(&mut plan).await;
        }
    }

    /// Removes records of certificates that nobody has wanted for a while.
    async fn forget(&self, plan: &mut Plan) {
        let gone = plan.gone(&self.acme.progress().borrow(), &self.acme.gateway);
        for secret in gone {
            match self.vault.delete(&Record::name_for(&secret)).await {
                Ok(()) => info!(secret, "no Gateway asks for this certificate any more: it is not renewed"),
                Err(error) => debug!(secret, %error, "a record stays"),
            }
        }
    }
}

/// When to look after which certificate.
#[derive(Default)]
struct Plan {
    certificates: BTreeMap<String, Planned>,
    /// Issuers that are left alone until then.
    resting: HashMap<String, Instant>,
    /// Since when nobody wants the certificates of records that are there.
    unwanted: HashMap<String, Instant>,
}

impl Plan {
    /// Takes over what is wanted now. What is new or has changed is due at once.
    fn take(&mut self, wanted: &Wanted) {
        // They are sorted by Secret.
        let is_wanted = |secret: &str| wanted.binary_search_by(|it| it.secret.as_str().cmp(secret)).is_ok();
        self.certificates.retain(|secret, planned| planned.busy || is_wanted(secret));
        for ordered in wanted {
            let fresh = || Planned { ordered: Arc::clone(ordered), at: Instant::now(), busy: false, again: false };
            let planned = self.certificates.entry(ordered.secret.clone()).or_insert_with(fresh);
            if planned.ordered != *ordered {
                planned.ordered = Arc::clone(ordered);
                planned.again = planned.busy;
                planned.at = Instant::now();
            }
        }
    }

    /// What somebody asks a new certificate for is due at once.
    fn asked(&mut self, progress: &Progress) {
        for (secret, planned) in &mut self.certificates {
            if progress.get(secret).is_some_and(|record| record.reissue.is_some() && record.next_attempt <= now()) {
                planned.again = planned.busy;
                planned.at = Instant::now();
            }
        }
    }

    /// The next one that is due, which is busy from now on.
    fn start(&mut self) -> Option<Arc<Ordered>> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let due = self
            .certificates
            .values_mut()
            .filter(|it| !it.busy && it.at <= now && !self.resting.contains_key(&it.ordered.issuer.name));
        let planned = due.min_by_key(|it| it.at)?;
        planned.busy = true;
        planned.again = false;
        Some(Arc::clone(&planned.ordered))
    }

    fn done(&mut self, ordered: &Ordered, tended: &Tended) {
        let rest = match tended.failed {
            Some(Failed::RateLimited) => REST,
            Some(Failed::Transient) => BREATH,
            Some(Failed::Refused) | None => Duration::ZERO,
        };
        if !rest.is_zero() {
            self.resting.insert(ordered.issuer.name.clone(), Instant::now() + tended.pause.min(rest));
        }
        if let Some(planned) = self.certificates.get_mut(&ordered.secret) {
            planned.busy = false;
            let pause = if planned.again { LEAST } else { tended.pause.clamp(LEAST, LOOK) };
            planned.at = Instant::now() + pause;
        }
    }

    /// When the next one is due, or an hour from now.
    fn next(&self) -> Instant {
        let at = |it: &Planned| self.resting.get(&it.ordered.issuer.name).map_or(it.at, |until| it.at.max(*until));
        let waiting = self.certificates.values().filter(|it| !it.busy).map(at);
        waiting.min().unwrap_or_else(|| Instant::now() + LOOK)
    }

    /// Records of this gateway that nobody has wanted for long enough.
    fn gone(&mut self, progress: &Progress, gateway: &str) -> Vec<String> {
        let own = progress.iter().filter(|(_, record)| record.gateway == gateway);
        let unwanted: Vec<&String> =
            own.map(|(secret, _)| secret).filter(|secret| !self.certificates.contains_key(*secret)).collect();
        self.unwanted.retain(|secret, _| unwanted.contains(&secret));
        let now = Instant::now();
        for secret in unwanted {
            self.unwanted.entry(secret.clone()).or_insert(now);
        }
        let gone: Vec<String> =
            self.unwanted.iter().filter(|(_, since)| **since + FORGOTTEN <= now).map(|(it, _)| it.clone()).collect();
        self.unwanted.retain(|secret, _| !gone.contains(secret));
        gone
    }
}
