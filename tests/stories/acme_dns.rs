//! Wildcards: proved by TXT records, published at a real name server or by a program, and gone afterwards.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use harness::{
    acme::{AcmeMesh, NAMESPACE},
    eventually::eventually,
    gateway::Proxy,
    knot::{self, Knot},
    mesh::HOST,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const HOSTS: [&str; 2] = ["example.com", "*.example.com"];
const RECORD: &str = "_acme-challenge.example.com";
const PROMISED: Duration = Duration::from_secs(10);
/// The first pause after a refusal is half a minute and a little.
const REPAIRED: Duration = Duration::from_secs(50);

/// Writes the Issuer with this `dns01`, and the Secret of the TSIG key.
fn publish_by(acme: &AcmeMesh, dns01: Value) {
    let mut issuer = acme.issuer();
    issuer["spec"]["dns01"] = dns01;
    acme.write("issuer.yaml", &issuer);
    acme.write(
        "tsig.yaml",
        &json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "tsig", "namespace": NAMESPACE}, "stringData": {"key": Knot::KEY_SECRET},
        }),
    );
}

fn rfc2136(knot: &Knot, secret: &str) -> Value {
    json!({"rfc2136": {
        "nameserver": knot.address().to_string(), "tsigKeyName": Knot::KEY_NAME, "tsigSecretName": secret,
        "tsigAlgorithm": "HMAC-SHA256",
    }})
}

/// A mesh whose CA asks Knot, the primary of example.com; `None` = a peer is missing, and that was said loudly.
async fn with_knot(story: &str) -> Option<(AcmeMesh, Knot)> {
    knot::executable(story)?;
    let mut acme = AcmeMesh::start(story, &["*.example.com"]).await?;
    let knot = Knot::start(acme.mesh.block.at(204, 5353), "example.com").await;
    acme.pebble.set_dns(knot.address());
    acme.pebble.start_again().await;
    publish_by(&acme, rfc2136(&knot, "tsig"));
    Some((acme, knot))
}

#[tokio::test]
async fn a_wildcard_is_proved_at_a_real_name_server_with_signed_updates() {
    let Some((acme, knot)) = with_knot("of a wildcard at Knot").await else { return };
    let gateway = acme.gateway().await;
    let served = acme.served_within(PROMISED, 1, HOST).await;

    assert_eq!(served.facts.dns_names, ["*.example.com"]);
    assert_eq!(acme.browser(1).status("https://any.example.com/").await, 200);
    eventually("the TXT record is withdrawn", async || knot.txt(RECORD).await.is_empty()).await;
    let log = gateway.log();
    assert!(log.contains("challenge=\"dns-01\"") && log.contains("only a TXT record proves a wildcard"), "{log}");
    assert!(!log.contains(Knot::KEY_SECRET), "{log}");
    assert_eq!(acme.pebble.issued(), [served.facts.serial]);
}

#[tokio::test]
async fn a_name_server_that_refuses_is_told_and_asked_again_when_the_key_is_right() {
    let Some((acme, knot)) = with_knot("of a wrong TSIG key").await else { return };
    let wrong = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "wrong", "namespace": NAMESPACE}, "stringData": {"key": "d3JvbmcgYnV0IGJhc2U2NCBvZiBhIGtleQ=="},
    });
    acme.write("wrong.yaml", &wrong);
    publish_by(&acme, rfc2136(&knot, "wrong"));
    let gateway = acme.gateway().await;

    gateway.logs(&format!("the TXT record {RECORD} is not published at the name server")).await;
    let error = told_error(&acme, &gateway).await;
    assert!(error.contains(&knot.address().to_string()) && error.contains("key"), "{error}");

    publish_by(&acme, rfc2136(&knot, "tsig"));
    acme.served_within(REPAIRED, 1, HOST).await;
    assert_eq!(acme.told(&gateway).await["order"]["lastError"], Value::Null);
}

#[tokio::test]
async fn a_host_and_its_wildcard_are_proved_by_a_program_and_share_a_certificate() {
    let Some(acme) = AcmeMesh::start("of a hook", &HOSTS).await else { return };
    let hooks = TempDir::with_prefix("sluice-hooks-").expect("a temporary folder can be made");
    acme.dns.write_hook(&hooks.path().join("challtest"));
    let journal = "#!/bin/sh\necho \"$1 $2 $3\" >> journal\nexec ./challtest \"$@\"\n";
    executable(&hooks.path().join("journal.sh"), journal);
    publish_by(&acme, json!({"exec": {"command": "journal.sh"}}));
    let mut issuer = acme.issuer();
    issuer["spec"]["challenges"] = json!(["dns-01"]);
    issuer["spec"]["dns01"] = json!({"exec": {"command": "journal.sh"}});
    acme.write("issuer.yaml", &issuer);
    let gateway = acme.mesh.gateway_with(&["--acme-hooks", hooks.path().to_str().expect("a plain name")]).await;
    let served = acme.served_within(PROMISED, 1, HOST).await;

    let mut names = served.facts.dns_names.clone();
    names.sort_unstable();
    assert_eq!(names, ["*.example.com", "example.com"]);
    assert_eq!(acme.browser(1).status("https://example.com/").await, 200);
    let read = || fs::read_to_string(hooks.path().join("journal")).unwrap_or_default();
    eventually("both records are withdrawn", async || read().matches("cleanup").count() == 2).await;
    let journal = read();
    let of = |action: &str| {
        let mut lines: Vec<String> =
            journal.lines().filter_map(|it| it.strip_prefix(action)).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(of("present"), of("cleanup"), "{journal}");
    assert!(of("present").iter().all(|it| it.starts_with(&format!(" {RECORD}. "))), "{journal}");
    assert_ne!(of("present")[0], of("present")[1], "two values under one name");
    assert!(!gateway.log().contains("no certificate"), "{}", gateway.log());
}

#[tokio::test]
async fn a_hook_without_a_folder_of_hooks_is_an_error_that_names_the_flag() {
    let Some(acme) = AcmeMesh::start("of a hook without a folder", &["*.example.com"]).await else { return };
    publish_by(&acme, json!({"exec": {"command": "hook.sh"}}));
    let gateway = acme.gateway().await;

    let error = told_error(&acme, &gateway).await;
    assert!(error.contains("--acme-hooks") && error.contains("hook.sh"), "{error}");
    assert!(acme.served(1, HOST).await.is_err());
    gateway.logs("--acme-hooks").await;
}

/// Why the last try failed, once `/certs` tells.
async fn told_error(acme: &AcmeMesh, gateway: &Proxy) -> String {
    let mut error = String::new();
    eventually("the admin page says why", async || {
        let told = acme.told(gateway).await;
        error = told["order"]["lastError"].as_str().unwrap_or_default().to_owned();
        !error.is_empty()
    })
    .await;
    error
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).expect("the hook can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the hook can be made executable");
}
