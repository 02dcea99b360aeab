//! The page of the admin pages and of `sluice dashboard`, in a real browser, with real traffic; judged by axe-core where it is.

mod control;
mod crowd;
mod long;

use std::{net::SocketAddr, path::Path, time::Duration};

use harness::{
    apiserver::{ADMIN, ApiServer},
    binary::{repository, sluice},
    client::Client,
    demo::Demo,
    eventually::eventually,
    mesh::{HOST, Mesh},
    netns::{Network, Pod},
    process::Process,
    program::{executable, run_within, script},
    raw::probe,
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::interval};

/// The address of the demo's page.
fn page(demo: &Demo) -> String {
    demo.facts["dashboard"].as_str().expect("the demo names its page").to_owned()
}

/// Somebody who asks for this and that, as long as it is not dropped.
struct Visitor(JoinHandle<()>);

impl Visitor {
    fn comes(demo: &Demo) -> Self {
        let (browser, host) = (demo.browser(), demo.facts["host"].as_str().expect("a host").to_owned());
        Self(tokio::spawn(async move {
            let mut beat = interval(Duration::from_millis(40));
            for path in ["/", "/", "/api/v1/rating", "/nowhere"].iter().cycle() {
                beat.tick().await;
                browser.get(&format!("https://{host}{path}")).await;
            }
        }))
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn a_browser_shows_the_traffic_of_a_mesh_and_answers_what_would_happen() {
    let story = "the page in a browser";
    let Some(node) = executable(story, "node") else { return };
    let Some(chromium) = executable(story, "chromium") else { return };
    let demo = Demo::start(&repository().join("examples/cloud-cargo")).await;
    let _visitor = Visitor::comes(&demo);
    let pictures = demo.state.path().display().to_string();
    let axe = executable(story, "axe").map(|axe| axe.display().to_string()).unwrap_or_default();
    let arguments = [script("page.mjs"), chromium.display().to_string(), page(&demo), pictures, axe.clone()];
    let output = run_within(Duration::from_secs(130), &node, &arguments, b"").await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"));
    long::keep_pictures(demo.state.path());
    assert_eq!(report["failed"], Value::Null, "{report:#}");
    assert_eq!(report["errors"], json!([]), "the console is silent");
    assert_eq!(report["elsewhere"], json!([]), "nothing is loaded from elsewhere");
    let bytes = report["bytes"].as_u64().unwrap_or_default();
    assert!((10_000..200 * 1024).contains(&bytes), "{bytes} bytes of page");

    shows_the_mesh(&report);
    let keys = texts(&report["keys"]);
    for reached in [
        "pause",
        "theme",
        "#traffic",
        "drawing",
        "Traffic between workloads",
        "route-proxy",
        "q-proxy",
        "q-host",
        "q-path",
    ] {
        assert!(keys.contains(&reached), "Tab comes to {reached}: {keys:?}");
    }
    let answer = report["answer"].as_str().unwrap_or_default();
    assert!(answer.contains("Forwarded") && answer.contains("cargo-webapp"), "{answer}");
    assert_eq!(report["sideways"], json!({"1440": 0, "768": 0, "360": 0}), "nothing is scrolled sideways");
    let switched = texts(&report["switched"]);
    assert!(switched[0] != switched[1] && switched[2] == "Theme: dark", "{switched:?}");
    if !axe.is_empty() {
        assert_eq!(report["axe"], json!({"light": [], "dark": [], "narrow": []}), "what axe-core finds");
    }
}

fn shows_the_mesh(report: &Value) {
    let edges: Vec<Vec<&str>> = report["edges"].as_array().into_iter().flatten().map(texts).collect();
    let edge = |from: &str, to: &str| {
        let found = edges.iter().find(|row| row[0].contains(from) && row[1].contains(to));
        found.unwrap_or_else(|| panic!("an edge from {from} to {to}: {edges:?}"))
    };
    let into_web = edge("istio-ingressgateway", "cargo-webapp");
    assert_eq!(into_web[8], "yes", "mutual TLS: {into_web:?}");
    assert_ne!(into_web[2], "0", "a rate: {into_web:?}");
    edge("clients", "istio-ingressgateway");
    let drawn = texts(&report["drawn"]);
    assert!(drawn.iter().any(|name| name.contains("cargo-webapp")), "{drawn:?}");
    let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
    assert!(text("routes").contains("cloud-cargo/"), "{}", text("routes"));
    assert!(text("certificates").contains("istio-ingressgateway"), "{}", text("certificates"));
    assert!(text("policies").contains("STRICT"), "{}", text("policies"));
    assert!(text("proxies").contains("ready"), "{}", text("proxies"));
}

#[tokio::test]
async fn the_page_of_a_mesh_reads_only_and_only_from_here() {
    let demo = Demo::start(&repository().join("examples/cloud-cargo")).await;
    let address = page(&demo).trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let here = Client::plain(address);
    let told = here.get(&format!("http://{address}/overview")).await.json();
    let proxies = told["proxies"].as_array().expect("proxies").clone();
    assert_eq!(told["schema"], 1);
    assert_eq!(proxies.len(), texts_of(&demo.facts["proxies"]), "{told:#}");
    assert!(proxies.iter().all(|proxy| proxy["ready"] == true), "{told:#}");

    let gateway = proxies.iter().find(|proxy| proxy["kind"] == "gateway").expect("a gateway");
    let (target, host) = (gateway["target"].as_str().expect("a target"), demo.facts["host"].as_str().expect("a host"));
    let door = &gateway["doors"][0]["port"];
    let ask = format!("http://{address}/explain?proxy={target}&port={door}&host={host}&path=/");
    let answer = here.get(&ask).await.json();
    assert!(["forwarded", "redirected"].contains(&answer["outcome"].as_str().unwrap_or_default()), "{answer:#}");
    let unknown = here.get(&format!("http://{address}/explain?proxy=10.0.0.1:15000&port=443")).await;
    assert_eq!(unknown.status, 404, "nobody but the proxies of the mesh is asked");

    let mut others = vec![address];
    others.push(demo.facts["admin"].as_str().expect("an admin address").parse().expect("an address"));
    for at in others {
        let evil = probe(at, "GET /overview HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
        assert!(evil.text.starts_with("HTTP/1.1 403 "), "{}", evil.text);
        let forged = format!(
            "POST /drain HTTP/1.1\r\nHost: {at}\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let forged = probe(at, &forged).await;
        assert!(forged.text.starts_with("HTTP/1.1 403 "), "{}", forged.text);
    }
}

/// A pod that runs this.
fn pod(name: &str, verb: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop}}, spec: {{containers: [{{name: c, image: i, \
         args: [{verb}]}}]}}, status: {{phase: Running, podIP: 10.9.8.7}}}}\n"
    )
}

