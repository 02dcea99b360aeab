//! Real Envoy as a peer.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{binary, client::Client, eventually::eventually, process::Process};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with this configuration and waits for its `/ready`; `admin` must be what the configuration says.
    pub async fn start(path: &Path, configuration: &str, admin: SocketAddr) -> Self {
        let folder = TempDir::with_prefix("sluice-envoy-").expect("a temporary folder can be made");
        let file = folder.path().join("envoy.yaml");
        std::fs::write(&file, configuration).expect("the file can be written");
        let file = file.display().to_string();
        let flags = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
        let mut process = Process::start("envoy", path, flags);
        let client = Client::plain(admin);
        eventually("Envoy is ready", async || {
            assert!(process.ended().is_none(), "Envoy ended: is its configuration right?");
            client.status("http://localhost/ready").await == 200
        })
        .await;
        Self { process, _folder: folder }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}

/// The Envoy executable: `SLUICE_TEST_ENVOY`, else what `make deps` installed below `target/peers/venv`.
///
/// Says loudly on stderr that the story is skipped when there is none.
pub fn executable(story: &str) -> Option<PathBuf> {
    let found = match env::var_os("SLUICE_TEST_ENVOY") {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => installed(),
    };
    if found.is_none() {
        eprintln!("SKIPPED story {story}: no Envoy: run `make deps`, or set SLUICE_TEST_ENVOY to an Envoy executable");
    }
    found
}

fn installed() -> Option<PathBuf> {
    let libraries = binary::repository().join("target/peers/venv/lib");
    let pythons = std::fs::read_dir(libraries).ok()?.flatten();
    pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy")).find(|path| path.is_file())
}
