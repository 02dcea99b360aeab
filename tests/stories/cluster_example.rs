//! `kubectl apply` is the whole interface: the example, the charts and real kubectl against an API server that obeys roles.

use std::{ffi::OsString, fs, time::Duration};

use harness::{
    binary::repository,
    client::Client,
    eventually::{eventually, within},
    gateway::{Addresses, Proxy},
    helm,
    kubectl::{self, Kubectl},
    load::Load,
    mesh::Mesh,
    yaml::tls_secret,
};
use tls::identity::PeerIdentity;

const HOST: &str = "cargo.example.com";
const URL: &str = "https://cargo.example.com/";
const APPS: [&str; 3] = ["cargo-webapp", "freight-rating-server", "freight-tariff-server"];

/// The gateway as the chart starts it: ports come from its Service, rights from its role.
async fn gateway(mesh: &Mesh) -> Proxy {
    let cluster = mesh.cluster.as_ref().expect("an API server");
    let token = mesh.api().token("istio-system", "istio-ingressgateway").await;
    cluster.use_token(&token);
    let at = |port| mesh.block.at(1, port);
    let addresses =
        Addresses { main: at(8443), second: at(8080), admin: at(15_000), status: at(15_021), stats: at(15_090) };
    let identity = mesh.identity("istio-system", "istio-ingressgateway", "gateway");
    let bind = mesh.block.ip(1).to_string();
    let flags = ["--labels", "app=istio-ingressgateway,istio=ingressgateway", "--bind", &bind, "--workers", "1"];
    let mut arguments: Vec<OsString> = vec!["gateway".into(), "--kubernetes".into(), "--kubeconfig".into()];
    arguments.extend([cluster.kubeconfig().into(), "--identity-dir".into(), identity.into()]);
    arguments.extend(flags.map(OsString::from));
    arguments.extend(addresses.flags());
    Proxy::launch("gateway", arguments, addresses).ready().await
}

/// What `kubectl apply` is given: one file per name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("the file can be written");
        path.display().to_string()
    }

    fn secret(&self, mesh: &Mesh, edition: usize) -> String {
        let issued = mesh.pki.server(&[HOST, &format!("edition-{edition}.test")]);
        self.write(&format!("secret-{edition}.yaml"), &tls_secret("istio-system", "cargo-gateway-certs", &issued))
    }
}

async fn shows(mesh: &Mesh, edition: usize) -> bool {
    let Ok(stream) = mesh.edge_trust().connect(mesh.block.at(1, 8443), HOST).await else { return false };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let names = PeerIdentity::from_der(&chain[0]).expect("a certificate").dns_sans;
    names.iter().any(|name| **name == *format!("edition-{edition}.test"))
}

/// One of each kind that says who may do what, in the root namespace.
const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: istio-system}
spec: {rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: login, namespace: istio-system}
spec: {selector: {matchLabels: {istio: ingressgateway}}, jwtRules: []}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mesh, namespace: istio-system}
spec: {mtls: {mode: PERMISSIVE}}
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: edge, namespace: istio-system}
spec: {selector: {matchLabels: {istio: ingressgateway}}, rules: [{limit: {requests: 100000}}]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_apply_of_the_example_is_served_over_https_and_follows_every_change() {
    const STORY: &str = "kubectl_apply_of_the_example_is_served_over_https_and_follows_every_change";
    let (Some(_), Some(path)) = (helm::executable(STORY), kubectl::executable(STORY)) else { return };
    let mesh = Mesh::in_cluster().await;
    let kubectl = Kubectl::new(&path, &mesh.api().admin());
    let folder = Folder(tempfile::TempDir::with_prefix("sluice-example-").expect("a temporary folder can be made"));

    let namespace = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}"#;
    kubectl.run(&["apply", "-f", &folder.write("namespace.yaml", namespace)]).await;
    let chart: Vec<String> =
        helm::template("sluice-gateway", &["--no-hooks"]).iter().map(ToString::to_string).collect();
    kubectl.run(&["apply", "-f", &folder.write("chart.yaml", &chart.join("\n---\n"))]).await;
    kubectl.run(&["apply", "-f", &repository().join("examples/cloud-cargo").display().to_string()]).await;
    kubectl.run(&["apply", "-f", &folder.secret(&mesh, 0)]).await;

    // What controllers and kubelets would do: pods of the Deployments, with sidecars.
    let mut workloads = Vec::new();
    for app in APPS {
        workloads.push(mesh.workload(app).namespace("cloud-cargo").sidecar().start().await);
    }
    let gateway = gateway(&mesh).await;
    let browser: Client = mesh.browser();
    eventually("the example is served", async || {
        browser.send(harness::client::get(URL)).await.is_ok_and(|reply| reply.code() == 200)
    })
    .await;
    for (path, app) in [("", APPS[0]), ("api/freight-rating/quote", APPS[1]), ("api/freight-tariff", APPS[2])] {
        let reply = browser.get(&format!("{URL}{path}")).await;
        assert_eq!((reply.code(), reply.echoed("service").as_str()), (200, app));
    }
    let redirect = Client::plain(mesh.block.at(1, 8080)).get("http://cargo.example.com/").await;
    assert_eq!((redirect.code(), redirect.header("location")), (301, URL));
    kubectl
        .run(&["wait", "--for=condition=Programmed", "gateway/cargo-gateway", "-n", "istio-system", "--timeout=30s"])
        .await;
    let policies = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(policies.path(), POLICIES).expect("written");
    kubectl.run(&["apply", "-f", policies.path().to_str().expect("a plain name")]).await;
    for object in
        ["authorizationpolicy/all", "requestauthentication/login", "peerauthentication/mesh", "ratelimit/edge"]
    {
        kubectl.run(&["wait", "--for=condition=Programmed", object, "-n", "istio-system", "--timeout=30s"]).await;
    }
    kubectl.run(&["delete", "-f", policies.path().to_str().expect("a plain name")]).await;

    let load = Load::start(&browser, 2, URL);
    for edition in 1..4 {
        kubectl.run(&["apply", "-f", &folder.secret(&mesh, edition)]).await;
        within(Duration::from_secs(1), "the new certificate", async || shows(&mesh, edition).await).await;
    }
    let result = load.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");

    kubectl.run(&["delete", "virtualservice", "cargo", "-n", "cloud-cargo"]).await;
    eventually("the routes are gone", async || browser.get(URL).await.code() == 404).await;
    drop((gateway, workloads));
}
