//! Certificates that change: renewed by the CA's advice or by their age, wanted for more hosts, asked for by a person;
//! whatever happens, no request fails.

use std::time::Duration;

use harness::{
    acme::{AcmeMesh, SECRET, Served, Setting},
    binary::run,
    ca_proxy::{Ari, Step},
    client::Client,
    eventually::{SOON, eventually, within},
    gateway::Proxy,
    load::Load,
    mesh::{HOST, SHOP},
    pebble::Options,
    tls_peer::TlsClient,
};
use serde_json::{Value, json};

const PROMISED: Duration = Duration::from_secs(10);

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A window of the CA, in seconds from now.
fn ari(start: i64, end: i64) -> Ari {
    Ari { start: now() + start, end: now() + end, explanation: None, retry_after: Duration::from_secs(1) }
}

async fn living(story: &str, validity: Duration) -> Option<AcmeMesh> {
    let setting = Setting { pebble: Options { validity, ..Options::default() }, in_cluster: false };
    AcmeMesh::with(story, &[HOST], setting).await
}

/// A gateway that serves a certificate and has planned its renewal.
async fn running(acme: &AcmeMesh) -> (Proxy, Served) {
    let gateway = acme.gateway().await;
    let served = acme.served_within(PROMISED, 1, HOST).await;
    eventually("the renewal is planned", async || {
        let told = acme.told(&gateway).await;
        told["order"]["state"] == "issued" && told["order"]["nextRenewal"].is_string()
    })
    .await;
    (gateway, served)
}

async fn next_renewal(acme: &AcmeMesh, gateway: &Proxy) -> i64 {
    let told = acme.told(gateway).await;
    let at = told["order"]["nextRenewal"].as_str().expect("it is planned");
    at.parse::<jiff::Timestamp>().expect("it is a time").as_second()
}

/// The public key in the first certificate of a chain, as openssl prints it.
fn key(served: &Served) -> String {
    openssl(&["x509", "-noout", "-pubkey"], &served.chain_pem)
}

