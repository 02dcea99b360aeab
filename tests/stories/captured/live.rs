//! What is asked of those who come in changes while they come.

use std::path::Path;

use harness::{eventually::eventually, netns::Pod, pki::spiffe, process::Process};

use super::stage::{FILES, HTTP, Stage, pod_of, text, url};

/// Who calls again and again, and tells what each answer was.
struct Caller(Process);

impl Caller {
    fn start(stage: &Stage, pod: &Pod, host: &str, address: &str) -> Self {
        // Each call has a connection of its own, so that each asks anew.
        let line = format!(
            "import urllib.request as u, time\n\
             while True:\n\
             \x20 try: r = u.urlopen(u.Request('{address}', headers={{'Host': '{host}'}}), timeout=5).status\n\
             \x20 except Exception as e: r = getattr(e, 'code', 0)\n\
             \x20 print(r, flush=True)"
        );
        Self(stage.start_python(pod, &line))
    }

    fn answers(&self) -> Vec<String> {
        self.0.stdout().lines().map(str::to_owned).collect()
    }

    async fn more(&self, what: &str) -> Vec<String> {
        let before = self.answers().len();
        eventually(what, async || self.answers().len() >= before + 20).await;
        self.answers().split_off(before)
    }
}

/// A PeerAuthentication of the workload, and of one of its ports.
fn of_workload(mode: &str, port: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: reviews, namespace: shop}}\nspec:\n  \
         selector: {{matchLabels: {{app: reviews}}}}\n  mtls: {{mode: {mode}}}\n  portLevelMtls: {{{HTTP}: {{mode: {port}}}}}\n"
    )
}

#[tokio::test]
async fn strictness_changes_at_every_level_and_harms_nobody_who_has_a_sidecar() {
    let story = "strictness_changes_at_every_level_and_harms_nobody_who_has_a_sidecar";
    let Some(stage) = Stage::new(story, false) else { return };
    let (client, server, outside) = (&stage.network.client, &stage.network.server, &stage.network.outside);
    client.init(&[]);
    server.init(&[]);
    stage.mesh.remove("peers-shop.yaml");
    let sidecar = stage.sidecar("reviews", &["--drain-time", "1s"]).await;
    let _caller = stage.sidecar("ratings", &[]).await;
    let _applications = stage.applications();
    let service = url(stage.reviews(), HTTP, "/");
    let plain = url(server.ip, HTTP, "/");
    let other = url(server.ip, FILES, "/file.txt");
    eventually("the mesh is up", async || stage.status(client, "reviews:8080", &service) == 200).await;
    eventually("plain text is taken", async || stage.status(outside, "reviews", &other) == 200).await;
    let member = Caller::start(&stage, client, "reviews:8080", &service);
    let begun = member.more("the member calls").await;
    assert!(begun.iter().all(|it| it == "200"), "{begun:?}");

    // Kept connections of who has no sidecar: one that is idle, one with a request under way.
    let keep = format!(
        "import http.client as h\nc = h.HTTPConnection('{}', {HTTP}, timeout=30)\nc.request('GET', '/'); c.getresponse().read()\n\
         print('kept', flush=True)\nprint('ended' if c.sock.recv(1) == b'' else 'spoken to', flush=True)",
        server.ip
    );
    let kept = stage.start_python(outside, &keep);
    eventually("it is kept", async || kept.stdout().contains("kept")).await;
    let streamed = format!(
        "import http.client as h\nc = h.HTTPConnection('{}', {HTTP}, timeout=30)\nc.request('GET', '/stream/25'); r = c.getresponse()\n\
         print(r.readline(), flush=True)\nprint(len(r.read().splitlines()), 'more lines', flush=True)",
        server.ip
    );
    let under_way = stage.start_python(outside, &streamed);
    eventually("a request is under way", async || !under_way.stdout().is_empty()).await;

    stage.authenticate("istio-system", "STRICT");
    eventually("the mesh is strict", async || stage.status(outside, "reviews", &plain) == 0).await;
    eventually("what was kept has ended", async || kept.stdout().contains("ended")).await;
    eventually("what was under way is answered", async || under_way.stdout().contains("24 more lines")).await;
    stage.authenticate("shop", "PERMISSIVE");
    eventually("the namespace is not", async || stage.status(outside, "reviews", &plain) == 200).await;
    stage.mesh.write("peers-reviews.yaml", &of_workload("STRICT", "UNSET"));
    eventually("the workload is", async || stage.status(outside, "reviews", &plain) == 0).await;
    assert_eq!(stage.status(outside, "reviews", &other), 0);
    stage.mesh.write("peers-reviews.yaml", &of_workload("STRICT", "PERMISSIVE"));
    eventually("one port is not", async || stage.status(outside, "reviews", &plain) == 200).await;
    assert_eq!(stage.status(outside, "reviews", &other), 0);
    stage.mesh.write("peers-reviews.yaml", &of_workload("PERMISSIVE", "STRICT"));
    eventually("that port is", async || stage.status(outside, "reviews", &plain) == 0).await;
    assert_eq!(stage.status(outside, "reviews", &other), 200);
    stage.mesh.remove("peers-reviews.yaml");
    eventually("nothing is", async || stage.status(outside, "reviews", &plain) == 200).await;

    member.more("the member calls on").await;
    let all = member.answers();
    assert!(
        all.iter().all(|it| it == "200"),
        "of {} calls: {:?}",
        all.len(),
        all.iter().filter(|it| *it != "200").collect::<Vec<_>>()
    );
    assert!(sidecar.stderr().contains("PlainTextToStrict"), "{}", sidecar.stderr());
}

