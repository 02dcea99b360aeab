//! How many allocations a request costs once everything is warm: the whole gateway in this process, with plain text on both
//! sides, so that what TLS needs (rustls: two per record that comes, two per record that goes) is not counted.

use std::{
    alloc::System,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WARM: u32 = 2000;
const MEASURED: u32 = 5000;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\ncontent-type: text/plain\r\n\r\nhello";

/// An endpoint that allocates nothing per request.
fn endpoint() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                    stream.write_all(ANSWER).expect("the gateway reads");
                }
            });
        }
    });
    port
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port()
}

fn configuration(folder: &Path, endpoint: u16) {
    let yaml = format!(
        r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: istio-system}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: istio-system}}
spec:
  hosts: [app.example.com]
  resolution: STATIC
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {endpoint}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: istio-system}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{{match: [{{uri: {{prefix: /}}}}], route: [{{destination: {{host: app.example.com, port: {{number: 8080}}}}}}]}}]
"#
    );
    fs::write(folder.join("all.yaml"), yaml).expect("a folder to write to");
}

/// Starts the gateway and connects to it.
fn gateway(folder: &Path) -> u16 {
    let (port, admin, status, stats) = (free_port(), free_port(), free_port(), free_port());
    let mut arguments: Vec<String> =
        "sluice gateway --workers 1 --bind 127.0.0.1 --access-log off --config".split(' ').map(Into::into).collect();
    arguments.extend([
        folder.display().to_string(),
        "--state-dir".into(),
        folder.join("state").display().to_string(),
        format!("--port-map=80={port}"),
        format!("--admin=127.0.0.1:{admin}"),
        format!("--status=127.0.0.1:{status}"),
        format!("--stats=127.0.0.1:{stats}"),
    ]);
    thread::spawn(move || gateway::main(arguments.into_iter().map(Into::into)));
    port
}

fn connect(port: u16) -> TcpStream {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => {
                stream.set_nodelay(true).expect("a socket");
                stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
                return stream;
            }
            Err(error) if Instant::now() > end => panic!("the gateway does not listen: {error}"),
            Err(_) => thread::yield_now(),
        }
    }
}

/// Allocations per request of what `exchange` does with a number, once it is warm.
fn measure(mut exchange: impl FnMut(u32)) -> f64 {
    (0..WARM).for_each(&mut exchange);
    let region = Region::new(ALLOCATOR);
    (WARM..WARM + MEASURED).for_each(&mut exchange);
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / f64::from(MEASURED)
}

#[test]
fn a_request_costs_next_to_no_allocation() {
    let folder = tempfile::tempdir().expect("a folder");
    configuration(folder.path(), endpoint());
    let port = gateway(folder.path());

    let mut one = connect(port);
    let mut buffer = [0; 4096];
    let http1 = measure(|_| {
        one.write_all(b"GET /a HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
            .expect("it reads");
        let mut have = 0;
        while !buffer[..have].ends_with(b"hello") {
            let count = one.read(&mut buffer[have..]).expect("it answers");
            assert!(count > 0, "{}", String::from_utf8_lossy(&buffer[..have]));
            have += count;
        }
    });

    let mut two = connect(port);
    two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("it reads");
    let http2 = measure(|number| {
        // GET, http, /, app.example.com, user-agent.
        let mut frame = *b"\0\0\x1b\x01\x05\0\0\0\0\x82\x86\x84\x01\x0fapp.example.com\x0f\x2b\x04test";
        frame[5..9].copy_from_slice(&(2 * number + 1).to_be_bytes());
        two.write_all(&frame).expect("it reads");
        let mut have = 0;
        // Settings and window updates may come before.
        while !buffer[..have].ends_with(b"hello") {
            if have > 3000 {
                buffer.copy_within(have - 8..have, 0);
                have = 8;
            }
            let count = two.read(&mut buffer[have..]).expect("it answers");
            assert!(count > 0, "it ended the connection");
            have += count;
        }
    });

    println!("allocations per request: HTTP/1.1 {http1:.2}, HTTP/2 {http2:.2}");
    assert!(http1 < 0.5, "HTTP/1.1: {http1}");
    // Its task.
    assert!(http2 < 1.5, "HTTP/2: {http2}");
}
