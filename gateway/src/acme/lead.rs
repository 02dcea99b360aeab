//! What the leader does: it looks after every certificate when its time has come, a few at once.

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep_until;
use tracing::{debug, info};

use super::{
    Acme, accounts::Accounts, leadership::Leadership, plan::Plan, record::Record, replicas::Replicas, tend::tend,
    vault::Vault,
};

/// Certificates ordered at the same time.
const AT_ONCE: usize = 4;

impl Acme {
    /// Orders and renews until dropped.
    pub(crate) async fn lead(&self, vault: &Vault, replicas: Replicas) {
        self.something_wanted().await;
        let leadership = Leadership { acme: self, vault, accounts: Accounts::new(vault.clone()), replicas };
        leadership.run().await;
    }
}

impl Leadership<'_> {
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
