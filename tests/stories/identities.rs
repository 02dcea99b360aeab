//! Identities from a CA or from a socket: had, renewed under traffic, refused, and what is told of all that.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{
    ca_mesh::STRICT,
    eventually::{eventually, within},
    gateway::Proxy,
    istio_ca::{WorkloadApi, another_root},
    load::Load,
    mesh::{Mesh, SHOP},
    pki::{Pki, spiffe},
};
use serde_json::{Value, json};

/// What a proxy tells of its own certificate.
async fn own(proxy: &Proxy) -> Value {
    let told = proxy.admin_json("/certs").await;
    let row =
        told["certificates"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == "workload")).cloned();
    row.unwrap_or_default()
}

async fn serial(proxy: &Proxy) -> String {
    own(proxy).await["serial"].as_str().unwrap_or_default().to_owned()
}

async fn last_error(proxy: &Proxy) -> String {
    own(proxy).await["identity"]["lastError"].as_str().unwrap_or_default().to_owned()
}

async fn attempts(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("sluice_identity_attempts_total", &[("result", result)])
}

/// Waits until a proxy has been given so many identities.
async fn given(proxy: &Proxy, count: f64) {
    let enough = async || attempts(proxy, "given").await >= count;
    within(Duration::from_secs(60), &format!("{count} identities are given"), enough).await;
}

/// Whether openssl takes everything that the CA has issued, for both sides.
fn openssl_accepts(mesh: &mut Mesh) {
    let roots = mesh.root_file();
    let issued = mesh.ca().issued();
    assert!(issued.len() >= 2, "{issued:?}");
    for certificate in issued {
        for purpose in ["sslserver", "sslclient"] {
            // At a time in its life: those of seconds have ended by now.
            let judged = Command::new("openssl")
                .args(["verify", "-no_check_time", "-purpose", purpose, "-CAfile"])
                .args([&roots, &certificate])
                .output()
                .expect("openssl runs");
            assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
        }
    }
}

/// A gateway and a sidecar in front of `reviews` that have their identities from the CA of the mesh, under STRICT.
macro_rules! shop {
    ($mesh:ident, $gateway:ident, $reviews:ident) => {
        $mesh.ca().start().await;
        $mesh.write("strict.yaml", STRICT);
        let $reviews = $mesh.workload("reviews").sidecar().start().await;
        $mesh.route_all_to("reviews.shop.svc.cluster.local");
        let $gateway = $mesh.gateway().await;
        assert_eq!($mesh.browser().status(SHOP).await, 200);
    };
}

#[tokio::test]
async fn a_ca_gives_identities_that_are_renewed_under_traffic() {
    let Some(mut mesh) = Mesh::with_ca("identities by a CA", 6) else { return };
    shop!(mesh, gateway, reviews);
    let row = own(&gateway).await;
    let principal = spiffe("istio-system", "istio-ingressgateway");
    assert_eq!((&row["identity"]["principal"], &row["identity"]["state"]), (&json!(principal), &json!("served")));
    assert_eq!(row["identity"]["source"], format!("ca {}", mesh.ca().address));
    assert_eq!(row["issuer"], "Mesh CA of a story");
    assert!(row["identity"]["nextRenewal"].is_string() && row["identity"]["lastError"].is_null(), "{row}");

    let load = Load::start(&mesh.browser(), 4, SHOP);
    given(&gateway, 4.0).await;
    given(reviews.proxy(), 4.0).await;
    let result = load.stop().await;

    assert_eq!((result.failed, result.sent > 100), (0, true), "{result:?}");
    assert_ne!(serial(&gateway).await, row["serial"].as_str().unwrap_or_default());
    openssl_accepts(&mut mesh);
    let asked = mesh.ca().asked();
    for account in ["shop/reviews", "istio-system/istio-ingressgateway"] {
        assert!(asked.contains(&format!("{account} Kubernetes 86400 sign")), "{asked:?}");
    }
    for ([left, whole], proxy) in [([2.0, 4.0], &gateway), ([2.0, 4.0], reviews.proxy())] {
        let metrics = proxy.metrics().await;
        let of = |name| metrics.sum(name, &[]);
        let span = of("sluice_identity_not_after_seconds") - of("sluice_identity_next_renewal_seconds");
        assert!((left..=whole).contains(&span), "renewed {span} s before its end");
    }
}

