//! A running `sluice control` without an API server, and whoever asks its webhooks.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary,
    client::{self, Client},
    eventually::{SOON, within},
    loopback::Loopback,
    process::Process,
    reply::Reply,
    tls_peer::TlsClient,
};

/// A control plane with files.
pub struct Webhooks {
    address: SocketAddr,
    stats: SocketAddr,
    folder: TempDir,
    /// The process.
    pub process: Process,
    _loopback: Loopback,
}

impl Webhooks {
    /// Starts it with these values, and waits until it is ready.
    pub async fn start(values: &str) -> Self {
        let loopback = Loopback::claim();
        let folder = TempDir::with_prefix("sluice-webhooks-").expect("a temporary folder can be made");
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(path("config")).expect("a folder can be made");
        fs::write(path("values.yaml"), values).expect("the file can be written");
        let at = |port| loopback.at(1, port);
        let (address, status, stats) = (at(15017), at(15021), at(15014));
        let flags = [
            "control".to_owned(),
            format!("--config={}", path("config")),
            format!("--state-dir={}", path("state")),
            format!("--injection-values={}", path("values.yaml")),
            format!("--hosts={}", address.ip()),
            format!("--webhooks={address}"),
            format!("--ca={}", at(15012)),
            format!("--status={status}"),
            format!("--stats={stats}"),
            format!("--admin={}", at(15000)),
        ];
        let process = Process::start("control", binary::sluice(), flags);
        let ready = Client::plain(status);
        let url = format!("http://{status}/healthz/ready");
        within(2 * SOON, "the control plane is ready", async || {
            ready.send(client::get(&url)).await.is_ok_and(|reply| reply.code() == 200)
        })
        .await;
        Self { address, stats, folder, process, _loopback: loopback }
    }

    /// Other values from now on.
    pub fn set_values(&self, values: &str) {
        fs::write(self.folder.path().join("values.yaml"), values).expect("the file can be written");
    }

    /// Asks as an API server does: over TLS, by the roots of the mesh.
    pub async fn ask(&self, path: &str, review: &Value) -> Reply {
        let root: PathBuf = self.folder.path().join("state/root-cert.pem");
        within(SOON, "the roots are written", async || root.is_file()).await;
        let root = fs::read_to_string(root).expect("the roots are text");
        let client = Client::https(self.address, TlsClient::trusting(&root));
        let url = format!("https://{}{path}", self.address);
        let builder = client::request("POST", &url).header("content-type", "application/json");
        client.call(client::with_body(builder, review.to_string())).await
    }

    /// A metric without labels.
    pub async fn counted(&self, name: &str) -> f64 {
        let text = Client::plain(self.stats).get(&format!("http://{}/metrics", self.stats)).await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or_else(|| panic!("{name} is not in:\n{text}"))
    }
}