#[tokio::test]
async fn proxies_in_pods_are_asked_through_the_api_server() {
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    let server = ApiServer::start().await;
    server.apply(&[pod("edge-1", "gateway"), pod("app-1", "echo"), pod("gone-1", "sidecar")].concat());
    server.forward("shop", "edge-1", gateway.addresses().admin);

    let config = server.kubeconfig(ADMIN).display().to_string();
    let arguments = ["dashboard", "--kubernetes", "--kubeconfig", &config, "--namespace", "shop"];
    let dashboard = Process::start("dashboard", sluice(), arguments);
    let address = async || dashboard.stdout().split("http://").nth(1)?.split('/').next()?.parse::<SocketAddr>().ok();
    eventually("it says where the page is", async || address().await.is_some()).await;
    let address = address().await.expect("it was there");
    assert!(address.ip().is_loopback(), "{address}");

    let page = Client::plain(address);
    let told = page.get(&format!("http://{address}/overview")).await.json();
    let proxies = told["proxies"].as_array().expect("proxies");
    let named = |target: &str| proxies.iter().find(|proxy| proxy["target"] == target).unwrap_or(&Value::Null);
    assert_eq!(proxies.len(), 2, "an application is no proxy: {told:#}");
    assert_eq!(
        (&named("shop/edge-1")["kind"], &named("shop/edge-1")["ready"]),
        (&json!("gateway"), &json!(true)),
        "{told:#}"
    );
    assert!(named("shop/gone-1")["unreachable"].is_string(), "{told:#}");
    let ask = format!("http://{address}/explain?proxy=shop/edge-1&port=443&host={HOST}&path=/");
    assert_eq!(page.get(&ask).await.json()["outcome"], "forwarded");
}

