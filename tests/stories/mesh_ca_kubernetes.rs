//! The mesh's CA in a cluster: one root however many replicas begin, tokens that the API server knows, roots in every
//! namespace, and what becomes of it when something is missing.

use std::{fs, path::PathBuf, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use harness::{
    apiserver::ApiServer,
    control_plane::{Answer, ControlPlane, ask, key_and_csr, openssl_accepts, plug_in},
    eventually::{eventually, within},
    helm,
    loopback::Loopback,
    program,
};
use serde_json::{Value, json};
use tls::request::KeyKind;

const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-public}
";

struct Scene {
    api: ApiServer,
    loopback: Loopback,
    python: PathBuf,
    kubeconfig: PathBuf,
}

impl Scene {
    /// With the rights of the chart, where Helm can tell them.
    async fn new(story: &str) -> Option<Self> {
        let python = program::executable(story, "python")?;
        let api = ApiServer::start().await;
        api.rbac(true);
        api.apply(NAMESPACES);
        let kubeconfig = match helm::executable(story) {
            Some(_) => {
                let mut rendered = helm::try_template("sluice-control", &[]).expect("the chart is rendered");
                rendered.retain(|object| object["apiVersion"] == "rbac.authorization.k8s.io/v1");
                api.insert(rendered);
                api.kubeconfig(&api.token("istio-system", "sluice-control"))
            }
            None => api.kubeconfig(harness::apiserver::ADMIN),
        };
        Some(Self { api, loopback: Loopback::claim(), python, kubeconfig })
    }

    fn flags(&self, more: &[&str]) -> Vec<String> {
        let file = self.kubeconfig.display().to_string();
        let flags = ["--kubernetes", "--kubeconfig", &file, "--namespace", "istio-system"];
        flags.iter().chain(more).map(|flag| (*flag).to_owned()).collect()
    }

    fn roots(&self, namespace: &str) -> Option<String> {
        let map = self.api.get("ConfigMap", namespace, "istio-ca-root-cert")?;
        map["data"]["root-cert.pem"].as_str().map(str::to_owned)
    }

    /// A request by this token.
    fn request(&self, control: &ControlPlane, token: &str) -> Value {
        let (_, csr) = key_and_csr(KeyKind::EcdsaP256);
        json!({"address": control.ca.to_string(), "root": self.roots("istio-system"), "csr": csr, "token": token,
            "authority": "istiod.istio-system.svc"})
    }

    async fn ask(&self, request: Value) -> Answer {
        ask(&self.python, &[request]).await.remove(0)
    }

    /// No right was missing.
    fn nothing_refused(&self) {
        let refused: Vec<_> = self.api.requests().0.into_iter().filter(|seen| seen.status == 403).collect();
        assert_eq!(refused, []);
    }
}

#[tokio::test]
async fn replicas_that_begin_at_once_have_one_root() {
    let Some(scene) = Scene::new("that replicas of the CA have one root").await else { return };
    let flags = scene.flags(&[]);
    let replicas: Vec<ControlPlane> =
        (1..=3).map(|number| ControlPlane::begin(&scene.loopback, number, &flags)).collect();
    let mut serials = Vec::new();
    for replica in &replicas {
        replica.ready().await;
        serials.push(replica.certs().await["ca"]["serial"].clone());
    }
    assert!(serials.iter().all(|serial| *serial == serials[0]), "{serials:?}");
    eventually("the roots are everywhere", async || {
        ["istio-system", "shop"].iter().all(|namespace| scene.roots(namespace).is_some())
    })
    .await;
    assert_eq!(scene.roots("kube-public"), None);
    let secret = scene.api.get("Secret", "istio-system", "istio-ca-secret").unwrap();
    assert_eq!(secret["type"], "istio.io/ca-root");
    let token = scene.api.token_for("shop", "cart", "istio-ca");
    for replica in &replicas {
        let answer = scene.ask(scene.request(replica, &token)).await;
        openssl_accepts(&answer.chain, &scene.roots("shop").unwrap(), None).await.unwrap();
    }
    scene.nothing_refused();
}

