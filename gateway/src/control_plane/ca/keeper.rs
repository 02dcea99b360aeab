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
    trusted::Trusted,
};
use crate::{
    acme::vault::Vault,
    control_plane::settings::Lifetimes,
    stored::{Stored, VaultError},
    telemetry::ca::CaMetrics,
};

/// How often what is kept is looked at, beside whenever something is told.
const LOOK: Duration = Duration::from_secs(5);
/// How often a write is tried that others have come before.
const TRIES: usize = 5;

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
}

impl Keeper {
    /// Follows until dropped.
    pub(crate) async fn run(&self) {
        let mut leading = self.leading.clone();
        // What is not looked at for the propagation time is not trusted any more.
        let pause = LOOK.min(self.lifetimes.propagation / 4);
        loop {
            match self.turn().await {
                Ok(again) => {
                    self.told(None);
                    if again {
                        continue;
                    }
                }
                Err(why) => self.told(Some(format!("{why:#}"))),
            }
            tokio::select! {
                () = self.look.notified() => {}
                // The sender may be gone with the process.
                Ok(()) = leading.changed() => {}
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
                let what = if signs { "the last good CA signs" } else { "nothing is signed" };
                error!("{why}; {what}");
            }
            None if self.current.set_trouble(None) => info!("the CA is as it is kept"),
            _ => {}
        }
    }

    /// Looks once, and does what is due. Gives whether to look again at once.
    async fn turn(&self) -> Result<bool> {
        let before = self.current.get();
        let found = find(self.folder.as_deref(), &self.vault).await.map_err(anyhow::Error::msg)?;
        match found {
            Found::PlugIn(origin, material) => {
                self.current.confirm();
                self.take_plug_in(before.as_deref(), origin, material).await?;
                Ok(false)
            }
            Found::SelfSigned(record, stored) => {
                if let Some(Origin::PlugIn(whose)) = before.as_deref().map(|before| &before.origin) {
                    anyhow::bail!(
                        "{whose} is gone, and the self-signed CA of {SELF_SIGNED} is another one; put it back, or stop every \
                         replica, delete {} and start them, which cuts off whoever has a certificate",
                        self.trusted
                    );
                }
                self.current.confirm();
                // First: a root that has ended can still be renewed.
                if self.advance(&record, &stored).await? {
                    return Ok(true);
                }
                self.take(before.as_deref(), &record).await.map(|()| false)
            }
            Found::Nothing => self.nothing(before.as_deref()).await,
        }
    }

    /// Takes somebody's CA, unless that would cut off whoever has a certificate.
    async fn take_plug_in(&self, before: Option<&InForce>, origin: Origin, material: Material) -> Result<()> {
        if before.is_some_and(|before| before.material == material && before.origin == origin) {
            return Ok(());
        }
        let Origin::PlugIn(whose) = &origin else { return Ok(()) };
        let now = SystemTime::now();
        let signer = Signer::load(&material, now).map_err(|why| anyhow::anyhow!("{whose}: {why}"))?;
        if let Some(before) = before {
            before.signer.is_trusted(signer.roots(), now).map_err(|_| {
                anyhow::anyhow!(
                    "{whose}: the change is not taken, as whoever has a certificate would be refused by whoever trusts the new \
                     root-cert.pem; put the root of now into it too, and take it out when what was issued has ended (or \
                     stop every replica, delete {} and start them, which cuts them off)",
                    self.trusted
                )
            })?;
            if signer.is_trusted(before.signer.roots(), now).is_err() {
                warn!(
                    "{whose}: workloads that have not heard of the new root yet refuse what it signs, until they renew"
                );
            }
        } else {
            self.trusted.allows(whose, Some(&signer)).await.map_err(anyhow::Error::msg)?;
        }
        self.set(InForce { roots: signer.roots().pem(), signer, origin, material, record: None });
        Ok(())
    }

    async fn take(&self, before: Option<&InForce>, record: &Record) -> Result<()> {
        if before.and_then(|before| before.record.as_ref()) == Some(record) {
            return Ok(());
        }
        let signer = Signer::load(&record.material, SystemTime::now())
            .map_err(|why| anyhow::anyhow!("Secret {SELF_SIGNED}: {why}"))?;
        if before.is_none() {
            self.trusted.allows(&format!("Secret {SELF_SIGNED}"), Some(&signer)).await.map_err(anyhow::Error::msg)?;
        }
        let material = record.material.clone();
        let record = Some(record.clone());
        self.set(InForce { roots: signer.roots().pem(), signer, origin: Origin::SelfSigned, material, record });
        Ok(())
    }

    fn set(&self, in_force: InForce) {
        let phase = match in_force.rotation() {
            None => 0,
            Some((Phase::Announced, _)) => 1,
            Some((Phase::Signing, _)) => 2,
        };
        let facts = in_force.signer.roots().facts();
        let root = facts.iter().map(|root| root.not_after).min().and_then(|end| u64::try_from(end).ok()).unwrap_or(0);
        let root = SystemTime::UNIX_EPOCH + Duration::from_secs(root);
        self.metrics.in_force((root, in_force.signer.ends()), facts.len(), phase);
        info!(
            serial = in_force.signer.serial(), origin = ?in_force.origin, roots = facts.len(), phase,
            "this CA signs"
        );
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
    async fn nothing(&self, before: Option<&InForce>) -> Result<bool> {
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
                let (domain, lifetimes) = (self.trust_domain.clone(), self.lifetimes);
                let made = spawn_blocking(move || rotation::fresh(&domain, lifetimes, SystemTime::now()));
                made.await.context("making a root")??
            }
        };
        match self.vault.put(SELF_SIGNED, &record.stored(None)).await {
            Ok(_) => {
                info!("the CA of the mesh is kept in {SELF_SIGNED}");
                Ok(true)
            }
            // Of several replicas one has made the root.
            Err(VaultError::Conflict(_)) => Ok(true),
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
