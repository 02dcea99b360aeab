//! Real pebble as the CA.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;
use tls::authority::Authority;

use crate::{
    client::Client,
    eventually::{SOON, eventually},
    loopback::Loopback,
    pki,
    process::Process,
    reply::Reply,
    tls_peer::TlsClient,
};

/// Both programs of Debian's package `pebble`.
#[derive(Clone, Debug)]
pub struct Executables {
    /// The CA.
    pub pebble: PathBuf,
    /// The name server it asks.
    pub challtestsrv: PathBuf,
}

/// The executables: `SLUICE_TEST_PEBBLE` and `SLUICE_TEST_CHALLTESTSRV`, else those of Debian's package.
///
/// Says loudly on stderr that the story is skipped when one of them is missing.
pub fn executables(story: &str) -> Option<Executables> {
    let found = |variable: &str, usual: &str| {
        let path = env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        Some(path).filter(|path| path.is_file())
    };
    let pebble = found("SLUICE_TEST_PEBBLE", "/usr/bin/pebble");
    let challtestsrv = found("SLUICE_TEST_CHALLTESTSRV", "/usr/bin/pebble-challtestsrv");
    let both = pebble.zip(challtestsrv).map(|(pebble, challtestsrv)| Executables { pebble, challtestsrv });
    if both.is_none() {
        eprintln!(
            "SKIPPED story {story}: no pebble: install Debian's package `pebble`, or set SLUICE_TEST_PEBBLE and \
             SLUICE_TEST_CHALLTESTSRV to its two executables"
        );
    }
    both
}

/// How pebble behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it looks for http-01 answers.
    pub http_port: u16,
    /// Where it looks for tls-alpn-01 answers.
    pub tls_port: u16,
    /// Lifetime of its certificates, to the second.
    pub validity: Duration,
    /// How many of 100 good nonces it rejects.
    pub nonce_reject: u8,
    /// How many of 100 new authorizations are valid ones of earlier orders, where there are any.
    pub authorization_reuse: u8,
    /// Every challenge is passed without a look.
    pub always_valid: bool,
    /// Longest pause before it looks at a challenge, in whole seconds; zero = it looks at once.
    pub validation_pause: Duration,
    /// Intermediates in a chain.
    pub chain_length: u8,
    /// Accounts that exist outside of ACME: key id and MAC key, base64url. Empty = accounts need none.
    pub external_accounts: Vec<(String, String)>,
}

impl Default for Options {
    /// It validates where a gateway of a story listens, as fast as it can, and rejects nonces as it does by itself.
    fn default() -> Self {
        Self {
            http_port: 8080,
            tls_port: 8443,
            validity: 90 * pki::DAY,
            nonce_reject: 5,
            authorization_reuse: 0,
            always_valid: false,
            validation_pause: Duration::ZERO,
            chain_length: 1,
            external_accounts: Vec::new(),
        }
    }
}

/// A running pebble; ended when dropped.
#[derive(Debug)]
pub struct Pebble {
    program: PathBuf,
    options: Options,
    dns: SocketAddr,
    address: SocketAddr,
    management: SocketAddr,
    authority: Authority,
    folder: TempDir,
    process: Option<Process>,
    roots: String,
}

impl Pebble {
    /// Starts one at address `last` of a block, which asks `dns`, and waits until it answers.
    pub async fn start(program: &Path, (block, last): (&Loopback, u8), dns: SocketAddr, options: Options) -> Self {
        let mut this = Self {
            program: program.to_owned(),
            options,
            dns,
            address: block.at(last, 14_000),
            management: block.at(last, 15_000),
            authority: pki::authority("CA of a story's pebble"),
            folder: TempDir::with_prefix("sluice-pebble-").expect("a temporary folder can be made"),
            process: None,
            roots: String::new(),
        };
        this.write_files();
        this.start_again().await;
        this
    }

    /// Starts it at the same address with the same HTTPS certificate. Accounts, orders, certificates and the root that
    /// it signs with are new: pebble keeps nothing.
    pub async fn start_again(&mut self) {
        self.kill().await;
        let config = self.folder.path().join("pebble.json").display().to_string();
        let flags = ["-config", &config, "-dnsserver", &self.dns.to_string()].map(str::to_owned);
        let mut process = Process::start_in("pebble", &self.program, flags, &self.variables());
        let (client, directory) = (self.client(self.address), self.directory());
        eventually("pebble answers", async || {
            assert!(process.ended().is_none(), "pebble ended");
            client.status(&directory).await == 200
        })
        .await;
        self.process = Some(process);
        let root = format!("https://{}/roots/0", self.management);
        let management = self.client(self.management);
        eventually("pebble tells its root", async || management.status(&root).await == 200).await;
        self.roots += &self.manage("roots/0").await.text();
    }

