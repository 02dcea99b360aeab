//! The mesh's CA without a cluster: what Istio's agents get of it, and what they are refused with.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use harness::{
    binary,
    control_plane::{Answer, ControlPlane, Folder, ask, broken_csr, key_and_csr, openssl_accepts, plug_in},
    eventually::eventually,
    jwt::now,
    loopback::Loopback,
    program,
    shell::shell,
};
use serde_json::{Value, json};
use tls::{facts::facts, request::KeyKind};

const CART: &str = "shop/cart";
const CART_ID: &str = "spiffe://cluster.local/ns/shop/sa/cart";

struct Scene {
    python: std::path::PathBuf,
    loopback: Loopback,
    folder: Folder,
}

impl Scene {
    fn new(story: &str) -> Option<Self> {
        let python = program::executable(story, "python")?;
        Some(Self { python, loopback: Loopback::claim(), folder: Folder::new() })
    }

    async fn start(&self, more: &[&str]) -> ControlPlane {
        self.folder.start(&self.loopback, 1, more).await
    }

    async fn ask(&self, requests: &[Value]) -> Vec<Answer> {
        ask(&self.python, requests).await
    }
}

fn with(request: &Value, field: &str, value: Value) -> Value {
    let mut request = request.clone();
    request[field] = value;
    request
}

/// The text that `openssl` prints of a certificate.
async fn printed(leaf: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("leaf.pem");
    fs::write(&file, leaf).expect("a file can be written");
    shell(&format!("openssl x509 -noout -text -in {}", file.display())).await.1
}

#[tokio::test]
async fn a_workload_gets_its_own_name_whatever_it_asks_for() {
    let Some(scene) = Scene::new("that a workload gets its own name from the CA") else { return };
    let public = tempfile::tempdir().expect("a temporary folder can be made");
    let public = public.path().join("root-cert.pem");
    let control = scene.start(&["--root-file", &public.display().to_string()]).await;
    assert_eq!(fs::read_to_string(&public).unwrap(), scene.folder.roots());
    assert_eq!(fs::metadata(&public).unwrap().permissions().mode() & 0o777, 0o644, "everybody may read it");
    let kinds = [KeyKind::Rsa2048, KeyKind::EcdsaP256, KeyKind::EcdsaP384];
    let requests = kinds.map(|kind| scene.folder.request(&control, CART, &key_and_csr(kind).1));
    for answer in scene.ask(&requests).await {
        assert_eq!(answer.chain.len(), 2, "a leaf and the root: {answer:?}");
        openssl_accepts(&answer.chain, &scene.folder.roots(), None).await.unwrap();
        let text = printed(answer.leaf()).await;
        assert!(text.contains(&format!("critical\n                URI:{CART_ID}\n")), "{text}");
        assert!(!text.contains("evil.example"), "{text}");
        let facts = facts(answer.leaf().as_bytes()).unwrap();
        let (begin, end) = (facts.not_before, facts.not_after);
        assert_eq!(end - begin, 86_400 + 120, "24 hours, and two minutes for clocks that are behind");
        assert!(control.log().contains(&facts.serial), "every certificate has a line in the log");
    }
    let metrics = control.metrics().await;
    for (name, value) in [("citadel_server_csr_count", 3.0), ("citadel_server_success_cert_issuance_count", 3.0)] {
        assert!((metrics.sum(name, &[]) - value).abs() < 0.1, "{name}");
    }
    control.stop().await;
}

