//! `sluice describe` (issue: one command says what applies to a service or pod).

use harness::{
    binary::{repository, run},
    mesh::Mesh,
};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn describe_tells_people_and_programs_how_a_service_is_reached() {
    let example = repository().join("examples/cloud-cargo").display().to_string();
    let object = "cloud-cargo/freight-tariff-server";

    let people = run(&["describe", "service", object, "--config", &example]);
    let programs = run(&["describe", "service", object, "--config", &example, "--output", "json"]);
    let nobody = run(&["describe", "service", "cloud-cargo/freight-tarif-server", "--config", &example]);

    assert_eq!(people.status.code(), Some(0), "{}", text(&people.stderr));
    let said = text(&people.stdout);
    assert!(said.contains("https://cargo.example.com/api/freight-tariff  (VirtualService cloud-cargo/cargo"), "{said}");
    let service: Value = serde_json::from_slice(&programs.stdout).expect("one JSON object");
    let service = &service["services"][0];
    assert_eq!(service["mutual_tls"][0]["mode"], "STRICT");
    assert_eq!(service["policies"][0]["destination_rule"]["name"], "freight-tariff-server");
    assert_eq!(service["policies"][0]["ports"][0]["tls"], "ISTIO_MUTUAL");
    assert_eq!(service["gateways"][0]["routes"][0]["destinations"][0]["subset"], "v1");
    assert_eq!(nobody.status.code(), Some(1));
    let sentence = text(&nobody.stderr);
    assert!(sentence.contains("did you mean `cloud-cargo/freight-tariff-server`?"), "{sentence}");
    assert_eq!(sentence.trim().lines().count(), 1, "{sentence}");
}

#[tokio::test]
async fn the_url_that_describe_prints_is_one_that_the_gateway_serves() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.routes(
        "- match: [{uri: {prefix: /api/reviews}}]\n  route: [{destination: {host: reviews, port: {number: 8080}}}]\n\
         - route: [{destination: {host: ratings, port: {number: 8080}}}]",
    );
    let _gateway = mesh.gateway().await;
    let folder = mesh.config.path().display().to_string();

    let output = run(&["describe", "service", "shop/reviews", "--config", &folder, "--output", "json"]);

    let description: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let service = &description["services"][0];
    assert_eq!(service["ports"][0]["endpoints"], 1, "{service:#}");
    let exposures = service["gateways"].as_array().expect("a list");
    let https = exposures.iter().find(|exposure| exposure["port"] == 443).expect("the server on 443");
    let url = https["routes"][0]["url"].as_str().expect("a URL");
    assert_eq!(url, "https://shop.example.com/api/reviews");
    let reply = mesh.browser().get(url).await;
    assert_eq!((reply.code(), reply.echoed("service").as_str()), (200, "reviews"));
}

#[tokio::test]
async fn describe_tells_the_same_of_a_cluster_and_reads_no_secret() {
    let mesh = Mesh::with_edge_in_cluster().await;
    mesh.workload("reviews").declare();
    mesh.route_all_to("reviews");
    let kubeconfig = mesh.cluster.as_ref().expect("an API server").kubeconfig().display().to_string();

    let describe = move || {
        run(&["describe", "service", "shop/reviews", "--kubernetes", "--kubeconfig", &kubeconfig, "--output", "json"])
    };
    let output = tokio::task::spawn_blocking(describe).await.expect("it runs to its end");

    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let description: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let service = &description["services"][0];
    assert_eq!(service["ports"][0]["endpoints"], 1, "{service:#}");
    assert_eq!(service["gateways"][0]["gateway"], "istio-system/edge");
    assert_eq!(description["problems"].as_array().map(Vec::len), Some(0), "{description:#}");
    let Some(requests) = mesh.api().requests() else { return };
    let counts = requests.counts();
    assert!(counts.keys().any(|(_, resource)| resource == "services"), "{counts:?}");
    assert!(counts.keys().all(|(_, resource)| resource != "secrets"), "{counts:?}");
}