#[tokio::test]
async fn a_revision_shares_the_root_and_has_its_own_names_webhooks_and_mesh_configuration() {
    let story = "that a revision has its own names";
    let (Some(_), Some(scene)) = (helm::executable(story), Scene::new(story).await) else { return };
    let mut canary = helm::template("sluice-control", &["--set", "revision=canary"]);
    canary.retain(|it| it["kind"].as_str().is_some_and(|kind| kind.contains("Role") || kind.contains("Webhook")));
    scene.api.insert(canary);
    scene.api.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-canary, namespace: istio-system}\ndata: {mesh: 'trustDomain: canary.example'}\n",
    );
    let one = ControlPlane::start(&scene.loopback, 1, &scene.flags(&[])).await;
    let kubeconfig = scene.api.kubeconfig(&scene.api.token("istio-system", "sluice-control-canary"));
    let file = kubeconfig.display().to_string();
    let flags = ["--kubernetes", "--kubeconfig", &file, "--namespace", "istio-system", "--revision", "canary"];
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let two = ControlPlane::start(&scene.loopback, 2, &flags).await;
    assert_eq!(one.certs().await["ca"]["serial"], two.certs().await["ca"]["serial"]);
    eventually("the roots are there", async || scene.roots("istio-system").is_some()).await;
    let mut request = scene.request(&two, &scene.api.token_for("shop", "cart", "istio-ca"));
    request["authority"] = "istiod-canary.istio-system.svc".into();
    let answer = scene.ask(request).await;
    let der = tls::pem::certificates(answer.leaf().as_bytes()).unwrap();
    let named = tls::identity::PeerIdentity::from_der(&der[0]).unwrap();
    assert_eq!(named.spiffe.as_deref(), Some("spiffe://canary.example/ns/shop/sa/cart"));
    // The other replica leads the CA, and each revision keeps its own webhooks.
    eventually("the API server trusts the webhooks of the revision", async || {
        let object = scene.api.get("MutatingWebhookConfiguration", "", "sluice-sidecar-injector-canary");
        object.is_some_and(|it| it["webhooks"][0]["clientConfig"]["caBundle"].as_str().is_some_and(|it| !it.is_empty()))
    })
    .await;
    scene.nothing_refused();
}

#[tokio::test]
async fn the_api_server_knows_whose_token_it_is() {
    let Some(scene) = Scene::new("that the API server knows tokens").await else { return };
    let control = ControlPlane::start(&scene.loopback, 1, &scene.flags(&[])).await;
    eventually("the roots are there", async || scene.roots("istio-system").is_some()).await;
    let good = scene.api.token_for("shop", "cart", "istio-ca");
    let ask = async |token: &str| scene.ask(scene.request(&control, token)).await;
    assert_eq!(ask(&good).await.code, "OK");
    for (token, words) in [
        (scene.api.token_for("shop", "cart", "kubernetes"), "invalid for the target audiences"),
        (scene.api.token_of("system:node:worker"), "not of the group system:serviceaccounts"),
        ("nonsense".to_owned(), "invalid bearer token"),
    ] {
        let answer = ask(&token).await;
        assert_eq!(answer.code, "UNAUTHENTICATED", "{answer:?}");
        assert!(
            answer.details.starts_with("request authenticate failure: ") && answer.details.contains(words),
            "{answer:?}"
        );
    }
    let reviews = || scene.api.requests().count("create", "tokenreviews");
    let before = reviews();
    assert_eq!(ask(&good).await.code, "OK");
    assert_eq!(reviews(), before, "a good token is remembered for a while");

    // Gone: nobody can say now, which is no refusal. Whoever has a certificate needs no token.
    let (key, csr) = key_and_csr(KeyKind::EcdsaP256);
    let mut first = scene.request(&control, &good);
    first["csr"] = csr.into();
    let issued = scene.ask(first.clone()).await;
    scene.api.stop().await;
    let root = issued.roots().to_owned();
    let mut late = first.clone();
    late["token"] = "another".into();
    late["root"] = root.clone().into();
    let answer = scene.ask(late.clone()).await;
    assert_eq!(answer.code, "UNAVAILABLE", "{answer:?}");
    let renewal = late.as_object_mut().unwrap();
    renewal.remove("token");
    renewal.insert("chain".to_owned(), issued.leaf().into());
    renewal.insert("key".to_owned(), key.into());
    openssl_accepts(&scene.ask(late).await.chain, &root, None).await.unwrap();
}

#[tokio::test]
async fn roots_are_in_every_namespace_and_come_back() {
    let Some(scene) = Scene::new("that roots come back").await else { return };
    let control = ControlPlane::start(&scene.loopback, 1, &scene.flags(&[])).await;
    eventually("the roots are written", async || scene.roots("shop").is_some()).await;
    let roots = scene.roots("shop").unwrap();
    let back = async |what: &str| {
        let took = eventually(what, async || scene.roots("shop").as_deref() == Some(roots.as_str())).await;
        assert!(took < Duration::from_secs(5), "{what}: {took:?}");
    };
    scene.api.patch("ConfigMap", ["shop", "istio-ca-root-cert"], &json!({"data": {"root-cert.pem": "nonsense"}}));
    back("what was edited is written again").await;
    // The same certificates, written in another way, are left alone: that of another writer would be answered for ever.
    let padded = format!("# of the company\n{roots}\n");
    scene.api.patch("ConfigMap", ["shop", "istio-ca-root-cert"], &json!({"data": {"root-cert.pem": padded}}));
    scene.api.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: early}\n");
    eventually("a new namespace has them", async || scene.roots("early").as_deref() == Some(roots.as_str())).await;
    assert_eq!(scene.roots("shop").unwrap(), padded);
    assert!(control.log().contains("is written by somebody else"), "who writes other roots is told of");
    assert!(scene.api.delete("ConfigMap", "shop", "istio-ca-root-cert"));
    back("what was deleted is written again").await;
    scene.api.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: late}\n");
    eventually("a new namespace has them", async || scene.roots("late").as_deref() == Some(roots.as_str())).await;
    scene.nothing_refused();
}

