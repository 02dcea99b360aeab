//! Wildcards of `DYNAMIC_DNS` in front of TLS: what a server name leads to is looked up when a connection asks for it. The
//! gateway has a mount namespace with names of its own.

use std::{ffi::OsString, fs, path::Path, process};

use harness::{
    binary::sluice, client::Client, eventually::eventually, listening::Listening, loopback::Loopback, process::Process,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::opaque::hello;

const PASSED: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.wild.test'], tls: {mode: PASSTHROUGH}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wild, namespace: istio-system}
spec:
  hosts: ['*.wild.test']
  gateways: [egress]
  tls: [{match: [{sniHosts: ['*.wild.test']}], route: [{destination: {host: '*.wild.test', port: {number: 443}}}]}]
---
";

fn entry(allowed: bool) -> String {
    format!(
        "{PASSED}apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: wild, namespace: istio-system, annotations: {{egress.sluice.dev/allow-private: '{allowed}'}}}}\n\
         spec: {{hosts: ['*.wild.test'], resolution: DYNAMIC_DNS, \
         ports: [{{number: 443, name: tls, protocol: TLS, targetPort: 9443}}]}}\n"
    )
}

/// Whether this machine lets us lay other names over its own.
fn may_mount() -> bool {
    let tried = process::Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount --bind /etc/hosts /etc/hosts"])
        .stderr(process::Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// A gateway that finds these names.
async fn gateway(block: &Loopback, folder: &Path, hosts: &Path) -> Process {
    let line = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let mut arguments: Vec<OsString> = ["--mount", "sh", "-c", line, "sh"].map(OsString::from).into();
    arguments.extend([hosts.into(), sluice().into(), "gateway".into(), "--config".into(), folder.into()]);
    arguments.extend(["--bind".into(), block.ip(1).to_string().into(), "--port-map".into(), "443=8443".into()]);
    for (flag, port) in [("--admin", 15_000), ("--status", 15_021), ("--stats", 15_090)] {
        arguments.extend([flag.into(), block.at(1, port).to_string().into()]);
    }
    arguments.extend(["--access-log".into(), "text".into()]);
    let gateway = Process::start("gateway", Path::new("unshare"), arguments);
    let status = Client::plain(block.at(1, 15_021));
    let ready = async || status.send(harness::client::get(READY)).await.is_ok_and(|reply| reply.code() == 200);
    eventually("the gateway is ready", ready).await;
    gateway
}

async fn ask(block: &Loopback, name: &str) -> String {
    let mut stream = TcpStream::connect(block.at(1, 8443)).await.expect("the gateway listens");
    stream.write_all(&hello(name)).await.expect("the gateway takes it");
    let mut heard = String::new();
    // A reset is told by what is missing.
    let _ = stream.read_to_string(&mut heard).await;
    heard
}

#[tokio::test]
async fn a_server_name_leads_where_dns_says_and_into_no_network_unless_allowed() {
    if !may_mount() {
        eprintln!("SKIPPED: no mount namespace can be had here, so the gateway cannot have names of its own");
        return;
    }
    let block = Loopback::claim();
    let _endpoint = Listening::start(block.at(81, 9443), async |mut stream: TcpStream| {
        let _ = stream.write_all(b"here\n").await;
        let _ = stream.shutdown().await;
        // What is not read would make the end a reset.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let folder = TempDir::with_prefix("sluice-names-").expect("a temporary folder can be made");
    let (config, hosts) = (folder.path().join("config"), folder.path().join("hosts"));
    fs::create_dir(&config).expect("a folder");
    // Nobody listens on the first address of `a`.
    let names = format!("{0} a.wild.test\n{1} a.wild.test\n{1} b.wild.test\n", block.ip(80), block.ip(81));
    fs::write(&hosts, names).expect("a file");
    fs::write(config.join("wild.yaml"), entry(true)).expect("a file");
    let gateway = gateway(&block, &config, &hosts).await;

    assert_eq!(ask(&block, "b.wild.test").await, "here\n");
    assert_eq!(ask(&block, "a.wild.test").await, "here\n", "the second address is tried");
    assert_eq!(ask(&block, "nobody.wild.test").await, "");

    fs::write(config.join("next"), entry(false)).expect("a file");
    fs::rename(config.join("next"), config.join("wild.yaml")).expect("a rename");
    eventually("private addresses are refused", async || ask(&block, "b.wild.test").await.is_empty()).await;
    let told = format!("`b.wild.test` leads to {}, which is no public address", block.ip(81));
    eventually("the log says why", async || gateway.stdout().contains(&told)).await;
}

const READY: &str = "http://localhost/healthz/ready";
