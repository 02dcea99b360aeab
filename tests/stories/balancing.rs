//! Which endpoint a request goes to: with whom clients stay, who is new, and how long conversations are spread.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{
    client::{Client, get},
    endpoint::{Call, Endpoint},
    envoy::{self, Envoy},
    eventually::{eventually, within},
    gateway::Proxy,
    grpc::frame,
    mesh::{Mesh, SHOP},
    message::{Answer, Version},
    process::Process,
    program,
    workload::Workload,
    yaml::{self, destination_rule, indent},
};

use crate::envoy::{bootstrap, socket};

/// An endpoint of gRPC that counts its calls.
async fn counting(address: SocketAddr) -> (Endpoint, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let play = move |mut call: Call| {
        let count = Arc::clone(&count);
        async move {
            call.read().await;
            count.fetch_add(1, Ordering::Relaxed);
            let mut answer = Answer::new(200, frame(b"an answer")).header("content-type", "application/grpc");
            answer.trailers.insert("grpc-status", "0".parse().expect("a value"));
            call.answer(answer).await;
        }
    };
    (Endpoint::start(address, Version::Two, play).await, calls)
}

/// How many calls each endpoint gets of the next `count`.
async fn next(count: usize, calls: &[Arc<AtomicUsize>]) -> Vec<usize> {
    let now = || calls.iter().map(|calls| calls.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let before = now();
    let goal = before.iter().sum::<usize>() + count;
    let there = async || now().iter().sum::<usize>() >= goal;
    within(Duration::from_secs(60), &format!("{count} calls more"), there).await;
    now().iter().zip(before).map(|(now, before)| now - before).collect()
}

#[tokio::test]
async fn calls_of_one_grpc_connection_are_spread_and_a_new_replica_takes_its_share() {
    let story = "calls_of_one_grpc_connection_are_spread_and_a_new_replica_takes_its_share";
    let Some(python) = program::executable(story, "python") else { return };
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    mesh.route_all_to("reviews");
    let (mut endpoints, mut calls) = (Vec::new(), Vec::new());
    for version in ["v1", "v2", "v3"] {
        let (endpoint, count) = counting(mesh.workload("reviews").version(version).declare()).await;
        endpoints.push(endpoint);
        calls.push(count);
    }
    let gateway = mesh.gateway().await;
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let root = folder.path().join("root.pem");
    std::fs::write(&root, mesh.pki.edge.root_pem()).expect("the file can be written");
    let (to, root) = (mesh.block.at(1, 8443).to_string(), root.display().to_string());
    let flags = [program::script("grpc_many.py"), to, root];
    let mut client = Process::start("the client of grpcio", &python, flags);

    let even = next(9000, &calls).await;
    assert!(even.iter().all(|count| count.abs_diff(3000) <= 90), "{even:?}");

    // The fourth one listens before its pod is known.
    let address = SocketAddr::new(mesh.block.ip(60), 8080);
    let (fourth, count) = counting(address).await;
    let pod = yaml::Pod {
        namespace: "shop".into(),
        name: "reviews-v4".into(),
        app: "reviews".into(),
        version: "v4".into(),
        ip: address.ip().to_string(),
        ports: vec![8080],
        sidecar: false,
    };
    mesh.write("pod-reviews-v4.yaml", &pod.yaml());
    let joined = async || count.load(Ordering::Relaxed) > 0;
    within(Duration::from_secs(2), "the fourth replica is called", joined).await;
    endpoints.push(fourth);
    calls.push(Arc::clone(&count));
    let even = next(8000, &calls).await;
    assert!(even.iter().all(|count| count.abs_diff(2000) <= 100), "{even:?}");

    assert!(client.ended().is_none(), "a call failed: {}", client.stdout());
    assert_eq!(
        gateway.metrics().await.sum("sluice_downstream_connections_active", &[]),
        1.0,
        "one connection did it all"
    );
}

/// Three pods of `reviews` behind a gateway, balanced as `policy` says.
async fn three(policy: &str) -> (Mesh, Vec<Workload>) {
    let mesh = Mesh::with_edge();
    let mut pods = Vec::new();
    for version in ["v1", "v2", "v3"] {
        pods.push(mesh.workload("reviews").version(version).start().await);
    }
    mesh.write("rule.yaml", &destination_rule("reviews", policy));
    mesh.route_all_to("reviews");
    (mesh, pods)
}

/// Which pod each of these users is sent to. Every request comes on a connection of its own, and so to any worker.
async fn pods_of(client: &Client, users: usize) -> BTreeMap<usize, String> {
    let mut pods = BTreeMap::new();
    for user in 0..users {
        let request = |user: usize| {
            let mut request = get(SHOP);
            request.headers_mut().insert("x-user", user.to_string().parse().expect("a value"));
            request
        };
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            seen.insert(client.send(request(user)).await.expect("an answer").echoed("pod"));
        }
        assert_eq!(seen.len(), 1, "user {user} stays with one pod: {seen:?}");
        pods.insert(user, seen.pop_first().unwrap_or_default());
    }
    pods
}