#[tokio::test]
async fn a_ca_that_is_away_delays_nothing_until_the_certificate_ends() {
    let Some(mut mesh) = Mesh::with_ca("a CA that is away", 14) else { return };
    shop!(mesh, gateway, reviews);
    let first = serial(&gateway).await;
    mesh.ca().stop().await;

    let load = Load::start(&mesh.browser(), 2, SHOP);
    for proxy in [&gateway, reviews.proxy()] {
        let tried = async || attempts(proxy, "unreachable").await >= 3.0;
        within(Duration::from_secs(30), "the CA is missed", tried).await;
    }
    let row = own(&gateway).await;
    assert_eq!((&row["serial"], &row["identity"]["state"]), (&json!(first), &json!("kept")));
    assert!(row["identity"]["failures"].as_u64() >= Some(2) && row["identity"]["nextAttempt"].is_string(), "{row}");
    let why = last_error(&gateway).await;
    assert!(why.starts_with(&format!("the CA cannot be asked ({})", mesh.ca().address)), "{why}");
    assert_eq!(gateway.readiness().await.map(|reply| reply.code()), Some(200));

    mesh.ca().start().await;
    eventually("the next identity is there", async || serial(&gateway).await != first).await;
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 50), (0, true), "{result:?}");
    assert_eq!(last_error(&gateway).await, "");
}

#[tokio::test]
async fn a_proxy_without_an_identity_listens_is_not_ready_and_says_why() {
    let Some(mut mesh) = Mesh::with_ca("no CA yet", 3600) else { return };
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews.shop.svc.cluster.local");
    let gateway = mesh.launch_gateway(&[]);
    let unready = async || {
        let reply = gateway.readiness().await;
        reply.is_some_and(|reply| reply.code() == 503 && reply.text().contains("the CA cannot be asked"))
    };
    eventually("readiness names the CA", unready).await;
    let text = gateway.readiness().await.expect("an answer").text();
    let start = format!("not ready: there is no identity in the mesh yet (ca {})", mesh.ca().address);
    assert!(text.starts_with(&start), "{text}");
    // What needs no identity is served.
    eventually("the edge serves", async || mesh.browser().status(SHOP).await == 200).await;

    mesh.ca().start().await;
    let _ready = gateway.ready().await;
}

#[tokio::test]
async fn whatever_a_ca_answers_instead_is_refused_and_told() {
    let Some(mut mesh) = Mesh::with_ca("a CA that answers wrongly", 3600) else { return };
    mesh.ca().start().await;
    let other = another_root();
    mesh.ca().signer("other", &other);
    let gateway = mesh.launch_gateway(&[]).ready().await;
    let first = serial(&gateway).await;
    let own_id = spiffe("istio-system", "istio-ingressgateway");
    let cases: [(&[(&str, Value)], String); 8] = [
        (
            &[("mode", json!("refuse"))],
            "the CA refuses (ADDRESS): INTERNAL: CSR signing error (the CA is on strike)".into(),
        ),
        (&[("mode", json!("nonsense"))], "what the CA gave cannot be used: no BEGIN CERTIFICATE block".into()),
        (
            &[("mode", json!("lonely"))],
            "what the CA gave cannot be used: it has 1 parts, of a chain and its roots".into(),
        ),
        (
            &[("uris", json!([spiffe("shop", "reviews")]))],
            format!(
                "what the CA gave cannot be used: it is for {}, and {own_id} is asked for",
                spiffe("shop", "reviews")
            ),
        ),
        (&[("uris", json!([own_id, "spiffe://x/y"]))], "what the CA gave cannot be used: it has 2 URI names".into()),
        (
            &[("ca", json!("other"))],
            "what the CA gave cannot be used: the certificate was not issued by a trusted CA".into(),
        ),
        (&[("skew", json!(-7200))], "what the CA gave cannot be used: the certificate has ended".into()),
        (&[("skew", json!(900))], "what the CA gave cannot be used: the certificate begins in".into()),
    ];
    let sane = [("mode", json!("sign")), ("uris", json!([])), ("ca", json!("root")), ("skew", json!(0))];
    for (number, (orders, told)) in cases.into_iter().enumerate() {
        mesh.ca().order(&sane);
        mesh.ca().order(orders);
        let asks = launch(&mesh, u8::try_from(number + 2).expect("few"));
        let told = told.replace("ADDRESS", &mesh.ca().address.to_string());
        let refused = async || asks.readiness().await.is_some_and(|reply| reply.text().contains(&told));
        eventually(&format!("it is told that {told}"), refused).await;
        assert_eq!(own(&asks).await["identity"]["state"], "waiting", "{told}");
    }
    assert_eq!(serial(&gateway).await, first);
}

