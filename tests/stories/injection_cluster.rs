//! The webhooks in a cluster, with the rights that the chart gives: the API server trusts them, pods are as the mesh wants them,
//! and what a pod says of its sidecar is enough to start it.

use std::{fs, net::SocketAddr, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use harness::{
    apiserver::ApiServer,
    binary,
    client::{Client, get},
    eventually::{eventually, within},
    helm,
    injection::live::Webhooks,
    loopback::Loopback,
    process::Process,
};
use routing::injection::patched;
use serde_json::{Value, json};

const CLUSTER: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'trustDomain: shop.example.com'}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: shop}
spec: {environmentVariables: {TEAM: cart}}
---
apiVersion: v1
kind: Node
metadata: {name: worker}
status: {nodeInfo: {kubeletVersion: v1.31.4}}
";

const CONFIGURATIONS: [(&str, &str); 2] = [
    ("MutatingWebhookConfiguration", "sluice-sidecar-injector"),
    ("ValidatingWebhookConfiguration", "sluice-validator"),
];

/// A cluster with the chart in it.
struct Scene {
    api: ApiServer,
    webhooks: Webhooks,
}

impl Scene {
    async fn new(story: &str) -> Option<Self> {
        helm::executable(story)?;
        let loopback = Loopback::claim();
        let api = ApiServer::start().await;
        api.rbac(true);
        api.apply(CLUSTER);
        let address = format!("global.caAddress={}", loopback.at(1, 15012));
        let chart = helm::template("sluice-control", &["--set", &address]);
        let values = chart.iter().find_map(|object| object["data"]["values.yaml"].as_str());
        let values = values.expect("the chart has the values of the injection").to_owned();
        let kept = |object: &Value| {
            let kind = object["kind"].as_str().unwrap_or_default();
            kind.contains("Role") || kind.contains("Webhook")
        };
        api.insert(chart.into_iter().filter(kept).collect());
        let kubeconfig = api.kubeconfig(&api.token("istio-system", "sluice-control"));
        let webhooks = Webhooks::in_cluster(loopback, &values, &kubeconfig).await;
        Some(Self { api, webhooks })
    }

    fn roots(&self) -> Option<String> {
        let map = self.api.get("ConfigMap", "shop", "istio-ca-root-cert")?;
        map["data"]["root-cert.pem"].as_str().map(str::to_owned)
    }

    /// The roots by which the API server would ask, when every webhook has the same.
    fn bundle(&self, (kind, name): (&str, &str)) -> Option<String> {
        let object = self.api.get(kind, "", name).expect("the chart brings the configuration");
        let webhooks = object["webhooks"].as_array().expect("it has webhooks").clone();
        let mut bundles = webhooks.iter().map(|it| it["clientConfig"]["caBundle"].as_str());
        let first = bundles.next()??;
        assert!(!first.is_empty());
        if !bundles.all(|it| it == Some(first)) {
            return None;
        }
        let bytes = BASE64_STANDARD.decode(first).expect("caBundle is base64");
        Some(String::from_utf8(bytes).expect("caBundle is PEM"))
    }

    async fn presented(&self) {
        for which in CONFIGURATIONS {
            eventually("the API server has the roots of the mesh", async || {
                self.bundle(which).is_some_and(|bundle| Some(bundle) == self.roots())
            })
            .await;
        }
    }

    /// Makes a pod as an API server with this webhook would; with it, what whoever makes it is told.
    async fn made(&self, pod: &Value) -> (Value, Value) {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "1", "operation": "CREATE", "namespace": "shop", "object": pod},
        });
        let roots = self.bundle(CONFIGURATIONS[0]).expect("the API server trusts the webhooks");
        let answer = self.webhooks.ask_trusting(&roots, "/inject", &review).await.json();
        let response = &answer["response"];
        assert_eq!((&response["allowed"], &response["uid"]), (&json!(true), &json!("1")), "{answer}");
        let patch = response["patch"].as_str().map_or(b"[]".to_vec(), |it| BASE64_STANDARD.decode(it).expect("base64"));
        let operations: Vec<Value> = serde_json::from_slice(&patch).expect("a patch is JSON");
        (patched(pod, &operations).expect("the patch fits"), response["warnings"].clone())
    }

    /// No right was missing.
    fn nothing_refused(&self) {
        let refused: Vec<_> = self.api.requests().0.into_iter().filter(|seen| seen.status == 403).collect();
        assert_eq!(refused, []);
    }
}

