//! A running `sluice control`, and who asks its CA: Python's gRPC with the messages of Istio's public proto.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tls::request::{KeyKind, generate_key, signing_request};

use crate::{
    binary,
    client::{Client, get},
    eventually::{eventually, within},
    istio_ca::NAME,
    jwt::{Minter, now},
    loopback::Loopback,
    metrics::Samples,
    process::Process,
    program,
    shell::shell,
};

/// One replica.
pub struct ControlPlane {
    process: Process,
    /// The CA, over TLS.
    pub ca: SocketAddr,
    /// The CA in plain text.
    pub plain: SocketAddr,
    admin: SocketAddr,
    status: SocketAddr,
    stats: SocketAddr,
}

impl ControlPlane {
    /// Starts one on address `number` of the block, with these flags beside the ports, and waits until it is ready.
    pub async fn start(loopback: &Loopback, number: u8, flags: &[String]) -> Self {
        let started = Self::begin(loopback, number, flags);
        started.ready().await;
        started
    }

    /// As [`ControlPlane::start`], without waiting.
    pub fn begin(loopback: &Loopback, number: u8, flags: &[String]) -> Self {
        let at = |port| loopback.at(number, port);
        let (ca, plain, admin, status, stats) = (at(15012), at(15010), at(15000), at(15021), at(15014));
        let mut arguments = vec!["control".to_owned()];
        for (flag, address) in
            [("--ca", ca), ("--ca-plain", plain), ("--admin", admin), ("--status", status), ("--stats", stats)]
        {
            arguments.extend([flag.to_owned(), address.to_string()]);
        }
        arguments.extend(["--drain-delay".to_owned(), "0s".to_owned()]);
        arguments.extend_from_slice(flags);
        if flags.iter().any(|flag| flag == "--kubernetes") {
            // Else it is one port for all replicas of this machine.
            arguments.extend(["--webhooks".to_owned(), at(15017).to_string()]);
        }
        let process = Process::start("control", binary::sluice(), &arguments);
        Self { process, ca, plain, admin, status, stats }
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        within(Duration::from_secs(30), "the control plane is ready", async || {
            assert!(self.process.id().is_some(), "it ended: {}", self.process.stderr());
            self.readiness().await.is_some_and(|(code, _)| code == 200)
        })
        .await;
    }

    /// What `/healthz/ready` says; `None` = nobody answers.
    pub async fn readiness(&self) -> Option<(u16, String)> {
        let reply = Client::plain(self.status).send(get("http://localhost/healthz/ready")).await.ok()?;
        Some((reply.code(), reply.text()))
    }

    /// What the admin page tells of the CA.
    pub async fn certs(&self) -> Value {
        Client::plain(self.admin).get("http://localhost/certs").await.json()
    }

    /// What it counts.
    pub async fn metrics(&self) -> Samples {
        Samples::parse(&Client::plain(self.stats).get("http://localhost/metrics").await.text())
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Waits until the log holds this text.
    pub async fn logs(&self, text: &str) {
        eventually(&format!("the log says `{text}`"), async || self.log().contains(text)).await;
    }

    /// Has it end.
    pub async fn stop(mut self) {
        self.process.sigterm();
        assert!(self.process.wait_exit(Duration::from_secs(20)).await.success());
    }
}

/// What a CA answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// gRPC's name of the status.
    pub code: String,
    /// Its words.
    pub details: String,
    /// The leaf, what stands between, and the roots, PEM.
    pub chain: Vec<String>,
}

impl Answer {
    /// The leaf; panics when there is none.
    pub fn leaf(&self) -> &str {
        assert_eq!(self.code, "OK", "{}", self.details);
        &self.chain[0]
    }

    /// The roots.
    pub fn roots(&self) -> &str {
        self.chain.last().expect("there are roots")
    }
}

