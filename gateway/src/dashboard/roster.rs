//! The pods of a cluster as they were listed last: whoever looks every two seconds does not have them listed every two seconds.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::ask::{Target, Way};
use crate::kubernetes::{client::Client, pods};

/// A list is good for so long, and for so many times the time that it took: large clusters are listed less often.
const FRESH: Duration = Duration::from_secs(15);
const SHARE: u32 = 20;
/// Longest wait for a list; the one before serves meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roll {
    /// In a fixed order.
    pub(super) targets: Arc<[Target]>,
    /// How many more there are, who are not asked.
    pub(super) left_out: usize,
    /// What is to know about it, as sentences.
    pub(super) notes: Vec<String>,
}

/// See the module.
pub(crate) struct Roster {
    client: Client,
    namespace: Option<String>,
    listed: Mutex<Option<Listed>>,
}

struct Listed {
    roll: Roll,
    at: Instant,
    until: Instant,
}

impl Roster {
    /// Of this cluster: of one namespace or of all.
    pub(crate) fn new(client: Client, namespace: Option<String>) -> Self {
        Self { client, namespace, listed: Mutex::new(None) }
    }

    /// The cluster.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// All of them, as they were not long ago. Whoever comes while they are listed waits for that list.
    ///
    /// # Errors
    /// The API server has never told.
    pub(super) async fn roll(&self) -> Result<Roll> {
        let mut listed = self.listed.lock().await;
        if let Some(known) = listed.as_ref().filter(|known| Instant::now() < known.until) {
            return Ok(known.roll.clone());
        }
        let began = Instant::now();
        let list = timeout(PATIENCE, pods::proxies(&self.client, self.namespace.as_deref())).await;
        let list = list.map_err(|_| anyhow!("no list of pods within {} s", PATIENCE.as_secs())).and_then(|list| list);
        let now = Instant::now();
        let until = now + FRESH.max((now - began) * SHARE);
        match (list, listed.as_mut()) {
            (Ok(pods), _) => {
                let roll = self.of_pods(pods);
                *listed = Some(Listed { roll: roll.clone(), at: now, until });
                Ok(roll)
            }
            (Err(error), Some(known)) => {
                known.until = now + FRESH;
                let mut roll = known.roll.clone();
                let age = (now - known.at).as_secs();
                roll.notes
                    .push(format!("The list of pods is {age} s old, as the API server gives no new one: {error:#}."));
                Ok(roll)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn of_pods(&self, pods: pods::Proxies) -> Roll {
        let target = |(namespace, name): (String, String)| Target {
            name: format!("{namespace}/{name}"),
            way: Way::Pod(namespace, name),
        };
        let targets: Arc<[Target]> = pods.named.into_iter().map(target).collect();
        let notes = match (pods.left_out, &self.namespace) {
            (0, _) => Vec::new(),
            (more, None) => vec![format!(
                "{more} more pods with a proxy are left out: {} are asked at most; --namespace asks those of one namespace.",
                targets.len()
            )],
            (more, Some(_)) => {
                vec![format!("{more} more pods with a proxy are left out: {} are asked at most.", targets.len())]
            }
        };
        Roll { targets, left_out: pods.left_out, notes }
    }
}
