//! Which proxies there are.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::ask::{self, Target, Way};
use crate::kubernetes::{client::Client, pods};

/// Where proxies are.
pub(crate) enum Mesh {
    /// These.
    Known(Vec<Target>),
    /// The pods of a cluster, of one namespace or of all.
    Kubernetes(Client, Option<String>),
}

impl Mesh {
    /// All of them, as they are now.
    ///
    /// # Errors
    /// The API server does not tell.
    pub(super) async fn targets(&self) -> Result<Vec<Target>> {
        match self {
            Self::Known(targets) => Ok(targets.clone()),
            Self::Kubernetes(client, namespace) => {
                let pods = pods::proxies(client, namespace.as_deref()).await?;
                let target = |(namespace, name): (String, String)| Target {
                    name: format!("{namespace}/{name}"),
                    way: Way::Pod(namespace, name),
                };
                Ok(pods.into_iter().map(target).collect())
            }
        }
    }

    /// What one answers.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(super) async fn ask(&self, target: &Target, path: &str) -> Result<(StatusCode, Bytes)> {
        match (&target.way, self) {
            (Way::Address(address), _) => ask::at(*address, path).await,
            (Way::Pod(namespace, name), Self::Kubernetes(client, _)) => {
                ask::over(pods::admin(client, namespace, name).await?, path).await
            }
            (Way::Pod(..), Self::Known(_)) => bail!("a pod is asked through an API server"),
        }
    }
}

/// The proxies of the demo with this state folder, or (`None`) of every demo of this user that runs on this machine.
///
/// # Errors
/// The folder is none of a demo.
pub(crate) fn demos(folder: Option<&Path>) -> Result<Vec<Target>> {
    if let Some(folder) = folder {
        return of_demo(&folder.join("demo.json"));
    }
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| is_own_demo(path.as_path())) {
        // One that is just ending is none.
        found.extend(of_demo(&folder.join("demo.json")).unwrap_or_default());
    }
    Ok(found)
}

/// Somebody else may have made a folder of such a name.
fn is_own_demo(path: &Path) -> bool {
    let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sluice-demo-"));
    named && fs::symlink_metadata(path).is_ok_and(|it| it.is_dir() && it.uid() == rustix::process::getuid().as_raw())
}

fn of_demo(file: &Path) -> Result<Vec<Target>> {
    let text = fs::read(file)
        .with_context(|| format!("reading {}; name the --state-dir of a running demo", file.display()))?;
    let told: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let proxies = told["proxies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let target = |proxy: &Value| {
        let address: SocketAddr = proxy["admin"].as_str()?.parse().ok()?;
        // It is a file, and only what is here is asked.
        address.ip().is_loopback().then(|| Target::at(address, proxy["name"].as_str().unwrap_or_default()))
    };
    Ok(proxies.iter().filter_map(target).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_names_its_proxies() {
        let folder = tempfile::tempdir().unwrap();
        let proxies =
            r#"{"proxies": [{"name": "a", "admin": "127.10.0.1:15000"}, {"name": "b", "admin": "192.0.2.1:15000"}]}"#;
        fs::write(folder.path().join("demo.json"), proxies).unwrap();
        let found = demos(Some(folder.path())).unwrap();
        assert_eq!(found.iter().map(Target::id).collect::<Vec<_>>(), ["127.10.0.1:15000"]);
        assert!(
            demos(Some(Path::new("/nonexistent"))).unwrap_err().to_string().contains("--state-dir of a running demo")
        );
    }
}