#[tokio::test]
async fn who_gets_a_sidecar_is_spoken_to_in_mutual_tls_from_then_on() {
    let story = "who_gets_a_sidecar_is_spoken_to_in_mutual_tls_from_then_on";
    let Some(stage) = Stage::new(story, false) else { return };
    let (client, server) = (&stage.network.client, &stage.network.server);
    client.init(&[]);
    stage.authenticate("shop", "PERMISSIVE");
    let write = |sidecar: bool| stage.mesh.write("reviews.yaml", &pod_of("reviews", server, sidecar).to_string());
    // The pod of before, without a sidecar: a new object takes its place.
    let shop = std::fs::read_to_string(stage.mesh.config.path().join("shop.yaml")).expect("it was written");
    let rest: Vec<&str> = shop.split("---\n").filter(|it| !it.contains("reviews-v1")).collect();
    stage.mesh.write("shop.yaml", &rest.join("---\n"));
    write(false);
    let _caller = stage.sidecar("ratings", &[]).await;
    let _applications = stage.applications();
    let service = url(stage.reviews(), HTTP, "/");
    let answer = async || stage.fetch(client, &["-H", "Host: reviews:8080", &service]).await;
    eventually("it is reached", async || stage.status(client, "reviews:8080", &service) == 200).await;
    assert!(answer().await.contains("\"peer\": null"), "in plain text");

    server.init(&[]);
    let sidecar = stage.sidecar("reviews", &[]).await;
    assert!(answer().await.contains("\"peer\": null"), "nobody knows of it yet");
    write(true);
    let peer = format!("\"peer\": \"{}\"", spiffe("shop", "ratings"));
    eventually("mutual TLS is spoken", async || answer().await.contains(&peer)).await;
    stage.authenticate("shop", "STRICT");
    eventually("that is all there is", async || {
        stage.status(&stage.network.outside, "reviews", &url(server.ip, HTTP, "/")) == 0
    })
    .await;
    assert!(answer().await.contains(&peer));

    // And back.
    stage.authenticate("shop", "PERMISSIVE");
    drop(sidecar);
    server.init(&["--clean"]);
    write(false);
    eventually("plain text again", async || {
        text(&stage.curl(client, &["-H", "Host: reviews:8080", &service])).contains("\"peer\": null")
    })
    .await;
    let rules = text(&server.run(Path::new("iptables-save"), &[]));
    assert!(!rules.contains("ISTIO"), "{rules}");
}
