//! A real browser in front: a download, server-sent events, an upload and a WebSocket, all over one HTTP/2 connection.

use std::{fs, time::Duration};

use harness::{
    eventually::{eventually, within},
    mesh::{HOST, Mesh},
    process::Process,
    program,
    workload::service,
};
use serde_json::Value;
use tempfile::TempDir;

/// Serves the page and what it asks for, and says on stdout what the page reports.
const SERVER: &str = r#"
const http = require("http");
const page = `<!doctype html><title>shop</title><script>
  const all = async () => {
    const download = (await (await fetch("/download")).arrayBuffer()).byteLength;
    const upload = await (await fetch("/upload", {method: "POST", body: new Uint8Array(700000)})).text();
    const events = await new Promise((done) => {
      const seen = [], source = new EventSource("/events");
      source.onmessage = (event) => { seen.push(event.data); if (seen.length === 3) { source.close(); done(seen); } };
    });
    const echo = await new Promise((done, failed) => {
      const socket = new WebSocket("wss://" + location.host + "/live");
      socket.onopen = () => socket.send("hello");
      socket.onmessage = (event) => { socket.close(); done(event.data); };
      socket.onerror = () => failed(new Error("the WebSocket failed"));
    });
    const protocol = performance.getEntriesByType("navigation")[0].nextHopProtocol;
    return {download, upload, events, echo, protocol};
  };
  all().catch((error) => ({error: String(error)}))
    .then((report) => fetch("/report", {method: "POST", body: JSON.stringify(report)}));
</script>`;
http.createServer(async (request, response) => {
  switch (request.url) {
    case "/": return response.setHeader("content-type", "text/html").end(page);
    case "/download": return response.end(Buffer.alloc(3000000, "x"));
    case "/upload": {
      let count = 0;
      for await (const part of request) count += part.length;
      return response.end(String(count));
    }
    case "/events": {
      response.writeHead(200, {"content-type": "text/event-stream"});
      let number = 0;
      const tick = setInterval(() => response.write(`data: event ${++number}\n\n`), 50);
      return request.on("close", () => clearInterval(tick));
    }
    case "/report": {
      let all = "";
      for await (const part of request) all += part;
      console.log("REPORT " + all);
      return response.end();
    }
    default: return response.writeHead(404).end();
  }
}).listen(Number(process.argv[3]), process.argv[2]);
"#;

#[tokio::test]
async fn a_browser_downloads_uploads_hears_events_and_opens_a_websocket_over_http2() {
    let story = "a browser over HTTP/2";
    let Some(node) = program::executable(story, "node") else { return };
    let Some(chromium) = program::executable(story, "chromium") else { return };
    let mesh = Mesh::with_edge();
    let folder = TempDir::with_prefix("sluice-browser-").expect("a temporary folder can be made");
    let script = folder.path().join("server.js");
    fs::write(&script, SERVER).expect("the script can be written");
    let address = mesh.workload("reviews").declare();
    let arguments = [script.display().to_string(), address.ip().to_string(), address.port().to_string()];
    let server = program::serve("node", &node, &arguments, &[address]).await;
    let _ratings = mesh.workload("ratings").start().await;
    mesh.write("services.yaml", &(service("ratings") + &service("reviews")));
    mesh.routes(
        "- match: [{uri: {prefix: /live}}]\n  route: [{destination: {host: ratings, port: {number: 8080}}}]\n\
         - route: [{destination: {host: reviews, port: {number: 8080}}}]",
    );
    let gateway = mesh.gateway().await;

    let rule = format!("--host-resolver-rules=MAP {HOST}:443 {}", gateway.addresses().main);
    let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
    let url = format!("https://{HOST}/");
    let flags =
        ["--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--remote-debugging-port=0"];
    let flags = flags.into_iter().map(str::to_owned).chain([rule, profile, url]);
    let browser = Process::start("chromium", &chromium, flags);
    let reported = async || server.stdout().contains("REPORT ");
    within(Duration::from_secs(60), "the page reports", reported).await;

    let stdout = server.stdout();
    let report = stdout.lines().find_map(|line| line.strip_prefix("REPORT ")).expect("it is there");
    let report: Value = serde_json::from_str(report).expect("the report is JSON");
    assert_eq!(report["download"], 3_000_000, "{report} {}", browser.stderr());
    assert_eq!(report["upload"], "700000", "{report}");
    assert_eq!(report["events"], serde_json::json!(["event 1", "event 2", "event 3"]), "{report}");
    assert_eq!(report["echo"], "hello", "{report}");
    assert_eq!(report["protocol"], "h2", "{report}");
    let over_h2 = async || gateway.access_log().lines().any(|line| line.contains("/live HTTP/2\""));
    eventually("the WebSocket came over HTTP/2", over_h2).await;
}
