//! Certificates just happen: one annotation on a Gateway, and a CA that checks, with what the ports allow.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use harness::{
    acme::{AcmeMesh, ISSUER, NAMESPACE, SECRET},
    ca_proxy::{Moment, Step},
    eventually::{SOON, eventually},
    mesh::{HOST, SHOP},
    pki::DAY,
    tls_peer::TlsClient,
    yaml::tls_secret,
};
use serde_json::{Value, json};

/// An order on loopback, with a CA that looks at once, takes no longer.
const PROMISED: Duration = Duration::from_secs(10);

/// Every file and folder below a folder that somebody else may read.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let data = entry.metadata().expect("it has metadata");
        let (mode, right) = (data.permissions().mode() & 0o777, if data.is_dir() { 0o700 } else { 0o600 });
        if mode != right {
            found.push(format!("{} {mode:o}", entry.path().display()));
        }
        if data.is_dir() {
            found.extend(open_to_others(&entry.path()));
        }
    }
    found
}

#[tokio::test]
async fn one_annotation_gives_a_certificate_in_ten_seconds_although_port_80_redirects() {
    let Some(acme) = AcmeMesh::start("of one annotation", &[HOST]).await else { return };
    let begun = std::time::Instant::now();
    let gateway = acme.gateway().await;
    let served = acme.served_within(PROMISED, 1, HOST).await;
    let took = begun.elapsed();

    assert!(took < PROMISED, "{took:?}");
    assert_eq!((served.facts.dns_names.as_slice(), served.length), ([HOST.to_owned()].as_slice(), 2));
    assert_eq!(acme.browser(1).status(SHOP).await, 200);
    assert_eq!(acme.plain_browser(1).status("http://shop.example.com/").await, 301);
    let log = gateway.log();
    assert!(log.contains("challenge=\"http-01\"") && log.contains("because=\"port 80 is open here\""), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("no certificate"), "{log}");
    assert_eq!(acme.pebble.issued(), [served.facts.serial]);
    assert_eq!([Step::NewAccount, Step::NewOrder, Step::Finalize].map(|step| acme.ca.accepted(step)), [1, 1, 1]);
}

#[tokio::test]
async fn what_is_ordered_is_a_kubernetes_secret_that_only_its_owner_can_read() {
    let Some(acme) = AcmeMesh::start("of a state folder", &[HOST]).await else { return };
    let _gateway = acme.gateway().await;
    let served = acme.served_within(PROMISED, 1, HOST).await;

    let file = acme.mesh.state().join("secrets").join(format!("{SECRET}.json"));
    let manifest: Value = serde_json::from_slice(&fs::read(file).expect("it is there")).expect("it is JSON");
    assert_eq!([&manifest["kind"], &manifest["type"]], ["Secret", "kubernetes.io/tls"]);
    assert_eq!([&manifest["metadata"]["name"], &manifest["metadata"]["namespace"]], [SECRET, NAMESPACE]);
    assert_eq!(manifest["metadata"]["annotations"]["acme.sluice.dev/issuer"], ISSUER);
    assert!(manifest["stringData"]["tls.crt"].as_str().is_some_and(|chain| chain.contains(served.chain_pem.trim())));
    assert!(manifest["stringData"]["tls.key"].as_str().is_some_and(|key| key.contains("PRIVATE KEY")));
    assert_eq!(open_to_others(acme.mesh.state()), Vec::<String>::new());
}

#[tokio::test]
async fn until_the_first_certificate_is_there_handshakes_are_refused_and_it_is_said_why() {
    let Some(acme) = AcmeMesh::start("of a certificate to come", &[HOST]).await else { return };
    let mut held = acme.ca.hold_next(Step::NewOrder, Moment::Before);
    let gateway = acme.gateway().await;
    held.reached().await;

    let refused = acme.served(1, HOST).await.expect_err("there is no certificate yet").to_string();
    assert!(refused.contains("alert"), "{refused}");
    gateway.logs("handshakes are refused until").await;
    let told = gateway.log();
    assert!(told.contains(SECRET) && told.contains(ISSUER), "{told}");
    eventually("the admin page says that it is ordered", async || {
        let row = acme.told(&gateway).await;
        assert_eq!((&row["hosts"], &row["order"]["issuer"]), (&json!([HOST]), &json!(ISSUER)));
        assert_eq!((&row["serial"], &row["order"]["lastError"]), (&Value::Null, &Value::Null));
        row["order"]["state"] == "ordering"
    })
    .await;

    held.release();
    acme.served_within(PROMISED, 1, HOST).await;
}

