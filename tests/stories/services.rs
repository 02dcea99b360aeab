//! Services as clusters have them: names for other names, and hosts that several ServiceEntries describe.

use std::{collections::BTreeSet, net::SocketAddr};

use harness::{
    client::Client,
    eventually::eventually,
    gateway::Proxy,
    mesh::{HOST, Mesh, SHOP},
    origin::Origin,
    workload::{Workload, service},
    yaml::{self, peer_authentication},
};

use crate::shop::Shop;

/// A Service of type ExternalName in namespace `shop`; `more` stands beside `externalName`.
fn external_name(name: &str, target: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{type: ExternalName, externalName: {target}{more}}}}}\n---\n"
    )
}

/// A ServiceEntry for `united.partner.test`; the younger, the higher the edition.
fn entry(namespace: &str, edition: u8, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: entry-{edition}, namespace: {namespace}, \
         creationTimestamp: \"202{edition}-01-01T00:00:00Z\"}}, spec: {{hosts: [united.partner.test], {spec}}}}}\n---\n"
    )
}

const HTTP: &str = "ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC";

/// Routes by the first segment of the path to hosts and ports, as `host: x, port: {number: 1}`.
fn routed(mesh: &Mesh, routes: &[(&str, &str)]) {
    let one = |(prefix, destination): &(&str, &str)| {
        format!("- {{match: [{{uri: {{prefix: {prefix}}}}}], route: [{{destination: {{{destination}}}}}]}}\n")
    };
    mesh.routes(&routes.iter().map(one).collect::<String>());
}

