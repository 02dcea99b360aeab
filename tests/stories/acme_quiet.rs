//! When a certificate is there, nothing happens until it is due; and nothing secret is ever told.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use harness::{
    acme::{AcmeMesh, ISSUER, SECRET},
    ca_proxy::{Moment, Step},
    client::{Client, request, with_body},
    eventually::{SOON, eventually},
    gateway::Proxy,
    mesh::HOST,
};
use serde_json::Value;

/// A gateway with a certificate may use this part of a core. It looks at files now and then; a loop would take all of it.
const IDLE: f64 = 0.2;

/// When each file below a folder was last written, and its length.
fn written(folder: &Path) -> BTreeMap<String, (std::time::SystemTime, u64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let data = entry.metadata().expect("it has metadata");
        match data.is_dir() {
            true => found.extend(written(&entry.path())),
            false => {
                let changed = data.modified().expect("files have times");
                found.insert(entry.path().display().to_string(), (changed, data.len()));
            }
        }
    }
    found
}

async fn settled(acme: &AcmeMesh) -> Proxy {
    let gateway = acme.gateway().await;
    acme.served_within(SOON, 1, HOST).await;
    eventually("the order has ended", async || acme.told(&gateway).await["order"]["state"] == "issued").await;
    gateway
}

async fn cpu(gateway: &Proxy) -> f64 {
    gateway.metrics().await.sum("process_cpu_seconds_total", &[])
}

#[tokio::test]
async fn once_it_has_its_certificate_a_gateway_rests() {
    let Some(acme) = AcmeMesh::start("of a gateway at rest", &[HOST]).await else { return };
    let gateway = settled(&acme).await;
    let (asked, files, log) = (acme.ca.seen().len(), written(acme.mesh.state()), gateway.log());
    let (began, before) = (Instant::now(), cpu(&gateway).await);

    // As long as it takes others to start, order twice and end.
    for story in ["of another gateway", "of a third gateway"] {
        let Some(other) = AcmeMesh::start(story, &[HOST]).await else { return };
        settled(&other).await;
    }

    let (used, passed) = (cpu(&gateway).await - before, began.elapsed().as_secs_f64());
    assert!(used < passed * IDLE, "{used} s of computing in {passed} s");
    assert_eq!(acme.ca.seen().len(), asked, "the CA is left alone");
    assert_eq!(written(acme.mesh.state()), files, "nothing is written");
    assert_eq!(gateway.log(), log, "nothing is said");
}

/// Texts that nobody but the owner of the state folder may read: lines of every key, and whatever else stands in it as a
/// secret.
fn secrets(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let read = |path: &str| {
        let text = fs::read_to_string(folder.join(path)).expect("it is kept");
        let kept: Value = serde_json::from_str(&text).expect("it is JSON");
        kept["stringData"].clone()
    };
    let (certificate, account) =
        (read(&format!("secrets/{SECRET}.json")), read(&format!("acme/acme-account-{ISSUER}.json")));
    for pem in [&certificate["tls.key"], &account["key.pem"]] {
        let lines = pem.as_str().expect("a key is text").lines();
        found.extend(lines.filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    let credentials: Value =
        serde_json::from_str(account["account.json"].as_str().expect("it is text")).expect("it is JSON");
    found.push(credentials["key_pkcs8"].as_str().expect("an account has a key").to_owned());
    found
}

#[tokio::test]
async fn whatever_a_gateway_logs_there_is_no_key_and_no_answer_to_a_challenge_in_it() {
    let Some(acme) = AcmeMesh::start("of a talkative log", &[HOST]).await else { return };
    let mut held = acme.ca.hold_next(Step::Directory, Moment::Before);
    let gateway = acme.gateway().await;
    held.reached().await;
    let level = with_body(request("POST", "http://localhost/logging?level=trace"), "");
    assert_eq!(Client::plain(gateway.addresses().admin).call(level).await.code(), 200);
    held.release();
    acme.served_within(SOON, 1, HOST).await;
    eventually("the order has ended", async || acme.told(&gateway).await["order"]["state"] == "issued").await;

    let told = [gateway.log(), gateway.access_log(), gateway.admin("/certs").await.text()].concat();

    assert!(told.contains("TRACE") && told.contains("challenge chosen"), "it tells all it has to tell of the order");
    for secret in secrets(acme.mesh.state()) {
        assert!(secret.len() > 20 && !told.contains(&secret), "a key stands in the log");
    }
    let tokens = acme.ca.tokens("http-01");
    assert_eq!(tokens.len(), 1);
    assert!(!told.contains(&format!("{}.", tokens[0])), "a key authorization stands in the log");
    assert!(!told.contains("PRIVATE KEY"), "a key stands in the log");
}