fn launch(mesh: &Mesh, replica: u8) -> Proxy {
    // Address 9 is the CA's.
    mesh.launch_replica(if replica < 9 { replica } else { replica + 1 }, &[])
}

#[tokio::test]
async fn a_token_that_is_not_believed_is_told_and_a_new_one_is_used_at_once() {
    let Some(mut mesh) = Mesh::with_ca("a token that is not believed", 3600) else { return };
    mesh.ca().start().await;
    let folder = mesh.identity("istio-system", "istio-ingressgateway", "gateway");
    mesh.ca().forget_tokens();
    let gateway = mesh.launch((1, &folder), &[]);
    let told = "UNAUTHENTICATED: request authenticate failure";
    let unready = async || gateway.readiness().await.is_some_and(|reply| reply.text().contains(told));
    eventually("the CA's words are told", unready).await;
    assert!(last_error(&gateway).await.contains(told));
    // Long pauses by now.
    let refused = async || attempts(&gateway, "refused").await >= 4.0;
    eventually("it is tried again", refused).await;

    mesh.identity("istio-system", "istio-ingressgateway", "gateway");
    let _ready = gateway.ready().await;
}

#[tokio::test]
async fn roots_change_side_by_side_and_no_request_fails() {
    let Some(mut mesh) = Mesh::with_ca("roots side by side", 6) else { return };
    shop!(mesh, gateway, reviews);
    let (old, new) = (mesh.pki.mesh.root_pem().to_owned(), another_root());
    let roots = async |proxy: &Proxy, count: u64, what: &str| {
        within(Duration::from_secs(30), what, async || own(proxy).await["identity"]["roots"] == count).await;
    };
    let issuer = async |proxy: &Proxy| own(proxy).await["issuer"].as_str().unwrap_or_default().to_owned();
    let load = Load::start(&mesh.browser(), 4, SHOP);

    // The file alone: trusted at once, before anything is renewed.
    mesh.mount_roots(&[&old, new.root_pem()]);
    for proxy in [&gateway, reviews.proxy()] {
        roots(proxy, 2, "the new root is trusted beside the old one").await;
    }
    // The CA signs with the new one.
    let both = old.clone() + new.root_pem();
    mesh.ca().signer("new", &new);
    mesh.ca().write("both.pem", &both);
    mesh.ca().write("new-root.pem", new.root_pem());
    mesh.ca().order(&[("ca", json!("new")), ("roots", json!("both.pem"))]);
    for proxy in [&gateway, reviews.proxy()] {
        let moved = async || issuer(proxy).await == "Another CA of a story";
        within(Duration::from_secs(30), "the new root has signed", moved).await;
    }
    // The CA's own server certificate is by the old root, which stays mounted until the CA has another one.
    mesh.ca().order(&[("roots", json!("new-root.pem"))]);
    for proxy in [&gateway, reviews.proxy()] {
        let said =
            async || own(proxy).await["identity"]["trust"].as_str().is_some_and(|it| it.contains("1 the file's alone"));
        within(Duration::from_secs(30), "it is said that the file has a root more", said).await;
    }
    mesh.mount_roots(&[new.root_pem()]);
    for proxy in [&gateway, reviews.proxy()] {
        roots(proxy, 1, "the old root is trusted no more").await;
    }
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 100), (0, true), "{result:?}");
}

