//! Real clients: curl, nghttp and h2load, gRPC and WebSockets of Python.

use std::{fs, path::PathBuf};

use harness::{
    endpoint::Call,
    mesh::{HOST, Mesh},
    message::{Answer, values},
    program, yaml,
};

use crate::versions::{Versions, routed};

/// Answers as the path says; otherwise with what came.
async fn play(mut call: Call) {
    if call.path.ends_with("/early") {
        return call.answer(Answer::new(413, "too much")).await;
    }
    if call.path.ends_with("/large") {
        return call.answer(Answer::new(200, vec![b'x'; 5_000_000])).await;
    }
    if call.headers.get("expect").is_some() {
        call.interim(100, &[]).await;
    }
    let framing = [values(&call.headers, "content-length"), values(&call.headers, "transfer-encoding")].concat();
    let (body, trailers) = call.read().await;
    let mut answer = Answer::new(200, body).header("x-framing", &framing.concat());
    answer.trailers = trailers;
    call.answer(answer).await;
}

/// curl, as a client of the gateway.
struct Curl {
    program: PathBuf,
    root: tempfile::TempDir,
    to: String,
}

impl Curl {
    fn new(program: PathBuf, mesh: &Mesh) -> Self {
        let to = format!("{HOST}:443:{}", mesh.block.at(1, 8443));
        Self { program, root: root(mesh), to }
    }

    /// Body, and behind it status and version.
    async fn call(&self, version: &str, path: &str, arguments: &[&str], input: &[u8]) -> String {
        let root = self.root.path().join("root.pem").display().to_string();
        let url = format!("https://{HOST}{path}");
        let report = " %{http_code} %{http_version}";
        let common =
            ["-sS", "--max-time", "15", "--cacert", &root, "--connect-to", &self.to, version, "-w", report, &url];
        let output = program::run(&self.program, &[&common, arguments].concat(), input).await;
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{version} {path} {arguments:?}: {errors}");
        text.into_owned()
    }
}

/// The root of the edge, as a file.
fn root(mesh: &Mesh) -> tempfile::TempDir {
    let folder = tempfile::TempDir::with_prefix("sluice-root-").expect("a temporary folder can be made");
    fs::write(folder.path().join("root.pem"), mesh.pki.edge.root_pem()).expect("the file can be written");
    folder
}

const CURLS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2", "2")];

#[tokio::test]
async fn curl_uploads_in_every_way_it_knows() {
    let Some(curl) = program::executable("curl_uploads_in_every_way_it_knows", "curl") else { return };
    let versions = Versions::play(play).await;
    let curl = Curl::new(curl, &versions.mesh);
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    let text = String::from_utf8_lossy(&large);

    for (flag, version) in CURLS {
        for path in ["/one", "/two"] {
            let what = format!("{version} {path}");
            assert_eq!(curl.call(flag, path, &[], b"").await, format!(" 200 {version}"), "{what}");
            let form = curl.call(flag, path, &["-d", "a=1", "-H", "cookie: a=1; b=2"], b"").await;
            assert_eq!(form, format!("a=1 200 {version}"), "{what}");
            let stdin = curl.call(flag, path, &["-T", "-"], &large).await;
            assert!(stdin == format!("{text} 200 {version}"), "{what}: {} bytes", stdin.len());
            let waits = ["--data-binary", "@-", "-H", "Expect: 100-continue", "--expect100-timeout", "30"];
            let expected = curl.call(flag, path, &waits, &large).await;
            assert!(expected == format!("{text} 200 {version}"), "{what}: {} bytes", expected.len());
        }
    }
}

#[tokio::test]
async fn curl_is_told_how_its_upload_arrives() {
    let Some(curl) = program::executable("curl_is_told_how_its_upload_arrives", "curl") else { return };
    let versions = Versions::play(play).await;
    let curl = Curl::new(curl, &versions.mesh);

    for (flag, _) in CURLS {
        let told = curl.call(flag, "/one", &["-D", "-", "-d", "four"], b"").await;
        assert!(told.contains("x-framing: 4\r\n"), "{flag}: {told}");
        let untold = curl.call(flag, "/one", &["-D", "-", "-T", "-"], b"some").await;
        assert!(untold.contains("x-framing: chunked\r\n"), "{flag}: {untold}");
    }
}

#[tokio::test]
async fn curl_gets_an_answer_during_its_upload_and_heads_and_downloads() {
    let story = "curl_gets_an_answer_during_its_upload_and_heads_and_downloads";
    let Some(curl) = program::executable(story, "curl") else { return };
    let versions = Versions::play(play).await;
    let curl = Curl::new(curl, &versions.mesh);
    let large = vec![b'x'; 20_000_000];

    for (flag, version) in CURLS {
        for path in ["/one", "/two"] {
            // Over HTTP/2, curl up to 7.88 takes a reset with NO_ERROR behind the answer for a failure.
            if version == "1.1" {
                let early = curl.call(flag, &format!("{path}/early"), &["-T", "-"], &large).await;
                assert_eq!(early, format!("too much 413 {version}"), "{path}");
            }
            let head = curl.call(flag, &format!("{path}/large"), &["-I"], b"").await;
            assert!(head.ends_with(&format!("\r\n\r\n 200 {version}")), "{path}: {head}");
            let body = curl.call(flag, &format!("{path}/large"), &[], b"").await;
            assert_eq!(body.len(), 5_000_000 + " 200 ".len() + version.len(), "{path}");
        }
    }
}

