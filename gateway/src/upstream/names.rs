//! Addresses of the host names among the endpoints (Istio `resolution: DNS`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    net::lookup_host,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::warn;

/// Between look-ups, where the mesh configuration says nothing: the system's resolver does not tell how long an answer holds.
const REFRESH: Duration = Duration::from_secs(5);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Addresses by name.
pub(crate) type Resolved = Arc<BTreeMap<String, Vec<IpAddr>>>;

/// What is looked up, and how often.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Wanted {
    names: Vec<String>,
    /// Istio `dnsRefreshRate`.
    pause: Option<Duration>,
}

/// Looks names up again and again, in a task of its own: other changes, however many, neither delay it nor start it anew.
/// Ends when dropped.
pub(crate) struct Resolver {
    wanted: watch::Sender<Wanted>,
    resolved: watch::Receiver<Resolved>,
}

impl Resolver {
    /// Looks nothing up yet.
    pub(crate) fn start() -> Self {
        let (wanted, names) = watch::channel(Wanted::default());
        let (tell, resolved) = watch::channel(Resolved::default());
        tokio::spawn(look_up(names, tell));
        Self { wanted, resolved }
    }

    /// From now on these names are looked up, with this pause between.
    pub(crate) fn want(&self, names: &[String], pause: Option<Duration>) {
        self.wanted.send_if_modified(|wanted| {
            let other = wanted.names != names || wanted.pause != pause;
            if other {
                *wanted = Wanted { names: names.to_vec(), pause };
            }
            other
        });
    }

    /// Other addresses than before, as soon as there are any. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Resolved {
        if self.resolved.changed().await.is_err() {
            // The task lives as long as this does.
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.resolved.borrow_and_update())
    }
}

async fn look_up(mut wanted: watch::Receiver<Wanted>, tell: watch::Sender<Resolved>) {
    loop {
        let Wanted { names, pause } = wanted.borrow_and_update().clone();
        let last = Arc::clone(&tell.borrow());
        let found = resolve(&names, &last).await;
        tell.send_if_modified(|told| {
            let other = *told != found;
            *told = found;
            other
        });
        let rest = async {
            match names.is_empty() {
                true => std::future::pending().await,
                // No busier than once a second, whatever is written.
                false => sleep(pause.unwrap_or(REFRESH).max(Duration::from_secs(1))).await,
            }
        };
        tokio::select! {
            () = rest => {}
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Looks up every name. One that cannot be resolved now keeps its last addresses.
async fn resolve(names: &[String], last: &BTreeMap<String, Vec<IpAddr>>) -> Resolved {
    let mut asked = JoinSet::new();
    for name in names.iter().cloned() {
        asked.spawn(async move {
            let found = timeout(ANSWER, lookup_host((name.clone(), 0))).await;
            let addresses = match found {
                Ok(Ok(addresses)) => {
                    let mut addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
                    addresses.sort_unstable();
                    addresses.dedup();
                    Ok(addresses)
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            (name, addresses)
        });
    }
    let mut resolved = BTreeMap::new();
    while let Some(Ok((name, addresses))) = asked.join_next().await {
        match addresses {
            Ok(addresses) => drop(resolved.insert(name, addresses)),
            Err(error) => {
                if let Some(kept) = last.get(&name) {
                    resolved.insert(name, kept.clone());
                } else {
                    warn!(host = %name, %error, "the name of an endpoint cannot be resolved");
                }
            }
        }
    }
    Arc::new(resolved)
}
