//! Follows the CA's material, makes a root where there is none, and does the steps of a rotation.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use tls::authority::signer::{Material, Signer};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{
    in_force::{Current, InForce, Origin},
    material::{Found, find},
    record::{Phase, Record, SELF_SIGNED},
    rotation::{self, Step},
    succession::{self, Follows, Memory, ending, follows},
    trusted::Trusted,
};
use crate::{
    acme::vault::Vault,
    control_plane::settings::Lifetimes,
    stored::{Stored, VaultError},
    telemetry::ca::CaMetrics,
};

#[cfg(test)]
mod tests;

/// How often what is kept is looked at, beside whenever something is told.
const LOOK: Duration = Duration::from_secs(5);
/// How often a write is tried that others have come before.
const TRIES: usize = 5;

/// What a look has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// Something was written, and is to be looked at.
    Again,
    /// What is kept signs.
    Settled,
    /// Nothing is there yet, and another replica makes it.
    Waits(&'static str),
}

/// See the module.
pub(crate) struct Keeper {
    /// What signs, for all that use it.
    pub(crate) current: Arc<Current>,
    /// A plug-in CA.
    pub(crate) folder: Option<PathBuf>,
    /// Where a self-signed one is kept.
    pub(crate) vault: Vault,
    /// What the mesh trusts so far.
    pub(crate) trusted: Trusted,
    /// Whose name a root has.
    pub(crate) trust_domain: String,
    /// How long things last.
    pub(crate) lifetimes: Lifetimes,
    /// Whether this replica does what only one should.
    pub(crate) leading: watch::Receiver<bool>,
    /// Something may have changed.
    pub(crate) look: Arc<Notify>,
    /// What is counted.
    pub(crate) metrics: Arc<CaMetrics>,
    /// What was found at the looks before.
    pub(crate) memory: Memory,
}

impl Keeper {
    /// Follows until dropped.
    pub(crate) async fn run(&self) {
        let mut leading = self.leading.clone();
        // What is not looked at for the propagation time is not trusted any more.
        let pause = LOOK.min(self.lifetimes.propagation / 4);
        loop {
            match self.turn().await {
                Ok(Turn::Again) => {
                    self.told(None);
                    continue;
                }
                Ok(Turn::Settled) => self.told(None),
                // Nothing is wrong, and readiness says what is waited for.
                Ok(Turn::Waits(what)) => drop(self.current.set_trouble(Some(what.to_owned()))),
                Err(why) => self.told(Some(format!("{why:#}"))),
            }
            self.tell_whether_it_signs();
            tokio::select! {
                () = self.look.notified() => self.memory.forget(),
                // The sender may be gone with the process.
                Ok(()) = leading.changed() => self.memory.forget(),
                () = sleep(pause) => {}
            }
        }
    }

    /// Says once what is wrong, and once that it is right again.
    fn told(&self, trouble: Option<String>) {
        let signs = self.current.get().is_some();
        self.metrics.kept(trouble.is_some() && signs);
        match &trouble {
            Some(why) if self.current.set_trouble(trouble.clone()) => {
                let what = match (signs, self.current.is_fresh()) {
                    (true, true) => format!("the last good CA signs until {}", self.current.signs_until()),
                    _ => "nothing is signed".to_owned(),
                };
                error!("{why}; {what}");
            }
            None if self.current.set_trouble(None) => info!("the CA is as it is kept"),
            _ => {}
        }
    }

    /// Says when the time of the last good CA is over, and when it is the one that is kept again.
    fn tell_whether_it_signs(&self) {
        let now = self.current.get();
        let signs = now.as_ref().is_some_and(|now| now.signer.ends() > SystemTime::now()) && self.current.is_fresh();
        let before = self.metrics.signing(signs);
        if before && !signs {
            let why =
                self.current.trouble().unwrap_or_else(|| "its certificate, or one above it, has ended".to_owned());
            error!("nothing is signed any more, and workloads get no certificates: {why}");
        }
        let plugged_in = now.as_ref().filter(|now| now.origin != Origin::SelfSigned);
        if let Some(words) = plugged_in.and_then(|now| ending(&now.signer, SystemTime::now()))
            && self.memory.says(&words)
        {
            warn!("the CA ends before long: {words}");
        }
    }

