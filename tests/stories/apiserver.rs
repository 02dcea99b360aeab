//! The stories' API server keeps the promises that clients of a real one count on.

use std::time::{Duration, Instant};

use harness::{
    apiserver::{ADMIN, ApiServer, Fault, StreamingLists},
    client::Client,
    cluster::Cluster,
    eventually::eventually,
    rest::Rest,
};
use serde_json::{Value, json};

const GATEWAYS: &str = "/apis/networking.istio.io/v1/namespaces/shop/gateways";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

fn rest(server: &ApiServer) -> Rest {
    Rest::new(Client::plain(server.address()), &server.url(), ADMIN)
}

fn gateway(name: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": []},
    })
}

async fn shop(names: &[&str]) -> (ApiServer, Rest) {
    let server = ApiServer::start().await;
    server.insert(names.iter().map(|name| gateway(name)).collect());
    let rest = rest(&server);
    (server, rest)
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().expect("every object has a resource version").to_owned()
}

#[tokio::test]
async fn pages_of_a_list_are_of_one_moment() {
    let (server, rest) = shop(&["a", "b", "c"]).await;
    let first = rest.get(&format!("{GATEWAYS}?limit=2")).await.json();
    server.delete("Gateway", "shop", "c");
    server.insert(vec![gateway("bb"), gateway("d")]);

    let next = first["metadata"]["continue"].as_str().expect("there is more");
    let second = rest.get(&format!("{GATEWAYS}?limit=2&continue={next}")).await.json();

    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let names: Vec<&Value> =
        second["items"].as_array().expect("items").iter().map(|it| &it["metadata"]["name"]).collect();
    assert_eq!(names, ["c"]);
    server.compact();
    let expired = rest.get(&format!("{GATEWAYS}?limit=2&continue={next}")).await;
    assert_eq!((expired.code(), expired.json()["reason"].as_str()), (410, Some("Expired")));
}

#[tokio::test]
async fn a_watch_goes_on_after_a_revision_and_ends_with_410_when_that_is_forgotten() {
    let (server, rest) = shop(&["a"]).await;
    let list = rest.get(GATEWAYS).await.json();
    server.insert(vec![gateway("b")]);
    let watch = format!("{GATEWAYS}?watch=true&resourceVersion={}", version(&list));

    let mut events = rest.watch(&watch).await;
    assert_eq!(events.told().await, ("ADDED".into(), "b".into()));
    server.patch("Gateway", ["shop", "a"], &json!({"metadata": {"labels": {"x": "y"}}}));
    assert_eq!(events.told().await, ("MODIFIED".into(), "a".into()));
    server.compact();
    server.delete("Gateway", "shop", "b");
    assert_eq!(events.told().await, ("DELETED".into(), "b".into()));

    let mut late = rest.watch(&watch).await;
    let event = late.next().await.expect("an event");
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(late.next().await, None);
    server.expire("Gateway");
    assert_eq!(events.told().await.0, "ERROR");
}

#[tokio::test]
async fn a_selected_watch_sees_objects_enter_and_leave() {
    let (server, rest) = shop(&["a"]).await;
    let mut events = rest.watch(&format!("{GATEWAYS}?watch=1&labelSelector=x%3Dy&allowWatchBookmarks=true")).await;
    let label = |value: Value| json!({"metadata": {"labels": {"x": value}}});

    server.patch("Gateway", ["shop", "a"], &label("y".into()));
    assert_eq!(events.told().await, ("ADDED".into(), "a".into()));
    server.patch("Gateway", ["shop", "a"], &label(Value::Null));
    assert_eq!(events.told().await, ("DELETED".into(), "a".into()));
}

