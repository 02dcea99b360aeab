//! Certificates that a gateway orders into a cluster: Secrets, conditions, events, and what it may do there.

use std::time::Duration;

use harness::{
    acme::{AcmeMesh, ISSUER, NAMESPACE, SECRET, Setting},
    acme_cluster::WORKLOAD,
    apiserver::ADMIN,
    ca_proxy::{Moment, Step},
    eventually::{SOON, eventually},
    helm,
    kubectl::{self, Kubectl},
    load::Load,
    mesh::{HOST, Mesh, SHOP},
    yaml::tls_secret,
};
use serde_json::json;

const PENDING: [&str; 2] = ["False", "CertificatePending"];
const FAILED: [&str; 2] = ["False", "CertificateOrderFailed"];
const RESOLVED: [&str; 2] = ["True", "ResolvedRefs"];

async fn scene(story: &str) -> Option<AcmeMesh> {
    AcmeMesh::in_cluster(story, &[HOST], Setting::default()).await
}

/// Runs `sluice certs --kubernetes` with these arguments; gives its exit code and what it printed.
async fn certs(acme: &AcmeMesh, arguments: &[&str]) -> (i32, String) {
    let mut command = tokio::process::Command::new(harness::binary::sluice());
    command.args(["certs", "--kubernetes", "--kubeconfig"]).arg(acme.mesh.api().admin()).args(arguments);
    let output = command.output().await.expect("sluice runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), printed)
}

#[tokio::test]
async fn a_gateway_that_asks_for_a_certificate_gets_it_as_a_secret_and_tells_so_on_the_way() {
    let Some(acme) = scene("of a Gateway that asks for a certificate").await else { return };
    let mut held = acme.ca.hold_next(Step::NewOrder, Moment::Before);
    let gateway = acme.replica(1).await;
    held.reached().await;

    let message = acme.comes_to("ResolvedRefs", PENDING).await;
    assert!(message.contains(&format!("{NAMESPACE}/{SECRET}")) && message.contains(ISSUER), "{message}");
    acme.comes_to("Programmed", ["True", "Programmed"]).await;
    assert_eq!(acme.secret(SECRET).await, None);
    assert!(acme.served(1, HOST).await.is_err(), "no handshake without a certificate");
    held.release();

    let served = acme.served_within(SOON, 1, HOST).await;
    assert_eq!(acme.comes_to("ResolvedRefs", RESOLVED).await, "");
    acme.comes_to("Programmed", ["True", "Programmed"]).await;
    acme.comes_to("Accepted", ["True", "Accepted"]).await;
    let secret = acme.secret(SECRET).await.expect("the certificate is in its Secret");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let annotations = json!({
        "acme.sluice.dev/issuer": ISSUER, "acme.sluice.dev/server": acme.ca.directory(),
        "acme.sluice.dev/key-type": "ECDSA-P256", "acme.sluice.dev/gateway": WORKLOAD,
    });
    assert_eq!(secret["metadata"]["annotations"], annotations);
    assert_eq!(secret["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "sluice"}));
    let keys: Vec<&str> = secret["data"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["tls.crt", "tls.key"]);
    assert_eq!(acme.pebble.issued(), [served.facts.serial]);
    assert_eq!(acme.mesh.refusals(), Vec::<String>::new());
    assert_eq!(gateway.metrics().await.sum("sluice_acme_orders_total", &[("result", "issued")]), 1.0);
}

#[tokio::test]
async fn the_ca_may_check_any_of_three_replicas_and_all_of_them_serve_one_certificate() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let Some(acme) = scene("of a CA that checks any of three replicas").await else { return };
        let mut issuer = acme.issuer();
        issuer["spec"]["challenges"] = json!([challenge]);
        acme.write("issuer.yaml", &issuer);
        let mut gateway = acme.gateway_object();
        gateway["metadata"]["annotations"].take();
        acme.write("edge.yaml", &gateway);
        let _replicas = tokio::join!(acme.replica(1), acme.replica(2), acme.replica(3));
        acme.replicas_tell(3).await;
        let [http, https] = acme.balance(&[1, 2, 3]).await;
        let checked = if challenge == "http-01" { &http } else { &https };
        let count = || [1, 2, 3].map(|number| checked.count(acme.mesh.block.at(number, checked.address().port())));

        // Pebble asks three times for each challenge.
        acme.write("edge.yaml", &acme.gateway_object());

        let mut serials = Vec::new();
        for number in [1, 2, 3] {
            serials.push(acme.served_within(SOON, number, HOST).await.facts.serial);
        }
        assert_eq!(count(), [1, 1, 1], "{challenge}");
        assert_eq!(acme.pebble.issued(), serials[..1], "{challenge}");
        assert!(serials.iter().all(|serial| *serial == serials[0]), "{challenge}: {serials:?}");
        assert_eq!(acme.ca.accepted(Step::NewOrder), 1, "{challenge}");
        assert_eq!(acme.mesh.refusals(), Vec::<String>::new(), "{challenge}");
    }
}

#[tokio::test]
async fn without_the_right_to_write_secrets_the_gateway_names_what_grants_it_and_goes_on_serving() {
    const STORY: &str = "without_the_right_to_write_secrets_the_gateway_names_what_grants_it_and_goes_on_serving";
    let (Some(_), Some(acme)) = (helm::executable(STORY), scene(STORY).await) else { return };
    acme.mesh.obey(helm::roles_with(&["--set", "acme.enabled=false"])).await;
    let other = "other.example.com";
    let mut plain = acme.gateway_object();
    plain["metadata"] = json!({"name": "plain", "namespace": NAMESPACE});
    plain["spec"]["servers"] = json!([plain["spec"]["servers"][0]]);
    plain["spec"]["servers"][0]["hosts"] = json!([other]);
    plain["spec"]["servers"][0]["tls"]["credentialName"] = "other-cert".into();
    acme.write("plain.yaml", &plain);
    acme.mesh.write("other.yaml", &tls_secret(NAMESPACE, "other-cert", &acme.mesh.pki.server(&[other])));

    let gateway = acme.replica(1).await;
    gateway.logs("the chart grants it with acme.enabled=true").await;

    let message = acme.comes_to("ResolvedRefs", FAILED).await;
    assert!(message.contains("may not be created") && message.contains("acme.enabled=true"), "{message}");
    eventually("an event tells it", async || {
        acme.events().await.iter().any(|[_, note]| note.contains("acme.enabled=true"))
    })
    .await;
    assert!(acme.mesh.edge_trust().connect(gateway.addresses().main, other).await.is_ok());
    assert_eq!(acme.plain_browser(1).status("http://shop.example.com/").await, 301);
    assert_eq!(acme.ca.accepted(Step::NewAccount), 0, "the CA is not told of an account that could not be kept");
    let refused = acme.mesh.refusals();
    assert!(refused.iter().all(|it| it == "create secrets istio-system"), "{refused:?}");

    // The right is given while the gateway runs, which tries again by itself.
    acme.mesh.api().insert(helm::roles()).await;
    acme.served_within(3 * SOON, 1, HOST).await;
    acme.comes_to("ResolvedRefs", RESOLVED).await;
}

#[tokio::test]
async fn a_failed_order_is_told_by_event_condition_metric_and_command_until_the_next_one_succeeds() {
    let Some(acme) = scene("of a failed order").await else { return };
    acme.dns.set_broken(HOST, true).await;
    let gateway = acme.replica(1).await;

    let message = acme.comes_to("ResolvedRefs", FAILED).await;
    assert!(message.contains("the CA refused the order") && message.contains("could not resolve URL"), "{message}");
    eventually("an event tells it", async || {
        let told = acme.events().await;
        told.iter().any(|[reason, note]| reason == "CertificateOrderFailed" && message.contains(note.as_str()))
    })
    .await;
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("sluice_acme_orders_total", &[("result", "failed")]) >= 1.0);
    assert_eq!(metrics.sum("sluice_acme_failing_certificates", &[]), 1.0);
    let (code, printed) = certs(&acme, &[]).await;
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.contains(&format!("{NAMESPACE}/{SECRET}")) && printed.contains("the CA refused the order"),
        "{printed}"
    );

    acme.dns.set_broken(HOST, false).await;
    let (code, printed) = certs(&acme, &["renew", SECRET]).await;
    assert_eq!(code, 0, "{printed}");
    acme.served_within(SOON, 1, HOST).await;
    acme.comes_to("ResolvedRefs", RESOLVED).await;
    eventually("nothing fails any more", async || {
        gateway.metrics().await.sum("sluice_acme_failing_certificates", &[]) == 0.0
    })
    .await;
    let (code, printed) = certs(&acme, &[]).await;
    assert!(code == 0 && printed.contains("issued"), "{code} {printed}");
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_never_overwritten() {
    let Some(acme) = scene("of a Secret that is somebody else's").await else { return };
    let theirs = tls_secret(NAMESPACE, SECRET, &acme.mesh.pki.server(&[HOST]));
    let mut held = acme.ca.hold_next(Step::Certificate, Moment::After);
    let gateway = acme.replica(1).await;
    held.reached().await;
    // It comes while the CA's certificate is on its way.
    acme.mesh.write("theirs.yaml", &theirs);
    let before = acme.secret(SECRET).await;
    held.release();

    eventually("the gateway tells of the Secret", async || {
        let accepted = acme.condition("Accepted").await;
        accepted[2].contains(SECRET) && accepted[2].contains("issuer")
    })
    .await;
    let trust = acme.mesh.edge_trust();
    eventually("their certificate is served", async || acme.shown(1, HOST, &trust).await.is_ok()).await;
    assert_eq!(acme.secret(SECRET).await, before);
    // Nothing was issued into it, and that is no failure of the CA.
    assert_eq!(gateway.metrics().await.sum("sluice_acme_orders_total", &[]), 0.0);
    assert!(!acme.events().await.iter().any(|[reason, _]| reason == "CertificateOrderFailed"));

    acme.mesh.remove("theirs.yaml");
    acme.served_within(2 * SOON, 1, HOST).await;
    assert_eq!(acme.pebble.issued().len(), 1, "what was issued before is used");
}