fn pod(labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "cart-1", "namespace": "shop", "labels": labels},
        "spec": {"serviceAccountName": "cart", "containers": [{"name": "app", "image": "cart:1", "ports": [{"containerPort": 8080}]}]},
    })
}

fn proxy(pod: &Value) -> &Value {
    let containers = pod["spec"]["containers"].as_array().expect("a pod has containers");
    containers.iter().find(|it| it["name"] == "istio-proxy").expect("the pod has a sidecar")
}

fn variable<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let variables = proxy(pod)["env"].as_array().expect("the sidecar has variables");
    variables.iter().find(|it| it["name"] == name).map_or(&Value::Null, |it| &it["value"])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_trusts_the_webhooks_and_pods_are_as_the_mesh_says() {
    let Some(scene) = Scene::new("that an API server trusts the webhooks").await else { return };
    scene.presented().await;
    let (kind, name) = CONFIGURATIONS[0];
    let mut written = scene.api.get(kind, "", name).expect("the configuration is there")["webhooks"].clone();
    written[0]["clientConfig"]["caBundle"] = BASE64_STANDARD.encode("nonsense").into();
    scene.api.patch(kind, ["", name], &json!({"webhooks": written}));
    scene.presented().await;

    let (cart, warnings) = scene.made(&pod(&json!({"app": "cart"}))).await;
    assert_eq!(variable(&cart, "TRUST_DOMAIN"), "shop.example.com", "of the ConfigMap istio");
    assert_eq!((variable(&cart, "TEAM"), warnings), (&json!("cart"), Value::Null), "of the ProxyConfig");
    assert_eq!(proxy(&cart)["restartPolicy"], Value::Null, "a kubelet of 1.31 has no native sidecars");

    let mut node = pod(&json!({"sidecar.istio.io/inject": "true"}));
    node["spec"]["hostNetwork"] = true.into();
    let (node, warnings) = scene.made(&node).await;
    let told = node["metadata"]["annotations"]["sidecar.sluice.dev/injection"].as_str().unwrap_or_default();
    assert!(told.starts_with("skipped: the pod has hostNetwork"), "{node}");
    assert!(warnings[0].as_str().is_some_and(|it| it.contains("gets none")), "{warnings}");
    assert_eq!(node["spec"]["containers"].as_array().map(Vec::len), Some(1));

    scene.api.patch("ProxyConfig", ["shop", "all"], &json!({"spec": {"environmentVariables": {"TEAM": "checkout"}}}));
    let map = json!({"data": {"mesh": "trustDomain: shop.example.com\ndefaultConfig: {proxyMetadata: {FLOOR: '2'}}"}});
    scene.api.patch("ConfigMap", ["istio-system", "istio"], &map);
    within(Duration::from_secs(20), "what is changed holds for pods that come later", async || {
        let (cart, _) = scene.made(&pod(&json!({"app": "cart"}))).await;
        variable(&cart, "TEAM") == "checkout" && variable(&cart, "FLOOR") == "2"
    })
    .await;
    scene.nothing_refused();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_starts_with_what_its_pod_says_and_has_its_identity_of_the_ca() {
    let Some(scene) = Scene::new("that an injected sidecar starts").await else { return };
    scene.presented().await;
    let (mut pod, _) = scene.made(&pod(&json!({"app": "cart"}))).await;
    let at = |port| scene.webhooks.loopback.at(2, port);
    let ip = at(0).ip().to_string();
    pod["status"] = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]});
    scene.api.insert(vec![pod.clone()]);

    // What the kubelet does: fields and variables in their places, volumes as files.
    let folder = tempfile::TempDir::with_prefix("sluice-pod-").expect("a temporary folder can be made");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("the file can be written");
        path.display().to_string()
    };
    let token = scene.api.token("shop", "cart");
    let mut variables = variables(&pod, &ip);
    let labels = pod["metadata"]["labels"].as_object().expect("the pod has labels");
    let lines: String = labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    variables.push(("POD_LABELS_FILE".to_owned(), file("labels", &lines)));
    let mut arguments = arguments(&pod, &variables);
    // Where this machine has to differ from a pod.
    let probes = arguments.iter_mut().find(|it| *it == "--probes=:15020").expect("there is the probes' port");
    *probes = format!("--probes={}", at(15020));
    let more = [
        ("--kubeconfig", scene.api.kubeconfig(&token).display().to_string()),
        ("--ca-root", file("root-cert.pem", &scene.roots().expect("the namespace has the roots"))),
        ("--ca-token", file("istio-token", &token)),
        ("--bind", ip.clone()),
        ("--inbound", at(15006).to_string()),
        ("--outbound", at(15001).to_string()),
        ("--admin", at(15000).to_string()),
        ("--status", at(15021).to_string()),
        ("--stats", at(15090).to_string()),
    ];
    arguments.extend(more.into_iter().map(|(flag, value)| format!("{flag}={value}")));
    let environment: Vec<(&str, String)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let sidecar = Process::start_in("sidecar", binary::sluice(), &arguments, &environment);

    within(Duration::from_secs(30), "the sidecar is ready", async || {
        assert!(sidecar.id().is_some(), "it ended: {}", sidecar.stderr());
        code(at(15021), "/healthz/ready").await == Some(200)
    })
    .await;
    let certificates = Client::plain(at(15000)).get("http://localhost/certs").await.text();
    assert!(certificates.contains("spiffe://shop.example.com/ns/shop/sa/cart"), "{certificates}");
    assert_eq!(code(at(15020), "/healthz/ready").await, Some(200), "the injection's port is served, too");
    scene.nothing_refused();
}

