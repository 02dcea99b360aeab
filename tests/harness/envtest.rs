//! A real kube-apiserver with a real etcd, from the folder that `KUBEBUILDER_ASSETS` names (the envtest convention).
//!
//! No controller runs: Deployments make no Pods, and a deleted Namespace stays `Terminating`.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    apiserver::{ADMIN, path_of},
    binary::repository,
    client::Client,
    eventually::{eventually, within},
    loopback::Loopback,
    pki,
    process::Process,
    reply::Reply,
    rest::Rest,
    tls_peer::TlsClient,
};

/// A running control plane: etcd and kube-apiserver.
pub struct Envtest {
    folder: TempDir,
    binary: PathBuf,
    address: SocketAddr,
    etcd_address: SocketAddr,
    root_pem: String,
    apiserver: Mutex<Option<Process>>,
    _etcd: Process,
    _loopback: Loopback,
}

impl Envtest {
    /// Starts both and installs the definitions of `charts/sluice-base`; `None` when `KUBEBUILDER_ASSETS` names no folder
    /// with both.
    pub async fn from_env() -> Option<Self> {
        let assets = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS")?);
        let (etcd, binary) = (assets.join("etcd"), assets.join("kube-apiserver"));
        if !etcd.is_file() || !binary.is_file() {
            eprintln!("KUBEBUILDER_ASSETS has no etcd and kube-apiserver: the API server of the harness is used");
            return None;
        }
        let loopback = Loopback::claim();
        let folder = TempDir::with_prefix("sluice-envtest-").expect("a temporary folder can be made");
        let (address, etcd_address) = (loopback.at(1, 6443), loopback.at(1, 2379));
        let root_pem = write_credentials(folder.path(), address);
        let etcd = start_etcd(&etcd, folder.path(), (etcd_address, loopback.at(1, 2380)));
        let started = Self {
            folder,
            binary,
            address,
            etcd_address,
            root_pem,
            apiserver: Mutex::new(None),
            _etcd: etcd,
            _loopback: loopback,
        };
        started.start_again().await;
        started.install_definitions().await;
        Some(started)
    }

