//! From application to application, and nothing of it to be read in between.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{eventually::eventually, netns::Pod, pki::spiffe, process::Process, program::executable};
use serde_json::Value;

use super::stage::{FILES, HTTP, LINES, OTHER, Stage, text, url};

/// What no packet between the pods may hold.
const SECRET: &str = "nobody-between-may-read-this";

/// Packets at a pod's cable, from now on.
struct Packets {
    file: PathBuf,
    tcpdump: Process,
}

impl Packets {
    async fn listen(story: &str, pod: &Pod, file: PathBuf) -> Self {
        let tcpdump = executable(story, "tcpdump").expect("it was there");
        let path = file.display().to_string();
        // Each packet is written at once, by root, as the folder is root's.
        let arguments = ["-i", "eth0", "-U", "-s", "0", "-Z", "root", "-w", &path];
        let tcpdump = pod.start("tcpdump", None, &tcpdump, &arguments);
        eventually("tcpdump listens", async || tcpdump.stderr().contains("listening on")).await;
        Self { file, tcpdump }
    }

    /// Whether these bytes were seen so far.
    fn hold(&self, text: &str) -> bool {
        holds(&self.file, text)
    }

    async fn end(mut self) -> PathBuf {
        self.tcpdump.sigterm();
        self.tcpdump.wait_exit(std::time::Duration::from_secs(10)).await;
        self.file
    }
}

fn holds(file: &Path, text: &str) -> bool {
    let bytes = fs::read(file).unwrap_or_default();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// What the echo saw.
fn saw(answer: &str) -> Value {
    serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

async fn nothing_to_read(story: &str, six: bool, backend: &str) {
    let Some(stage) = Stage::new(story, six) else { return };
    let (client, server) = (&stage.network.client, &stage.network.server);
    for pod in [client, server] {
        let family = if six { "IPv6 set" } else { "IPv4 set" };
        let said = pod.init(&["--backend", backend]);
        assert!(said.contains(family), "{said}");
        let again = pod.init(&["--backend", backend]);
        assert!(again.contains("was so already") && !again.contains(" set"), "{again}");
    }
    let _sidecars = (stage.sidecar("reviews", &[]).await, stage.sidecar("ratings", &[]).await);
    let _applications = stage.applications();
    let packets = Packets::listen(story, client, stage.mesh.state().join("packets")).await;

    // Requests, to the service's address.
    let secret = format!("x-secret: {SECRET}");
    let service = url(stage.reviews(), HTTP, "/to-the-service");
    let answer = stage.fetch(client, &["-H", "Host: reviews:8080", "-H", &secret, "-d", SECRET, &service]).await;
    let answer = saw(&answer);
    assert_eq!((&answer["service"], &answer["path"]), (&"reviews".into(), &"/to-the-service".into()));
    assert_eq!((&answer["headers"]["x-secret"], &answer["body"]), (&SECRET.into(), &SECRET.into()));
    assert_eq!(answer["peer"], spiffe("shop", "ratings"), "the server's sidecar has met the client's");

    // A service without an address, by the address of its pod.
    let pod = url(server.ip, FILES, "/file.txt");
    assert_eq!(stage.fetch(client, &["-f", "-H", "Host: reviews-headless:8081", &pod]).await, "the file of reviews");

    // A server that has the first word.
    let talk = format!(
        "import socket; s = socket.create_connection(('{}', {LINES}), 10); f = s.makefile('rw'); print(f.readline().strip()); \
         f.write('{SECRET}\\n'); f.flush(); print(f.readline().strip())",
        stage.reviews()
    );
    let said = text(&stage.python(client, &talk));
    assert_eq!(said, format!("220 reviews v1 (reviews-v1) is ready\n250 reviews-v1: {SECRET}\n"));

    for port in [8080, 9000] {
        let sni = format!("outbound_.{port}_._.reviews.shop.svc.cluster.local");
        eventually("the handshakes were seen", async || packets.hold(&sni)).await;
    }
    // Whole only when tcpdump has ended.
    let seen = packets.end().await;
    for plain in [SECRET, "to-the-service", "the file of reviews", "is ready", "HTTP/1.1"] {
        assert!(!holds(&seen, plain), "`{plain}` was to be read between the pods");
    }
}

#[tokio::test]
async fn nothing_is_to_be_read_between_two_applications_by_iptables() {
    nothing_to_read("nothing_is_to_be_read_between_two_applications_by_iptables", false, "iptables").await;
}

#[tokio::test]
async fn nothing_is_to_be_read_between_two_applications_by_nftables() {
    nothing_to_read("nothing_is_to_be_read_between_two_applications_by_nftables", false, "nftables").await;
}

#[tokio::test]
async fn nothing_is_to_be_read_between_two_applications_over_ipv6_by_iptables() {
    nothing_to_read("nothing_is_to_be_read_between_two_applications_over_ipv6_by_iptables", true, "iptables").await;
}

#[tokio::test]
async fn nothing_is_to_be_read_between_two_applications_over_ipv6_by_nftables() {
    nothing_to_read("nothing_is_to_be_read_between_two_applications_over_ipv6_by_nftables", true, "nftables").await;
}

#[tokio::test]
async fn an_application_reaches_its_own_service_and_what_is_let_through_is_to_be_read() {
    let story = "an_application_reaches_its_own_service_and_what_is_let_through_is_to_be_read";
    for six in [false, true] {
        let Some(stage) = Stage::new(story, six) else { return };
        let (client, server) = (&stage.network.client, &stage.network.server);
        server.init(&["-d", &OTHER.to_string()]);
        client.init(&["-o", &OTHER.to_string()]);
        let _sidecars = (stage.sidecar("reviews", &[]).await, stage.sidecar("ratings", &[]).await);
        let _applications = stage.applications();
        let packets = Packets::listen(story, client, stage.mesh.state().join("packets")).await;

        let own = url(stage.reviews(), HTTP, "/own");
        let answer = saw(&stage.fetch(server, &["-H", "Host: reviews:8080", &own]).await);
        assert_eq!((&answer["path"], &answer["peer"]), (&"/own".into(), &spiffe("shop", "reviews").into()));
        // Over lo to its own pod there is no sidecar in between.
        let answer = saw(&stage.fetch(server, &[&url(server.ip, HTTP, "/itself")]).await);
        assert_eq!((&answer["path"], &answer["peer"]), (&"/itself".into(), &Value::Null));

        let answer = saw(&stage.fetch(client, &[&url(server.ip, OTHER, "/left-out")]).await);
        assert_eq!((&answer["path"], &answer["peer"]), (&"/left-out".into(), &Value::Null));
        eventually("what is not captured was seen", async || packets.hold("GET /left-out HTTP/1.1")).await;
        packets.end().await;
    }
}
