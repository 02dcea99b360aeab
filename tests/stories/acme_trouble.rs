//! Bad days of a CA, and what it finds wrong with us: it is said everywhere, nothing that works stops, and it is repaired
//! by itself.

use std::time::Duration;

use harness::{
    acme::{AcmeMesh, NAMESPACE, SECRET, Served, Setting},
    binary::run,
    ca_proxy::{Canned, Step},
    eventually::{SOON, eventually},
    gateway::Proxy,
    load::Load,
    mesh::{HOST, SHOP},
    pebble::Options,
};
use serde_json::{Value, json};

const PROMISED: Duration = Duration::from_secs(10);
/// The first pause after a refusal is half a minute and a little.
const REPAIRED: Duration = Duration::from_secs(50);
/// A MAC key as a CA gives it.
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
const WRONG: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why the last try failed, once `/certs` tells.
async fn told_error(acme: &AcmeMesh, gateway: &Proxy) -> String {
    let mut error = String::new();
    eventually("the admin page says why", async || {
        error = acme.told(gateway).await["order"]["lastError"].as_str().unwrap_or_default().to_owned();
        !error.is_empty()
    })
    .await;
    error
}

/// What `sluice certs` says of the state folder, and its exit code.
fn certs(acme: &AcmeMesh, more: &[&str]) -> (String, Option<i32>) {
    let output = run(&[&["certs"], acme.place().as_slice(), more].concat());
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

fn renew(acme: &AcmeMesh) {
    let output = run(&[["certs", "renew", SECRET].as_slice(), &acme.place()].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_ca_that_rejects_every_second_nonce_gives_a_certificate_all_the_same() {
    let setting = Setting { pebble: Options { nonce_reject: 50, ..Options::default() }, in_cluster: false };
    let Some(acme) = AcmeMesh::with("of rejected nonces", &[HOST], setting).await else { return };
    let gateway = acme.gateway().await;
    let served = acme.served_within(SOON, 1, HOST).await;

    assert!(acme.ca.seen().iter().any(|seen| seen.problem == "badNonce"));
    assert_eq!(acme.pebble.issued(), [served.facts.serial]);
    assert_eq!([Step::NewOrder, Step::Finalize].map(|step| acme.ca.accepted(step)), [1, 1]);
    assert!(!gateway.log().contains("no certificate"), "{}", gateway.log());
}

#[tokio::test]
async fn what_the_ca_found_wrong_is_said_everywhere_and_the_certificate_comes_when_it_is_repaired() {
    let Some(acme) = AcmeMesh::start("of a host that is elsewhere", &[HOST]).await else { return };
    acme.dns.set_a(HOST, &[acme.mesh.block.ip(99)]).await;
    let gateway = acme.gateway().await;

    let error = told_error(&acme, &gateway).await;
    assert!(error.contains(HOST) && error.contains("connection"), "{error}");
    assert_eq!(error.matches("dial tcp").count(), 1, "it is said once: {error}");
    assert!(gateway.log().contains(&error), "{}", gateway.log());
    let (text, code) = certs(&acme, &[]);
    assert!(text.contains(&error) && text.contains("it is tried again at"), "{text}");
    assert_eq!(code, Some(1));
    let admin = gateway.addresses().admin.to_string();
    let served = run(&["certs", "--admin", &admin, "--output", "json"]);
    let rows: Value = serde_json::from_slice(&served.stdout).expect("JSON");
    let row = rows.as_array().into_iter().flatten().find(|row| row["order"].is_object()).expect("it is listed");
    assert_eq!((&row["order"]["lastError"], &row["order"]["failures"]), (&json!(error), &json!(1)));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("sluice_acme_failing_certificates", &[]), 1.0);
    assert_eq!(metrics.sum("sluice_acme_orders_total", &[("result", "failed")]), 1.0);
    let dump = gateway.admin("/config_dump").await.text();
    assert!(dump.contains("certificate-order-failed"), "{dump}");

    acme.dns.clear_a(HOST).await;
    acme.served_within(REPAIRED, 1, HOST).await;
    eventually("nothing is wrong any more", async || {
        let metrics = gateway.metrics().await;
        metrics.sum("sluice_acme_failing_certificates", &[]) == 0.0
            && metrics.sum("sluice_acme_orders_total", &[("result", "issued")]) == 1.0
    })
    .await;
    assert_eq!(acme.told(&gateway).await["order"]["lastError"], Value::Null);
    assert_eq!(certs(&acme, &[]).1, Some(0));
}

#[tokio::test]
async fn somebody_who_has_repaired_it_need_not_wait_for_the_pause() {
    let Some(acme) = AcmeMesh::start("of broken DNS", &[HOST]).await else { return };
    acme.dns.set_broken(HOST, true).await;
    let gateway = acme.gateway().await;
    let error = told_error(&acme, &gateway).await;
    assert!(error.contains(HOST), "{error}");

    acme.dns.set_broken(HOST, false).await;
    renew(&acme);
    acme.served_within(PROMISED, 1, HOST).await;
    assert_eq!(acme.pebble.issued().len(), 1);
}

#[tokio::test]
async fn an_external_account_is_bound_with_the_right_key_and_a_wrong_one_is_told() {
    let pebble = Options { external_accounts: vec![("kid-1".into(), KEY.into())], ..Options::default() };
    let setting = Setting { pebble, in_cluster: false };
    let Some(acme) = AcmeMesh::with("of an external account", &[HOST], setting).await else { return };
    let secret = |key: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "eab", "namespace": NAMESPACE}, "stringData": {"key": key},
        })
    };
    let mut issuer = acme.issuer();
    issuer["spec"]["externalAccount"] = json!({"keyID": "kid-1", "secretName": "eab"});
    acme.write("eab.yaml", &secret(WRONG));
    acme.write("issuer.yaml", &issuer);
    let gateway = acme.gateway().await;

    let error = told_error(&acme, &gateway).await;
    assert!(error.contains("external account"), "{error}");
    assert!(!gateway.log().contains(WRONG), "{}", gateway.log());

    acme.write("eab.yaml", &secret(KEY));
    // At once: what was refused was another key.
    acme.served_within(PROMISED, 1, HOST).await;
    assert!(!gateway.log().contains(KEY), "{}", gateway.log());
}

