//! A mesh CA of somebody else: Istio's protocol by grpcio, signatures by openssl; and a socket that gives identities.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tls::authority::Authority;

use crate::{
    pki::{DAY, authority},
    process::Process,
    program::{executable, script, serve},
};

/// The name that its own certificate has.
pub const NAME: &str = "istiod.istio-system.svc";

/// What it does with requests.
#[derive(Debug)]
pub struct IstioCa {
    /// Where it listens.
    pub address: SocketAddr,
    python: PathBuf,
    folder: TempDir,
    orders: std::sync::Mutex<Value>,
    process: Option<Process>,
}

impl IstioCa {
    /// A CA that signs with the key of `root`, for `lifetime` seconds; not running yet. `None`, said loudly, without Python.
    pub fn new(story: &str, address: SocketAddr, root: &Authority, lifetime: u32) -> Option<Self> {
        let python = executable(story, "python")?;
        let folder = TempDir::with_prefix("sluice-istio-ca-").expect("a temporary folder can be made");
        fs::create_dir(folder.path().join("issued")).expect("a folder can be made");
        let orders = json!({"mode": "sign", "ca": "root", "roots": "root.pem", "lifetime": lifetime});
        let ca = Self { address, python, folder, orders: orders.into(), process: None };
        let server = root.issue_server(&[NAME], DAY).expect("a server certificate can be issued");
        ca.write("server.pem", &server.chain_pem);
        ca.write("server.key", &server.key_pem);
        ca.write("tokens.json", "{}");
        ca.signer("root", root);
        ca.order(&[]);
        Some(ca)
    }

    /// Starts it and waits until it listens.
    pub async fn start(&mut self) {
        let arguments = [script("istio_ca.py"), self.address.to_string(), self.folder.path().display().to_string()];
        self.process = Some(serve("istio_ca", &self.python, &arguments, &[self.address]).await);
    }

    /// Ends it at once.
    pub async fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal("KILL");
        process.wait_exit(DAY).await;
    }

    /// Changes what it does from the next request on.
    pub fn order(&self, changes: &[(&str, Value)]) {
        let mut orders = self.orders.lock().expect("no panic");
        for (key, value) in changes {
            orders[*key] = value.clone();
        }
        self.write("orders.json", &orders.to_string());
    }

    /// Gives it another key to sign with, by the order `ca`.
    pub fn signer(&self, name: &str, authority: &Authority) {
        self.write(&format!("{name}.pem"), authority.root_pem());
        self.write(&format!("{name}.key"), &authority.key_pem());
    }

    /// Writes a file of its folder whole.
    pub fn write(&self, name: &str, text: &str) {
        write(&self.folder.path().join(name), text);
    }

    /// A new token of this account, that it believes; told to it before this returns.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let token = format!("token-of-{account}-{:016x}", fastrand::u64(..));
        let path = self.folder.path().join("tokens.json");
        let tokens = fs::read_to_string(path).expect("the tokens can be read");
        let mut tokens: Value = serde_json::from_str(&tokens).expect("the tokens are JSON");
        tokens[&token] = json!(format!("{namespace}/{account}"));
        self.write("tokens.json", &tokens.to_string());
        token
    }

    /// Believes no token any more.
    pub fn forget_tokens(&self) {
        self.write("tokens.json", "{}");
    }

    /// What it issued so far: files with one certificate each.
    pub fn issued(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("issued")).expect("the folder can be listed").flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "pem")).collect()
    }

    /// What it was asked so far: `account cluster seconds mode` each.
    pub fn asked(&self) -> Vec<String> {
        let output = self.process.as_ref().map(Process::stdout).unwrap_or_default();
        output.lines().map(str::to_owned).collect()
    }
}

/// A running socket of workload identities.
#[derive(Debug)]
pub struct WorkloadApi {
    folder: TempDir,
    process: Process,
}

impl WorkloadApi {
    /// Gives these identities (folder and SPIFFE id) by `spiffe` or `sds`. `None`, said loudly, without Python.
    pub async fn start(story: &str, protocol: &str, fill: impl FnOnce(&Path)) -> Option<Self> {
        let python = executable(story, "python")?;
        let folder = TempDir::with_prefix("sluice-workload-api-").expect("a temporary folder can be made");
        let identities = folder.path().join("identities");
        fs::create_dir(&identities).expect("a folder can be made");
        write(&identities.join("version"), "1");
        fill(&identities);
        let socket = folder.path().join("socket").display().to_string();
        let arguments = [script("workload_api.py"), socket, identities.display().to_string(), protocol.to_owned()];
        let process = serve("workload_api", &python, &arguments, &[]).await;
        Some(Self { folder, process })
    }

    /// Where it listens.
    pub fn socket(&self) -> String {
        self.folder.path().join("socket").display().to_string()
    }

    /// The folder of identities.
    pub fn identities(&self) -> PathBuf {
        self.folder.path().join("identities")
    }

    /// Gives everybody what is in the folder now.
    pub fn tell(&self, version: &str) {
        write(&self.identities().join("version"), version);
    }

    /// What it has to say.
    pub fn output(&self) -> String {
        self.process.stdout()
    }
}

fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("a file can be written");
    fs::rename(draft, path).expect("a file can be renamed");
}

/// A root that nobody knows yet.
pub fn another_root() -> Authority {
    authority("Another CA of a story")
}
