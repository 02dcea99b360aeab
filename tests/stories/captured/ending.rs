//! The application goes first, its sidecar last.

use std::time::Duration;

use harness::eventually::eventually;

use super::stage::{HTTP, Stage, text, url};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_sidecar_that_is_told_to_end_goes_after_its_applications_last_word() {
    let story = "a_sidecar_that_is_told_to_end_goes_after_its_applications_last_word";
    let Some(stage) = Stage::new(story, false) else { return };
    let (client, server) = (&stage.network.client, &stage.network.server);
    client.init(&[]);
    server.init(&[]);
    let variables = ["EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "MINIMUM_DRAIN_DURATION"];
    let variables = [(variables[0], "true".to_owned()), (variables[1], "500ms".to_owned())];
    // The limits of an end without those words would be over at once.
    let flags = ["--drain-time", "1s", "--drain-delay", "0s"];
    let mut sidecar = stage.sidecar_in("reviews", &flags, &variables).await;
    let _caller = stage.sidecar("ratings", &[]).await;
    let _applications = stage.applications();
    // What a request that came in needs is out there.
    let _asked = client.start(
        "asked",
        None,
        harness::binary::sluice(),
        &["echo", "--address", &client.ip.to_string(), "--port", "8080", "--service", "ratings", "--pod", "ratings-v1"],
    );
    let reviews = url(stage.reviews(), HTTP, "/");
    let ratings = url(stage.network.virtual_ip(2), HTTP, "/");
    eventually("both are reached", async || {
        stage.status(client, "reviews:8080", &reviews) == 200 && stage.status(server, "ratings:8080", &ratings) == 200
    })
    .await;

    let slow = url(stage.reviews(), HTTP, "/delay/6000");
    let mut request =
        stage.start_curl(client, &["-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: reviews:8080", &slow]);
    let active = "sluice_downstream_connections_active";
    let stats = url("127.0.0.1".parse().expect("an address"), 15090, "/stats/prometheus");
    eventually("the slow request is under way", async || {
        let samples = text(&stage.curl(server, &[&stats]));
        samples.lines().any(|line| line.starts_with(active) && !line.ends_with(" 0"))
    })
    .await;
    sidecar.sigterm();
    eventually("it drains", async || sidecar.stderr().contains("draining")).await;

    // Nobody comes in any more; what the application needs for its last answer, it gets.
    eventually("the listener is closed", async || sidecar.stderr().contains("draining") && !listens(&stage, 15006))
        .await;
    assert!(listens(&stage, 15001), "{}", sidecar.stderr());
    assert_eq!(stage.status(server, "ratings:8080", &ratings), 200);
    assert!(sidecar.ended().is_none(), "it waits for the slow request");
    assert!(request.wait_exit(LONG).await.success());
    assert_eq!(request.stdout(), "200");
    assert!(sidecar.wait_exit(LONG).await.success(), "{}", sidecar.stderr());
}

/// Whether a port of the server's pod takes connections.
fn listens(stage: &Stage, port: u16) -> bool {
    let sockets = text(&stage.network.server.run(std::path::Path::new("cat"), &["/proc/net/tcp"]));
    // State 0A is LISTEN.
    let wanted = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|local| local.ends_with(&wanted)) && words.get(3) == Some(&"0A")
    })
}

#[tokio::test]
async fn without_that_word_an_end_has_its_limit_and_the_applications_own_connections_come_last() {
    let story = "without_that_word_an_end_has_its_limit_and_the_applications_own_connections_come_last";
    let Some(stage) = Stage::new(story, false) else { return };
    let server = &stage.network.server;
    server.init(&[]);
    stage.authenticate("shop", "PERMISSIVE");
    let mut sidecar = stage.sidecar("reviews", &["--drain-time", "3s", "--drain-delay", "0s"]).await;
    let _applications = stage.applications();
    let address = url(server.ip, HTTP, "/delay/60000");
    let outside = &stage.network.outside;
    eventually("it is reached", async || stage.status(outside, "reviews", &url(server.ip, HTTP, "/")) == 200).await;
    let mut request = stage.start_curl(outside, &[&address]);
    let under_way = async || {
        text(&stage.curl(server, &[&url("127.0.0.1".parse().expect("an address"), 15090, "/stats/prometheus")]))
            .lines()
            .any(|line| line.starts_with("sluice_downstream_connections_active") && !line.ends_with(" 0"))
    };
    eventually("the request is under way", under_way).await;

    sidecar.sigterm();
    eventually("nobody comes in", async || !listens(&stage, 15006)).await;
    assert!(listens(&stage, 15001) || sidecar.ended().is_some(), "{}", sidecar.stderr());
    assert!(sidecar.wait_exit(LONG).await.success());
    assert!(sidecar.stderr().contains("these are cut"), "{}", sidecar.stderr());
    assert!(!request.wait_exit(LONG).await.success());
}
