//! Addresses that are no service's, and who is refused.

use harness::eventually::eventually;

use super::stage::{HTTP, LINES, OTHER, Stage, text, url};

const REGISTRY_ONLY: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  \
                             mesh: |-\n    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";

#[tokio::test]
async fn an_address_of_no_service_is_reached_until_only_services_may_be() {
    let story = "an_address_of_no_service_is_reached_until_only_services_may_be";
    let Some(stage) = Stage::new(story, false) else { return };
    let (server, outside) = (&stage.network.server, &stage.network.outside);
    let range = format!("{}/32", stage.network.client.ip);
    server.init(&["-x", &range]);
    let sidecar = stage.sidecar("reviews", &[]).await;
    let greet = "import socket; s = socket.create_server(('', 7000))\n\
                 while True: c, _ = s.accept(); c.sendall(b'hello from outside\\n'); c.close()";
    let _greeter = stage.start_python(outside, greet);
    let _files = stage.start_python(outside, "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080)");
    let call =
        format!("import socket; print(socket.create_connection(('{}', 7000), 10).makefile().readline())", outside.ip);
    // A port that services have, too: there the host tells.
    let web = url(outside.ip, HTTP, "/");

    eventually("bytes pass through", async || text(&stage.python(server, &call)).contains("hello from outside")).await;
    eventually("requests pass through", async || stage.status(server, "unknown.test", &web) == 200).await;
    eventually("the log says where", async || sidecar.stdout().contains("PassthroughCluster")).await;

    stage.mesh.write("mesh.yaml", REGISTRY_ONLY);
    eventually("requests are refused", async || stage.status(server, "unknown.test", &web) == 502).await;
    let bytes = stage.python(server, &call);
    assert!(!text(&bytes).contains("hello"), "{bytes:?}");
    eventually("the log says nowhere", async || sidecar.stdout().contains("BlackHoleCluster")).await;

    // UDP is nobody's business here.
    let answer = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7002))\n\
                  while True: d, a = s.recvfrom(99); s.sendto(b'heard ' + d, a)";
    let _answerer = stage.start_python(outside, answer);
    let ask = format!(
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.sendto(b'udp', ('{}', 7002)); \
         print(s.recv(99).decode())",
        outside.ip
    );
    eventually("UDP passes", async || text(&stage.python(server, &ask)).contains("heard udp")).await;
}

#[tokio::test]
async fn who_has_no_sidecar_is_taken_or_refused_and_the_log_says_who_and_why() {
    let story = "who_has_no_sidecar_is_taken_or_refused_and_the_log_says_who_and_why";
    let Some(stage) = Stage::new(story, false) else { return };
    let (server, outside) = (&stage.network.server, &stage.network.outside);
    server.init(&["-d", &OTHER.to_string()]);
    let sidecar = stage.sidecar("reviews", &[]).await;
    let _applications = stage.applications();
    let address = url(server.ip, HTTP, "/");
    // Not captured on the way in, so nobody asks.
    let left_out = url(server.ip, OTHER, "/");
    stage.fetch(outside, &[&left_out]).await;

    stage.authenticate("shop", "PERMISSIVE");
    eventually("plain text is taken", async || stage.status(outside, "reviews", &address) == 200).await;
    let greeting =
        format!("import socket; print(socket.create_connection(('{}', {LINES}), 20).makefile().readline())", server.ip);
    assert!(text(&stage.python(outside, &greeting)).contains("is ready"), "the server has the first word");

    stage.authenticate("shop", "STRICT");
    eventually("plain text is refused", async || stage.status(outside, "reviews", &address) == 0).await;
    let refusal =
        sidecar.stderr().lines().find(|line| line.contains("PlainTextToStrict")).unwrap_or_default().to_owned();
    assert!(refusal.contains(&outside.ip.to_string()), "{refusal}");
    assert!(refusal.contains("port 8080 is STRICT"), "{refusal}");
    assert_eq!(stage.status(outside, "reviews", &left_out), 200);
}

