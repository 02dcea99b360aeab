//! From when a policy is in force, and what it does not go around.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{
    client::{Client, get},
    eventually::eventually,
    grpc::Grpc,
    mesh::{HOST, Mesh, SHOP},
    workload::Workload,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::opaque;

/// An AuthorizationPolicy of the gateway.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: istio-system}}\n\
         spec: {{selector: {{matchLabels: {{istio: ingressgateway}}}}, {spec}}}\n"
    )
}

async fn edge() -> (Mesh, Workload) {
    let mesh = Mesh::with_edge();
    let reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    (mesh, reviews)
}

/// What is in force, as everybody who asks can know: even = this many changes are, odd = one is on its way.
#[derive(Default)]
struct Seen {
    phase: AtomicUsize,
    stop: AtomicBool,
    judged: AtomicUsize,
}

/// Asks again and again; every answer has to be that of the policy that was in force all the while.
async fn ask(client: Client, seen: Arc<Seen>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut connection = client.connect(HOST).await.expect("the gateway listens");
    while !seen.stop.load(Ordering::SeqCst) && faults.len() < 5 {
        let before = seen.phase.load(Ordering::SeqCst);
        let reply = connection.send(get(SHOP)).await;
        let after = seen.phase.load(Ordering::SeqCst);
        let status = reply.as_ref().map(|reply| reply.code()).unwrap_or_default();
        let right = if before.is_multiple_of(4) { 200 } else { 403 };
        let is_settled = before == after && before.is_multiple_of(2);
        seen.judged.fetch_add(usize::from(is_settled), Ordering::SeqCst);
        if (is_settled && status != right) || ![200, 403].contains(&status) {
            faults.push(format!("phase {before} to {after}: {status}, {:?}", reply.err()));
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_answered_by_the_policy_before_once_the_next_is_in_force() {
    let (mesh, _reviews) = edge().await;
    let open = policy("change", "action: DENY, rules: [{to: [{operation: {paths: [/never]}}]}]");
    let shut = policy("change", "action: DENY, rules: [{}]");
    mesh.write("policy.yaml", &open);
    let gateway = mesh.gateway().await;
    let seen = Arc::new(Seen::default());
    let mut asking = JoinSet::new();
    for number in 0..8 {
        let client = if number % 2 == 0 { mesh.browser() } else { mesh.browser().h2() };
        asking.spawn(ask(client, Arc::clone(&seen)));
    }

    let generation = async || gateway.metrics().await.sum("sluice_snapshot_generation", &[]);
    for change in 0..20 {
        let before = generation().await;
        seen.phase.fetch_add(1, Ordering::SeqCst);
        mesh.write("policy.yaml", if change % 2 == 0 { &shut } else { &open });
        eventually("the next one is in force", async || generation().await > before).await;
        seen.phase.fetch_add(1, Ordering::SeqCst);
        let judged = seen.judged.load(Ordering::SeqCst);
        eventually("a hundred ask", async || seen.judged.load(Ordering::SeqCst) >= judged + 100).await;
    }
    seen.stop.store(true, Ordering::SeqCst);

    let faults: Vec<String> = asking.join_all().await.concat();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn ports_of_operators_are_no_way_around_a_policy_and_no_policy_closes_them() {
    let (mesh, _reviews) = edge().await;
    mesh.write("policy.yaml", &policy("shut", "action: DENY, rules: [{}]"));
    let gateway = mesh.gateway().await;
    let at = gateway.addresses();

    assert_eq!(mesh.browser().status(SHOP).await, 403);
    assert_eq!(Client::plain(at.status).status("http://localhost/healthz/ready").await, 200);
    assert_eq!(Client::plain(at.stats).status("http://localhost/stats/prometheus").await, 200);
    // The admin pages know no name but this machine's.
    for (operators, code) in [(at.status, 404), (at.stats, 404), (at.admin, 403)] {
        let reply = Client::plain(operators).get(&format!("http://{HOST}/anything")).await;
        assert_eq!(reply.code(), code, "{}", reply.text());
    }
    for path in
        ["/healthz/ready", "/stats/prometheus", "/.well-known/acme-challenge/x", "/.well-known/acme-challenge/../x"]
    {
        for client in [mesh.browser(), mesh.browser().h2(), mesh.plain_browser()] {
            assert_eq!(client.status(&format!("{SHOP}{path}")).await, 403, "{path}");
        }
    }
}

#[tokio::test]
async fn a_verdict_is_told_to_grpc_to_the_log_and_to_the_metrics() {
    let (mesh, _reviews) = edge().await;
    let spec = "action: DENY, rules: [{to: [{operation: {paths: ['/echo.Echo/Unary']}}]}]";
    let tried = policy("tried", "action: DENY, rules: [{}]")
        .replace("{name: tried,", "{annotations: {istio.io/dry-run: 'true'}, name: tried,");
    mesh.write("policy.yaml", &(policy("calls", spec) + "---\n" + &tried));
    let gateway = mesh.gateway().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");

    let unary = channel.unary("/echo.Echo/Unary", "ping").await.expect("a finished call");

    assert_eq!((unary.status, &*unary.message), (Some(7), "RBAC: access denied"));
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    let told = async |verdict: &str, policy: &str| {
        gateway.metrics().await.sum("sluice_authorization_total", &[("verdict", verdict), ("policy", policy)])
    };
    assert_eq!(told("denied", "ns[istio-system]-policy[calls]").await, 1.0);
    assert_eq!(told("dry_run_denied", "ns[istio-system]-policy[tried]").await, 2.0);
    assert_eq!(told("allowed", "").await, 1.0);
    gateway.logs("ns[istio-system]-policy[calls]-rule[0]").await;
    let logged = async || {
        gateway.access_log().contains("rbac_access_denied_matched_policy[ns[istio-system]-policy[calls]-rule[0]]")
    };
    let time = eventually("the access log says why", logged).await;
    assert!(time < Duration::from_secs(15));
}

#[tokio::test]
async fn who_holds_his_handshake_is_judged_by_the_policy_in_force_at_its_end() {
    let mesh = Mesh::new();
    let db = mesh.block.at(80, 9443);
    let _db = opaque::counting(db, "hello\n").await;
    let servers =
        "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [a.passed.test], tls: {mode: PASSTHROUGH}}\n";
    let tls = "  tls: [{match: [{sniHosts: [a.passed.test]}], route: [{destination: {host: db.test}}]}]\n";
    let routes = opaque::routes("a.passed.test", tls) + &opaque::entry("db", 9443, &[db]);
    mesh.write("bytes.yaml", &(opaque::gateway(servers) + &routes));
    let gateway = mesh.gateway().await;
    let hello = opaque::hello("a.passed.test");
    let (first, rest) = hello.split_at(100);
    let hold = async || {
        let mut held = TcpStream::connect(gateway.addresses().main).await.expect("the gateway listens");
        held.write_all(first).await.expect("it reads");
        held
    };
    let finish = async |mut held: TcpStream| {
        held.write_all(rest).await.expect("it reads");
        held.shutdown().await.expect("an end of our own");
        let mut heard = Vec::new();
        // A reset is told by what is missing.
        let _ = held.read_to_end(&mut heard).await;
        String::from_utf8_lossy(&heard).into_owned()
    };
    let (let_in, shut_out) = (hold().await, hold().await);
    let active = async || gateway.metrics().await.sum("sluice_downstream_connections_active", &[]) >= 2.0;
    eventually("both are in their handshakes", active).await;

    assert!(finish(let_in).await.starts_with("hello"));
    let generation = async || gateway.metrics().await.sum("sluice_snapshot_generation", &[]);
    let before = generation().await;
    mesh.write("policy.yaml", &policy("shut", "action: DENY, rules: [{}]"));
    eventually("the policy is in force", async || generation().await > before).await;

    assert_eq!(finish(shut_out).await, "");
    gateway.logs("connection refused: rbac_access_denied_matched_policy[ns[istio-system]-policy[shut]-rule[0]]").await;
}

#[tokio::test]
async fn a_file_that_nobody_can_read_at_a_start_keeps_the_ports_shut() {
    let (mesh, _reviews) = edge().await;
    let shut = policy("shut", "action: DENY, rules: [{}]");
    let latin = [b"# caf\xe9\n", shut.as_bytes()].concat();
    std::fs::write(mesh.config.path().join("policy.yaml"), &latin).expect("the file can be written");
    let gateway = mesh.launch_gateway(&[]);
    let shut_for = async |why: &str| {
        let reply = gateway.readiness().await;
        reply.is_some_and(|reply| reply.code() == 503 && reply.text().contains(why))
    };

    eventually("it says why it is not ready", async || shut_for("policy.yaml").await).await;
    gateway.logs("no port opens before this is read, or gone").await;
    assert!(TcpStream::connect(gateway.addresses().main).await.is_err(), "nobody listens");

    mesh.write("policy.yaml", &shut);
    let gateway = gateway.ready().await;
    assert_eq!(mesh.browser().status(SHOP).await, 403);

    // Later the last good version stands for it.
    std::fs::write(mesh.config.path().join("policy.yaml"), &latin).expect("the file can be written");
    gateway.logs("not UTF-8").await;
    assert_eq!(mesh.browser().status(SHOP).await, 403);
}

#[tokio::test]
async fn a_file_that_nobody_could_read_is_forgotten_when_it_is_gone() {
    let (mesh, _reviews) = edge().await;
    std::fs::write(mesh.config.path().join("stray.yaml"), b"\xff\xfe").expect("the file can be written");
    let gateway = mesh.launch_gateway(&[]);
    gateway.logs("no port opens before this is read, or gone").await;
    assert!(TcpStream::connect(gateway.addresses().main).await.is_err(), "nobody listens");

    mesh.remove("stray.yaml");

    let _gateway = gateway.ready().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
}