/// Statuses of the orders that were asked for, without those whose nonce was rejected.
fn orders(acme: &AcmeMesh) -> Vec<u16> {
    let asked = acme.ca.seen().into_iter().filter(|seen| seen.step == Step::NewOrder && seen.problem != "badNonce");
    asked.map(|seen| seen.status).collect()
}

/// A gateway with a certificate, whose CA is at its side still.
async fn running(acme: &AcmeMesh) -> (Proxy, Served) {
    let gateway = acme.gateway().await;
    let served = acme.served_within(PROMISED, 1, HOST).await;
    eventually("the order is ended", async || acme.told(&gateway).await["order"]["state"] == "issued").await;
    (gateway, served)
}

#[tokio::test]
async fn an_old_certificate_serves_while_the_ca_is_away_and_a_new_one_comes_when_it_is_back() {
    let Some(acme) = AcmeMesh::start("of a CA that is away", &[HOST]).await else { return };
    let (mut gateway, old) = running(&acme).await;
    gateway.sigterm();
    gateway.wait_exit(SOON).await;
    acme.ca.stop().await;

    let gateway = acme.gateway().await;
    let load = Load::start(&acme.browser(1), 2, SHOP);
    renew(&acme);
    let error = told_error(&acme, &gateway).await;
    load.reaches(500).await;
    assert!(error.contains("cannot be reached"), "{error}");
    assert_eq!(acme.served(1, HOST).await.expect("it serves").facts.serial, old.facts.serial);
    assert_eq!(acme.plain_browser(1).status("http://shop.example.com/").await, 301);
    assert_eq!(gateway.readiness().await.map(|reply| reply.code()), Some(200));
    let told = acme.told(&gateway).await;
    assert_eq!(told["serial"], old.facts.serial.as_str());

    acme.ca.start_again().await;
    let new = acme.renewed_within(REPAIRED, 1, &old).await;
    let result = load.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");
    assert_eq!(acme.pebble.issued(), [old.facts.serial, new.facts.serial]);
}

#[tokio::test]
async fn a_ca_that_asks_for_a_pause_gets_it_and_another_issuer_does_not_wait() {
    let Some(acme) = AcmeMesh::start("of a rate limit", &[HOST]).await else { return };
    acme.ca.answer(Step::NewOrder, 1, Canned::rate_limited(Duration::from_secs(6)));
    let gateway = acme.gateway().await;
    let error = told_error(&acme, &gateway).await;
    let limited = std::time::Instant::now();
    assert!(error.contains("too many certificates"), "{error}");

    let mut other = acme.issuer();
    other["metadata"]["name"] = "other".into();
    acme.write("other.yaml", &other);
    let mut second = acme.gateway_object();
    second["metadata"]["name"] = "second".into();
    second["metadata"]["annotations"]["acme.sluice.dev/issuer"] = "other".into();
    second["spec"]["servers"] = json!([{
        "port": {"number": 443, "name": "second", "protocol": "HTTPS"}, "hosts": ["second.example.com"],
        "tls": {"mode": "SIMPLE", "credentialName": "second-cert"},
    }]);
    acme.write("second.yaml", &second);
    acme.served_within(Duration::from_secs(5), 1, "second.example.com").await;
    assert_eq!(orders(&acme), [429, 201], "the limited one is left alone");

    acme.served_within(SOON, 1, HOST).await;
    assert!(limited.elapsed() >= Duration::from_secs(5), "{:?}", limited.elapsed());
    assert_eq!(orders(&acme), [429, 201, 201]);
}

#[tokio::test]
async fn a_ca_that_forgot_the_account_gets_a_new_one() {
    let Some(mut acme) = AcmeMesh::start("of a forgotten account", &[HOST]).await else { return };
    let (gateway, old) = running(&acme).await;
    acme.pebble.start_again().await;
    assert_eq!(acme.pebble.issued(), Vec::<String>::new());

    renew(&acme);
    let new = acme.renewed_within(REPAIRED, 1, &old).await;
    assert_eq!(acme.pebble.issued(), [new.facts.serial]);
    assert_eq!(acme.ca.accepted(Step::NewAccount), 2);
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("sluice_acme_orders_total", &[("result", "failed")]) <= 1.0);
}

#[tokio::test]
async fn a_certificate_that_somebody_deleted_is_ordered_again_while_the_last_good_one_serves() {
    let Some(acme) = AcmeMesh::start("of a deleted certificate", &[HOST]).await else { return };
    let (_gateway, old) = running(&acme).await;
    let load = Load::start(&acme.browser(1), 2, SHOP);
    let file = acme.mesh.state().join("secrets").join(format!("{SECRET}.json"));
    std::fs::remove_file(&file).expect("it was there");

    let new = acme.renewed_within(SOON, 1, &old).await;
    let result = load.stop().await;
    assert_eq!((result.failed, file.is_file()), (0, true), "{result:?}");
    assert_eq!(acme.pebble.issued(), [old.facts.serial, new.facts.serial]);
}