/// Asks all of these at once; see `tests/peers/ask_ca.py` for what a request is.
pub async fn ask(python: &Path, requests: &[Value]) -> Vec<Answer> {
    let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let output = program::run(python, &[program::script("ask_ca.py")], input.as_bytes()).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the client failed: {errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("an answer is JSON");
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let chain = value["chain"].as_array().into_iter().flatten();
        let chain = chain.map(|it| it.as_str().unwrap_or_default().to_owned()).collect();
        Answer { code: text("code"), details: text("details"), chain }
    };
    text.lines().map(answer).collect()
}

/// A new key and a request for a certificate by it, PEM, which names somebody else.
pub fn key_and_csr(kind: KeyKind) -> (String, String) {
    let key = generate_key(kind).expect("a key can be made");
    let der = signing_request(&key, &["evil.example".to_owned()]).expect("a request can be made");
    (key, pem(&der))
}

/// The same request, with its signature broken.
pub fn broken_csr() -> String {
    let key = generate_key(KeyKind::EcdsaP256).expect("a key can be made");
    let mut der = signing_request(&key, &[]).expect("a request can be made");
    let last = der.len() - 1;
    der[last] ^= 1;
    pem(&der)
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}

/// A control plane without a cluster: its configuration, its state, and keys of tokens.
pub struct Folder {
    folder: TempDir,
    /// Signs tokens.
    pub minter: Minter,
}

