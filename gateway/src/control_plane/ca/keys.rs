//! Tokens without an API server: they are like those of Kubernetes, and a file has the keys that signed them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use serde_json::Value;
use tls::jwt::{Jwt, Keys};
use tracing::{error, info};

use super::callers::{Account, NotKnown};
use crate::source::{bounded, identity::FileWatch};

/// A larger file of keys is none.
const LARGEST: u64 = 1 << 20;

/// The keys of a file, which may change.
pub(crate) struct KeyFile {
    path: PathBuf,
    keys: ArcSwap<Keys>,
    audiences: Vec<String>,
}

impl KeyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn read(path: &Path, audiences: Vec<String>) -> Result<Arc<Self>, String> {
        let keys = keys(path)?;
        Ok(Arc::new(Self { path: path.to_owned(), keys: ArcSwap::from_pointee(keys), audiences }))
    }

    /// Follows the file until dropped. A file that is broken changes nothing.
    pub(crate) async fn follow(&self) {
        let mut watch = FileWatch::new(vec![self.path.clone()]);
        loop {
            // At first, too: it may have changed since it was read at the start.
            match keys(&self.path) {
                Ok(keys) if keys.is_same(&self.keys.load()) => {}
                Ok(keys) => {
                    info!(file = %self.path.display(), keys = keys.count(), "the keys of tokens have changed");
                    self.keys.store(Arc::new(keys));
                }
                Err(why) => error!("{why}; the keys of before are used"),
            }
            watch.changed().await;
        }
    }

    /// Whose token this is.
    pub(super) fn whose(&self, token: &str) -> Result<Account, NotKnown> {
        let refused = |why: &dyn ToString| NotKnown::Refused(why.to_string());
        let jwt = Jwt::read(token).map_err(|why| refused(&why))?;
        self.keys.load().verify(&jwt).map_err(|why| refused(&why))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !jwt.claims.contains_key("exp") {
            return Err(refused(&"the token never ends (`exp` is missing)"));
        }
        Jwt::check_times(&jwt.claims, now).map_err(|why| refused(&why))?;
        let ours = |audience: &str| self.audiences.iter().any(|own| own == audience);
        let meant = match jwt.claims.get("aud") {
            Some(Value::String(one)) => ours(one),
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).any(ours),
            _ => false,
        };
        if !meant {
            return Err(refused(&tls::jwt::Refusal::WrongAudience));
        }
        let subject = jwt.claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let pod = jwt.claims.get("kubernetes.io").and_then(|it| it["pod"]["name"].as_str()).map(str::to_owned);
        Account::of(subject, pod)
    }
}

fn keys(path: &Path) -> Result<Keys, String> {
    let told = |why: &dyn std::fmt::Display| format!("--token-keys {}: {why}", path.display());
    let text = bounded::read(path, LARGEST).map_err(|error| told(&error))?;
    let pem = text.windows(11).any(|window| window == b"-----BEGIN ");
    let keys = if pem { Keys::read_pem(&text) } else { Keys::read(&text) };
    keys.map_err(|why| told(&why))
}