    /// Looks once, and does what is due. What is kept is confirmed when it is what signs: who refuses it must not go on for
    /// ever beside replicas that have taken it.
    async fn turn(&self) -> Result<Turn> {
        let before = self.current.get();
        let before = before.as_deref();
        match find(self.folder.as_deref(), &self.vault).await.map_err(anyhow::Error::msg)? {
            Found::PlugIn(origin, material) => {
                self.take(before, origin, material, None).await?;
                self.current.confirm();
                Ok(Turn::Settled)
            }
            Found::SelfSigned(record, stored) => {
                if let Some(Origin::PlugIn(whose)) = before.map(|before| &before.origin) {
                    anyhow::bail!(
                        "{whose} is gone, and the self-signed CA of {SELF_SIGNED} is another one; put it back, or stop every \
                         replica, delete {} and start them, which cuts off whoever has a certificate",
                        self.trusted
                    );
                }
                let taken = self.take(before, Origin::SelfSigned, record.material.clone(), Some(&record)).await;
                // A root that has ended can still be renewed, unless it is somebody else's.
                let ours = before.is_none_or(|before| before.material.key == record.material.key);
                if taken.is_err() && !(ours && has_ended(&record, SystemTime::now())) {
                    return taken.map(|()| Turn::Settled);
                }
                if taken.is_ok() {
                    self.current.confirm();
                }
                if self.advance(&record, &stored).await? {
                    return Ok(Turn::Again);
                }
                taken.map(|()| Turn::Settled)
            }
            Found::Nothing => self.nothing(before).await,
        }
    }

    /// Takes a CA, unless it is broken or would cut off whoever has a certificate.
    async fn take(
        &self,
        before: Option<&InForce>,
        origin: Origin,
        material: Material,
        record: Option<&Record>,
    ) -> Result<()> {
        if before.is_some_and(|it| it.material == material && it.origin == origin && it.record.as_ref() == record) {
            return Ok(());
        }
        if let Some(words) = self.memory.refused(&origin, &material) {
            anyhow::bail!(words);
        }
        match self.judge(before, &origin, &material).await {
            Ok(signer) => {
                let roots = signer.roots().pem();
                self.set(InForce { roots, signer, origin, material, record: record.cloned() });
                Ok(())
            }
            Err(words) => {
                self.memory.refuse(&origin, &material, &words);
                Err(anyhow::Error::msg(words))
            }
        }
    }

    /// # Errors
    /// Why it is not taken.
    async fn judge(&self, before: Option<&InForce>, origin: &Origin, material: &Material) -> Result<Signer, String> {
        let whose = origin.to_string();
        let now = SystemTime::now();
        let signer = Signer::load(material, now).map_err(|why| format!("{whose}: {why}"))?;
        let Some(before) = before else {
            self.trusted.allows(&whose, Some(&signer)).await?;
            return Ok(signer);
        };
        match self.compare(&before.signer, &signer, now).await {
            Ok(()) => Ok(signer),
            Err(words) => Err(format!("{whose}: {words}")),
        }
    }

    /// # Errors
    /// Somebody would be cut off.
    async fn compare(&self, before: &Signer, next: &Signer, now: SystemTime) -> Result<(), String> {
        let handed_out = self.trusted.lists().await?;
        let lists = if handed_out.is_empty() { before.lists() } else { &handed_out };
        let place = self.trusted.place_of_lists();
        match follows(before, next, lists, now) {
            Follows::Unnoticed => {}
            Follows::Announce => {
                warn!(
                    "workloads that have not heard of the new root yet refuse what the new CA signs, until they renew"
                );
            }
            Follows::Revokes => warn!(
                serial = before.serial(),
                "the CA of before is revoked: whoever has a certificate of it is refused, until it is renewed"
            ),
            Follows::Revoked => return Err(succession::revoked(&place)),
            Follows::Unlisted => return Err(succession::unlisted(&place, next.serial())),
            // Who was away while the others went on step by step finds only the last one.
            Follows::Forgets if next.lists().are(&handed_out) => {
                warn!("the mesh has gone over to this CA and its revocation lists already, and this replica follows");
            }
            Follows::Forgets => return Err(succession::forgets(before.serial())),
            Follows::CutsOff if self.trusted.are(next.roots()).await? => {
                warn!("the mesh has gone over to this CA already, and this replica follows");
            }
            Follows::CutsOff => return Err(succession::cuts_off(&self.trusted.to_string())),
        }
        if next.lists().is_empty() && !lists.is_empty() {
            warn!("the revocation lists have left the CA: nobody is found to be revoked any more");
        }
        for issuer in next.lists().miss(lists) {
            warn!(
                issuer,
                "its revocation list has left ca-crl.pem: whoever has a certificate of it is refused from now on"
            );
        }
        Ok(())
    }

