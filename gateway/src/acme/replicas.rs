//! Whether every replica answers a CA's checks by now: the CA may reach any of them.

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::kubernetes::replicas::Alive;

/// Longest wait for replicas; then the CA is told to look all the same, since a replica may be about to die.
const LONGEST: Duration = Duration::from_secs(10);
/// Processes that share a folder see a new file within this time, also when they are busy.
const SHARED_FOLDER: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Replicas {
    /// Tokens that this process answers.
    own: watch::Receiver<BTreeSet<String>>,
    others: Others,
}

/// How others are known.
enum Others {
    /// They share a folder with this process, if there are any.
    SharedFolder,
    /// They tell in their Leases.
    Leases(watch::Receiver<Option<Alive>>),
}

/// As much of a token as a replica tells that it answers.
pub(crate) fn short(token: &str) -> &str {
    token.get(..12).unwrap_or(token)
}

impl Replicas {
    /// Of processes that share a folder.
    pub(crate) fn sharing_a_folder(own: watch::Receiver<BTreeSet<String>>) -> Self {
        Self { own, others: Others::SharedFolder }
    }

    /// Of pods that have Leases.
    pub(crate) fn by_leases(own: watch::Receiver<BTreeSet<String>>, alive: watch::Receiver<Option<Alive>>) -> Self {
        Self { own, others: Others::Leases(alive) }
    }

    /// Waits until all replicas answer these tokens, but not for ever.
    pub(super) async fn answer(&self, tokens: &[&str]) {
        if tokens.is_empty() {
            return;
        }
        let all_in = |answered: &BTreeSet<String>| tokens.iter().all(|token| answered.contains(short(token)));
        let mut own = self.own.clone();
        let everywhere = async {
            // Both channels end with the process only.
            own.wait_for(all_in).await.ok();
            match &self.others {
                Others::SharedFolder => sleep(SHARED_FOLDER).await,
                Others::Leases(alive) => {
                    let told = |alive: &Option<Alive>| {
                        alive.as_ref().is_some_and(|alive| alive.values().all(|it| all_in(&it.answers)))
                    };
                    alive.clone().wait_for(told).await.ok();
                }
            }
        };
        if timeout(LONGEST, everywhere).await.is_err() {
            warn!(
                waited_s = LONGEST.as_secs(),
                "not every replica answers the CA's checks yet; the CA is told to look"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::replicas::Replica;

    fn alive(replicas: &[(&str, &[&str])]) -> Option<Alive> {
        let one = |(name, tokens): &(&str, &[&str])| {
            let answers = tokens.iter().map(|token| (*token).to_owned()).collect();
            ((*name).to_owned(), Replica { content: None, answers })
        };
        Some(replicas.iter().map(one).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn the_ca_is_told_once_every_replica_that_lives_answers() {
        let own = watch::Sender::new(BTreeSet::from(["abcdefghijkl".to_owned()]));
        let others = watch::Sender::new(alive(&[("a", &["abcdefghijkl"]), ("b", &[])]));
        let replicas = Replicas::by_leases(own.subscribe(), others.subscribe());
        let token = ["abcdefghijklmnop"];
        let mut answer = std::pin::pin!(replicas.answer(&token));
        assert!(timeout(Duration::from_secs(1), &mut answer).await.is_err());
        others.send_replace(alive(&[("a", &["abcdefghijkl"]), ("b", &["abcdefghijkl", "other"])]));
        assert!(timeout(Duration::from_secs(1), &mut answer).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_never_tells_does_not_stop_the_order() {
        let own = watch::Sender::new(BTreeSet::new());
        let replicas = Replicas::sharing_a_folder(own.subscribe());
        let answered = timeout(LONGEST + Duration::from_secs(1), replicas.answer(&["token"])).await;
        assert!(answered.is_ok());
    }
}