impl Folder {
    /// A fresh one.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("sluice-control-").expect("a temporary folder can be made");
        let minter = Minter::simple();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file can be written");
        write("keys.json", &minter.jwks());
        fs::create_dir(folder.path().join("config")).expect("a folder can be made");
        write("config/mesh.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
        Self { folder, minter }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags of a control plane of this folder.
    pub fn flags(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let flags = ["--config".to_owned(), path("config"), "--state-dir".to_owned(), path("state")];
        let keys = ["--token-keys".to_owned(), path("keys.json")];
        flags.into_iter().chain(keys).chain(more.iter().map(|it| (*it).to_owned())).collect()
    }

    /// Starts a control plane of this folder; once it is ready, the roots lie there, too.
    pub async fn start(&self, loopback: &Loopback, number: u8, more: &[&str]) -> ControlPlane {
        let control = ControlPlane::start(loopback, number, &self.flags(more)).await;
        assert!(self.path("state/root-cert.pem").exists(), "it is ready when the roots are written");
        control
    }

    /// The roots that workloads of this machine trust.
    pub fn roots(&self) -> String {
        fs::read_to_string(self.path("state/root-cert.pem")).expect("the roots are there")
    }

    /// A token as Kubernetes makes them, with other claims.
    pub fn token(&self, account: &str, more: &Value) -> String {
        let (namespace, name) = account.split_once('/').expect("an account has a namespace");
        let mut claims = json!({"aud": ["istio-ca"], "nbf": now() - 5,
            "kubernetes.io": {"namespace": namespace, "pod": {"name": format!("{name}-1")}}});
        for (claim, value) in more.as_object().into_iter().flatten() {
            claims[claim.as_str()] = value.clone();
        }
        let subject = format!("system:serviceaccount:{namespace}:{name}");
        self.minter.token("https://kubernetes.default.svc", &subject, &claims)
    }

    /// A request by a token of this account, to be changed.
    pub fn request(&self, control: &ControlPlane, account: &str, csr: &str) -> Value {
        json!({"address": control.ca.to_string(), "root": self.roots(), "csr": csr, "token": self.token(account, &json!({}))})
    }

    /// Runs a command of `sluice ca` on the state folder; gives exit code and output.
    pub fn ca(&self, arguments: &[&str]) -> (i32, String) {
        let state = self.path("state").display().to_string();
        let output = binary::run(&[&["ca"], arguments, &["--state-dir", &state]].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the proxies of a mesh ask for their identities.
pub struct ProxiesCa {
    /// The control plane's.
    pub folder: Folder,
    /// Its CA.
    pub address: SocketAddr,
    /// How long identities last, as a flag says it.
    pub lifetime: &'static str,
}

impl ProxiesCa {
    /// What a proxy is told, whose token is in this folder.
    pub(crate) fn flags(&self, identity: &Path) -> Vec<OsString> {
        let address = self.address.to_string();
        let token = identity.join("token");
        let root = self.folder.path("state/root-cert.pem");
        let mut flags: Vec<OsString> = ["--ca-address", &address, "--ca-name", NAME].map(OsString::from).into();
        flags.extend(["--ca-token".into(), token.into(), "--ca-root".into(), root.into()]);
        flags.extend(["--ca-crl".into(), self.folder.path("state/ca-crl.pem").into()]);
        flags.extend(["--certificate-lifetime", self.lifetime].map(OsString::from));
        flags
    }
}

/// Whether `openssl verify` accepts a certificate for whoever trusts these roots, at this time (seconds since 1970) or now.
pub async fn openssl_accepts(chain: &[String], roots: &str, at: Option<u64>) -> Result<(), String> {
    let folder = TempDir::with_prefix("sluice-chain-").expect("a temporary folder can be made");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let (leaf, roots) = (write("leaf.pem", &chain[0]), write("roots.pem", roots));
    let between = chain[1..chain.len() - 1].concat();
    let between =
        if between.is_empty() { String::new() } else { format!("-untrusted {}", write("between.pem", &between)) };
    let at = at.map_or(String::new(), |at| format!("-attime {at}"));
    let (code, text) = shell(&format!("openssl verify {at} -CAfile {roots} {between} {leaf}")).await;
    if code == 0 { Ok(()) } else { Err(text) }
}

/// Writes the lists of a plug-in CA and of its root into its folder; the root's revokes `revoked`, a file of a certificate.
pub async fn revoke(folder: &Path, root: &Path, revoked: &Path) {
    let script = format!(
        "set -e; cd {r}; : > index; echo 01 > number
         printf '[ca]\ndefault_ca=own\n[own]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=20\ncrlnumber=number\n' > cnf
         printf 'crl_extensions=ext\n[ext]\nauthorityKeyIdentifier=keyid:always\n' >> cnf
         openssl ca -config cnf -gencrl -cert {f}/ca-cert.pem -keyfile {f}/ca-key.pem -out own.crl
         openssl ca -config cnf -revoke {revoked} -cert root.pem -keyfile root.key
         openssl ca -config cnf -gencrl -cert root.pem -keyfile root.key -out root.crl
         cat own.crl root.crl > {f}/ca-crl.pem",
        f = folder.display(),
        r = root.display(),
        revoked = revoked.display(),
    );
    let (code, text) = shell(&script).await;
    assert_eq!(code, 0, "{text}");
}

/// Writes a plug-in CA into `folder` as Istio's tooling does; its root is in `root`, and is made there when it is missing.
pub async fn plug_in(folder: &Path, root: &Path, name: &str) {
    let script = format!(
        "set -e; f={}; r={}; mkdir -p $f $r
         printf 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n' > $r/ext
         [ -f $r/root.pem ] || openssl req -x509 -newkey rsa:2048 -nodes -keyout $r/root.key -out $r/root.pem -days 30 \
           -subj /O=Istio/CN={name} -addext keyUsage=critical,keyCertSign,cRLSign
         openssl req -newkey rsa:2048 -nodes -keyout $r/key -out $r/csr -subj /O=Istio/CN={name}-ca
         openssl x509 -req -in $r/csr -CA $r/root.pem -CAkey $r/root.key -CAcreateserial -days 20 -extfile $r/ext -out $r/ca
         cp $r/root.pem $f/root-cert.pem; cat $r/ca $r/root.pem > $f/cert-chain.pem
         mv $r/ca $f/ca-cert.pem; mv $r/key $f/ca-key.pem",
        folder.display(),
        root.display()
    );
    let (code, text) = shell(&script).await;
    assert_eq!(code, 0, "{text}");
}
