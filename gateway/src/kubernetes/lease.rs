//! Which replica leads: one Lease per gateway deployment, held by whoever keeps renewing it.
//!
//! Nobody compares clocks with others: a Lease has ended when its holder has not changed it for as long as it promised,
//! by the clock of who looks.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

#[cfg(test)]
mod tests;

/// A holder that has not renewed its Lease for so long has lost it.
const DURATION: Duration = Duration::from_secs(15);
/// How often the leader renews.
const RENEW: Duration = Duration::from_secs(5);
/// How often the others look.
const LOOK: Duration = Duration::from_secs(2);
/// A leader that could not renew for so long stops to be one, before anybody else can begin.
const GIVE_UP: Duration = Duration::from_secs(10);
/// So long after its Lease was taken a leader has noticed, since it comes to renew it.
pub(super) const NOTICED: Duration = Duration::from_secs(6);
/// Longest wait for one answer of the API server.
const ANSWER: Duration = Duration::from_secs(3);
/// How often a Lease is tried to be taken that is written by others meanwhile.
const SEIZED_WITHIN: usize = 5;

/// What is seen of the Lease, and since when it has looked like this.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    duration: Duration,
    since: Instant,
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// It is free, or ours: write it.
    Hold,
    /// Somebody else has it, until then at least.
    Wait(Instant),
}

/// Decides about a Lease that was read just now. `before` is what was seen of it the last time.
fn decide(own: &str, lease: &LeaseSpec, before: Option<&Seen>, now: Instant) -> (Seen, Step) {
    let seen = Seen {
        holder: lease.holder_identity.clone().unwrap_or_default(),
        renewed: lease.renew_time.clone(),
        duration: lease.lease_duration_seconds.and_then(|it| it.try_into().ok()).map_or(DURATION, Duration::from_secs),
        since: now,
    };
    let same = before.filter(|it| it.holder == seen.holder && it.renewed == seen.renewed);
    let seen = Seen { since: same.map_or(now, |it| it.since), ..seen };
    let end = seen.since + seen.duration;
    let free = seen.holder.is_empty() || seen.holder == own || end <= now;
    (seen, if free { Step::Hold } else { Step::Wait(end) })
}

/// The Lease as its next holder writes it.
fn held(own: &str, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let mine = before.is_some_and(|it| it.holder_identity.as_deref() == Some(own));
    let transitions = before.and_then(|it| it.lease_transitions).unwrap_or(0);
    let acquired = before.filter(|_| mine).and_then(|it| it.acquire_time.clone());
    LeaseSpec {
        holder_identity: Some(own.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if mine || before.is_none() { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

/// The Lease of a workload's leader.
pub(super) fn name_of(workload: &str) -> String {
    format!("sluice-{workload}")
}

/// One candidate.
pub(super) struct Election {
    leases: Api<Lease>,
    name: String,
    own: String,
    /// As it was read or written the last time; `None` = it has to be read.
    lease: Option<Lease>,
    seen: Option<Seen>,
    renewed: Option<Instant>,
    leading: watch::Sender<bool>,
}

impl Election {
    /// For the Lease of this namespace and name; `own` is this replica's name.
    pub(super) fn new(client: Client, namespace: &str, name: String, own: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name,
            own,
            lease: None,
            seen: None,
            renewed: None,
            leading: watch::Sender::new(false),
        }
    }

    /// Whether this replica leads.
    pub(super) fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Takes part until dropped.
    pub(super) async fn run(&mut self) {
        let mut refused = false;
        loop {
            let (next, failure) = match timeout(ANSWER, self.turn()).await {
                Ok(Ok(next)) => (next, None),
                Ok(Err(error)) => (Instant::now() + LOOK, Some(error.to_string())),
                Err(_) => (Instant::now() + LOOK, Some("no answer".to_owned())),
            };
            if let Some(failure) = &failure {
                self.lease = None;
                if !refused {
                    warn!(lease = self.name, error = failure, "the Lease that elects a leader cannot be used");
                }
            }
            refused = failure.is_some();
            self.give_up_in_time();
            let end = self.renewed.map(|it| it + GIVE_UP).filter(|_| *self.leading.borrow());
            sleep_until(end.map_or(next, |end| next.min(end))).await;
            self.give_up_in_time();
        }
    }

    /// Reads or writes the Lease once. Gives when to come again.
    async fn turn(&mut self) -> kube::Result<Instant> {
        if self.lease.is_none() || !*self.leading.borrow() {
            self.lease = self.leases.get_opt(&self.name).await?;
        }
        let now = Instant::now();
        let spec = self.lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        if let Some(spec) = &spec {
            let (seen, step) = decide(&self.own, spec, self.seen.as_ref(), now);
            self.seen = Some(seen);
            if let Step::Wait(end) = step {
                self.lead(false);
                return Ok(end.min(now + spread(LOOK)));
            }
        }
        let spec = held(&self.own, spec.as_ref(), Timestamp::now());
        match self.write(spec).await {
            Ok(lease) => {
                self.lease = Some(lease);
                self.renewed = Some(now);
                self.lead(true);
                Ok(now + spread(RENEW))
            }
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                debug!(lease = self.name, "another replica has written the Lease");
                self.lease = None;
                Ok(now + Duration::from_millis(200))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the Lease from whoever has it, who notices within [`NOTICED`]. Keep it with [`Election::run`].
    ///
    /// # Errors
    /// The API server's.
    pub(super) async fn seize(&mut self) -> kube::Result<()> {
        for left in (0..SEIZED_WITHIN).rev() {
            self.lease = self.leases.get_opt(&self.name).await?;
            let before = self.lease.as_ref().and_then(|it| it.spec.clone());
            match self.write(held(&self.own, before.as_ref(), Timestamp::now())).await {
                Ok(lease) => {
                    (self.lease, self.renewed) = (Some(lease), Some(Instant::now()));
                    self.lead(true);
                    return Ok(());
                }
                // Its holder renews it at this very moment.
                Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn write(&self, spec: LeaseSpec) -> kube::Result<Lease> {
        let mut lease = self.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let exists = self.lease.is_some();
        lease.spec = Some(spec);
        let params = PostParams { field_manager: Some("sluice".to_owned()), ..PostParams::default() };
        // The resourceVersion goes with it, so that of two candidates only one succeeds.
        match exists {
            true => self.leases.replace(&self.name, &params, &lease).await,
            false => self.leases.create(&params, &lease).await,
        }
    }

    fn give_up_in_time(&mut self) {
        if self.renewed.is_some_and(|it| it.elapsed() >= GIVE_UP) {
            self.lead(false);
        }
    }

    fn lead(&self, leads: bool) {
        let changed = self.leading.send_if_modified(|now| std::mem::replace(now, leads) != leads);
        if changed {
            let what = if leads { "this replica leads" } else { "this replica does not lead any more" };
            info!(lease = self.name, "{what}");
        }
    }

    /// Gives the Lease back, so that another replica leads at once.
    pub(super) async fn release(&mut self) {
        if !*self.leading.borrow() {
            return;
        }
        self.lead(false);
        let transitions = self.lease.as_ref().and_then(|it| it.spec.as_ref()).and_then(|it| it.lease_transitions);
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            lease_transitions: transitions,
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        if let Err(error) = self.write(spec).await {
            debug!(lease = self.name, %error, "the Lease is left to end by itself");
        }
    }
}

/// Up to a fifth earlier, so that replicas do not come together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - 0.2 * fastrand::f64())
}
