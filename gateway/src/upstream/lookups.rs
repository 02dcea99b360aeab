//! Names that are looked up when a request asks for them (Istio `DYNAMIC_DNS`).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

/// How long an answer holds: the system's resolver does not tell.
const HOLDS: Duration = Duration::from_secs(5);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Answers that are kept at most: clients choose the names.
const MOST: usize = 4096;

/// Answers by name in lower case, and when they came.
type Known = HashMap<Box<str>, (Instant, Arc<[IpAddr]>)>;

/// Recent answers of the process.
#[derive(Debug, Default)]
pub(crate) struct Lookups(Mutex<Known>);

impl Lookups {
    /// The addresses of a name, in the order of the answer.
    ///
    /// # Errors
    /// A few words.
    pub(crate) async fn find(&self, name: &str) -> Result<Arc<[IpAddr]>, String> {
        let name = name.to_ascii_lowercase();
        if let Some((at, known)) = self.known().get(name.as_str())
            && at.elapsed() < HOLDS
        {
            return Ok(Arc::clone(known));
        }
        let asked = timeout(ANSWER, lookup_host((name.as_str(), 0))).await;
        let answer = asked
            .map_err(|_| "DNS: no answer in time".to_owned())?
            .map_err(|error| format!("DNS: `{name}` cannot be resolved: {error}"))?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in answer.map(|address| address.ip()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let addresses: Arc<[IpAddr]> = addresses.into();
        let mut known = self.known();
        if known.len() >= MOST {
            known.retain(|_, (at, _)| at.elapsed() < HOLDS);
        }
        if known.len() < MOST {
            known.insert(name.into(), (Instant::now(), Arc::clone(&addresses)));
        }
        Ok(addresses)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
