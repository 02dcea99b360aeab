//! A running `sluice demo` and what it wrote for scripts.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::sluice,
    client::Client,
    eventually::within,
    process::{Process, alone},
    tls_peer::TlsClient,
};

/// A demo; a machine can run one at a time.
pub struct Demo {
    /// `sluice demo` itself.
    pub process: Process,
    /// What `--state-dir` names.
    pub state: TempDir,
    /// `demo.json`.
    pub facts: Value,
    _alone: fs::File,
}

impl Demo {
    /// Plays this folder, and waits until everything runs.
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// Plays it with traffic that is captured. `None`: this machine does not do that; said loudly.
    pub async fn start_captured(story: &str, folder: &Path) -> Option<Self> {
        let demo = Self::start_with(folder, &["--captured"]).await;
        if let Some(line) = demo.process.stdout().lines().find(|line| line.contains("NOT captured")) {
            eprintln!("SKIPPED story {story}: {line}");
            return None;
        }
        Some(demo)
    }

    async fn start_with(folder: &Path, flags: &[&str]) -> Self {
        let alone = alone("demo");
        let state = TempDir::with_prefix("sluice-demo-").expect("a temporary folder can be made");
        let arguments = [Path::new("demo"), folder, Path::new("--state-dir"), state.path()];
        let arguments = arguments.into_iter().chain(flags.iter().map(Path::new));
        let mut process = Process::start("demo", sluice(), arguments);
        let file = state.path().join("demo.json");
        within(Duration::from_secs(60), "demo.json is written", async || {
            assert!(process.ended().is_none(), "the demo ended");
            fs::read(&file).is_ok_and(|text| serde_json::from_slice::<Value>(&text).is_ok())
        })
        .await;
        let facts = serde_json::from_slice(&fs::read(&file).expect("demo.json")).expect("demo.json is JSON");
        Self { process, state, facts, _alone: alone }
    }

    /// A client that trusts the demo's CA, at its HTTPS port.
    pub fn browser(&self) -> Client {
        let root = fs::read_to_string(self.state.path().join("ca.pem")).expect("the demo wrote its CA");
        Client::https(self.port("https_port"), TlsClient::trusting(&root))
    }

    /// The address behind a member of `demo.json`.
    pub fn port(&self, member: &str) -> SocketAddr {
        let port = self.facts[member].as_u64().and_then(|port| u16::try_from(port).ok());
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or_else(|| panic!("no {member} in {}", self.facts))))
    }

    /// The commands that it printed.
    pub fn commands(&self) -> Vec<String> {
        let commands = self.facts["curl"].as_array().expect("a list of curl commands");
        commands.iter().map(|command| command.as_str().expect("a command").to_owned()).collect()
    }

    /// The printed command with this text in it; panics when there is none, or more than one.
    pub fn command(&self, part: &str) -> String {
        let all = self.commands();
        let mut fitting = all.iter().filter(|command| command.contains(part));
        match (fitting.next(), fitting.next()) {
            (Some(command), None) => command.clone(),
            _ => panic!("one command with `{part}` is wanted: {all:#?}"),
        }
    }

    /// All logs of this process, as `reviews-v2`, joined.
    pub fn logs(&self, part: &str) -> String {
        let files = fs::read_dir(self.state.path().join("logs")).expect("the demo keeps logs").flatten();
        let named = files.filter(|file| file.file_name().to_string_lossy().contains(part));
        named.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
    }
}
