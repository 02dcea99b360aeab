//! Several replicas of one gateway: who leads, and what the leader tells about objects.

use std::time::Duration;

use harness::{
    apiserver::documents,
    cluster::Cluster,
    eventually::{eventually, within},
    gateway::Proxy,
    helm,
    mesh::{HOST, Mesh, SHOP},
    yaml::{edge_gateway, virtual_service},
};
use serde_json::Value;

const OURS: [&str; 2] = ["istio-system", "istio-ingressgateway"];
const ELECTION: &str = "sluice-istio-ingressgateway";

/// Replica `number` of the gateway, on an address of its own.
async fn replica(mesh: &Mesh, number: u8) -> Proxy {
    mesh.replica(number, &["--workers", "1"]).await
}

/// The condition of this type, as `kubectl wait` looks at it: with the generation that it is about.
async fn condition(api: &Cluster, kind: &str, [namespace, name]: [&str; 2], wanted: &str) -> Option<(String, Value)> {
    let object = api.get(kind, namespace, name).await?;
    let status = &object["status"];
    if status["observedGeneration"].as_i64() < object["metadata"]["generation"].as_i64() {
        return None;
    }
    let conditions = status["conditions"].as_array()?;
    let found = conditions.iter().find(|it| it["type"] == wanted)?;
    Some((found["status"].as_str()?.to_owned(), found.clone()))
}

