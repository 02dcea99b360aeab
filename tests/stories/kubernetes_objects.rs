//! Objects in an API server come, go and come back in any order; and a copy of them in files is the same configuration.

use harness::{
    client::get,
    config_dir::ConfigDir,
    eventually::{self, eventually},
    load::Load,
    mesh::{Mesh, SHOP},
    yaml,
};
use serde_json::Value;

use crate::shop::Shop;

/// The second host, whose objects come and go.
const LATE: &str = "late.example.org";

/// Every order of four things.
fn orders() -> Vec<[usize; 4]> {
    let mut orders = Vec::new();
    for code in 0..256_usize {
        let order = [code & 3, (code >> 2) & 3, (code >> 4) & 3, code >> 6];
        if (0..4).all(|thing| order.contains(&thing)) {
            orders.push(order);
        }
    }
    orders
}

/// The four objects that serve the second host.
fn objects(mesh: &Mesh, edition: usize) -> [(&'static str, String); 4] {
    let gateway = serde_json::json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "late", "namespace": "istio-system"},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [{
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "hosts": [LATE],
                "tls": {"mode": "SIMPLE", "credentialName": "late-cert"},
            }],
        },
    });
    let routes = format!(
        "- headers: {{response: {{set: {{x-edition: '{edition}'}}}}}}\n  \
         route: [{{destination: {{host: reviews, port: {{number: 8080}}}}}}]"
    );
    let routes = yaml::virtual_service("late", LATE, &routes).replace("istio-system/edge", "istio-system/late");
    [
        ("gateway", format!("{gateway}\n---\n")),
        ("secret", yaml::tls_secret("istio-system", "late-cert", &mesh.pki.server(&[LATE]))),
        ("routes", routes),
        ("rule", yaml::destination_rule("reviews", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_deleted_and_created_in_every_order_disturb_no_other_host_and_serve_again() {
    let shop = Shop::in_cluster().await;
    let load = Load::start(&shop.mesh.browser(), 2, SHOP);
    let late = format!("https://{LATE}");
    for (edition, order) in orders().into_iter().enumerate() {
        let objects = objects(&shop.mesh, edition);
        for thing in order {
            let (name, text) = &objects[thing];
            shop.mesh.write(name, text);
        }
        eventually(&format!("{LATE} is served after {order:?}"), async || {
            let reply = shop.mesh.browser().send(get(&late)).await;
            reply.is_ok_and(|reply| reply.code() == 200 && reply.header("x-edition") == edition.to_string())
        })
        .await;
        for thing in order {
            shop.mesh.remove(objects[thing].0);
        }
    }
    let result = load.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");
    assert!(result.sent > 100, "{result:?}");
}

#[tokio::test]
async fn an_object_that_breaks_keeps_its_last_good_version_serving() {
    let shop = Shop::in_cluster().await;
    let patch = serde_json::json!({"spec": {"http": [{"timeout": "7 seconds"}]}});
    shop.mesh.api().patch("VirtualService", ["shop", "routes"], &patch).await;
    eventually("the mistake is told", async || {
        let dump = shop.gateway.admin("/config_dump").await.text();
        dump.contains("the last good version keeps serving") && dump.contains("spec.http[0].timeout")
    })
    .await;
    assert_eq!(shop.mesh.browser().get(SHOP).await.code(), 200);
}

/// What an API server holds, as a folder of files.
async fn copied(mesh: &Mesh) -> ConfigDir {
    const KINDS: [(&str, &[&str]); 7] = [
        ("networking.istio.io/v1", &["Gateway", "VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry"]),
        ("security.istio.io/v1", &["PeerAuthentication", "AuthorizationPolicy"]),
        ("acme.sluice.dev/v1alpha1", &["Issuer"]),
        ("v1", &["Secret", "Service", "Pod"]),
        ("discovery.k8s.io/v1", &["EndpointSlice"]),
        ("apps/v1", &["Deployment"]),
        ("v1", &["Namespace"]),
    ];
    let folder = ConfigDir::new();
    for (version, kinds) in KINDS {
        for kind in kinds {
            for (index, mut object) in mesh.api().list(kind).await.into_iter().enumerate() {
                // Items of a list need not say what they are.
                object["apiVersion"] = version.into();
                object["kind"] = (*kind).into();
                folder.write(&format!("{kind}-{index}.json"), &object.to_string());
            }
        }
    }
    folder
}

#[tokio::test]
async fn a_copy_of_the_cluster_in_files_is_the_same_snapshot() {
    let mut mesh = Mesh::with_edge_in_cluster().await;
    mesh.workload("reviews").sidecar().declare();
    mesh.route_all_to("reviews");
    // Neither is read from a cluster, so neither may make a difference.
    let unused = yaml::tls_secret("istio-system", "unused", &mesh.pki.server(&["unused.example.com"]));
    mesh.write("unused", &unused);
    mesh.write(
        "deployment",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: reviews, namespace: shop}\nspec: {selector: {matchLabels: \
         {app: reviews}}, template: {metadata: {labels: {app: reviews}}, spec: {containers: [{name: app, image: echo}]}}}\n",
    );
    let mut gateway = mesh.gateway_with(&["--drain-time", "1s"]).await;
    let digest = |dump: Value| dump["digest"].as_str().unwrap_or_default().to_owned();
    let from_cluster = digest(gateway.admin_json("/config_dump").await);
    assert_eq!(from_cluster.len(), 16, "a digest");

    gateway.sigterm();
    gateway.wait_exit(eventually::SOON).await;
    mesh.config = copied(&mesh).await;
    let cluster = mesh.cluster.take();
    let gateway = mesh.gateway().await;
    assert_eq!(digest(gateway.admin_json("/config_dump").await), from_cluster);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("sluice_snapshot_info", &[("digest", &from_cluster)]), 1.0);
    drop(cluster);
}

#[tokio::test]
async fn the_mesh_configuration_without_a_revision_holds_where_the_revision_has_none() {
    let mesh = Mesh::with_edge_in_cluster().await;
    let map = |name: &str, encoding: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: istio-system}}\ndata:\n  mesh: |-\n    \
             {{accessLogFile: /dev/stdout, accessLogEncoding: {encoding}}}\n"
        )
    };
    mesh.write("mesh.yaml", &map("istio", "JSON"));
    mesh.write("another.yaml", &map("istio-other", "TEXT"));
    let gateway = mesh.gateway_with(&["--labels", "istio=ingressgateway,istio.io/rev=canary"]).await;
    let last = async || {
        mesh.browser().status("https://shop.example.com/").await;
        gateway.access_log().lines().last().unwrap_or_default().to_owned()
    };
    eventually("the lines are JSON", async || last().await.starts_with('{')).await;

    mesh.write("canary.yaml", &map("istio-canary", "TEXT"));

    eventually("the lines are text", async || last().await.starts_with('[')).await;
    mesh.remove("canary.yaml");
    eventually("the lines are JSON again", async || last().await.starts_with('{')).await;
}