#[tokio::test]
async fn a_key_leads_to_the_same_endpoint_from_every_worker_and_replica_and_stays_when_others_go() {
    for table in ["ringHash: {}", "maglev: {}"] {
        let policy =
            format!("trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: x-user, {table}}}}}}}");
        let (mesh, pods) = three(&policy).await;
        let _gateway = mesh.gateway_with(&["--workers", "3"]).await;
        let replica = mesh.replica(2, &[]).await;
        let other = Client::https(replica.addresses().main, mesh.edge_trust());

        let here = pods_of(&mesh.browser(), 40).await;
        assert_eq!(here, pods_of(&other, 40).await, "{table}");
        assert_eq!(here.values().collect::<BTreeSet<_>>().len(), 3, "{table}: {here:?}");

        let gone = pods[1].pod.name.clone();
        mesh.remove(&format!("pod-{gone}.yaml"));
        let left = async || {
            let reply = replica.admin("/clusters").await.text();
            !reply.contains(&pods[1].address.to_string())
        };
        eventually("the replica has heard of it", left).await;
        let after = pods_of(&other, 40).await;
        let moved = here.iter().filter(|(user, pod)| **pod != gone && after[user] != **pod).count();
        assert!(moved <= 2, "{table}: {moved} users moved without need");
    }
}

/// Envoy in front of these endpoints, by Maglev and a cookie.
async fn envoy_by_cookie(envoy: &std::path::Path, mesh: &Mesh, pods: &[Workload]) -> (Envoy, Client) {
    let endpoints: Vec<String> =
        pods.iter().map(|pod| format!("{{endpoint: {{address: {{{}}}}}}}", socket(pod.address))).collect();
    let cluster = format!(
        "- name: reviews\n  type: STATIC\n  lb_policy: MAGLEV\n  load_assignment:\n    cluster_name: reviews\n    endpoints:\n    \
         - lb_endpoints: [{}]\n",
        endpoints.join(", ")
    );
    let manager = "name: envoy.filters.network.http_connection_manager\ntyped_config:\n  \
         '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n  \
         stat_prefix: http\n  http_filters:\n  - name: router\n    \
         typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n  \
         route_config: {virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: reviews, \
         hash_policy: [{cookie: {name: sid, ttl: 60s, path: /, attributes: [{name: SameSite, value: Lax}]}}]}}]}]}\n";
    let listener = format!(
        "- name: outbound\n  address: {{{}}}\n  filter_chains:\n  - filters:\n    -\n{}\n",
        socket(mesh.block.at(91, 15_001)),
        indent(manager, 6)
    );
    let admin = mesh.block.at(91, 9901);
    let envoy = Envoy::start(envoy, &bootstrap(admin, &listener, &cluster), admin).await;
    (envoy, Client::plain(mesh.block.at(91, 15_001)))
}

/// The pod that a client with this cookie is sent to.
async fn pod_by_cookie(client: &Client, url: &str, cookie: &str) -> String {
    let mut request = get(url);
    request.headers_mut().insert("cookie", format!("sid={cookie}").parse().expect("a value"));
    let reply = client.send(request).await.expect("an answer");
    assert_eq!(reply.header("set-cookie"), "", "there is a cookie: {cookie}");
    reply.echoed("pod")
}

#[tokio::test]
async fn a_cookie_of_envoys_leads_where_it_leads_behind_envoy_and_ours_is_made_alike() {
    let story = "a_cookie_of_envoys_leads_where_it_leads_behind_envoy_and_ours_is_made_alike";
    let Some(executable) = envoy::executable(story) else { return };
    let (mesh, pods) = three(
        "trafficPolicy:\n  loadBalancer:\n    consistentHash:\n      maglev: {}\n      \
         httpCookie: {name: sid, ttl: 60s, path: /, attributes: [{name: SameSite, value: Lax}]}",
    )
    .await;
    let _gateway = mesh.gateway().await;
    let (_envoy, theirs) = envoy_by_cookie(&executable, &mesh, &pods).await;
    let ours = mesh.browser();
    const THEIRS: &str = "http://shop.example.com/";

    let (made_by_envoy, made_by_us) = (theirs.get(THEIRS).await, ours.get(SHOP).await);
    let form = |text: &str| {
        let (value, rest) = text.strip_prefix("sid=\"").and_then(|text| text.split_once('"')).expect("a quoted value");
        (value.to_owned(), value.len(), value.bytes().all(|byte| byte.is_ascii_hexdigit()), rest.to_owned())
    };
    let (their_value, their_length, their_hex, their_rest) = form(made_by_envoy.header("set-cookie"));
    let (our_value, our_length, our_hex, our_rest) = form(made_by_us.header("set-cookie"));
    assert_eq!((our_length, our_hex, our_rest), (their_length, their_hex, their_rest));

    assert_eq!(pod_by_cookie(&ours, SHOP, &their_value).await, made_by_envoy.echoed("pod"));
    assert_eq!(pod_by_cookie(&theirs, THEIRS, &our_value).await, made_by_us.echoed("pod"));
    for number in 0..40 {
        let cookie = format!("visitor-{number}");
        let (here, there) = (pod_by_cookie(&ours, SHOP, &cookie).await, pod_by_cookie(&theirs, THEIRS, &cookie).await);
        assert_eq!(here, there, "{cookie}");
    }
}