#[tokio::test]
async fn a_placeholder_serves_until_the_first_certificate_where_it_is_asked_for() {
    let Some(acme) = AcmeMesh::start("of a placeholder", &[HOST]).await else { return };
    let mut gateway_object = acme.gateway_object();
    gateway_object["metadata"]["annotations"]["acme.sluice.dev/placeholder"] = "true".into();
    acme.write("edge.yaml", &gateway_object);
    let mut held = acme.ca.hold_next(Step::NewOrder, Moment::Before);
    let gateway = acme.gateway().await;
    held.reached().await;

    let shown = acme.shown(1, HOST, &TlsClient::blind()).await.expect("the placeholder is shown");
    assert_eq!((shown.length, shown.facts.dns_names), (1, vec![HOST.to_owned()]));
    assert!(acme.served(1, HOST).await.is_err(), "no client trusts it");
    gateway.logs("a self-signed placeholder serves").await;

    held.release();
    let served = acme.served_within(PROMISED, 1, HOST).await;
    assert_ne!(served.facts.serial, shown.facts.serial);
}

#[tokio::test]
async fn without_port_80_the_ca_checks_on_port_443_and_its_validator_gets_nothing_else() {
    let Some(acme) = AcmeMesh::start("of tls-alpn-01", &[HOST]).await else { return };
    let mut gateway_object = acme.gateway_object();
    gateway_object["spec"]["servers"].as_array_mut().expect("a list").pop();
    acme.write("edge.yaml", &gateway_object);
    let gateway = acme.gateway().await;
    acme.served_within(PROMISED, 1, HOST).await;

    let log = gateway.log();
    assert!(
        log.contains("challenge=\"tls-alpn-01\"") && log.contains("because=\"port 443 terminates TLS here\""),
        "{log}"
    );
    let offering = |alpn: &[&str]| TlsClient::trusting(acme.pebble.roots()).offering(alpn);
    eventually("no challenge is live any more", async || {
        let refused = acme.shown(1, HOST, &offering(&["acme-tls/1"])).await.expect_err("no route is shown");
        refused.to_string().contains("alert")
    })
    .await;
    let stream = offering(&["acme-tls/1", "h2"]).connect(acme.mesh.block.at(1, 8443), HOST).await;
    let stream = stream.expect("it is an ordinary client");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
}

#[tokio::test]
async fn a_validator_is_shown_the_challenge_and_never_a_route() {
    let Some(acme) = AcmeMesh::start("of a live tls-alpn-01 challenge", &[HOST]).await else { return };
    let mut issuer = acme.issuer();
    issuer["spec"]["challenges"] = json!(["tls-alpn-01"]);
    acme.write("issuer.yaml", &issuer);
    let mut held = acme.ca.hold_next(Step::Challenge, Moment::Before);
    let _gateway = acme.gateway().await;
    held.reached().await;

    let validator = TlsClient::blind().offering(&["acme-tls/1"]);
    let shown = acme.shown(1, HOST, &validator).await.expect_err("rustls does not know acmeIdentifier").to_string();
    assert!(shown.contains("UnsupportedCriticalExtension"), "RFC 8737 section 3: {shown}");
    let both = TlsClient::blind().offering(&["acme-tls/1", "h2"]);
    for (host, client) in [("other.example.com", &validator), (HOST, &TlsClient::blind()), (HOST, &both)] {
        let refused =
            acme.shown(1, host, client).await.expect_err("it is live for one host and validators").to_string();
        assert!(refused.contains("alert"), "{refused}");
    }

    held.release();
    acme.served_within(PROMISED, 1, HOST).await;
    assert_eq!(acme.app.requests().len(), 0);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_served_and_never_overwritten() {
    let Some(acme) = AcmeMesh::start("of somebody else's Secret", &[HOST]).await else { return };
    let own = acme.mesh.pki.edge.issue_server(&[HOST], 30 * DAY).expect("a certificate can be issued");
    acme.mesh.write("secret.yaml", &tls_secret(NAMESPACE, SECRET, &own));
    let gateway = acme.gateway().await;

    let trust = acme.mesh.edge_trust();
    let shown = acme.shown(1, HOST, &trust).await.expect("it is served");
    let row = acme.told(&gateway).await;
    assert_eq!((&row["order"]["state"], &row["serial"]), (&json!("foreign"), &json!(shown.facts.serial)));
    let asked: Vec<Step> = acme.ca.seen().iter().map(|seen| seen.step).collect();
    assert_eq!(asked, [], "the CA is not even asked");

    acme.mesh.remove("secret.yaml");
    let ordered = acme.served_within(SOON, 1, HOST).await;
    acme.mesh.write("secret.yaml", &tls_secret(NAMESPACE, SECRET, &own));
    eventually("it is served again", async || {
        acme.shown(1, HOST, &trust).await.is_ok_and(|now| now.facts.serial == shown.facts.serial)
    })
    .await;
    assert_eq!(acme.pebble.issued(), [ordered.facts.serial]);
}