#[tokio::test]
async fn bookmarks_and_streaming_lists_come_as_the_server_is_set() {
    let (server, rest) = shop(&["a"]).await;
    server.bookmark_every(Duration::from_millis(20));
    let mut events = rest.watch(&format!("{GATEWAYS}?watch=1&resourceVersion=1&allowWatchBookmarks=true")).await;
    assert_eq!(events.told().await, ("ADDED".into(), "a".into()));
    assert_eq!(events.told().await.0, "BOOKMARK");

    let stream =
        format!("{GATEWAYS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let mut events = rest.watch(&stream).await;
    assert_eq!(events.told().await, ("ADDED".into(), "a".into()));
    let end = events.next().await.expect("a bookmark");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    server.streaming_lists(StreamingLists::OldEtcd);
    assert_eq!(rest.watch(&stream).await.told().await.0, "ERROR");
    server.streaming_lists(StreamingLists::Refused);
    assert_eq!(rest.get(&stream).await.code(), 422);
}

#[tokio::test]
async fn an_update_of_an_old_state_is_a_conflict() {
    let (server, rest) = shop(&["a"]).await;
    let path = format!("{GATEWAYS}/a");
    let mut object = rest.get(&path).await.json();
    server.patch("Gateway", ["shop", "a"], &json!({"metadata": {"labels": {"x": "y"}}}));

    object["spec"]["selector"] = json!({"istio": "other"});
    let reply = rest.call("PUT", &path, &object).await;
    assert_eq!((reply.code(), reply.json()["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(rest.call("POST", GATEWAYS, &gateway("a")).await.json()["reason"], "AlreadyExists");
    assert_eq!(rest.get(&format!("{GATEWAYS}/z")).await.json()["reason"], "NotFound");
}

#[tokio::test]
async fn status_and_spec_are_written_apart_and_only_the_spec_counts() {
    let (_server, rest) = shop(&["a"]).await;
    let path = format!("{GATEWAYS}/a");
    let both = json!({"spec": {"selector": {"istio": "new"}}, "status": {"observedGeneration": 7}});

    let main = rest.patch_as("PATCH", &path, MERGE, &both).await.json();
    assert_eq!((&main["status"], &main["metadata"]["generation"]), (&Value::Null, &json!(2)));
    let both = json!({"spec": {"selector": {"istio": "ignored"}}, "status": {"observedGeneration": 2}});
    let status = rest.patch_as("PATCH", &format!("{path}/status"), MERGE, &both).await.json();
    assert_eq!((&status["status"]["observedGeneration"], &status["metadata"]["generation"]), (&json!(2), &json!(2)));
    assert_eq!(status["spec"]["selector"]["istio"], "new");

    let same = rest.patch_as("PATCH", &format!("{path}/status"), MERGE, &both).await.json();
    assert_eq!(version(&same), version(&status), "a write that changes nothing is none");
}

#[tokio::test]
async fn server_side_apply_keeps_and_defends_what_others_own() {
    let (_server, rest) = shop(&[]).await;
    rest.call("POST", "/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await;
    let config = |selector: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "a"}, "spec": {"selector": selector}});
    let by = |manager: &str| format!("{GATEWAYS}/a?fieldManager={manager}");
    let made = rest.patch_as("PATCH", &by("one"), APPLY, &config(json!({"x": "1", "y": "1"}))).await;
    assert_eq!(made.code(), 201, "{}", made.text());

    let refused = rest.patch_as("PATCH", &by("two"), APPLY, &config(json!({"x": "2"}))).await;
    assert_eq!(refused.code(), 409);
    assert!(
        refused.text().contains("conflict with \\\"one\\\"") && refused.text().contains(".spec.selector.x"),
        "{}",
        refused.text()
    );
    let forced =
        rest.patch_as("PATCH", &format!("{}&force=true", by("two")), APPLY, &config(json!({"x": "2", "z": "2"}))).await;
    assert_eq!(forced.json()["spec"]["selector"], json!({"x": "2", "y": "1", "z": "2"}));

    let less = rest.patch_as("PATCH", &by("two"), APPLY, &config(json!({"x": "2"}))).await;
    assert_eq!(less.json()["spec"]["selector"], json!({"x": "2", "y": "1"}), "what nobody applies any more goes");
    let status = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "a"}, "status": {"observedGeneration": 1}});
    let path = format!("{GATEWAYS}/a/status?fieldManager=three&force=true");
    let status = rest.patch_as("PATCH", &path, APPLY, &status).await.json();
    assert_eq!(status["status"]["observedGeneration"], 1);
    assert_eq!(status["spec"]["selector"], json!({"x": "2", "y": "1"}));
}