#[tokio::test]
async fn a_certificate_renews_itself_and_no_other_mesh_does() {
    let Some(scene) = Scene::new("that a certificate of the mesh renews itself") else { return };
    let control = scene.start(&[]).await;
    let (key, csr) = key_and_csr(KeyKind::EcdsaP256);
    let first = scene.folder.request(&control, CART, &csr);
    let issued = scene.ask(std::slice::from_ref(&first)).await.remove(0);
    let mut renewal = with(&first, "token", Value::Null);
    renewal.as_object_mut().unwrap().remove("token");
    let renewal = with(&with(&renewal, "chain", issued.leaf().into()), "key", key.into());
    let bare = with(&renewal, "chain", Value::Null);
    let bare = with(&bare, "key", Value::Null);
    let foreign = harness::pki::authority("another mesh").issue_workload(CART_ID, Duration::from_secs(3600)).unwrap();
    let strange = with(&with(&renewal, "chain", foreign.chain_pem.into()), "key", foreign.key_pem.into());

    let answers = scene.ask(&[renewal, bare, strange]).await;
    assert!(printed(answers[0].leaf()).await.contains(&format!("URI:{CART_ID}\n")));
    assert_eq!(answers[1].code, "UNAUTHENTICATED");
    assert!(answers[1].details.starts_with("request authenticate failure"), "{:?}", answers[1]);
    assert_eq!(answers[2].code, "UNAVAILABLE", "its handshake fails: {:?}", answers[2]);
    assert!((control.metrics().await.sum("sluice_ca_issued_total", &[("proof", "certificate")]) - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_certificate_that_ends_during_a_connection_renews_nothing_any_more() {
    let Some(scene) = Scene::new("that an ended certificate renews nothing") else { return };
    let control = scene.start(&[]).await;
    let (key, csr) = key_and_csr(KeyKind::EcdsaP256);
    let first = with(&scene.folder.request(&control, CART, &csr), "ttl", 5.into());
    let issued = scene.ask(std::slice::from_ref(&first)).await.remove(0);
    let mut renewal = with(&with(&first, "chain", issued.leaf().into()), "key", key.into());
    renewal.as_object_mut().unwrap().remove("token");
    let answer = scene.ask(&[with(&renewal, "until", "UNAUTHENTICATED".into())]).await.remove(0);
    // A new connection would not come about; this one did, and was good.
    assert_eq!(answer.code, "UNAUTHENTICATED", "{answer:?}");
    assert!(answer.details.contains("does not any more: the peer's certificate is expired"), "{answer:?}");
    assert!(control.metrics().await.sum("sluice_ca_issued_total", &[("proof", "certificate")]) >= 1.0);
    control.stop().await;
}

/// Requests that are refused, each with the code and some of the words.
fn refused(folder: &Folder, good: &Value, weak: String) -> Vec<(Value, &'static str, &'static str)> {
    let token = |more: Value| with(good, "token", folder.token(CART, &more).into());
    let unknown = "request authenticate failure";
    let error = "CSR signing error";
    let skew = now() + 600;
    let foreign =
        harness::jwt::Minter::simple().token("x", "system:serviceaccount:shop:cart", &json!({"aud": "istio-ca"}));
    vec![
        (with(good, "token", "".into()), "UNAUTHENTICATED", unknown),
        (with(good, "token", "nonsense".into()), "UNAUTHENTICATED", unknown),
        (with(good, "token", foreign.into()), "UNAUTHENTICATED", unknown),
        (token(json!({"exp": now() - 600})), "UNAUTHENTICATED", "Jwt is expired"),
        (token(json!({"nbf": skew})), "UNAUTHENTICATED", "Jwt not yet valid"),
        (token(json!({"aud": "kubernetes"})), "UNAUTHENTICATED", unknown),
        (token(json!({"aud": []})), "UNAUTHENTICATED", unknown),
        (token(json!({"sub": "alice"})), "UNAUTHENTICATED", "`alice` is no service account"),
        (token(json!({"sub": "system:serviceaccount:shop:cart:x"})), "UNAUTHENTICATED", unknown),
        (token(json!({"sub": "system:serviceaccount:sh/op:cart"})), "UNAUTHENTICATED", unknown),
        (
            with(good, "metadata", json!({"ImpersonatedIdentity": "spiffe://cluster.local/ns/a/sa/b"})),
            "UNAUTHENTICATED",
            "request impersonation authentication failure",
        ),
        (with(good, "metadata", json!({"CertSigner": "x"})), "INVALID_ARGUMENT", error),
        (with(good, "csr", "".into()), "INVALID_ARGUMENT", error),
        (
            with(good, "csr", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".into()),
            "INVALID_ARGUMENT",
            error,
        ),
        (with(good, "csr", broken_csr().into()), "INVALID_ARGUMENT", "not signed by its own key"),
        (with(good, "csr", weak.into()), "INVALID_ARGUMENT", "an RSA key of 1024 bits"),
        (with(good, "csr", "x".repeat(200_000).into()), "RESOURCE_EXHAUSTED", "at most"),
        (with(good, "ttl", (31 * 86_400).into()), "INVALID_ARGUMENT", "greater than the max allowed TTL"),
        (with(good, "ttl", i64::MAX.into()), "INVALID_ARGUMENT", "greater than the max allowed TTL"),
        (with(good, "method", "/istio.v1.auth.IstioCertificateService/Other".into()), "UNIMPLEMENTED", "there is only"),
    ]
}

#[tokio::test]
async fn refusals_have_istios_codes_and_words() {
    let Some(scene) = Scene::new("that the CA refuses with Istio's words") else { return };
    let control = scene.start(&["--max-lifetime", "30d"]).await;
    let good = scene.folder.request(&control, CART, &key_and_csr(KeyKind::EcdsaP256).1);
    let (code, weak) = shell("openssl req -new -newkey rsa:1024 -nodes -keyout /dev/null -subj / 2>/dev/null").await;
    assert_eq!(code, 0, "openssl makes a weak request");
    let table = refused(&scene.folder, &good, weak);
    let requests: Vec<Value> = table.iter().map(|(request, ..)| request.clone()).collect();
    for (answer, (request, code, words)) in scene.ask(&requests).await.iter().zip(&table) {
        assert_eq!(answer.code, *code, "{answer:?} to {request:.300}");
        assert!(answer.details.contains(words), "{answer:?} to {request:.300}");
    }
    let fine = [
        with(&good, "metadata", json!({"ImpersonatedIdentity": "", "Other": "x"})),
        with(&good, "ttl", (-5).into()),
        with(&good, "ttl", (29 * 86_400).into()),
        with(&with(&good, "address", control.plain.to_string().into()), "root", Value::Null),
    ];
    for answer in scene.ask(&fine).await {
        openssl_accepts(&answer.chain, &scene.folder.roots(), None).await.unwrap();
    }
    assert!(control.metrics().await.sum("citadel_server_authentication_failure_count", &[]) >= 10.0);
    assert!(!control.log().contains("-----BEGIN"), "nothing secret is told");
}

#[tokio::test]
async fn a_plug_in_ca_is_taken_over_live_and_only_when_it_is_whole() {
    let Some(scene) = Scene::new("that a plug-in CA is taken over live") else { return };
    let (folder, root) = (scene.folder.path("cacerts"), scene.folder.path("root-a"));
    plug_in(&folder, &root, "a").await;
    let control = scene.start(&["--ca-dir", &folder.display().to_string()]).await;
    let serial = async || control.certs().await["ca"]["serial"].as_str().unwrap_or_default().to_owned();
    let issue = async || {
        let request = scene.folder.request(&control, CART, &key_and_csr(KeyKind::EcdsaP256).1);
        scene.ask(&[request]).await.remove(0)
    };
    let root_of = |root: &Path| fs::read_to_string(root.join("root.pem")).unwrap();
    let answer = issue().await;
    assert_eq!(answer.chain.len(), 3, "leaf, CA, root");
    openssl_accepts(&answer.chain, &root_of(&root), None).await.unwrap();
    let first = serial().await;

    // The same root with another CA below it.
    plug_in(&folder, &root, "a2").await;
    eventually("the new CA signs", async || serial().await != first).await;
    openssl_accepts(&issue().await.chain, &root_of(&root), None).await.unwrap();
    let second = serial().await;

    // Broken: the key of somebody else.
    let key = fs::read(folder.join("ca-key.pem")).unwrap();
    fs::copy(root.join("root.key"), folder.join("ca-key.pem")).unwrap();
    control.logs("the key does not belong to ca-cert.pem; the last good CA signs").await;
    assert!((control.metrics().await.sum("sluice_ca_kept", &[]) - 1.0).abs() < 0.1);
    openssl_accepts(&issue().await.chain, &root_of(&root), None).await.unwrap();
    fs::write(folder.join("ca-key.pem"), key).unwrap();
    control.logs("the CA is as it is kept").await;

    // Another root altogether would cut off whoever has a certificate.
    let other = scene.folder.path("root-b");
    plug_in(&folder, &other, "b").await;
    control.logs("the change is not taken").await;
    assert_eq!(serial().await, second);
    // With both roots it is taken.
    fs::write(folder.join("root-cert.pem"), root_of(&root) + &root_of(&other)).unwrap();
    eventually("the CA below the other root signs", async || serial().await != second).await;
    eventually("both roots are written", async || scene.folder.roots().matches("BEGIN").count() == 2).await;
    let answer = issue().await;
    openssl_accepts(&answer.chain, &root_of(&other), None).await.unwrap();
    assert_eq!(answer.roots().matches("BEGIN").count(), 2);
    let of_folder = |action: &str| binary::run(&["ca", action, "--ca-dir", &folder.display().to_string()]);
    let told = of_folder("status");
    assert!(told.status.success() && String::from_utf8_lossy(&told.stdout).contains(&serial().await), "{told:?}");
    let refused = of_folder("rotate");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && words.contains("its keys are made elsewhere"), "{words}");
    let (code, words) = scene.folder.ca(&["rotate"]);
    assert!(code == 2 && words.contains("--ca-dir"), "there is no self-signed CA to rotate: {words}");

    // What was started anew with another CA would sign beside whoever still has this one.
    control.stop().await;
    let strange = ControlPlane::begin(&scene.loopback, 2, &scene.folder.flags(&[]));
    strange.logs("a new root is not taken, as the mesh trusts another CA").await;
    assert_eq!(strange.readiness().await.map(|(code, _)| code), Some(503));
    fs::remove_file(scene.folder.path("state/root-cert.pem")).unwrap();
    strange.ready().await;
}
