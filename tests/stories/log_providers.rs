//! Who gets lines of the access log, as Telemetry says it: files, collectors, filters.

use std::{fs, path::Path, time::Duration};

use harness::{
    collector::Collector,
    eventually::eventually,
    mesh::{Mesh, SHOP},
    yaml,
};

use crate::log_lines::config_map;

fn telemetry(logging: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: mesh, namespace: istio-system}}\nspec:\n  \
         accessLogging:\n{logging}\n"
    )
}

async fn shop(mesh: &Mesh) -> harness::workload::Workload {
    mesh.routes(
        "- match: [{uri: {prefix: /gone}}]\n  directResponse: {status: 410, body: {string: gone}}\n\
         - route: [{destination: {host: reviews, port: {number: 8080}}}]",
    );
    mesh.workload("reviews").start().await
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn several_logs_have_their_own_lines_and_a_rotated_file_is_opened_anew() {
    let mesh = Mesh::with_edge();
    let _reviews = shop(&mesh).await;
    let (all, bad) = (mesh.state().join("all.log"), mesh.state().join("bad.log"));
    mesh.write(
        "mesh.yaml",
        &config_map(&format!(
            "extensionProviders:\n- name: all\n  envoyFileAccessLog: {{path: {}, logFormat: {{text: 'all %REQ(:PATH)%'}}}}\n\
             - name: bad\n  envoyFileAccessLog:\n    path: {}\n    logFormat: {{labels: {{path: '%REQ(:PATH)%', code: \
             '%RESPONSE_CODE%', to: '%FILTER_STATE(upstream_peer:FIELD:workload)%'}}}}",
            all.display(),
            bad.display()
        )),
    );
    mesh.write(
        "telemetry.yaml",
        &telemetry(
            "  - providers: [{name: all}]\n  - providers: [{name: bad}]\n    filter: {expression: 'response.code >= 400'}",
        ),
    );
    let gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(&format!("{SHOP}/a")).await, 200);
    // Another connection may be another worker's, whose lines have an order of their own.
    eventually("the first line is there", async || lines(&all).len() == 1).await;
    assert_eq!(mesh.browser().status(&format!("{SHOP}/gone")).await, 410);
    eventually("both lines are there", async || lines(&all).len() == 2 && lines(&bad).len() == 1).await;
    assert_eq!(lines(&all), ["all /a", "all /gone"]);
    let told: serde_json::Value = serde_json::from_str(&lines(&bad)[0]).expect("an object");
    assert_eq!(told, serde_json::json!({"path": "/gone", "code": 410, "to": null}));
    assert_eq!(gateway.access_log(), "", "stdout is not among them");

    let moved = mesh.state().join("all.log.1");
    fs::rename(&all, &moved).expect("a file can be renamed");
    gateway.rotated();
    eventually("the new file is written", async || {
        mesh.browser().status(&format!("{SHOP}/b")).await;
        lines(&all).iter().any(|line| line == "all /b")
    })
    .await;
    assert_eq!(lines(&moved)[..2], ["all /a", "all /gone"]);
}

#[tokio::test]
async fn the_last_lines_arrive_at_a_collector_before_the_process_ends() {
    let mesh = Mesh::with_edge();
    let [grpc, http] = [mesh.workload("otel").declare(), mesh.workload("zipkin").declare()];
    let Some(collector) = Collector::start("log_providers", grpc, http).await else { return };
    let _reviews = shop(&mesh).await;
    mesh.write("otel.yaml", &yaml::service("shop", "otel", &[(8080, "grpc")]));
    mesh.write("mesh.yaml", &config_map(OTEL));
    mesh.write("telemetry.yaml", &telemetry("  - providers: [{name: otel}]"));
    let mut gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(&format!("{SHOP}/gone")).await, 410);
    gateway.sigterm();
    assert!(gateway.wait_exit(Duration::from_secs(20)).await.success());

    let told = collector.told();
    assert_eq!(told.iter().filter(|one| one["body"] == "GET /gone").count(), 1, "{told:#?}");
}

const OTEL: &str = "extensionProviders:\n- name: otel\n  envoyOtelAls:\n    service: otel.shop.svc.cluster.local\n    port: 8080\n    \
                    logFormat: {text: '%REQ(:METHOD)% %REQ(:PATH)%', labels: {code: '%RESPONSE_CODE%'}}";

#[tokio::test]
async fn lines_go_to_a_collector_with_their_attributes() {
    let mesh = Mesh::with_edge();
    let [grpc, http] = [mesh.workload("otel").declare(), mesh.workload("zipkin").declare()];
    let Some(collector) = Collector::start("log_providers", grpc, http).await else { return };
    let _reviews = shop(&mesh).await;
    mesh.write("otel.yaml", &yaml::service("shop", "otel", &[(8080, "grpc")]));
    mesh.write("mesh.yaml", &config_map(OTEL));
    mesh.write("telemetry.yaml", &telemetry("  - providers: [{name: otel}]"));
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(&format!("{SHOP}/gone")).await, 410);

    let told = collector.wait("logs", 1).await;
    assert_eq!((&told[0]["body"], &told[0]["tags"]["code"]), (&"GET /gone".into(), &"410".into()));
    assert_eq!(told[0]["resource"]["log_name"], "otel_envoy_accesslog");
}

#[tokio::test]
async fn a_log_that_is_turned_off_is_off_and_a_wrong_filter_is_told() {
    let mesh = Mesh::with_edge();
    let _reviews = shop(&mesh).await;
    mesh.write("telemetry.yaml", &telemetry("  - providers: [{name: envoy}]\n    disabled: true"));
    let gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);

    mesh.write(
        "telemetry.yaml",
        &telemetry("  - providers: [{name: envoy}]\n    filter: {expression: 'request.url_path == \"/b\"'}"),
    );
    eventually("lines are written again", async || {
        mesh.browser().status(&format!("{SHOP}/b")).await;
        mesh.browser().status(&format!("{SHOP}/c")).await;
        gateway.access_log().contains("/b")
    })
    .await;
    let log = gateway.access_log();
    assert!(log.lines().all(|line| line.contains("GET /b ")), "{log}");

    mesh.write("telemetry.yaml", &telemetry("  - filter: {expression: 'response.cod >= 400'}"));
    eventually("the wrong filter is told", async || gateway.log().contains("did you mean `response.code`?")).await;
}