/// What nghttp says of an upload of `body`, with these arguments.
async fn nghttp(program: &std::path::Path, mesh: &Mesh, (path, body): (&str, &str), arguments: &[&str]) -> String {
    let folder = tempfile::TempDir::with_prefix("sluice-body-").expect("a temporary folder can be made");
    let file = folder.path().join("body");
    fs::write(&file, body).expect("the file can be written");
    let (file, authority) = (file.display().to_string(), format!("-H:authority: {HOST}"));
    let url = format!("https://{}{path}", mesh.block.at(1, 8443));
    let common = ["-d", &file, "-Hte: trailers", &authority, &url];
    let output = program::run(program, &[arguments, &common].concat(), b"").await;
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn nghttp_posts_and_reads_trailers() {
    let Some(program) = program::executable("nghttp_posts_and_reads_trailers", "nghttp") else { return };
    let versions = Versions::play(play).await;
    let body = "of nghttp ".repeat(10_000);

    for path in ["/one", "/two"] {
        let echo = nghttp(&program, &versions.mesh, (path, &body), &[]).await;
        assert!(echo == body, "{path}: {} bytes", echo.len());
        let frames = nghttp(&program, &versions.mesh, (path, "the body"), &["-v", "--trailer", "x-sum: nine"]).await;
        let (_, after) = frames.rsplit_once("the body").unwrap_or_else(|| panic!("{path}: {frames}"));
        // nghttp tells the length, and in HTTP/1.1 no trailers follow a body with a length.
        assert_eq!(after.contains("x-sum: nine"), path == "/two", "{path}: {frames}");
    }
}

#[tokio::test]
async fn nghttp_is_told_to_stop_an_upload_that_nobody_wants() {
    let story = "nghttp_is_told_to_stop_an_upload_that_nobody_wants";
    let Some(program) = program::executable(story, "nghttp") else { return };
    let versions = Versions::play(play).await;
    let body = "of nghttp ".repeat(1_000_000);

    for path in ["/one/early", "/two/early"] {
        let frames = nghttp(&program, &versions.mesh, (path, &body), &["-v"]).await;
        let (_, after) = frames.split_once(":status: 413").unwrap_or_else(|| panic!("{path}: {frames}"));
        assert!(after.contains("too much"), "{path}: {frames}");
        // RFC 9113 section 8.1: whoever has answered says with NO_ERROR that the rest of the request is not needed.
        let (_, reset) = after.split_once("recv RST_STREAM frame").unwrap_or_else(|| panic!("{path}: {frames}"));
        assert!(reset.contains("error_code=NO_ERROR"), "{path}: {frames}");
    }
}

#[tokio::test]
async fn h2load_sends_thousands_of_requests_and_loses_none() {
    let Some(h2load) = program::executable("h2load_sends_thousands_of_requests_and_loses_none", "h2load") else {
        return;
    };
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    let _ratings = mesh.workload("ratings").start().await;
    routed(&mesh);
    let _gateway = mesh.gateway().await;
    let folder = root(&mesh);
    let body = folder.path().join("body");
    fs::write(&body, vec![b'x'; 20_000]).expect("the file can be written");
    let (body, to) = (body.display().to_string(), format!("--connect-to={}", mesh.block.at(1, 8443)));

    for path in ["/one", "/two"] {
        for more in [&["-m", "30"][..], &["--h1"], &["-m", "30", "-d", &body]] {
            let url = format!("https://{HOST}{path}");
            let arguments = [&["-n", "2000", "-c", "8", &to], more, &[&url]].concat();
            let output = program::run(&h2load, &arguments, b"").await;
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{path} {more:?}: {text}");
            assert!(text.contains("status codes: 2000 2xx"), "{path} {more:?}: {text}");
        }
    }
}

#[tokio::test]
async fn grpcio_calls_a_server_of_grpcio_in_every_way() {
    let Some(python) = program::executable("grpcio_calls_a_server_of_grpcio_in_every_way", "python") else { return };
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    let address = mesh.workload("reviews").declare();
    let flags = [program::script("grpc_server.py"), address.to_string()];
    let _server = program::serve("the server of grpcio", &python, &flags, &[address]).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    client(&python, "grpc_client.py", &mesh, &[&mesh.block.at(1, 8443).to_string()]).await;
    let counted = gateway.counts(5.0, &[("request_protocol", "grpc")]).await;
    assert!(counted.sum("istio_requests_total", &[("grpc_response_status", "5")]) >= 1.0, "NOT_FOUND is counted");
}

#[tokio::test]
async fn websockets_of_python_talk_and_close_both_ways() {
    let Some(python) = program::executable("websockets_of_python_talk_and_close_both_ways", "python") else { return };
    let mesh = Mesh::with_edge();
    let address = mesh.workload("reviews").declare();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let flags = [program::script("websocket_server.py"), ip, port];
    let _server = program::serve("the server of websockets", &python, &flags, &[address]).await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;

    client(&python, "websocket_client.py", &mesh, &[&mesh.block.ip(1).to_string(), "8443"]).await;
}

/// Runs a client in Python, which says itself what was not as it should be.
async fn client(python: &std::path::Path, script: &str, mesh: &Mesh, address: &[&str]) {
    let folder = root(mesh);
    let root = folder.path().join("root.pem").display().to_string();
    let output = program::run(python, &[&[&*program::script(script)], address, &[&root]].concat(), b"").await;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("all is well"), "{text}{errors}");
}
