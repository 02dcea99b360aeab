//! Addresses of the host names among the endpoints (Istio `resolution: DNS`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::{net::lookup_host, task::JoinSet, time::timeout};
use tracing::warn;

/// Between look-ups: the system's resolver does not tell how long an answer holds.
pub(crate) const REFRESH: Duration = Duration::from_secs(5);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Looks up every name. One that cannot be resolved now keeps its last addresses.
pub(crate) async fn resolve(
    names: &[String],
    last: &BTreeMap<String, Vec<IpAddr>>,
) -> Arc<BTreeMap<String, Vec<IpAddr>>> {
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