async fn problems(gateway: &Proxy) -> Vec<String> {
    let dump = gateway.admin_json("/config_dump").await;
    let all = dump["problems"].as_array().cloned().unwrap_or_default();
    all.iter().map(|problem| problem["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The pods that answer a number of requests for a path.
async fn answering(browser: &Client, path: &str) -> BTreeSet<String> {
    let mut pods = BTreeSet::new();
    for _ in 0..20 {
        let reply = browser.get(&format!("{SHOP}{path}")).await;
        pods.insert(if reply.code() == 200 { reply.echoed("pod") } else { reply.code().to_string() });
    }
    pods
}

fn pods(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn names_lead_into_the_mesh(shop: Shop) {
    shop.mesh.write("dotted.yaml", &external_name("dotted", "reviews.shop.svc.cluster.local.", ""));
    shop.mesh.write("second.yaml", &external_name("second", "dotted.shop.svc.cluster.local", ", ports: [{port: 80}]"));
    shop.mesh.write("round.yaml", &external_name("round", "robin.shop.svc.cluster.local", ", ports: [{port: 80}]"));
    shop.mesh.write("robin.yaml", &external_name("robin", "round.shop.svc.cluster.local", ", ports: [{port: 80}]"));
    routed(
        &shop.mesh,
        &[("/one", "host: dotted"), ("/two", "host: second, port: {number: 8080}"), ("/round", "host: round")],
    );
    let browser = shop.mesh.browser();
    eventually("names lead to what they name", async || browser.status(&format!("{SHOP}/round")).await == 503).await;

    for path in ["/one", "/two"] {
        let reply = browser.get(&format!("{SHOP}{path}")).await;
        assert_eq!(reply.code(), 200, "{path}: the sidecar takes mutual TLS only");
        assert_eq!(reply.echoed("service"), "reviews", "{path}");
    }
    let told = problems(&shop.gateway).await;
    let circle = "round.shop.svc.cluster.local -> robin.shop.svc.cluster.local -> round.shop.svc.cluster.local";
    assert!(told.iter().any(|message| message.contains(circle)), "{told:?}");
}

#[tokio::test]
async fn an_external_name_of_a_service_leads_to_its_endpoints_over_mutual_tls() {
    names_lead_into_the_mesh(Shop::in_mesh().await).await;
}

#[tokio::test]
async fn an_external_name_in_a_cluster_is_no_plain_text_to_an_address() {
    names_lead_into_the_mesh(Shop::in_cluster().await).await;
}

#[tokio::test]
async fn an_external_name_of_a_service_entry_leads_to_its_endpoints() {
    let mesh = Mesh::with_edge();
    let origin = Origin::plain(mesh.block.at(60, 8080)).await;
    let endpoints = format!("{HTTP}, endpoints: [{{address: {}, ports: {{http: 8080}}}}]", origin.address.ip());
    mesh.write("entry.yaml", &entry("shop", 1, &endpoints));
    mesh.write("partner.yaml", &external_name("partner", "United.Partner.Test", ""));
    routed(&mesh, &[("/", "host: partner")]);
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 200);

    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_sidecar_takes_an_external_name_for_what_it_names() {
    let mesh = Mesh::new();
    mesh.write("services.yaml", &(service("reviews") + &service("ratings")));
    mesh.write("peers.yaml", &peer_authentication("shop", "STRICT"));
    mesh.write("alias.yaml", &external_name("opinions", "reviews.shop.svc.cluster.local", ""));
    let _reviews = mesh.workload("reviews").sidecar().start().await;
    let ratings = mesh.workload("ratings").sidecar().start().await;

    for host in ["opinions", "opinions.shop", "opinions.shop.svc.cluster.local"] {
        let reply = Client::plain(ratings.outbound()).get(&format!("http://{host}:8080/")).await;
        assert_eq!(reply.code(), 200, "{host}");
        assert_eq!(reply.echoed("service"), "reviews", "{host}");
    }
}

/// A mesh with pods in no Service, and what ServiceEntries say of their addresses.
struct United {
    mesh: Mesh,
    one: Workload,
    two: Workload,
}

impl United {
    async fn new() -> Self {
        let mesh = Mesh::with_edge();
        let one = mesh.workload("one").start().await;
        let two = mesh.workload("two").start().await;
        Self { mesh, one, two }
    }

    fn endpoints(of: &Workload, port: &str) -> String {
        format!("endpoints: [{{address: {}, ports: {{{port}: 8080}}}}]", of.pod.ip)
    }
}

#[tokio::test]
async fn entries_of_one_host_share_the_requests_of_a_port_and_each_brings_its_others() {
    let United { mesh, one, two } = United::new().await;
    let more = "ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}], resolution: STATIC";
    let both = format!("endpoints: [{{address: {}, ports: {{http: 8080, more: 8080}}}}]", two.pod.ip);
    mesh.write("one.yaml", &entry("shop", 1, &format!("{HTTP}, {}", United::endpoints(&one, "http"))));
    mesh.write("two.yaml", &entry("shop", 2, &format!("{more}, {both}")));
    routed(
        &mesh,
        &[
            ("/more", "host: united.partner.test, port: {number: 81}"),
            ("/", "host: united.partner.test, port: {number: 80}"),
        ],
    );
    let gateway = mesh.gateway().await;
    let browser = mesh.browser();

    assert_eq!(answering(&browser, "/").await, pods(&["one-v1", "two-v1"]));
    // The older has no endpoint of its own number for this port: the service's own is asked.
    assert!(answering(&browser, "/more").await.contains("two-v1"));

    mesh.write(
        "two.yaml",
        &entry("shop", 2, &format!("{}, {}", HTTP.replace("name: http", "name: web"), United::endpoints(&two, "web"))),
    );
    eventually("a conflict of names is told", async || {
        problems(&gateway)
            .await
            .iter()
            .any(|it| it.contains("names port 80 `http`: the endpoints of this one are left out"))
    })
    .await;
    assert_eq!(answering(&browser, "/").await, pods(&["one-v1"]), "the oldest names the port");
}

#[tokio::test]
async fn entries_of_one_host_may_select_different_workloads() {
    let United { mesh, one: _one, two: _two } = United::new().await;
    let select = |app: &str| {
        let ports = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], resolution: STATIC";
        format!("location: MESH_INTERNAL, {ports}, workloadSelector: {{labels: {{app: {app}}}}}")
    };
    mesh.write("one.yaml", &entry("shop", 1, &select("one")));
    mesh.write("two.yaml", &entry("shop", 2, &select("two")));
    routed(&mesh, &[("/", "host: united.partner.test")]);
    let _gateway = mesh.gateway().await;

    assert_eq!(answering(&mesh.browser(), "/").await, pods(&["one-v1", "two-v1"]));
}

#[tokio::test]
async fn a_private_entry_is_no_part_of_a_host_and_another_namespace_is_passed_over_by_name() {
    let United { mesh, one, two } = United::new().await;
    let at = |of: &Workload| format!("{HTTP}, {}", United::endpoints(of, "http"));
    mesh.write("private.yaml", &entry("other", 0, &format!("exportTo: [\".\"], {}", at(&two))));
    mesh.write("one.yaml", &entry("shop", 1, &at(&one)));
    mesh.write("two.yaml", &entry("elsewhere", 2, &at(&two)));
    routed(&mesh, &[("/", "host: united.partner.test")]);
    let gateway = mesh.gateway().await;

    assert_eq!(answering(&mesh.browser(), "/").await, pods(&["one-v1"]));

    let told = problems(&gateway).await;
    let whose = "nothing here holds for `united.partner.test`: the host belongs to ServiceEntry shop/entry-1";
    assert_eq!(told.iter().filter(|message| message.starts_with(whose)).count(), 1, "{told:?}");
}

#[tokio::test]
async fn entries_of_one_host_unite_what_their_names_resolve_to() {
    let mesh = Mesh::with_edge();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let (one, two) = (free(local).await, free(local).await);
    let (one, two) = (Origin::plain(one).await, Origin::plain(two).await);
    let at = |origin: &Origin, name: &str| {
        let endpoint = format!("{{address: {name}, ports: {{http: {}}}}}", origin.address.port());
        format!("{}, endpoints: [{endpoint}]", HTTP.replace("STATIC", "DNS"))
    };
    mesh.write("one.yaml", &entry("shop", 1, &at(&one, "localhost")));
    mesh.write("two.yaml", &entry("shop", 2, &at(&two, "localhost.")));
    routed(&mesh, &[("/", "host: united.partner.test")]);
    let _gateway = mesh.gateway().await;
    let browser = mesh.browser();

    eventually("both are asked", async || {
        browser.status(SHOP).await;
        !one.requests().is_empty() && !two.requests().is_empty()
    })
    .await;
}

/// An address of which the port is free by now.
async fn free(address: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(address).await.expect("there is a free port");
    listener.local_addr().expect("it has an address")
}

#[test]
fn check_names_what_entries_of_one_host_disagree_about() {
    let config = harness::config_dir::ConfigDir::new();
    config.write("one.yaml", &entry("shop", 1, &format!("{HTTP}, endpoints: [{{address: 192.0.2.1}}]")));
    let other = HTTP.replace("protocol: HTTP", "protocol: GRPC");
    config.write(
        "two.yaml",
        &entry("shop", 2, &format!("location: MESH_INTERNAL, {other}, endpoints: [{{address: 192.0.2.2}}]")),
    );
    config.write("three.yaml", &entry("shop", 3, &HTTP.replace("STATIC", "DNS")));
    config.write("round.yaml", &external_name("round", "round.shop.svc.cluster.local", ""));
    config.write("edge.yaml", &yaml::edge_gateway("edge-cert", &[HOST]));

    let output = harness::binary::run(&["check", &config.path().display().to_string()]);

    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    for expected in [
        "warning: ServiceEntry shop/entry-2 spec.ports[0].protocol: ServiceEntry shop/entry-1 has the host \
         `united.partner.test`, too, and gives port 80 another protocol, which holds for both",
        "warning: ServiceEntry shop/entry-2 spec.location: ServiceEntry shop/entry-1 has the host `united.partner.test`, too, and is \
         older: its location holds for the endpoints of both",
        "warning: ServiceEntry shop/entry-3 spec.hosts[0]: nothing here holds for `united.partner.test`: the host belongs to \
         ServiceEntry shop/entry-1, which is older and has another resolution",
        "error: Service shop/round spec.externalName: these names lead in a circle, and requests to them get 503: \
         round.shop.svc.cluster.local -> round.shop.svc.cluster.local",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(output.status.code(), Some(1));
}
