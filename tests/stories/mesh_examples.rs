//! The examples of a whole mesh do what their READMEs say, played by `sluice demo`.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use harness::{
    client::Client,
    demo::Demo,
    eventually::within,
    grpc::Grpc,
    metrics::Samples,
    raw::{Raw, probe},
    shell::shell,
};

use super::examples::{copy, replace};

/// The address that a printed command goes to, which is behind its last `://`.
fn target(command: &str) -> SocketAddr {
    let at = command.rsplit("://").next().and_then(|rest| rest.trim_end_matches(['/', '\'']).parse().ok());
    at.unwrap_or_else(|| panic!("no address in {command}"))
}

/// The address of a pod whose sidecar answers on this port with what it says of itself.
async fn metrics(sidecar: SocketAddr) -> Samples {
    let stats = SocketAddr::new(sidecar.ip(), 15_090);
    Samples::parse(&Client::plain(stats).get("http://localhost/stats/prometheus").await.text())
}

/// The addresses of all sidecars of a demo, in the order of its pods: those of whoever answers on Istio's port.
async fn sidecars(one: SocketAddr) -> Vec<SocketAddr> {
    let SocketAddr::V4(one) = one else { panic!("a demo has addresses of IPv4") };
    let [first, block, ..] = one.ip().octets();
    let mut found = Vec::new();
    for pod in 1..20 {
        let address = SocketAddr::from(([first, block, pod, 1], 15_021));
        if Client::plain(address).status("http://localhost/healthz/ready").await == 200 {
            found.push(address);
        }
    }
    found
}

#[tokio::test]
async fn pets_are_sold_over_mutual_tls_and_their_queue_has_the_first_word() {
    let folder = copy("pets");
    let demo = Demo::start(folder.path()).await;

    for (path, service) in [("", "store-front"), ("order", "order-service"), ("products", "product-service")] {
        let reply = demo.browser().get(&format!("https://pets.example.com/{path}")).await;
        assert_eq!((reply.code(), &*reply.echoed("service")), (200, service), "{}", reply.text());
        assert_eq!(reply.echoed("peer"), "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway");
    }
    let queue = demo.command("telnet://");
    let mut open = Raw::connect(target(&queue)).await.expect("the gateway listens");
    let greeting = open.read_until("\n").await.expect("nothing had to be said first");
    assert_eq!(greeting, "220 rabbitmq v1 (rabbitmq-0) is ready\n");
    let (code, heard) = shell(&queue).await;
    assert!(code == 0 && heard.contains("250 rabbitmq-0: hello"), "{code} {heard}");

    // From outside, without a sidecar: first it is STRICT, then it is not.
    let plain = demo.commands().into_iter().find(|one| one.starts_with("curl -sS http://127.")).expect("a refusal");
    let (code, told) = shell(&plain).await;
    assert!(code != 0 && told.contains("reset"), "{code} {told}");
    let refused = async || demo.logs("sidecar-").contains("plain text refused");
    within(Duration::from_secs(5), "the log says who was refused", refused).await;
    let pods = sidecars(target(&plain)).await;
    let mut broker = None;
    for pod in pods {
        let labels = [("source_workload", "istio-ingressgateway"), ("destination_app", "rabbitmq")];
        if metrics(pod).await.sum("istio_tcp_connections_opened_total", &labels) >= 2.0 {
            broker = Some(SocketAddr::new(pod.ip(), 5672));
        }
    }
    let broker = broker.expect("the broker's sidecar knows whose connections these are");
    let heard = probe(broker, "hello\n").await;
    assert!(heard.closed && heard.text.is_empty(), "{heard:?}");

    replace(folder.path(), "peer-authentication.yaml", "mode: STRICT", "mode: PERMISSIVE");
    let answers = async || shell(&plain).await.0 == 0;
    within(Duration::from_secs(5), "plain text comes in", answers).await;
    let mut stranger = Raw::connect(broker).await.expect("the broker's sidecar listens");
    stranger.send("hello\n").await.expect("it is taken");
    assert!(stranger.read_until("\n").await.expect("a greeting").starts_with("220 rabbitmq"));
    replace(folder.path(), "peer-authentication.yaml", "mode: PERMISSIVE", "mode: STRICT");
    within(Duration::from_secs(5), "and does no more", async || !answers().await).await;
    open.send("still here\n").await.expect("who is of the mesh goes on");
    assert_eq!(open.read_until("\n").await.expect("an answer"), "250 rabbitmq-0: still here\n");
}

#[tokio::test]
async fn streams_stay_at_three_replicas_and_an_outside_client_is_refused() {
    let folder = copy("dgraph");
    let demo = Demo::start(folder.path()).await;

    assert_eq!(demo.browser().get("https://dgraph.example.com/health").await.echoed("service"), "dgraph-alpha");
    let channel = Grpc::connect(&demo.browser().h2(), "https://dgraph.example.com").await.expect("a connection");
    let mut streams = Vec::new();
    for number in 0..9 {
        let mut stream = channel.open("/echo.Echo/BidiStream").await.expect("a stream");
        assert_eq!(stream.ask(&format!("hello {number}")).await.expect("an echo"), format!("hello {number}"));
        streams.push(stream);
    }
    // A new configuration under them.
    replace(folder.path(), "routing.yaml", "prefix: /query", "prefix: /admin");
    let routed = async || demo.browser().get("https://dgraph.example.com/admin").await.code() == 200;
    within(Duration::from_secs(5), "the new route is there", routed).await;
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.ask("still").await.expect("an echo"), "still", "stream {number}");
    }
    for mut stream in streams {
        stream.finish().expect("an end");
        assert_eq!(stream.outcome().await.expect("trailers").status, Some(0));
    }
    let served = || {
        (0..3)
            .filter(|pod| demo.logs(&format!("sidecar-dgraph-dgraph-alpha-{pod}")).contains("BidiStream"))
            .collect::<BTreeSet<_>>()
    };
    within(Duration::from_secs(5), "each of the three had some", async || served().len() == 3).await;

    let plain = demo.commands().into_iter().find(|one| one.starts_with("curl -sS http://127.")).expect("a refusal");
    let alpha = SocketAddr::new(target(&plain).ip(), 9080);
    let heard = probe(alpha, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(heard.closed && heard.text.is_empty(), "{heard:?}");
    let refused = async || demo.logs("sidecar-dgraph-dgraph-alpha").contains("plain text refused: port 9080 is STRICT");
    within(Duration::from_secs(5), "the log says why", refused).await;
}