    /// Kills the API server; etcd keeps the objects.
    pub async fn stop(&self) {
        let process = self.apiserver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut process) = process {
            process.signal("KILL");
            process.wait_exit(crate::eventually::SOON).await;
        }
    }

    /// Starts the API server again and waits until it is ready.
    pub async fn start_again(&self) {
        self.stop().await;
        let process = Process::start("kube-apiserver", &self.binary, self.flags());
        *self.apiserver.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        let rest = self.rest(ADMIN);
        within(4 * crate::eventually::SOON, "the real API server is ready", async || {
            rest.send("GET", "/readyz", ("application/json", &Value::Null)).await.is_ok_and(|it| it.code() == 200)
        })
        .await;
    }

    /// A client with this token.
    pub fn rest(&self, token: &str) -> Rest {
        let client = Client::https(self.address, TlsClient::trusting(&self.root_pem));
        Rest::new(client, &format!("https://{}", self.address), token)
    }

    /// A kubeconfig file with this bearer token.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        crate::apiserver::write_kubeconfig(self.folder.path(), (self.address, &self.root_pem), token)
    }

    /// A new token of a service account, which is made when it is missing.
    pub async fn token(&self, namespace: &str, service_account: &str) -> String {
        let rest = self.rest(ADMIN);
        self.make_namespace(namespace).await;
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        // A 409 says that it is there.
        rest.call("POST", &path, &json!({"metadata": {"name": service_account}})).await;
        let path = format!("{path}/{service_account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let reply = rest.call("POST", &path, &request).await;
        reply.json()["status"]["token"].as_str().unwrap_or_else(|| panic!("no token: {}", reply.text())).to_owned()
    }

    /// Creates or replaces an object, then its status.
    pub async fn apply(&self, object: &Value) {
        let rest = self.rest(ADMIN);
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let namespace = if text("namespace").is_empty() { "default".to_owned() } else { text("namespace") };
        let path = path_of(object, &namespace, &text("name"));
        if path.contains("/namespaces/") {
            self.make_namespace(&namespace).await;
        }
        let old = rest.get(&path).await;
        let reply = if old.code() == 404 {
            rest.call("POST", &path_of(object, &namespace, ""), object).await
        } else {
            let mut new = object.clone();
            for field in ["resourceVersion", "uid"] {
                new["metadata"][field] = old.json()["metadata"][field].clone();
            }
            if new["kind"] == "Service" {
                new["spec"]["clusterIP"] = old.json()["spec"]["clusterIP"].clone();
            }
            rest.call("PUT", &path, &new).await
        };
        expect_done(&reply, &path);
        if !object["status"].is_null() {
            self.patch(&format!("{path}/status"), &json!({"status": object["status"]})).await;
        }
    }

    /// Merge patch; panics with the server's message when it is refused.
    pub async fn patch(&self, path: &str, patch: &Value) {
        let reply = self.rest(ADMIN).patch_as("PATCH", path, "application/merge-patch+json", patch).await;
        expect_done(&reply, path);
    }

    async fn make_namespace(&self, name: &str) {
        // A 409 says that it is there.
        self.rest(ADMIN).call("POST", "/api/v1/namespaces", &json!({"metadata": {"name": name}})).await;
    }

    async fn install_definitions(&self) {
        let folder = repository().join("charts/sluice-base/crds");
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for file in files.flatten() {
            let text = fs::read_to_string(file.path()).expect("a definition is text");
            for definition in crate::apiserver::documents(&text) {
                self.apply(&definition).await;
                let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
                let rest = self.rest(ADMIN);
                eventually("the definition is served", async || {
                    let conditions = rest.get(&path).await.json()["status"]["conditions"].clone();
                    let mut all = conditions.as_array().into_iter().flatten();
                    all.any(|it| it["type"] == "Established" && it["status"] == "True")
                })
                .await;
            }
        }
    }

    fn flags(&self) -> Vec<String> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        vec![
            format!("--etcd-servers=http://{}", self.etcd_address),
            format!("--bind-address={}", self.address.ip()),
            format!("--advertise-address={}", self.address.ip()),
            format!("--secure-port={}", self.address.port()),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            format!("--service-account-key-file={}", file("accounts.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // Pods are written by stories, and no controller makes the account `default`.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ]
    }
}

fn start_etcd(binary: &Path, folder: &Path, (clients, peers): (SocketAddr, SocketAddr)) -> Process {
    let flags = [
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls=http://{clients}"),
        format!("--advertise-client-urls=http://{clients}"),
        format!("--listen-peer-urls=http://{peers}"),
        format!("--initial-advertise-peer-urls=http://{peers}"),
        format!("--initial-cluster=default=http://{peers}"),
        "--unsafe-no-fsync=true".to_owned(),
    ];
    Process::start("etcd", binary, flags)
}

/// The server's certificate, the admin's token, the key of service account tokens; gives what clients have to trust.
fn write_credentials(folder: &Path, address: SocketAddr) -> String {
    let authority = pki::authority("CA of a story's cluster");
    let server = authority.issue_server(&[&address.ip().to_string()], pki::DAY).expect("a certificate can be issued");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("the file can be written");
    write("server.pem", &server.chain_pem);
    write("server.key", &server.key_pem);
    // Any key of a certificate signs tokens as well.
    let accounts = authority.issue_server(&["accounts"], pki::DAY).expect("a certificate can be issued");
    write("accounts.key", &accounts.key_pem);
    write("tokens.csv", &format!("{ADMIN},admin,admin,system:masters\n"));
    authority.root_pem().to_owned()
}

fn expect_done(reply: &Reply, path: &str) {
    assert!(reply.status.is_success(), "{path}: {} {}", reply.code(), reply.text());
}