/// Waits until a condition is `status`; gives its reason and message.
async fn wait(api: &Cluster, kind: &str, object: [&str; 2], wanted: &str, status: &str) -> (String, String) {
    let mut last = Value::Null;
    eventually(&format!("{kind} {object:?} has {wanted}={status}"), async || {
        match condition(api, kind, object, wanted).await {
            Some((now, found)) => {
                last = found;
                now == status
            }
            None => false,
        }
    })
    .await;
    let text = |field: &str| last[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

async fn holder(api: &Cluster) -> String {
    let lease = api.get("Lease", OURS[0], ELECTION).await.unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

async fn replicas(api: &Cluster) -> Vec<Value> {
    let leases = api.list("Lease").await;
    leases.into_iter().filter(|it| it["metadata"]["labels"]["sluice.dev/replica-of"] == OURS[1]).collect()
}

const EDGE: [&str; 2] = ["istio-system", "edge"];
const ROUTES: [&str; 2] = ["shop", "routes"];

/// Replicas have the rights of the chart, where Helm can tell them.
async fn scene() -> Mesh {
    let mesh = Mesh::with_edge_in_cluster().await;
    if helm::executable("that replicas need no more rights than the chart's").is_some() {
        mesh.obey(helm::roles()).await;
    }
    mesh.routes("- directResponse: {status: 200, body: {string: \"here\"}}");
    mesh
}

#[tokio::test]
async fn conditions_say_what_an_object_is_worth() {
    let mesh = scene().await;
    let api = mesh.api();
    let _gateway = replica(&mesh, 1).await;

    let (reason, message) = wait(api, "Gateway", EDGE, "Programmed", "True").await;
    assert_eq!((reason.as_str(), message.as_str()), ("Programmed", "1 of 1 replica at generation 1"));
    wait(api, "Gateway", EDGE, "Accepted", "True").await;
    wait(api, "Gateway", EDGE, "ResolvedRefs", "True").await;
    wait(api, "Gateway", EDGE, "Conflicted", "False").await;
    wait(api, "VirtualService", ROUTES, "Programmed", "True").await;

    let mut second = documents(&edge_gateway("gone-cert", &["*.example.com"])).remove(0);
    second["metadata"]["name"] = "second".into();
    mesh.write("second.yaml", &second.to_string());
    let (reason, message) = wait(api, "Gateway", ["istio-system", "second"], "Conflicted", "True").await;
    assert_eq!(reason, "DuplicateHost");
    assert!(message.contains("older Gateway istio-system/edge"), "{message}");
    let (reason, message) = wait(api, "Gateway", ["istio-system", "second"], "ResolvedRefs", "False").await;
    assert_eq!(reason, "MissingSecret");
    assert!(message.contains("there is no Secret `istio-system/gone-cert`"), "{message}");

    mesh.route_all_to("nowhere");
    let (reason, message) = wait(api, "VirtualService", ROUTES, "ResolvedRefs", "False").await;
    assert_eq!(reason, "UnknownHost", "{message}");
    let (_, message) = wait(api, "VirtualService", ROUTES, "Programmed", "True").await;
    assert_eq!(message, "1 of 1 replica at generation 2");
}

#[tokio::test]
async fn a_rejected_version_is_told_and_its_last_good_one_keeps_serving() {
    let mesh = scene().await;
    let api = mesh.api();
    let _gateway = replica(&mesh, 1).await;
    wait(api, "VirtualService", ROUTES, "Programmed", "True").await;
    let foreign = serde_json::json!({"validationMessages": [{"level": "INFO"}]});
    api.patch_status("VirtualService", ROUTES, &foreign).await;

    mesh.write("routes.yaml", &virtual_service("routes", HOST, "- {retries: {attempts: some}}"));
    let (_, message) = wait(api, "VirtualService", ROUTES, "Accepted", "False").await;
    assert!(message.contains("the last good version keeps serving"), "{message}");
    let (reason, _) = wait(api, "VirtualService", ROUTES, "Programmed", "False").await;
    assert_eq!(reason, "NotAccepted");
    assert_eq!(mesh.browser().get(SHOP).await.text(), "here");
    eventually("an event tells it", async || {
        let events = api.list("events.events.k8s.io").await;
        events.iter().any(|it| it["reason"] == "Rejected" && it["regarding"]["name"] == "routes")
    })
    .await;

    mesh.routes("- directResponse: {status: 200, body: {string: \"mended\"}}");
    wait(api, "VirtualService", ROUTES, "Programmed", "True").await;
    wait(api, "VirtualService", ROUTES, "Accepted", "True").await;
    let object = api.get("VirtualService", ROUTES[0], ROUTES[1]).await.expect("it is there");
    assert_eq!(object["status"]["validationMessages"], foreign["validationMessages"], "what others wrote stays");
}

#[tokio::test]
async fn a_deleted_secret_is_told_by_an_event_and_counted() {
    let mesh = scene().await;
    let api = mesh.api();
    let gateway = replica(&mesh, 1).await;
    wait(api, "Gateway", EDGE, "Programmed", "True").await;
    mesh.remove("edge-cert.yaml");
    wait(api, "Gateway", EDGE, "ResolvedRefs", "False").await;
    eventually("an event tells it", async || {
        let events = api.list("events.events.k8s.io").await;
        let kept = |it: &Value| it["reason"] == "CertificateKept" && it["regarding"]["name"] == "edge";
        events.iter().any(|it| kept(it) && it["type"] == "Warning" && it["regarding"]["uid"].is_string())
    })
    .await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("sluice_certificates_kept", &[]), 1.0);
    let labels =
        [("server", "istio-system/edge/https"), ("hosts", "*.example.com"), ("secret", "istio-system/edge-cert")];
    assert!(metrics.sum("sluice_certificate_not_after_seconds", &labels) > 1.7e9);
    assert_eq!(mesh.browser().get(SHOP).await.text(), "here");
    assert_eq!(mesh.refusals(), Vec::<String>::new());
}

#[tokio::test]
async fn of_two_replicas_the_other_leads_in_less_than_twenty_seconds_after_a_kill() {
    let mesh = scene().await;
    let api = mesh.api();
    let mut first = replica(&mesh, 1).await;
    eventually("the first leads", async || !holder(api).await.is_empty()).await;
    let leader = holder(api).await;
    let second = replica(&mesh, 2).await;
    eventually("both tell what they have", async || replicas(api).await.len() == 2).await;
    mesh.routes("- directResponse: {status: 200, body: {string: \"twice\"}}");
    let (_, message) = wait(api, "VirtualService", ROUTES, "Programmed", "True").await;
    assert_eq!(message, "2 of 2 replicas at generation 2");
    for proxy in [&first, &second] {
        let browser = harness::client::Client::https(proxy.addresses().main, mesh.edge_trust());
        assert_eq!(browser.get(SHOP).await.text(), "twice");
    }
    assert_eq!(holder(api).await, leader, "the leader stays while it lives");

    let before = api.requests();
    first.kill();
    first.wait_exit(Duration::from_secs(5)).await;
    let took = within(Duration::from_secs(20), "the second leads", async || holder(api).await != leader).await;
    eprintln!("taken over after {:.1} s", took.as_secs_f64());
    // The new leader has looked at everything once it tells of something new.
    mesh.routes("- directResponse: {status: 200, body: {string: \"later\"}}");
    let told = async || condition(api, "VirtualService", ROUTES, "Accepted").await.is_some();
    eventually("the new leader writes", told).await;
    if let (Some(before), Some(after)) = (before, api.requests()) {
        let since = after.0[before.0.len()..].iter().filter(|it| it.user != "story");
        let written: Vec<&str> = since
            .filter(|it| it.verb == "patch" && it.resource.ends_with("/status"))
            .map(|it| it.resource.as_str())
            .collect();
        assert_eq!(written, ["virtualservices/status"], "what was right is not written again");
    }
}

#[tokio::test]
async fn a_replica_that_ends_hands_the_leadership_over_at_once() {
    let mesh = scene().await;
    let api = mesh.api();
    let mut first = replica(&mesh, 1).await;
    eventually("the first leads", async || !holder(api).await.is_empty()).await;
    let leader = holder(api).await;
    let _second = replica(&mesh, 2).await;
    eventually("both tell what they have", async || replicas(api).await.len() == 2).await;

    first.sigterm();
    let other = async || !holder(api).await.is_empty() && holder(api).await != leader;
    within(Duration::from_secs(5), "the other leads", other).await;
    first.wait_exit(Duration::from_secs(15)).await;
    assert_eq!(replicas(api).await.len(), 1, "the Lease of the replica that ended is gone");
}

const ALLOW_ALL: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: all, namespace: \
                         istio-system}\nspec: {rules: [{}]}\n";

/// Types of the conditions of an object.
async fn conditions(api: &Cluster, kind: &str, [namespace, name]: [&str; 2]) -> Vec<String> {
    let object = api.get(kind, namespace, name).await.expect("the object is there");
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|it| it["type"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_gateway_that_goes_for_good_takes_back_what_it_told_and_nothing_else() {
    let mesh = scene().await;
    let api = mesh.api();
    mesh.write("policy.yaml", ALLOW_ALL);
    let gateway = replica(&mesh, 1).await;
    wait(api, "Gateway", EDGE, "Programmed", "True").await;
    wait(api, "VirtualService", ROUTES, "Programmed", "True").await;
    wait(api, "AuthorizationPolicy", [EDGE[0], "all"], "Programmed", "True").await;
    let leader = holder(api).await;
    let foreign = serde_json::json!({"type": "Reconciled", "status": "True", "reason": "x", "message": "y"});
    let mut all = api.get("VirtualService", ROUTES[0], ROUTES[1]).await.expect("it is there")["status"].take();
    all["conditions"].as_array_mut().expect("conditions").push(foreign);
    api.patch_status("VirtualService", ROUTES, &serde_json::json!({"conditions": all["conditions"]})).await;
    // Told by the gateways of another workload.
    let other = documents(&edge_gateway("edge-cert", &["other.example.org"])).remove(0);
    let told = serde_json::json!({"type": "Programmed", "status": "True", "reason": "x", "message": "y"});
    let mut other = serde_json::json!({"apiVersion": other["apiVersion"], "kind": "Gateway", "spec": other["spec"]});
    other["metadata"] = serde_json::json!({"name": "other", "namespace": EDGE[0]});
    other["spec"]["selector"] = serde_json::json!({"istio": "another"});
    api.insert(vec![other]).await;
    api.patch_status("Gateway", [EDGE[0], "other"], &serde_json::json!({"conditions": [told]})).await;

    let config = mesh.kubeconfig().display().to_string();
    let arguments = ["withdraw", "--kubeconfig", &config, "--namespace", OURS[0], "--name", OURS[1]];
    let (code, text) = status(&arguments).await;

    assert_eq!(
        (code, text.as_str()),
        (0, "The conditions of istio-system/istio-ingressgateway are gone from 3 objects.\n")
    );
    assert_eq!(conditions(api, "Gateway", EDGE).await, Vec::<String>::new());
    assert_eq!(conditions(api, "AuthorizationPolicy", [EDGE[0], "all"]).await, Vec::<String>::new());
    assert_eq!(conditions(api, "VirtualService", ROUTES).await, ["Reconciled"]);
    assert_eq!(conditions(api, "Gateway", [EDGE[0], "other"]).await, ["Programmed"]);
    // The replica goes on serving, and leaves telling to whoever holds the Lease now.
    assert_ne!(holder(api).await, leader);
    mesh.routes("- directResponse: {status: 200, body: {string: \"later\"}}");
    eventually("the change is served", async || mesh.browser().get(SHOP).await.text() == "later").await;
    assert_eq!(conditions(api, "VirtualService", ROUTES).await, ["Reconciled"]);
    assert_eq!(mesh.refusals(), Vec::<String>::new(), "the rights of the chart are enough");
    // It was not for good: who lives leads again, and tells again.
    let told = async || {
        let found = condition(api, "VirtualService", ROUTES, "Programmed").await;
        found.is_some_and(|(status, _)| status == "True")
    };
    within(Duration::from_secs(40), "the replica leads again", told).await;
    drop(gateway);
}

/// Runs `sluice status`; gives its exit code and what it printed.
async fn status(arguments: &[&str]) -> (i32, String) {
    let mut command = tokio::process::Command::new(harness::binary::sluice());
    let output = command.arg("status").args(arguments).output().await.expect("sluice runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), printed)
}

#[tokio::test]
async fn status_lists_every_replica_and_fails_when_one_has_something_else() {
    let mesh = scene().await;
    let api = mesh.api();
    let first = replica(&mesh, 1).await;
    let _second = replica(&mesh, 2).await;
    eventually("both tell what they have", async || replicas(api).await.len() == 2).await;
    eventually("somebody leads", async || !holder(api).await.is_empty()).await;
    let config = api.admin().display().to_string();
    let arguments = ["--kubeconfig", &config, "--output", "json"];
    let mut last = (0, String::new());
    eventually("both are in sync", async || {
        last = status(&arguments).await;
        last.0 == 0
    })
    .await;
    let told: Value = serde_json::from_str(&last.1).expect("JSON");
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told.as_array().into_iter().flatten().filter(|it| it["leader"] == true).count(), 1, "{told}");
    let dump = first.admin_json("/config_dump").await;
    assert!(
        told.as_array().into_iter().flatten().all(|it| it["snapshot"] == dump["digest"]),
        "{told} {}",
        dump["digest"]
    );
    assert_eq!(told[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told[0]["certificates"]["count"], 2, "the edge's and the workload's: {told}");

    // A replica that is stuck with something older, and one that died.
    let lease = |name: &str, content: &str, renewed: &str| {
        serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "namespace": OURS[0], "name": format!("sluice-{}-{name}", OURS[1]),
                "labels": {"sluice.dev/replica-of": OURS[1]}, "annotations": {"sluice.dev/content": content},
            },
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 30, "renewTime": renewed},
        })
    };
    api.insert(vec![
        lease("stuck", "0", "2999-01-01T00:00:00.000000Z"),
        lease("dead", "0", "2001-01-01T00:00:00.000000Z"),
    ])
    .await;
    let (code, text) = status(&["--kubeconfig", &config, "--namespace", OURS[0]]).await;
    assert_eq!(code, 1, "{text}");
    let line = |name: &str| text.lines().find(|it| it.contains(name)).unwrap_or_default().to_owned();
    assert!(line("/stuck").contains("OUT OF SYNC") && line("/dead").contains("SILENT"), "{text}");

    let admin = first.addresses().admin.to_string();
    let (code, text) = status(&["--admin", &admin]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("istio-system/istio-ingressgateway/{admin}")) && text.contains("in sync"), "{text}");
    let (code, text) = status(&["--admin", &mesh.block.at(9, 1).to_string()]).await;
    assert_eq!(code, 2);
    assert!(text.contains("name the --admin address of a running proxy"), "{text}");
}
