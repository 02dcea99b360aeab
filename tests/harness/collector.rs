//! A collector of spans and logs: `tests/peers/collector.py`, which reads them with OpenTelemetry's own messages.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    eventually::eventually,
    process::Process,
    program::{executable, run, script, serve},
};

/// A running one.
pub struct Collector {
    folder: TempDir,
    _process: Process,
}

impl Collector {
    /// By gRPC at one address, over HTTP at the other. `None`, said loudly, where Python or the messages are missing.
    pub async fn start(story: &str, grpc: SocketAddr, http: SocketAddr) -> Option<Self> {
        let python = executable(story, "python")?;
        let found =
            run(&python, &["-c", "import grpc, opentelemetry.proto.collector.logs.v1.logs_service_pb2"], b"").await;
        if !found.status.success() {
            eprintln!("SKIPPED story {story}: no opentelemetry-proto in Python: run `make deps`");
            return None;
        }
        let folder = TempDir::with_prefix("sluice-collector-").expect("a temporary folder can be made");
        let file = Self::file(&folder);
        fs::write(&file, "").expect("a file can be written");
        let arguments = [script("collector.py"), grpc.to_string(), http.to_string(), file.display().to_string()];
        let process = serve("collector", &python, &arguments, &[grpc, http]).await;
        Some(Self { folder, _process: process })
    }

    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("told")
    }

    /// What it was told so far.
    pub fn told(&self) -> Vec<Value> {
        let text = fs::read_to_string(Self::file(&self.folder)).expect("the collector writes");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until it was told so many things of this kind.
    pub async fn wait(&self, via: &str, count: usize) -> Vec<Value> {
        let of_kind = || self.told().into_iter().filter(|one| one["via"] == via).collect::<Vec<_>>();
        eventually(&format!("the collector is told {count} things ({via})"), async || of_kind().len() >= count).await;
        of_kind()
    }
}
