//! A running `sluice control`, and whoever asks its webhooks.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

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

/// A control plane.
pub struct Webhooks {
    address: SocketAddr,
    stats: SocketAddr,
    folder: TempDir,
    /// The process.
    pub process: Process,
    /// The addresses that it has, the first of them.
    pub loopback: Loopback,
}

impl Webhooks {
    /// Starts it with these values and without an API server, and waits until it is ready.
    pub async fn start(values: &str) -> Self {
        Self::begin(Loopback::claim(), values, |folder| {
            let path = |name: &str| folder.join(name).display().to_string();
            fs::create_dir(path("config")).expect("a folder can be made");
            vec![format!("--config={}", path("config")), format!("--state-dir={}", path("state"))]
        })
        .await
    }

    /// The same in a cluster, with the rights of this kubeconfig.
    pub async fn in_cluster(loopback: Loopback, values: &str, kubeconfig: &Path) -> Self {
        let flags = ["--kubernetes", "--namespace=istio-system"].map(str::to_owned);
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        Self::begin(loopback, values, |_| flags.into_iter().chain([kubeconfig]).collect()).await
    }

    async fn begin(loopback: Loopback, values: &str, place: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = TempDir::with_prefix("sluice-webhooks-").expect("a temporary folder can be made");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let place = place(folder.path());
        fs::write(path("values.yaml"), values).expect("the file can be written");
        let at = |port| loopback.at(1, port);
        let (address, status, stats) = (at(15017), at(15021), at(15014));
        let flags = [
            "control".to_owned(),
            format!("--injection-values={}", path("values.yaml")),
            format!("--hosts={}", address.ip()),
            format!("--webhooks={address}"),
            format!("--ca={}", at(15012)),
            format!("--status={status}"),
            format!("--stats={stats}"),
            format!("--admin={}", at(15000)),
        ];
        let process = Process::start("control", binary::sluice(), flags.into_iter().chain(place));
        let ready = Client::plain(status);
        let url = format!("http://{status}/healthz/ready");
        within(2 * SOON, "the control plane is ready", async || {
            ready.send(client::get(&url)).await.is_ok_and(|reply| reply.code() == 200)
        })
        .await;
        Self { address, stats, folder, process, loopback }
    }

    /// Other values from now on.
    pub fn set_values(&self, values: &str) {
        fs::write(self.folder.path().join("values.yaml"), values).expect("the file can be written");
    }

    /// Writes a file of the configuration; without an API server.
    pub fn configure(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join("config").join(name), text).expect("the file can be written");
    }

    /// Asks as an API server does: over TLS, by the roots that lie in its folder.
    pub async fn ask(&self, path: &str, review: &Value) -> Reply {
        let root: PathBuf = self.folder.path().join("state/root-cert.pem");
        within(SOON, "the roots are written", async || root.is_file()).await;
        let root = fs::read_to_string(root).expect("the roots are text");
        self.ask_trusting(&root, path, review).await
    }

    /// The same by these roots.
    pub async fn ask_trusting(&self, root: &str, path: &str, review: &Value) -> Reply {
        let client = Client::https(self.address, TlsClient::trusting(root));
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