/// An identity as a socket's peer keeps it.
fn keep(pki: &Pki, folder: &Path, name: &str, id: &str) {
    pki.write_identity(&folder.join(name), id);
    std::fs::write(folder.join(name).join("spiffe-id"), id).expect("an id can be written");
}

async fn by_socket(protocol: &str) {
    let mut mesh = Mesh::with_edge();
    let id = spiffe("istio-system", "istio-ingressgateway");
    let story = format!("identities by {protocol}");
    let fill = |folder: &Path| {
        // Of those that a workload has, the one that it is in the mesh.
        keep(&mesh.pki, folder, if protocol == "spiffe" { "z" } else { "a" }, &id);
        keep(&mesh.pki, folder, "m", "spiffe://cluster.local/somebody/else");
    };
    let Some(api) = WorkloadApi::start(&story, protocol, fill).await else { return };
    let reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.socket = Some(api.socket());
    mesh.route_all_to("reviews.shop.svc.cluster.local");
    let gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    let (row, first) = (own(&gateway).await, serial(&gateway).await);
    assert_eq!(row["identity"]["principal"], json!(id));
    assert_eq!(row["identity"]["source"], format!("workload-api {}", api.socket()));

    let load = Load::start(&mesh.browser(), 2, SHOP);
    keep(&mesh.pki, &api.identities(), if protocol == "spiffe" { "z" } else { "a" }, &id);
    api.tell("2");
    eventually("the next identity is used", async || serial(&gateway).await != first).await;
    let second = serial(&gateway).await;
    // Somebody else's is refused, and what is held stays.
    keep(&mesh.pki, &api.identities(), if protocol == "spiffe" { "z" } else { "a" }, &spiffe("shop", "reviews"));
    api.tell("3");
    let told = format!("and {id} is asked for");
    eventually("the refusal is told", async || last_error(&gateway).await.contains(&told)).await;
    assert_eq!(serial(&gateway).await, second);
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 0), (0, true), "{result:?}");
    if protocol == "sds" {
        assert!(api.output().contains("acknowledged 2-1"), "{}", api.output());
    }

    // With lists whom they revoke is refused.
    keep(&mesh.pki, &api.identities(), if protocol == "spiffe" { "z" } else { "a" }, &id);
    for (version, revoked, status) in [("4", &[&reviews.identity][..], 503), ("5", &[], 200)] {
        std::fs::write(api.identities().join("ca-crl.pem"), list(&mesh.pki, revoked)).expect("a list can be written");
        api.tell(version);
        let answer = async || mesh.browser().status(SHOP).await == status;
        eventually(&format!("with version {version} the answer is {status}"), answer).await;
        assert_eq!(own(&gateway).await["identity"]["revocationLists"], true);
    }
}

/// The mesh's list, with the certificates of these folders on it.
fn list(pki: &Pki, revoked: &[&PathBuf]) -> String {
    let read =
        |folder: &&PathBuf| std::fs::read_to_string(folder.join("cert-chain.pem")).expect("there is a certificate");
    let revoked: Vec<String> = revoked.iter().map(read).collect();
    let revoked: Vec<&str> = revoked.iter().map(String::as_str).collect();
    pki.mesh.revocation_list(&revoked).expect("a list can be made")
}