async fn code(address: SocketAddr, path: &str) -> Option<u16> {
    let reply = Client::plain(address).send(get(&format!("http://{address}{path}"))).await;
    reply.ok().map(|reply| reply.code())
}

/// The variables of the sidecar, with the fields that they refer to.
fn variables(pod: &Value, ip: &str) -> Vec<(String, String)> {
    let field = |path: &str| match path {
        "metadata.name" => "cart-1".to_owned(),
        "metadata.namespace" => "shop".to_owned(),
        "metadata.uid" => "0b9c".to_owned(),
        "spec.serviceAccountName" => "cart".to_owned(),
        "spec.nodeName" => "worker".to_owned(),
        "status.podIP" | "status.hostIP" => ip.to_owned(),
        other => panic!("the sidecar is told of the field {other}, which the story does not know"),
    };
    let all = proxy(pod)["env"].as_array().expect("the sidecar has variables").iter();
    let value = |it: &Value| match it["value"].as_str() {
        Some(value) => value.to_owned(),
        None => field(it["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap_or_default()),
    };
    all.map(|it| (it["name"].as_str().unwrap_or_default().to_owned(), value(it))).collect()
}

/// The arguments of the sidecar, with the variables in them.
fn arguments(pod: &Value, variables: &[(String, String)]) -> Vec<String> {
    let all = proxy(pod)["args"].as_array().expect("the sidecar has arguments").iter();
    let expanded = |it: &Value| {
        let text = it.as_str().unwrap_or_default().to_owned();
        variables.iter().fold(text, |text, (name, value)| text.replace(&format!("$({name})"), value))
    };
    all.map(expanded).collect()
}
