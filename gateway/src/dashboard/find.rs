//! Which proxies there are.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{
    ask::{self, Lines, Target, Way},
    inside,
    roster::{Roll, Roster},
};
use crate::kubernetes::pods;

/// Where proxies are.
pub(crate) enum Mesh {
    /// These.
    Known(Vec<Target>),
    /// The pods of a cluster.
    Kubernetes(Box<Roster>),
}

impl Mesh {
    /// All of them, as they are now.
    ///
    /// # Errors
    /// The API server does not tell.
    pub(super) async fn roll(&self) -> Result<Roll> {
        match self {
            Self::Known(targets) => Ok(Roll { targets: targets.as_slice().into(), ..Roll::default() }),
            Self::Kubernetes(roster) => roster.roll().await,
        }
    }

    /// What one answers, as long as it has no more bytes than `most`.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(super) async fn ask(
        &self,
        lines: &Lines,
        target: &Target,
        (path, most): (&str, usize),
    ) -> Result<(StatusCode, Bytes)> {
        let (id, what) = (target.id(), (path, most));
        match (&target.way, self) {
            (Way::Address(address), _) => lines.ask(id, what, ask::at(*address)).await,
            (Way::Inside(process, address), _) => lines.ask(id, what, inside::connect(*process, *address)).await,
            (Way::Pod(namespace, name), Self::Kubernetes(roster)) => {
                lines.ask(id, what, pods::admin(roster.client(), namespace, name)).await
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
        let name = proxy["name"].as_str().unwrap_or_default();
        match proxy.get("process").and_then(Value::as_u64) {
            Some(process) => Some(Target::inside(u32::try_from(process).ok()?, address, name)),
            // It is a file, and only what is here is asked.
            None => address.ip().is_loopback().then(|| Target::at(address, name)),
        }
    };
    Ok(proxies.iter().filter_map(target).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_names_its_proxies() {
        let folder = tempfile::tempdir().unwrap();
        let proxies = r#"{"proxies": [{"name": "a", "admin": "127.10.0.1:15000"}, {"name": "b", "admin": "192.0.2.1:15000"},
                {"name": "c", "admin": "10.180.1.1:15000", "process": 7}]}"#;
        fs::write(folder.path().join("demo.json"), proxies).unwrap();
        let found = demos(Some(folder.path())).unwrap();
        assert_eq!(found.iter().map(Target::id).collect::<Vec<_>>(), ["127.10.0.1:15000", "10.180.1.1:15000"]);
        assert!(matches!(found[1].way, Way::Inside(7, _)));
        assert!(
            demos(Some(Path::new("/nonexistent"))).unwrap_err().to_string().contains("--state-dir of a running demo")
        );
    }
}