#[tokio::test]
async fn a_stopped_server_comes_back_with_its_objects() {
    let (server, rest) = shop(&["a"]).await;
    let mut events = rest.watch(&format!("{GATEWAYS}?watch=1")).await;
    assert_eq!(events.told().await.1, "a");

    server.stop().await;
    assert_eq!(events.next().await, None, "the open stream is cut");
    assert!(rest.send("GET", GATEWAYS, ("application/json", &Value::Null)).await.is_err());
    server.start_again().await;

    assert_eq!(rest.get(&format!("{GATEWAYS}/a")).await.code(), 200);
    assert_eq!(server.requests().count("watch", "gateways"), 1);
    eventually("the cut watch is gone", async || server.watches() == 0).await;
}

#[tokio::test]
async fn the_server_fails_as_it_is_told() {
    let (server, rest) = shop(&["a"]).await;
    server.fail("/gateways", Fault::Status(503), 1);
    server.fail("/gateways", Fault::Cut, 1);
    let busy = rest.get(GATEWAYS).await;
    assert_eq!((busy.code(), busy.header("retry-after")), (503, "1"));
    assert!(rest.send("GET", GATEWAYS, ("application/json", &Value::Null)).await.is_err());
    assert_eq!(rest.get(GATEWAYS).await.code(), 200);

    server.hide("Gateway", true);
    assert_eq!(rest.get(GATEWAYS).await.code(), 404);
    assert!(!rest.get("/apis/networking.istio.io/v1").await.text().contains("\"gateways\""));
    server.hide("Gateway", false);
    assert_eq!(rest.get(GATEWAYS).await.json()["items"][0]["metadata"]["name"], "a");
    let mut events = rest.watch(&format!("{GATEWAYS}?watch=1")).await;
    events.next().await;
    server.drop_watches();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn fifteen_thousand_objects_are_no_trouble() {
    let server = ApiServer::start().await;
    let kinds = [("Gateway", "networking.istio.io/v1"), ("VirtualService", "networking.istio.io/v1"), ("Secret", "v1")];
    let object = |(kind, version): (&str, &str), at: usize| {
        let hosts: Vec<String> = (0..3).map(|host| format!("{host}.shop-{at}.example.com")).collect();
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": format!("shop-{at:05}"), "namespace": "shop"}, "spec": {"hosts": hosts}})
    };
    let start = Instant::now();
    server.insert(kinds.iter().flat_map(|kind| (0..5_000).map(|at| object(*kind, at))).collect());
    let inserted = start.elapsed();

    let rest = rest(&server);
    let mut next = String::new();
    let mut items = 0;
    loop {
        let page = rest.get(&format!("{GATEWAYS}?limit=500&continue={next}")).await.json();
        items += page["items"].as_array().map_or(0, Vec::len);
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        token.clone_into(&mut next);
    }
    let listed = start.elapsed() - inserted;

    println!("15,000 objects in {inserted:?}, 5,000 listed in {listed:?}");
    assert_eq!((items, server.requests().count("list", "gateways")), (5_000, 10));
    assert!(inserted + listed < Duration::from_secs(10), "{inserted:?} and {listed:?}");
}

#[tokio::test]
async fn stories_run_against_whatever_cluster_there_is() {
    let cluster = Cluster::from_env().await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": "echo", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.9"},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}]},
    });
    for _ in ["made", "replaced"] {
        cluster.insert(vec![pod.clone(), service.clone()]).await;
    }
    let pod = cluster.get("Pod", "shop", "p").await.expect("the pod is there");
    assert_eq!((&pod["status"]["podIP"], &pod["spec"]["serviceAccountName"]), (&json!("10.0.0.9"), &json!("default")));
    assert_eq!(cluster.get("Service", "shop", "s").await.expect("it is there")["spec"]["ports"][0]["targetPort"], 80);

    let token = cluster.token("shop", "nobody").await;
    let gateways = Rest::new(cluster.rest().client().clone(), cluster.rest().url(), &token).get(GATEWAYS).await;
    assert_eq!((gateways.code(), gateways.json()["reason"].as_str()), (403, Some("Forbidden")));
    cluster.stop().await;
    cluster.start_again().await;
    assert!(cluster.delete("Pod", "shop", "p").await);
    assert_eq!(cluster.get("Gateway", "shop", "none").await, None);
}