/// The lines of `/clusters` about `reviews`, by pod.
async fn lines(gateway: &Proxy, pods: &[&Workload]) -> Vec<String> {
    let page = gateway.admin("/clusters").await.text();
    let line = |pod: &&Workload| {
        let found = page.lines().find(|line| line.contains(&format!(" {} ", pod.address)));
        found.unwrap_or_default().to_owned()
    };
    pods.iter().map(line).collect()
}

#[tokio::test]
async fn a_new_endpoint_warms_up_beside_one_that_is_warm_over_a_reload() {
    let mesh = Mesh::with_edge();
    let policy = "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 3s, minimumPercent: 5}}}";
    mesh.write("rule.yaml", &destination_rule("reviews", policy));
    mesh.route_all_to("reviews");
    let old = mesh.workload("reviews").start().await;
    let gateway = mesh.gateway().await;
    eventually("the first one is warm", async || !lines(&gateway, &[&old]).await[0].contains("warm=")).await;

    let new = mesh.workload("reviews").version("v2").start().await;

    let beside = async || {
        let lines = lines(&gateway, &[&old, &new]).await;
        !lines[0].contains("warm=") && lines[1].contains("warm=")
    };
    eventually("the second one is new, and the first one is not", beside).await;
    mesh.write(
        "rule.yaml",
        &destination_rule("reviews", &format!("{policy}\nsubsets: [{{name: v1, labels: {{version: v1}}}}]")),
    );
    let warm = async || {
        let lines = lines(&gateway, &[&old, &new]).await;
        !lines[1].is_empty() && lines.iter().all(|line| !line.contains("warm="))
    };
    within(Duration::from_secs(5), "both are warm", warm).await;
}

#[tokio::test]
async fn an_ejected_endpoint_is_named_with_the_reason_and_stays_out_over_a_reload() {
    let mesh = Mesh::with_edge();
    let bad = Endpoint::start(mesh.workload("reviews").version("v2").declare(), Version::One, async |call: Call| {
        call.answer(Answer::new(500, "broken")).await;
    })
    .await;
    let good = mesh.workload("reviews").start().await;
    let policy = "trafficPolicy:\n  loadBalancer: {simple: ROUND_ROBIN}\n  \
                  outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 60s, maxEjectionPercent: 50}";
    mesh.write("rule.yaml", &destination_rule("reviews", policy));
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    let mut failed = 0;
    for _ in 0..6 {
        failed += usize::from(mesh.browser().get(SHOP).await.code() == 500);
    }
    assert_eq!(failed, 3);
    gateway.logs("an endpoint is ejected").await;
    gateway.logs("consecutive5xxErrors: 3 in a row").await;
    let metrics = gateway.metrics().await;
    let cluster = [("cluster_name", "outbound|8080||reviews.shop.svc.cluster.local")];
    assert_eq!(metrics.sum("envoy_cluster_outlier_detection_ejections_active", &cluster), 1.0);
    assert!(gateway.admin("/clusters").await.text().contains(" ejected"));

    mesh.routes("- headers: {response: {set: {x-edition: two}}}\n  route: [{destination: {host: reviews, port: {number: 8080}}}]");
    eventually("the reload is there", async || mesh.browser().get(SHOP).await.header("x-edition") == "two").await;
    for _ in 0..10 {
        assert_eq!(mesh.browser().get(SHOP).await.echoed("pod"), good.pod.name);
    }

    mesh.write("rule.yaml", &destination_rule("reviews", "trafficPolicy:\n  loadBalancer: {simple: ROUND_ROBIN}"));
    let told = async || gateway.metrics().await.sum("envoy_cluster_outlier_detection_ejections_active", &cluster);
    eventually("nobody is ejected without the rule", async || told().await == 0.0).await;
    drop(bad);
}