    fn set(&self, in_force: InForce) {
        let phase = match in_force.rotation() {
            None => 0,
            Some((Phase::Announced, _)) => 1,
            Some((Phase::Signing, _)) => 2,
        };
        let (signer, roots) = (&in_force.signer, in_force.signer.roots().facts().len());
        self.metrics.in_force((signer.root_ends(), signer.chain_ends()), roots, phase);
        info!(serial = signer.serial(), origin = %in_force.origin, roots, phase, "this CA signs");
        self.current.set(in_force);
    }

    /// Does the step that is due, where this replica leads. Gives whether there is something to look at.
    async fn advance(&self, record: &Record, stored: &Stored) -> Result<bool> {
        if !*self.leading.borrow() {
            return Ok(false);
        }
        let now = SystemTime::now();
        let facts = tls::facts::facts(&record.material.certificate).context("the root in the Secret")?;
        let time = |since: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(since).unwrap_or(0));
        let life = (time(facts.not_before), time(facts.not_after));
        let step = rotation::due(record, life, now);
        let next = if step != Step::None {
            let (domain, lifetimes, record) = (self.trust_domain.clone(), self.lifetimes, record.clone());
            let done = spawn_blocking(move || rotation::after(&record, step, &domain, lifetimes, now));
            done.await.context("making a root")??
        } else if record.longest < self.lifetimes.usual || record.propagation != self.lifetimes.propagation {
            let longest = record.longest.max(self.lifetimes.usual);
            Record { longest, propagation: self.lifetimes.propagation, ..record.clone() }
        } else if let Some(tidied) = rotation::tidied(record, now) {
            tidied
        } else {
            return Ok(false);
        };
        match self.vault.put(SELF_SIGNED, &next.stored(Some(stored.clone()))).await {
            // Another replica was faster: what it has written is looked at.
            Ok(_) | Err(VaultError::Conflict(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// There is no CA: the one that signs is written back, or a new one is made.
    async fn nothing(&self, before: Option<&InForce>) -> Result<Turn> {
        let record = match before {
            Some(InForce { origin: Origin::PlugIn(whose), .. }) => {
                anyhow::bail!("{whose} is gone; put it back");
            }
            Some(before) => {
                if !*self.leading.borrow() {
                    anyhow::bail!("Secret {SELF_SIGNED} is gone; the replica that leads writes it back");
                }
                warn!("Secret {SELF_SIGNED} was deleted; the CA that signs is written back");
                before.record.clone().context("a self-signed CA has its record")?
            }
            None => {
                self.trusted.allows("a new root", None).await.map_err(anyhow::Error::msg)?;
                // Of several that start at once one makes the root; the others read it.
                if !*self.leading.borrow() {
                    return Ok(Turn::Waits("there is no CA yet; the replica that leads makes one"));
                }
                let (domain, lifetimes) = (self.trust_domain.clone(), self.lifetimes);
                let made = spawn_blocking(move || rotation::fresh(&domain, lifetimes, SystemTime::now()));
                made.await.context("making a root")??
            }
        };
        match self.vault.put(SELF_SIGNED, &record.stored(None)).await {
            Ok(_) => {
                info!("the CA of the mesh is kept in {SELF_SIGNED}");
                Ok(Turn::Again)
            }
            // Another replica was faster.
            Err(VaultError::Conflict(_)) => Ok(Turn::Again),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the record know that certificates of this lifetime are issued, before one is.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) async fn grant(&self, lifetime: Duration) -> Result<(), String> {
        for _ in 0..TRIES {
            let granted = timeout(LOOK, self.grant_once(lifetime)).await;
            match granted.map_err(|_| "nobody answers where the CA is kept".to_owned())? {
                Ok(()) => {
                    self.look.notify_one();
                    return Ok(());
                }
                Err(VaultError::Conflict(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("others write where the CA is kept, all the time".to_owned())
    }

    async fn grant_once(&self, lifetime: Duration) -> Result<(), VaultError> {
        let stored = self.vault.get(SELF_SIGNED).await?;
        let Some((record, stored)) = stored.and_then(|stored| Some((Record::read(&stored)?, stored))) else {
            return Err(VaultError::Failed(format!("Secret {SELF_SIGNED} is gone")));
        };
        if record.longest >= lifetime {
            return Ok(());
        }
        let record = Record { longest: lifetime, ..record };
        self.vault.put(SELF_SIGNED, &record.stored(Some(stored))).await.map(drop)
    }
}

/// Whether the root of a record has ended.
fn has_ended(record: &Record, now: SystemTime) -> bool {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    tls::facts::facts(&record.material.certificate)
        .is_ok_and(|facts| u64::try_from(facts.not_after).is_ok_and(|end| end <= since))
}