#[tokio::test]
async fn a_deleted_secret_is_ordered_again_while_the_last_good_certificate_serves() {
    let Some(acme) = scene("of a Secret that is deleted").await else { return };
    let _gateway = acme.replica(1).await;
    let first = acme.served_within(SOON, 1, HOST).await;
    let load = Load::start(&acme.browser(1), 2, SHOP);
    load.reaches(50).await;

    assert!(acme.mesh.api().delete("Secret", NAMESPACE, SECRET).await);

    let second = acme.renewed_within(SOON, 1, &first).await;
    load.reaches(load.sent() + 50).await;
    let load = load.stop().await;
    assert_eq!(load.failed, 0, "{load:?}");
    assert_eq!(acme.pebble.issued(), [first.facts.serial, second.facts.serial]);
    acme.comes_to("ResolvedRefs", RESOLVED).await;
}

#[tokio::test]
async fn two_deployments_that_serve_one_gateway_order_one_certificate() {
    let Some(acme) = scene("of two deployments that serve one Gateway").await else { return };
    let flags = ["--workers", "1", "--name", "second"];
    let (_first, _second) = tokio::join!(acme.replica(1), acme.mesh.replica(2, &flags));

    let served = [acme.served_within(SOON, 1, HOST).await, acme.served_within(SOON, 2, HOST).await];

    let leads = async || [acme.leader(WORKLOAD).await, acme.leader("second").await];
    eventually("each deployment has its leader", async || leads().await.iter().all(|it| !it.is_empty())).await;
    assert_eq!(served.each_ref().map(|it| it.facts.serial.clone()), [(); 2].map(|()| acme.pebble.issued()[0].clone()));
    acme.comes_to("ResolvedRefs", RESOLVED).await;
    assert_eq!(acme.pebble.issued().len(), 1);
    assert_eq!(acme.ca.accepted(Step::NewOrder), 1);
    assert_eq!(acme.events().await, Vec::<[String; 2]>::new(), "that there are two is no failure");
}

