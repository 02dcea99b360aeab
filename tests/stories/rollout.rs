//! Pods come and go as a rollout makes them: no request notices.

use std::time::Duration;

use harness::{
    client::get,
    eventually::{eventually, within},
    grpc::Grpc,
    load::Load,
    mesh::{HOST, Mesh, SHOP},
    yaml,
};

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_leaves_the_endpoints_and_then_ends_fails_no_request() {
    let shop = Shop::in_mesh().await;
    let mut leaving = shop.mesh.workload("reviews").version("v2").sidecar().start().await;
    let one = Load::start(&shop.mesh.browser(), 4, SHOP);
    let two = Load::start(&shop.mesh.browser().h2(), 2, SHOP);
    one.reaches(500).await;

    shop.mesh.remove("pod-reviews-v2.yaml");
    let mut connection = shop.mesh.browser().connect(HOST).await.expect("HTTPS works");
    let left = async || {
        for _ in 0..10 {
            if connection.send(get(SHOP)).await.expect("an answer").echoed("pod") == "reviews-v2" {
                return false;
            }
        }
        true
    };
    within(Duration::from_secs(3), "the pod gets nothing new", left).await;
    let mut sidecar = leaving.sidecar.take().expect("it has a sidecar");
    sidecar.sigterm();
    sidecar.wait_exit(Duration::from_secs(20)).await;
    drop(leaving);
    one.reaches(1500).await;

    let (one, two) = (one.stop().await, two.stop().await);
    assert_eq!((one.failed, two.failed), (0, 0), "{one:?} {two:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_drains_before_the_endpoints_change_fails_no_request() {
    let shop = Shop::in_mesh().await;
    let mut leaving = shop.mesh.workload("reviews").version("v2").sidecar().start().await;
    let one = Load::start(&shop.mesh.browser(), 4, SHOP);
    let two = Load::start(&shop.mesh.browser().h2(), 2, SHOP);
    one.reaches(500).await;

    let mut sidecar = leaving.sidecar.take().expect("it has a sidecar");
    sidecar.sigterm();
    sidecar.wait_exit(Duration::from_secs(20)).await;
    one.reaches(1500).await;

    let (one, two) = (one.stop().await, two.stop().await);
    assert_eq!((one.failed, two.failed), (0, 0), "{one:?} {two:?}");
}

#[tokio::test]
async fn grpc_streams_finish_while_their_sidecar_drains() {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    let mut reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");
    let mut call = channel.open("/echo.Echo/BidiStream").await.expect("an open call");
    assert_eq!(call.ask("before").await.expect("an echo"), "before");

    let mut sidecar = reviews.sidecar.take().expect("it has a sidecar");
    sidecar.sigterm();
    let draining = async || sidecar.readiness().await.is_none_or(|reply| reply.code() == 503);
    eventually("the sidecar drains", draining).await;

    assert_eq!(call.ask("during").await.expect("the stream is open"), "during");
    call.finish().expect("the call is open");
    assert_eq!(call.outcome().await.expect("a finished call").status, Some(0));
    sidecar.wait_exit(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn an_upstream_that_dies_within_a_grpc_stream_is_unavailable() {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");
    let mut call = channel.open("/echo.Echo/BidiStream").await.expect("an open call");
    assert_eq!(call.ask("before").await.expect("an echo"), "before");

    reviews.app_process().signal("KILL");

    let end = tokio::time::timeout(Duration::from_secs(10), call.outcome()).await.expect("the stream ends");
    let failed = end.map_or(true, |outcome| outcome.status != Some(0));
    assert!(failed, "a cut stream must not look finished");
    let next = channel.unary("/echo.Echo/Unary", "after").await.expect("the connection lives");
    assert_eq!(next.status, Some(14), "{next:?}");
}