/// The proxies in `demo.json`, and those of the page at this address that are ready, by their admin addresses in order.
async fn named_and_ready(demo: &Demo, page: &str) -> (Vec<String>, Vec<String>) {
    let text = |proxy: &Value, field: &str| proxy[field].as_str().unwrap_or_default().to_owned();
    let named = demo.facts["proxies"].as_array().into_iter().flatten();
    let mut named: Vec<String> = named.map(|proxy| text(proxy, "admin")).collect();
    let address = page.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let told = Client::plain(address).get(&format!("{page}overview")).await.json();
    let told = told["proxies"].as_array().cloned().unwrap_or_default();
    let mut ready: Vec<String> =
        told.iter().filter(|proxy| proxy["ready"] == true).map(|proxy| text(proxy, "target")).collect();
    named.sort();
    ready.sort();
    (named, ready)
}

#[tokio::test]
async fn the_page_of_a_captured_demo_asks_within_its_namespaces() {
    let story = "the page of a captured demo";
    let Some(demo) = Demo::start_captured(story, &repository().join("examples/cloud-cargo")).await else { return };
    let (named, ready) = named_and_ready(&demo, &page(&demo)).await;
    assert!(named.len() > 3, "a gateway and sidecars: {named:?}");
    assert_eq!(named, ready);

    // Another process finds its way by what the demo wrote.
    let state = demo.state.path().display().to_string();
    let dashboard = Process::start("dashboard", sluice(), ["dashboard", "--demo", &state, "--port", "0"]);
    let own = || dashboard.stdout().split("http://").nth(1)?.split('/').next().map(|at| format!("http://{at}/"));
    eventually("it says where the page is", async || own().is_some()).await;
    let (named, ready) = named_and_ready(&demo, &own().expect("it was there")).await;
    assert_eq!(named, ready);
}

#[tokio::test]
async fn admin_pages_are_for_this_machine_unless_others_are_let_in() {
    let story = "admin pages and other machines";
    let Some(network) = Network::create(story, false) else { return };
    let config = tempfile::TempDir::new().expect("a folder");
    let config = config.path().display().to_string();
    let admin = format!("http://{}:15000", network.server.ip);
    let ask = |pod: &Pod, method: &str, path: &str| {
        let url = format!("{admin}{path}");
        let flags = ["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, &url];
        String::from_utf8_lossy(&pod.run(Path::new("curl"), &flags).stdout).into_owned()
    };
    let level = "/logging?level=info";
    for (peers, from_elsewhere) in [("local", ["403", "403"]), ("read", ["200", "403"]), ("all", ["200", "200"])] {
        let flags =
            ["gateway", "--config", &config, "--admin", "0.0.0.0:15000", "--admin-peers", peers, "--workers", "1"];
        let gateway = network.server.start("gateway", None, sluice(), &flags);
        eventually("its own machine may ask", async || ask(&network.server, "GET", "/version") == "200").await;
        assert_eq!(ask(&network.server, "POST", level), "200", "{peers}");
        let told = [("GET", "/version"), ("POST", level)].map(|(method, path)| ask(&network.client, method, path));
        assert_eq!(told, from_elsewhere, "{peers}");
        drop(gateway);
        eventually("it is gone", async || ask(&network.server, "GET", "/version") == "000").await;
    }
}

fn texts_of(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}
