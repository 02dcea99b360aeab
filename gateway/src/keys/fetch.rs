//! One source of keys, asked again and again.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use routing::tokens::KeySource;
use tls::jwt::{Allows, Fetcher, Keys};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{KeyBook, Slot, lock};
use crate::telemetry::metrics::Metrics;

/// Istio's time between fetches.
const REFRESH: Duration = Duration::from_secs(20 * 60);
/// An issuer that is away is tried soon at first: it may just be starting, as we are.
const QUICK: [Duration; 6] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// Then after a minute, and twice as long each time.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// Whom issuers are asked by.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// Addresses that may be asked.
    pub(crate) allows: Allows,
    /// CAs besides the system's (`--jwks-ca`).
    pub(crate) more_cas: Option<PathBuf>,
}

/// Fetches the keys of a slot as long as somebody holds it.
pub(super) async fn look_after(slot: Weak<Slot>, book: Weak<KeyBook>, asking: Asking, metrics: Arc<Metrics>) {
    let mut failures = 0;
    loop {
        let Some(held) = slot.upgrade() else { return };
        let fetched = fetch(&held.source, &asking).await;
        metrics.count_key_fetch(fetched.is_ok());
        let asked = Instant::now();
        failures = if fetched.is_ok() { 0 } else { failures + 1 };
        if take(&held, fetched, asked)
            && let Some(book) = book.upgrade()
        {
            book.changed.send_modify(|changes| *changes += 1);
        }
        held.tried.send_replace(true);
        let due = asked + pause(failures);
        // The slot is let go of, so that it can end while nothing is to do; its end wakes us.
        let misses = Arc::clone(&held.misses);
        drop(held);
        loop {
            let next = misses.due(asked).map_or(due, |missed| missed.min(due));
            if timeout_at(next, misses.news()).await.is_err() || slot.strong_count() == 0 {
                break;
            }
        }
    }
}

/// A tenth more by chance, so that the proxies of a mesh do not ask together.
fn pause(failures: usize) -> Duration {
    let pause = match failures.checked_sub(1) {
        None => REFRESH,
        Some(number) => QUICK.get(number).copied().unwrap_or_else(|| {
            let doubled = u32::try_from(number - QUICK.len()).unwrap_or(u32::MAX).min(6);
            (PAUSE * 2_u32.pow(doubled)).min(LONGEST)
        }),
    };
    pause.mul_f64(1.0 + fastrand::f64() / 10.0)
}

async fn fetch(source: &KeySource, asking: &Asking) -> Result<Keys, String> {
    let more = match &asking.more_cas {
        None => None,
        Some(path) => {
            let read = tokio::fs::read(path).await;
            Some(read.map_err(|error| format!("--jwks-ca {} cannot be read: {error}", path.display()))?)
        }
    };
    let fetcher = Fetcher::new(asking.allows, more.as_deref()).map_err(|error| match &asking.more_cas {
        Some(path) => format!("--jwks-ca {}: {error}", path.display()),
        None => error.to_string(),
    })?;
    match source {
        KeySource::Inline(text) => Keys::read(text.as_bytes()),
        KeySource::Remote { uri, timeout } => fetcher.keys(uri, *timeout).await,
        KeySource::Discovered { issuer, timeout } => {
            let uri = fetcher.discover(issuer, *timeout).await?;
            fetcher.keys(&uri, *timeout).await
        }
    }
}

/// Takes what was fetched; without it the last good keys stay. `true`: it is doing better or worse than before.
fn take(slot: &Slot, fetched: Result<Keys, String>, now: Instant) -> bool {
    let mut state = lock(&slot.state);
    match fetched {
        Ok(keys) => {
            let better = state.error.take().is_some();
            if better || !state.has_keys {
                info!(keys = keys.count(), source = name(&slot.source), "the keys of an issuer of tokens are here");
            }
            state.has_keys = true;
            // The same keys stay the same, and with them what was verified by them.
            let brought = !slot.keys.load().is_same(&keys);
            if brought {
                slot.keys.store(Arc::new(keys));
            }
            slot.misses.asked(now, brought);
            better
        }
        Err(why) => {
            let worse = state.error.as_deref() != Some(&why);
            if worse {
                warn!(kept = state.has_keys, "the keys of an issuer of tokens cannot be had: {why}");
            }
            state.error = Some(why.into());
            slot.misses.failed();
            worse
        }
    }
}

fn name(source: &KeySource) -> &str {
    match source {
        KeySource::Inline(_) => "inline",
        KeySource::Remote { uri, .. } => uri,
        KeySource::Discovered { issuer, .. } => issuer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[test]
    fn an_issuer_that_is_away_is_asked_less_and_less() {
        let minutes = |failures| pause(failures).as_secs() / 60;
        assert!((20..=22).contains(&minutes(0)));
        assert!(pause(1) < Duration::from_secs(1) && pause(6) < Duration::from_secs(17));
        assert!((1..2).contains(&minutes(7)));
        assert!((2..3).contains(&minutes(8)));
        assert!((60..=66).contains(&minutes(100)));
    }

    #[test]
    fn the_last_good_keys_stay() {
        let slot = Slot::new(KeySource::Remote { uri: "https://a".into(), timeout: Duration::from_secs(1) });
        let first = slot.keys().number;
        let take = |fetched| take(&slot, fetched, Instant::now());
        assert!(take(Err("away".into())), "that is news");
        assert!(!take(Err("away".into())), "that is none");
        assert_eq!(slot.keys().number, first);
        assert!(take(Keys::read(KEY.as_bytes())));
        let good = slot.keys().number;
        assert_ne!(good, first);
        take(Keys::read(KEY.as_bytes()));
        assert_eq!(slot.keys().number, good, "the same keys");
        assert!(take(Err("away".into())));
        assert_eq!((slot.keys().number, slot.state().has_keys), (good, true));
    }

    #[test]
    fn a_failure_says_nothing_of_the_keys_that_were_missed() {
        let slot = Slot::new(KeySource::Remote { uri: "https://a".into(), timeout: Duration::from_secs(1) });
        let now = Instant::now();
        slot.misses.miss(Some("next"));
        (0..20).for_each(|_| _ = take(&slot, Err("away".into()), now));
        assert_eq!(slot.misses.due(now), Some(now + Duration::from_secs(60)), "still asked for");
        take(&slot, Keys::read(KEY.as_bytes()), now);
        assert_eq!(slot.misses.due(now), None);
    }
}