#[tokio::test]
async fn where_nobody_asks_for_certificates_nothing_of_it_is_read_written_or_missed() {
    let mesh = Mesh::with_edge_in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    api.hide("Issuer", true);
    if helm::executable("that no right to write Secrets is needed").is_some() {
        mesh.obey(helm::roles_with(&["--set", "acme.enabled=false"])).await;
    }
    mesh.routes("- directResponse: {status: 200, body: {string: \"here\"}}");
    let gateway = mesh.replica(1, &["--workers", "1"]).await;
    assert_eq!(mesh.browser().get(SHOP).await.text(), "here");
    let told = async || mesh.api().get("Gateway", NAMESPACE, "edge").await.unwrap_or_default();
    eventually("the leader tells", async || told().await["status"]["conditions"].is_array()).await;

    let requests = api.requests().0;
    let own: Vec<_> = requests.iter().filter(|it| it.user.contains(WORKLOAD)).collect();
    assert!(
        own.iter().all(|it| !it.target.contains("acme.sluice.dev%2Fkind") && !it.target.contains("acme-")),
        "{own:?}"
    );
    assert!(own.iter().all(|it| it.resource != "secrets" || ["get", "list", "watch"].contains(&it.verb.as_str())));
    assert_eq!(mesh.refusals(), Vec::<String>::new());
    let log = gateway.log();
    assert!(!log.to_lowercase().contains("issuer") && !log.contains("acme"), "{log}");
}

#[tokio::test]
async fn kubectl_applies_issuer_and_gateway_and_waits_for_the_certificate() {
    const STORY: &str = "kubectl_applies_issuer_and_gateway_and_waits_for_the_certificate";
    let (Some(kubectl), Some(acme)) = (kubectl::executable(STORY), scene(STORY).await) else { return };
    let [issuer, edge] = [acme.issuer(), acme.gateway_object()];
    acme.mesh.remove("edge.yaml");
    acme.mesh.remove("issuer.yaml");
    let _gateway = acme.replica(1).await;
    let kubectl = Kubectl::new(&kubectl, &acme.mesh.api().kubeconfig(ADMIN));
    let said = kubectl.try_run(&["apply", "-f", "-"], &format!("{issuer}\n---\n{edge}\n")).await;
    assert!(said.ok, "{}", said.err);

    let wait = ["-n", NAMESPACE, "wait", "--for=condition=ResolvedRefs", "gw/edge", "--timeout=30s"];
    kubectl.run(&wait).await;

    acme.served_within(Duration::from_secs(2), 1, HOST).await;
    let shown = kubectl.run(&["-n", NAMESPACE, "get", "issuers,secrets", "-o", "name"]).await;
    for name in ["issuer.acme.sluice.dev/pebble", "secret/edge-cert", "secret/acme-account-pebble"] {
        assert!(shown.lines().any(|line| line == name), "{name}: {shown}");
    }
}
