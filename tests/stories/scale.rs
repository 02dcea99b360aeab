//! A cluster with thousands of Gateways: what a start costs, and what one change costs then.

use std::time::{Duration, Instant};

use harness::{
    apiserver::ApiServer,
    client::{Client, get},
    eventually::within,
    mesh::Mesh,
    yaml::tls_secret,
};
use serde_json::{Value, json};

const GATEWAYS: usize = 5_000;
/// Long enough for an unoptimised build on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn host(number: usize) -> String {
    format!("host-{number}.example.com")
}

fn gateway(number: usize) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": format!("gateway-{number}"), "namespace": "istio-system"},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [{
                "port": {"number": 443, "name": format!("https-{number}"), "protocol": "HTTPS"},
                "hosts": [host(number)],
                "tls": {"mode": "SIMPLE", "credentialName": format!("cert-{number}")},
            }],
        },
    })
}

/// Answers by itself, so that no workload is needed; `status` is the edition.
fn routes(number: usize, status: u16) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": format!("routes-{number}"), "namespace": "shop"},
        "spec": {
            "hosts": [host(number)], "gateways": [format!("istio-system/gateway-{number}")],
            "http": [{"directResponse": {"status": status}}],
        },
    })
}

fn secret(mesh: &Mesh, number: usize) -> Value {
    let text = tls_secret("istio-system", &format!("cert-{number}"), &mesh.pki.server(&[&host(number)]));
    serde_json::from_str(text.trim_end_matches("---\n")).expect("one JSON object")
}

async fn answers(mesh: &Mesh, number: usize, status: u16) -> bool {
    let client: Client = mesh.browser();
    let reply = client.send(get(&format!("https://{}/", host(number)))).await;
    reply.is_ok_and(|reply| reply.code() == status)
}

/// The certificate that a client of this host is shown.
async fn certificate(mesh: &Mesh, number: usize) -> Option<Vec<u8>> {
    let stream = mesh.edge_trust().connect(mesh.block.at(1, 8443), &host(number)).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_gateways_routes_and_secrets_start_soon_and_change_at_once() {
    let mesh = Mesh::in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    api.insert((0..GATEWAYS).map(gateway).chain((0..GATEWAYS).map(|number| routes(number, 201))).collect());
    api.insert((0..GATEWAYS).map(|number| secret(&mesh, number)).collect());

    let started = Instant::now();
    let gateway = mesh.launch_gateway(&["--access-log", "off", "--write-status", "false"]);
    within(LONG, "the gateway is ready", async || gateway.readiness().await.is_some_and(|it| it.code() == 200)).await;
    let start = started.elapsed();
    assert!(answers(&mesh, GATEWAYS - 1, 201).await);
    let asked = api.requests();
    let memory = gateway.metrics().await.sum("process_resident_memory_bytes", &[]) / 1024.0;

    let changed = Instant::now();
    api.insert(vec![routes(7, 202)]);
    within(LONG, "the change is live", async || answers(&mesh, 7, 202).await).await;
    let change = changed.elapsed();

    let shown = certificate(&mesh, 8).await.expect("a certificate is shown");
    let rotated = Instant::now();
    api.insert(vec![secret(&mesh, 8)]);
    within(LONG, "the new certificate is shown", async || certificate(&mesh, 8).await.is_some_and(|now| now != shown))
        .await;
    let rotation = rotated.elapsed();

    let (reads, lists) = (asked.count("get", "secrets"), asked.count("list", "secrets"));
    let others = asked.0.len() - reads;
    eprintln!(
        "{GATEWAYS} Gateways, VirtualServices and Secrets: ready after {start:?}, {memory:.0} KiB resident, one route live after \
         {change:?}, one rotated Secret served after {rotation:?}, {reads} Secrets read alone, {lists} lists of Secrets, {others} other requests: {:?}",
        asked.counts()
    );
    // In pages of 250; on a slow machine a list is cut short, and some are read alone.
    assert!(reads < GATEWAYS / 20, "{reads} Secrets were read alone");
    assert!((GATEWAYS / 250..GATEWAYS / 100).contains(&lists), "{lists} lists of Secrets");
    assert!(others < 200, "{:?}", asked.counts());
}

/// How many objects of a kind say `Programmed`.
fn programmed(api: &ApiServer, kind: &str) -> usize {
    let told = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|it| it["type"] == "Programmed" && it["status"] == "True")
    };
    api.list(kind).iter().filter(|it| told(it)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_gateways_and_routes_get_their_status_in_half_a_minute_and_a_changed_one_before_the_rest() {
    const MANY: usize = 2_000;
    let mesh = Mesh::in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    api.insert((0..MANY).map(gateway).chain((0..MANY).map(|number| routes(number, 201))).collect());
    let kinds = ["Gateway", "VirtualService"];

    let started = Instant::now();
    let gateway = mesh.launch_gateway(&["--access-log", "off"]);
    within(LONG, "the gateway is ready", async || gateway.readiness().await.is_some_and(|it| it.code() == 200)).await;
    let ready = started.elapsed();
    within(LONG, "statuses are written", async || programmed(api, "Gateway") + programmed(api, "VirtualService") > 200)
        .await;
    let changed = Instant::now();
    // The oldest one; what is written first is in no order that would favour it.
    api.patch(
        "VirtualService",
        ["shop", "routes-0"],
        &json!({"spec": {"http": [{"directResponse": {"status": 204}}]}}),
    );
    let told = async || {
        let all = api.list("VirtualService");
        let found = all.iter().find(|it| it["metadata"]["name"] == "routes-0");
        found.is_some_and(|it| it["metadata"]["generation"] == it["status"]["observedGeneration"])
    };
    within(LONG, "the change is told", told).await;
    let (change, then) = (changed.elapsed(), kinds.map(|kind| programmed(api, kind)).iter().sum::<usize>());
    within(LONG * 2, "every status is written", async || kinds.iter().all(|kind| programmed(api, kind) == MANY)).await;
    let all = started.elapsed();

    let asked = api.requests();
    let patched = kinds.map(|kind| asked.count("patch", &format!("{}s/status", kind.to_lowercase())));
    eprintln!(
        "{MANY} Gateways and {MANY} VirtualServices: ready after {ready:?}, a change told after {change:?} as one of {then}, all \
         told after {all:?}, requests: {:?}",
        asked.counts()
    );
    assert!(then < 2 * MANY, "the change did not wait for the rest");
    assert!(all < Duration::from_secs(60), "{all:?}");
    let written: usize = patched.iter().sum();
    // Once each; what changed, and may have been told before, once more.
    assert!((2 * MANY..2 * MANY + MANY / 10).contains(&written), "{written} statuses were written");
    assert!(all > Duration::from_secs(15), "not faster than is fair: {all:?}");
}
