//! A running proxy, `sluice gateway` or `sluice sidecar`, and its operator's ports.

use std::{ffi::OsString, net::SocketAddr, process::ExitStatus, time::Duration};

use serde_json::Value;

use crate::{binary, client::Client, eventually::eventually, metrics::Samples, process::Process, reply::Reply};

/// A proxy process and where to reach it.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    addresses: Addresses,
}

/// The addresses a proxy was told to use.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Its main address: HTTPS of a gateway, `--outbound` of a sidecar.
    pub main: SocketAddr,
    /// Plain HTTP of a gateway, `--inbound` of a sidecar.
    pub second: SocketAddr,
    /// `--admin`.
    pub admin: SocketAddr,
    /// `--status`.
    pub status: SocketAddr,
    /// `--stats`.
    pub stats: SocketAddr,
}

impl Addresses {
    /// The flags that name the operator's ports.
    pub fn flags(&self) -> Vec<OsString> {
        [("--admin", self.admin), ("--status", self.status), ("--stats", self.stats)]
            .into_iter()
            .flat_map(|(flag, address)| [flag.into(), address.to_string().into()])
            .collect()
    }
}

impl Proxy {
    /// Starts the executable without waiting for anything.
    pub fn launch(name: &str, arguments: Vec<OsString>, addresses: Addresses) -> Self {
        Self { process: Process::start(name, binary::sluice(), arguments), addresses }
    }

    /// Waits until `/healthz/ready` says 200; panics when the process ends instead.
    pub async fn ready(mut self) -> Self {
        let client = Client::plain(self.addresses.status);
        eventually("the proxy is ready", async || {
            if let Some(status) = self.process.ended() {
                panic!("the proxy ended with {status}");
            }
            client.status(READY).await == 200
        })
        .await;
        self
    }

    /// `/healthz/ready` of the status port; `None` = nobody answers.
    pub async fn readiness(&self) -> Option<Reply> {
        Client::plain(self.addresses.status).send(crate::client::get(READY)).await.ok()
    }

    /// Its addresses.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// `GET path` on the admin port.
    pub async fn admin(&self, path: &str) -> Reply {
        Client::plain(self.addresses.admin).get(&format!("http://localhost{path}")).await
    }

    /// The JSON at `path` on the admin port.
    pub async fn admin_json(&self, path: &str) -> Value {
        self.admin(path).await.json()
    }

    /// All metrics.
    pub async fn metrics(&self) -> Samples {
        Samples::parse(&Client::plain(self.addresses.stats).get("http://localhost/stats/prometheus").await.text())
    }

    /// All metrics, once `istio_requests_total` with these labels has come to this sum: a request is counted when it has
    /// ended, which can be after its client has read the last byte.
    pub async fn counts(&self, requests: f64, labels: &[(&str, &str)]) -> Samples {
        let counted = async || self.metrics().await.sum("istio_requests_total", labels) >= requests;
        eventually(&format!("{requests} requests are counted as {labels:?}"), counted).await;
        self.metrics().await
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// The access log so far.
    pub fn access_log(&self) -> String {
        self.process.stdout()
    }

    /// Waits until the log holds this text.
    pub async fn logs(&self, text: &str) {
        eventually(&format!("the log says `{text}`"), async || self.log().contains(text)).await;
    }

    /// How much of files, its own program above all, the process has in memory, KiB (`RssFile`, proc(5)).
    pub fn files_in_memory(&self) -> u64 {
        let id = self.process.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("Linux");
        let value = status.lines().find_map(|line| line.strip_prefix("RssFile:")?.trim().strip_suffix(" kB"));
        value.and_then(|value| value.parse().ok()).expect("a number of KiB")
    }

    /// Sends SIGTERM.
    pub fn sigterm(&self) {
        self.process.sigterm();
    }

    /// Sends SIGKILL: the process has no chance to say goodbye.
    pub fn kill(&self) {
        self.process.signal("KILL");
    }

    /// Sends SIGUSR1: files of the access log were moved away.
    pub fn rotated(&self) {
        self.process.signal("USR1");
    }

    /// Sends SIGSTOP: the process stands still, and others see it as one that is silent.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Sends SIGCONT: a frozen process goes on as if no time had passed.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Waits for the end of the process.
    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait_exit(deadline).await
    }
}

const READY: &str = "http://localhost/healthz/ready";