/// Runs `sluice certs` beside this story's CA; gives what it printed.
async fn certs(acme: &AcmeMesh, action: &[&str]) -> String {
    let arguments: Vec<String> = [&["certs"], action, &acme.place()].concat().into_iter().map(str::to_owned).collect();
    let run = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let output = tokio::task::spawn_blocking(run).await.expect("sluice can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn a_certificate_of_a_minute_is_renewed_under_load_without_a_failed_request() {
    let Some(acme) = living("of renewal under load", Duration::from_secs(60)).await else { return };
    acme.ca.offer_ari(Some(ari(5, 6)));
    let (gateway, old) = running(&acme).await;
    let kept = Load::start(&acme.browser(1), 2, SHOP);
    let fresh = Client::https(acme.mesh.block.at(1, 8443), TlsClient::trusting(acme.pebble.roots()));
    acme.ca.offer_ari(Some(ari(3600, 7200)));
    acme.ca.suggest(&old.facts.serial, ari(5, 6));

    let (mut answers, mut new) = (Vec::new(), None);
    within(SOON, "another certificate is served", async || {
        answers.push(fresh.status(SHOP).await);
        new = acme.served(1, HOST).await.ok().filter(|now| now.facts.serial != old.facts.serial);
        new.is_some()
    })
    .await;
    let new = new.expect("it was just served");
    answers.push(fresh.status(SHOP).await);
    let sent = kept.sent();
    kept.reaches(sent + 200).await;
    let result = kept.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_ne!(key(&new), key(&old));
    assert_eq!(acme.ca.replaced(), std::slice::from_ref(&old.facts.serial));
    assert_eq!(acme.pebble.issued(), [old.facts.serial, new.facts.serial]);
    assert!(gateway.log().contains("because=\"the CA suggests it\""), "{}", gateway.log());
}

#[tokio::test]
async fn a_window_in_the_future_is_waited_for_and_one_in_the_past_is_now() {
    let Some(acme) = living("of renewal windows", Duration::from_secs(120)).await else { return };
    acme.ca.offer_ari(Some(ari(90, 95)));
    let (gateway, old) = running(&acme).await;
    let planned = next_renewal(&acme, &gateway).await;
    let asked = acme.ca.asked_to_renew().len();
    within(Duration::from_secs(30), "the CA is asked for a better time", async || {
        acme.ca.asked_to_renew().len() > asked
    })
    .await;
    assert_eq!(acme.served(1, HOST).await.expect("it serves").facts.serial, old.facts.serial);
    assert_eq!(next_renewal(&acme, &gateway).await, planned, "the same window is the same time");
    assert_eq!(acme.ca.accepted(Step::NewOrder), 1);

    acme.ca.suggest(&old.facts.serial, ari(-20, -10));
    let new = acme.renewed_within(Duration::from_secs(40), 1, &old).await;
    assert_eq!(acme.ca.replaced(), [old.facts.serial]);
    assert_eq!(acme.pebble.issued().last(), Some(&new.facts.serial));
}

#[tokio::test]
async fn a_ca_that_always_wants_renewal_is_not_followed_in_circles() {
    let Some(acme) = living("of a CA that always wants renewal", Duration::from_secs(80)).await else { return };
    acme.ca.offer_ari(Some(ari(-100, -50)));
    let (gateway, old) = running(&acme).await;
    let earliest = old.facts.not_before + 7;
    assert!((earliest..earliest + 3).contains(&next_renewal(&acme, &gateway).await), "a tenth of its lifetime");

    let new = acme.renewed_within(SOON, 1, &old).await;
    assert!(now() >= earliest && new.facts.not_before >= old.facts.not_before);
    assert!(acme.pebble.issued().len() <= 3, "{:?}", acme.pebble.issued());
}

#[tokio::test]
async fn without_advice_a_certificate_is_renewed_at_two_thirds_of_its_lifetime() {
    let Some(acme) = living("of two thirds", Duration::from_secs(30)).await else { return };
    let (gateway, old) = running(&acme).await;
    let planned = next_renewal(&acme, &gateway).await - old.facts.not_before;
    assert!((18..=20).contains(&planned), "{planned}");
    assert_eq!(acme.told(&gateway).await["order"]["renewalBecause"], "two thirds of its lifetime have passed");

    let new = acme.renewed_within(Duration::from_secs(29), 1, &old).await;
    assert!(new.facts.not_before - old.facts.not_before >= planned - 2, "{planned}");
    assert_eq!(acme.ca.replaced(), Vec::<String>::new());
    assert_eq!(acme.pebble.issued(), [old.facts.serial, new.facts.serial]);
}

#[tokio::test]
async fn a_gateway_that_gets_another_host_gets_another_certificate_and_the_old_one_serves_meanwhile() {
    let Some(acme) = AcmeMesh::start("of another host", &[HOST]).await else { return };
    let (_gateway, old) = running(&acme).await;
    let load = Load::start(&acme.browser(1), 2, SHOP);
    let mut more = acme.gateway_object();
    for server in more["spec"]["servers"].as_array_mut().expect("a list") {
        server["hosts"] = json!([HOST, "more.example.com"]);
    }
    acme.write("edge.yaml", &more);

    let new = acme.renewed_within(PROMISED, 1, &old).await;
    let result = load.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");
    assert_eq!(new.facts.dns_names.len(), 2);
    assert_eq!(acme.served(1, "more.example.com").await.expect("it serves").facts.serial, new.facts.serial);
    assert_eq!(acme.pebble.issued(), [old.facts.serial, new.facts.serial]);
}

#[tokio::test]
async fn another_ca_means_another_certificate_and_two_gateways_of_one_secret_share_it() {
    let Some(acme) = AcmeMesh::start("of another CA", &[HOST]).await else { return };
    let mut twin = acme.gateway_object();
    twin["metadata"]["name"] = "twin".into();
    twin["spec"]["servers"][0]["hosts"] = json!(["twin.example.com"]);
    twin["spec"]["servers"].as_array_mut().expect("a list").pop();
    acme.write("twin.yaml", &twin);
    let (_gateway, old) = running(&acme).await;
    assert_eq!(old.facts.dns_names, [HOST, "twin.example.com"]);
    assert_eq!(acme.served(1, "twin.example.com").await.expect("it serves").facts.serial, old.facts.serial);
    assert_eq!(acme.pebble.issued().len(), 1);

    let mut other = acme.issuer();
    other["spec"]["server"] = acme.pebble.directory().into();
    other["spec"]["caBundle"] = acme.pebble.ca_bundle().into();
    acme.write("issuer.yaml", &other);
    let new = acme.renewed_within(PROMISED, 1, &old).await;
    assert_eq!(acme.pebble.issued(), [old.facts.serial, new.facts.serial]);
    assert_eq!(acme.ca.accepted(Step::NewOrder), 1, "the second one was asked of the other address");
}

#[tokio::test]
async fn a_person_lists_certificates_and_asks_for_a_new_one() {
    let Some(acme) = AcmeMesh::start("of sluice certs", &[HOST]).await else { return };
    let (gateway, old) = running(&acme).await;
    let admin = gateway.addresses().admin.to_string();

    let text = certs(&acme, &[]).await;
    let serial = old.facts.serial.as_str();
    for part in [HOST, "istio-system/edge-cert", "acme: pebble", "Pebble Intermediate CA", serial, "issued"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let rows: Value = serde_json::from_str(&certs(&acme, &["--output", "json"]).await).expect("JSON");
    assert_eq!((&rows[0]["serial"], &rows[0]["order"]["state"]), (&json!(serial), &json!("issued")));
    let served = run(&["certs", "--admin", &admin]);
    assert_eq!(served.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&served.stdout).contains(serial));

    let said = certs(&acme, &["renew", SECRET]).await;
    assert!(said.contains("is ordered"), "{said}");
    let new = acme.renewed_within(PROMISED, 1, &old).await;
    assert_eq!(acme.pebble.issued(), [old.facts.serial.clone(), new.facts.serial]);
    assert!(gateway.log().contains("because=\"somebody asked for it\""), "{}", gateway.log());
    let wrong = run(&[["certs", "renew", "no-such"].as_slice(), &acme.place()].concat());
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`no-such`"));
}

#[tokio::test]
async fn a_revoked_certificate_is_replaced_by_one_with_another_key() {
    let Some(acme) = AcmeMesh::start("of revocation", &[HOST]).await else { return };
    let (_gateway, old) = running(&acme).await;

    certs(&acme, &["revoke", SECRET, "--reason", "key-compromise"]).await;
    let new = acme.renewed_within(PROMISED, 1, &old).await;

    assert_eq!(acme.pebble.certificate_status(&old.facts.serial).await, "Revoked");
    assert_eq!(acme.pebble.certificate_status(&new.facts.serial).await, "Valid");
    assert_ne!(key(&new), key(&old));
}

#[tokio::test]
async fn an_account_with_a_rotated_key_goes_on_ordering() {
    let Some(acme) = AcmeMesh::start("of a rotated key", &[HOST]).await else { return };
    let (gateway, old) = running(&acme).await;

    certs(&acme, &["rotate-key", "pebble"]).await;
    certs(&acme, &["renew", SECRET]).await;
    acme.renewed_within(PROMISED, 1, &old).await;

    assert_eq!([Step::KeyChange, Step::NewAccount].map(|step| acme.ca.accepted(step)), [1, 1]);
    assert!(!gateway.log().contains("no certificate"), "{}", gateway.log());
}

fn openssl(arguments: &[&str], input: &str) -> String {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };
    let mut child = Command::new("openssl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().expect("openssl can be started");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("openssl reads");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("it is piped"), &mut text).expect("openssl writes");
    assert!(child.wait().is_ok_and(|status| status.success()));
    text
}