    /// Kills it; connections are refused until it is started again.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("KILL");
            process.wait_exit(SOON).await;
        }
    }

    /// Changes how it behaves from its next start on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
        self.write_files();
    }

    /// Changes whom it asks about hosts and TXT records from its next start on.
    pub fn set_dns(&mut self, dns: SocketAddr) {
        self.dns = dns;
    }

    /// Where it listens for ACME.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// PEM: what its own HTTPS certificate chains to.
    pub fn ca_bundle(&self) -> String {
        self.authority.root_pem().to_owned()
    }

    /// PEM: the root of the certificates it issues, and those of before it was started again. Intermediates are left out
    /// on purpose: who trusts them does not notice when a server forgets to send them.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// PEM: the intermediate it issues with.
    pub async fn intermediates(&self) -> String {
        self.manage("intermediates/0").await.text()
    }

    /// `Valid` or `Revoked`; empty = it issued no certificate of this serial (hexadecimal).
    pub async fn certificate_status(&self, serial: &str) -> String {
        let reply = self.manage(&format!("cert-status-by-serial/{serial}")).await;
        if reply.code() == 404 {
            return String::new();
        }
        reply.json()["Status"].as_str().unwrap_or_default().to_owned()
    }

    /// Serials of what it issued since it was started, in order, as [`tls::facts::Facts::serial`] writes them.
    pub fn issued(&self) -> Vec<String> {
        let log = self.log();
        let after = log.lines().filter_map(|line| line.split_once(ISSUED)?.1.split_whitespace().next());
        after.map(plain_serial).collect()
    }

    /// Its log since it was started.
    pub fn log(&self) -> String {
        self.process.as_ref().map(|process| process.stdout() + &process.stderr()).unwrap_or_default()
    }

    /// A client that trusts its HTTPS certificate.
    pub(crate) fn client(&self, address: SocketAddr) -> Client {
        Client::https(address, TlsClient::trusting(self.authority.root_pem()))
    }

    async fn manage(&self, path: &str) -> Reply {
        self.client(self.management).get(&format!("https://{}/{path}", self.management)).await
    }

    fn write_files(&self) {
        let ip = self.address.ip().to_string();
        let server = self.authority.issue_server(&[&ip], pki::DAY).expect("a certificate can be issued");
        let write = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            fs::write(&path, text).expect("the file can be written");
            path
        };
        let (certificate, key) = (write("server.pem", &server.chain_pem), write("server.key", &server.key_pem));
        let accounts: serde_json::Map<String, Value> =
            self.options.external_accounts.iter().map(|(id, key)| (id.clone(), key.as_str().into())).collect();
        let config = json!({"pebble": {
            "listenAddress": self.address,
            "managementListenAddress": self.management,
            "certificate": certificate,
            "privateKey": key,
            "httpPort": self.options.http_port,
            "tlsPort": self.options.tls_port,
            "certificateValidityPeriod": self.options.validity.as_secs(),
            "externalAccountBindingRequired": !accounts.is_empty(),
            "externalAccountMACKeys": accounts,
        }});
        write("pebble.json", &config.to_string());
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let options = &self.options;
        let mut variables = vec![
            ("PEBBLE_WFE_NONCEREJECT", options.nonce_reject.to_string()),
            ("PEBBLE_AUTHZREUSE", options.authorization_reuse.to_string()),
            ("PEBBLE_CHAIN_LENGTH", options.chain_length.to_string()),
            ("PEBBLE_VA_ALWAYS_VALID", u8::from(options.always_valid).to_string()),
        ];
        variables.push(match options.validation_pause.as_secs() {
            0 => ("PEBBLE_VA_NOSLEEP", "1".to_owned()),
            longest => ("PEBBLE_VA_SLEEPTIME", longest.to_string()),
        });
        variables
    }
}

/// A MAC key of [`Options::external_accounts`] as bytes.
pub fn mac_key(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("the MAC key of a story is base64url")
}

/// A serial in lower-case hexadecimal, without zero bytes in front.
pub(crate) fn plain_serial(serial: &str) -> String {
    let digits = serial.trim_start_matches('0').to_lowercase();
    if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") }
}

/// What its log says before a serial.
const ISSUED: &str = "Issued certificate serial ";