#[tokio::test]
async fn nobody_is_led_to_the_sidecars_own_ports() {
    let story = "nobody_is_led_to_the_sidecars_own_ports";
    let Some(stage) = Stage::new(story, false) else { return };
    let (server, outside) = (&stage.network.server, &stage.network.outside);
    server.init(&[]);
    stage.authenticate("shop", "PERMISSIVE");
    let sidecar = stage.sidecar("reviews", &["--app-address", "127.0.0.1", "--outbound", "0.0.0.0:15001"]).await;

    for port in [15000, 15001, 15006] {
        assert_eq!(stage.status(outside, "reviews", &url(server.ip, port, "/")), 0, "{port}");
        let told = format!("port {port} ");
        eventually(&told, async || sidecar.stderr().lines().any(|it| it.contains("OwnPort") && it.contains(&told)))
            .await;
    }
    // Readiness and metrics are not captured, as kubelets and Prometheus have no sidecar.
    assert_eq!(stage.status(outside, "reviews", &url(server.ip, 15021, "/healthz/ready")), 200);
    assert_eq!(stage.status(outside, "reviews", &url(server.ip, 15090, "/stats/prometheus")), 200);
    // An application that calls the port itself is asked for a service.
    let direct = url("127.0.0.1".parse().expect("an address"), 15001, "/");
    assert_eq!(stage.status(server, "unknown.test", &direct), 502);
}

#[tokio::test]
async fn rules_are_printed_changed_and_taken_away() {
    let story = "rules_are_printed_changed_and_taken_away";
    let Some(stage) = Stage::new(story, true) else { return };
    let pod = &stage.network.client;
    let rules = || {
        let one = |program: &str, arguments: &[&str]| text(&pod.run(std::path::Path::new(program), arguments));
        one("iptables-save", &[]) + &one("ip6tables-save", &[]) + &one("nft", &["list", "ruleset"])
    };
    let count = |text: &str, what: &str| text.matches(what).count();
    pod.run(std::path::Path::new("ip6tables"), &["-t", "nat", "-A", "OUTPUT", "-p", "udp", "-j", "ACCEPT"]);

    let printed = pod.init(&["--dry-run", "--backend", "nftables", "-x", "fd99::/16"]);
    assert!(
        printed.contains("table ip6 istio-proxy-nat") && printed.contains("ip6 daddr fd99::/16 return"),
        "{printed}"
    );
    assert_eq!(count(&rules(), "istio-") + count(&rules(), "ISTIO_"), 0, "nothing was changed");

    pod.init(&["--backend", "iptables"]);
    pod.init(&["--backend", "iptables", "-x", "fd99::/16"]);
    let ip6 = text(&pod.run(std::path::Path::new("ip6tables-save"), &[]));
    assert_eq!(count(&ip6, "-A OUTPUT -j ISTIO_OUTPUT"), 1, "{ip6}");
    assert_eq!(count(&ip6, "-d fd99::/16 -j RETURN"), 1, "{ip6}");

    let said = pod.init(&["--backend", "nftables"]);
    assert!(said.contains("rules of before by ip"), "{said}");
    assert_eq!(count(&text(&pod.run(std::path::Path::new("ip6tables-save"), &[])), "ISTIO_"), 0);
    assert!(count(&rules(), "istio-in-redirect") > 0);

    pod.init(&["--clean"]);
    let left = rules();
    assert_eq!(count(&left, "istio-") + count(&left, "ISTIO_"), 0, "{left}");
    let ip6 = text(&pod.run(std::path::Path::new("ip6tables-save"), &[]));
    assert!(ip6.contains("-A OUTPUT -p udp -j ACCEPT"), "what is others' stays: {ip6}");
    let lo = text(&pod.run(std::path::Path::new("ip"), &["-6", "addr", "show", "dev", "lo"]));
    assert!(!lo.contains("::6/"), "{lo}");

    let sluice = harness::binary::sluice();
    let refused = pod.command(Some("1337"), sluice).arg("init").output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("CAP_NET_ADMIN"), "{said}");
}