#[tokio::test]
async fn where_it_is_wished_for_the_roots_are_a_cluster_trust_bundle_too() {
    let story = "that the roots are a ClusterTrustBundle";
    let (Some(_), Some(scene)) = (helm::executable(story), Scene::new(story).await) else { return };
    let bundle = || scene.api.get("ClusterTrustBundle", "", "istio.io:istiod-ca:root-cert");
    let plain = ControlPlane::start(&scene.loopback, 1, &scene.flags(&[])).await;
    eventually("the roots are written", async || scene.roots("shop").is_some()).await;
    assert!(bundle().is_none(), "only where it is wished for");
    scene.nothing_refused();
    plain.stop().await;

    let set = ["--set-string", "env.ENABLE_CLUSTER_TRUST_BUNDLE_API=True"];
    let mut rendered = helm::template("sluice-control", &set);
    rendered.retain(|object| {
        object["metadata"]["name"] == "sluice-control-ca-istio-system" && object["kind"] == "ClusterRole"
    });
    assert_eq!(rendered.len(), 1);
    scene.api.insert(rendered);
    let _control = ControlPlane::start(&scene.loopback, 2, &scene.flags(&["--cluster-trust-bundle"])).await;
    // As long as the Lease of the first one may last.
    within(Duration::from_secs(30), "the bundle has the roots", async || {
        bundle().is_some_and(|it| it["spec"]["trustBundle"].as_str() == scene.roots("shop").as_deref())
    })
    .await;
    assert_eq!(bundle().unwrap()["spec"]["signerName"], "istio.io/istiod-ca");
    scene.nothing_refused();
}

#[tokio::test]
async fn a_secret_that_is_deleted_makes_no_second_root() {
    let Some(scene) = Scene::new("that a deleted Secret makes no second root").await else { return };
    let flags = scene.flags(&["--propagation", "6s"]);
    let one = ControlPlane::start(&scene.loopback, 1, &flags).await;
    let two = ControlPlane::start(&scene.loopback, 2, &flags).await;
    let before = one.certs().await["ca"]["serial"].clone();
    assert!(scene.api.delete("Secret", "istio-system", "istio-ca-secret"));
    eventually("it is written back", async || scene.api.get("Secret", "istio-system", "istio-ca-secret").is_some())
        .await;
    let three = ControlPlane::start(&scene.loopback, 3, &flags).await;
    for replica in [&one, &two, &three] {
        assert_eq!(replica.certs().await["ca"]["serial"], before);
    }
    // Who cannot see for too long whether it is still the CA of the mesh signs nothing.
    scene.api.stop().await;
    within(Duration::from_secs(30), "it is not ready any more", async || {
        one.readiness().await.is_some_and(|(code, text)| code == 503 && text.contains("still the one of the mesh"))
    })
    .await;
    scene.api.start_again().await;
    within(Duration::from_secs(60), "it is ready again", async || {
        one.readiness().await.is_some_and(|(code, _)| code == 200)
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_starts_without_the_cas_secret_signs_with_nothing_else() {
    let Some(scene) = Scene::new("that a deleted plug-in CA makes no second root").await else { return };
    let folder = tempfile::tempdir().unwrap();
    plug_in(folder.path(), &folder.path().join("root"), "company").await;
    let file = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let names = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
    let data: Value =
        names.map(|name| (name.to_owned(), Value::from(BASE64_STANDARD.encode(file(name))))).into_iter().collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": "istio-system"},
        "data": data});
    scene.api.insert(vec![secret.clone()]);
    let flags = scene.flags(&[]);
    let one = ControlPlane::start(&scene.loopback, 1, &flags).await;
    eventually("the roots are there", async || scene.roots("istio-system").is_some()).await;
    assert!(scene.api.delete("Secret", "istio-system", "cacerts"));
    one.logs("Secret cacerts is gone; put it back; the last good CA signs").await;

    let two = ControlPlane::begin(&scene.loopback, 2, &flags);
    two.logs("a new root is not taken, as the mesh trusts another CA by ConfigMap istio-system/istio-ca-root-cert")
        .await;
    assert_eq!(two.readiness().await.map(|(code, _)| code), Some(503));
    assert!(scene.api.get("Secret", "istio-system", "istio-ca-secret").is_none(), "no second root is made");
    let token = scene.api.token_for("shop", "cart", "istio-ca");
    let answer = scene.ask(scene.request(&one, &token)).await;
    openssl_accepts(&answer.chain, &scene.roots("shop").unwrap(), None).await.unwrap();

    scene.api.insert(vec![secret]);
    two.ready().await;
    let serial = async |replica: &ControlPlane| replica.certs().await["ca"]["serial"].clone();
    assert_eq!(serial(&one).await, serial(&two).await);
    scene.nothing_refused();

    // Whoever means it says so.
    one.stop().await;
    two.stop().await;
    assert!(scene.api.delete("Secret", "istio-system", "cacerts"));
    assert!(scene.api.delete("ConfigMap", "istio-system", "istio-ca-root-cert"));
    let _three = ControlPlane::start(&scene.loopback, 3, &flags).await;
    assert!(scene.api.get("Secret", "istio-system", "istio-ca-secret").is_some());
}
