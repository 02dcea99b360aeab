//! The page of the admin pages and of `sluice dashboard`, in a real browser, with real traffic; judged by axe-core where it is.

use std::{net::SocketAddr, time::Duration};

use harness::{
    apiserver::{ADMIN, ApiServer},
    binary::{repository, sluice},
    client::Client,
    demo::Demo,
    eventually::eventually,
    mesh::{HOST, Mesh},
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
    if let Ok(folder) = std::env::var("SLUICE_TEST_PICTURES") {
        for entry in std::fs::read_dir(demo.state.path()).expect("the folder is there").flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "png") {
                std::fs::copy(entry.path(), std::path::Path::new(&folder).join(entry.file_name()))
                    .expect("it can be kept");
            }
        }
    }
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
        "route-words",
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

fn texts_of(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}
