//! When to look after which certificate.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use routing::acme::Ordered;
use tokio::time::Instant;

use super::{Progress, Wanted, now, schedule::Failed, tend::Tended};

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

/// See the module.
#[derive(Default)]
pub(super) struct Plan {
    certificates: BTreeMap<String, Planned>,
    /// Issuers that are left alone until then.
    resting: HashMap<String, Instant>,
    /// Since when nobody wants the certificates of records that are there.
    unwanted: HashMap<String, Instant>,
}

impl Plan {
    /// Takes over what is wanted now. What is new or has changed is due at once.
    pub(super) fn take(&mut self, wanted: &Wanted) {
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
    pub(super) fn asked(&mut self, progress: &Progress) {
        for (secret, planned) in &mut self.certificates {
            if progress.get(secret).is_some_and(|record| record.reissue.is_some() && record.next_attempt <= now()) {
                planned.again = planned.busy;
                planned.at = Instant::now();
            }
        }
    }

    /// The next one that is due, which is busy from now on.
    pub(super) fn start(&mut self) -> Option<Arc<Ordered>> {
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

    pub(super) fn done(&mut self, ordered: &Ordered, tended: &Tended) {
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
    pub(super) fn next(&self) -> Instant {
        let at = |it: &Planned| self.resting.get(&it.ordered.issuer.name).map_or(it.at, |until| it.at.max(*until));
        let waiting = self.certificates.values().filter(|it| !it.busy).map(at);
        waiting.min().unwrap_or_else(|| Instant::now() + LOOK)
    }

    /// Records of this gateway that nobody has wanted for long enough.
    pub(super) fn gone(&mut self, progress: &Progress, gateway: &str) -> Vec<String> {
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