#[tokio::test]
async fn lists_beside_an_identity_in_files_are_looked_at_on_both_sides() {
    let mesh = Mesh::with_edge();
    mesh.write("strict.yaml", STRICT);
    let reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.route_all_to("reviews.shop.svc.cluster.local");
    let folder = mesh.identity("istio-system", "istio-ingressgateway", "gateway");
    let gateway = mesh.gateway_of(&folder.display().to_string(), &[]).await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    let put =
        |folder: &Path, list: &str| std::fs::write(folder.join("ca-crl.pem"), list).expect("a list can be written");
    let answers = async |status: u16, what: &str| {
        let answer = async || mesh.browser().status(SHOP).await == status;
        eventually(&format!("{status}: {what}"), answer).await;
    };
    // Whom it asks, and who asks.
    put(&folder, &list(&mesh.pki, &[&reviews.identity]));
    answers(503, "the gateway refuses a revoked server").await;
    put(&folder, &list(&mesh.pki, &[]));
    answers(200, "nobody is revoked").await;
    put(&reviews.identity, &list(&mesh.pki, &[&folder]));
    answers(503, "the sidecar refuses a revoked client").await;
    eventually("the sidecar says why", async || reviews.proxy().log().contains("CertificateRevoked")).await;
    put(&reviews.identity, &list(&mesh.pki, &[]));
    answers(200, "nobody is revoked again").await;

    // Broken lists leave those of before, and that is told.
    put(&folder, "nonsense");
    let trust = async || own(&gateway).await["identity"]["trust"].as_str().unwrap_or_default().to_owned();
    eventually("it is told", async || trust().await.contains("those of before are looked at")).await;
    answers(200, "nobody is revoked by those").await;
    // One that does not know the mesh's CA refuses everybody, and says that it would be refused itself.
    put(&folder, &another_root().revocation_list(&[]).expect("a list can be made"));
    answers(503, "nobody can say who is revoked").await;
    assert!(trust().await.contains("refuses this proxy, too"), "{}", trust().await);
    std::fs::remove_file(folder.join("ca-crl.pem")).expect("it can be removed");
    answers(200, "there are no lists").await;
    assert_eq!(own(&gateway).await["identity"]["revocationLists"], false);
}

#[tokio::test]
async fn a_socket_of_spiffes_workload_api_gives_the_identity() {
    by_socket("spiffe").await;
}

#[tokio::test]
async fn a_socket_that_ends_each_call_is_asked_less_and_less() {
    let mut mesh = Mesh::with_edge();
    let id = spiffe("istio-system", "istio-ingressgateway");
    let fill = |folder: &Path| {
        keep(&mesh.pki, folder, "a", &id);
        std::fs::write(folder.join("once"), "").expect("a file can be written");
    };
    let Some(api) = WorkloadApi::start("a socket that ends each call", "spiffe", fill).await else { return };
    mesh.socket = Some(api.socket());
    let begin = std::time::Instant::now();
    let gateway = mesh.launch_gateway(&[]);
    let told = async || api.output().matches("told").count() >= 6;
    within(Duration::from_secs(30), "it is asked again", told).await;
    // 100, 200, 400, 800 and 1600 ms, of each of which half may be taken off.
    assert!(begin.elapsed() >= Duration::from_millis(1550), "{:?}", begin.elapsed());
    assert_eq!(own(&gateway).await["identity"]["principal"], json!(id));
}

#[tokio::test]
async fn a_socket_of_envoys_secret_discovery_gives_the_identity() {
    by_socket("sds").await;
}

#[tokio::test]
async fn what_a_ca_gives_for_a_time_to_come_is_used_when_that_has_come() {
    let Some(mut mesh) = Mesh::with_ca("a CA whose clock is ahead", 20) else { return };
    shop!(mesh, gateway, reviews);
    let first = serial(&gateway).await;
    // Its certificates begin two minutes before its now: five seconds after ours.
    mesh.ca().order(&[("skew", json!(127))]);
    let load = Load::start(&mesh.browser(), 2, SHOP);
    for proxy in [&gateway, reviews.proxy()] {
        let told = async || proxy.log().contains("the CA's clock is ahead");
        within(Duration::from_secs(30), "it is told that the CA's clock is ahead", told).await;
    }
    assert_eq!(serial(&gateway).await, first, "peers would refuse the next one");
    for (proxy, loaded) in [(&gateway, 2), (reviews.proxy(), 2)] {
        let used = async || proxy.log().matches("workload identity loaded").count() >= loaded;
        within(Duration::from_secs(30), "the next one is used", used).await;
    }
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 50), (0, true), "{result:?}");
}
