//! A folder in which nearly everything is broken, and a lot of it: what is good in it serves at once, and neither the log nor
//! memory pays for the rest.

use std::{fmt::Write as _, time::Duration};

use harness::{
    client::get,
    eventually::{eventually, within},
    mesh::{HOST, Mesh, SHOP},
    yaml::{tls_secret, virtual_service},
};

/// Long enough for an unoptimised build on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Lines of the log and their bytes, with all that a start tells.
const LINES: usize = 400;
const BYTES: usize = 400 << 10;
/// KiB of memory; an unoptimised build without anything to serve takes a tenth.
const MEMORY: f64 = 400.0 * 1024.0;

/// A document for each number.
fn documents(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}---", one(number));
        text
    })
}

fn object(kind: &str, name: &str, rest: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n{rest}\n")
}

/// Names and contents of files, each broken in its own way.
fn broken() -> Vec<(&'static str, String)> {
    let routes = "spec: {hosts: [a.example.com], http: [{retries: {attempts: some}}]}";
    let service =
        "spec: {hosts: [x.example.org], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}";
    let nowhere = |number| {
        format!(
            "spec: {{hosts: [u{number}.example.com], gateways: [istio-system/edge], \
             http: [{{route: [{{destination: {{host: nowhere-{number}}}}}]}}]}}"
        )
    };
    let long = format!("spec:\n  hosts: [\"{}!\"]\n  http: []", "a".repeat(3 << 20));
    let many_faults = (0..5000).fold("spec:\n  hosts: [a.example.com]\n  http:\n".to_owned(), |mut text, number| {
        let _ = writeln!(text, "  - {{nonsense{number}: 1, directResponse: {{status: 999999}}}}");
        text
    });
    let bomb = (0..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |mut text, number| {
        let items = vec![format!("*a{number}"); 9].join(", ");
        let _ = writeln!(text, "a{0}: &a{0} [{items}]", number + 1);
        text
    });
    vec![
        ("bomb.yaml", bomb),
        ("deep.yaml", "[".repeat(100_000)),
        ("faults.yaml", object("VirtualService", "faults", &many_faults)),
        ("long-name.yaml", object("VirtualService", &"n".repeat(1 << 20), routes)),
        ("long-value.yaml", object("VirtualService", "long", &long)),
        ("many-broken.yaml", documents(10_000, |number| object("VirtualService", &format!("b{number}"), routes))),
        ("no-kind.yaml", documents(10_000, |number| format!("number: {number}\n"))),
        ("nowhere.yaml", documents(2_000, |number| object("VirtualService", &format!("u{number}"), &nowhere(number)))),
        ("no-yaml.yaml", "apiVersion: v1\nkind: Service\n\tmetadata: {name\n".repeat(10_000)),
        ("text.yaml", "x".repeat(4 << 20)),
        ("twice.yaml", documents(2_000, |_| object("ServiceEntry", "twice", service))),
    ]
}

#[tokio::test]
async fn a_folder_of_broken_files_costs_little_and_hides_nothing_that_is_good() {
    let mesh = Mesh::with_edge();
    mesh.routes("- directResponse: {status: 200, body: {string: good}}");
    for (name, text) in broken() {
        mesh.write(name, &text);
    }
    let gateway = mesh.launch_gateway(&["--access-log", "off"]);
    let serves = async |text: &str| {
        let reply = mesh.browser().send(get(SHOP)).await;
        reply.is_ok_and(|reply| reply.text() == text)
    };
    let start = within(LONG, "what is good is served", async || serves("good").await).await;
    mesh.routes("- directResponse: {status: 200, body: {string: better}}");
    let change = within(LONG, "a change of it is live", async || serves("better").await).await;
    let memory = gateway.metrics().await.sum("process_resident_memory_bytes", &[]) / 1024.0;
    let log = gateway.log();
    eprintln!(
        "{} broken files: served after {start:?}, changed after {change:?}, {memory:.0} KiB resident, {} lines and {} bytes of log",
        broken().len(),
        log.lines().count(),
        log.len()
    );

    assert!(log.lines().count() < LINES && log.len() < BYTES, "{} lines, {} bytes", log.lines().count(), log.len());
    assert!(log.lines().all(|line| line.len() < 8 << 10), "no line is longer than somebody reads");
    assert!(memory < MEMORY, "{memory} KiB");
    for (name, _) in broken() {
        assert!(log.contains(&format!("{name}:")), "{name} is named in the log");
    }
    let rest = log.lines().find(|line| line.contains("more problems, ")).unwrap_or_default();
    assert!(rest.contains("`sluice check` and the admin page /config_dump list them"), "the others are counted: {log}");
    let problems = gateway.metrics().await.sum("sluice_config_problems", &[]);
    assert!((2_000.0..10_000.0).contains(&problems), "{problems} are kept, and none of them for ever");

    // What was told is not told again.
    let lines = gateway.log().lines().count();
    mesh.write("another.yaml", &virtual_service("another", "another.example.com", "- {retries: {attempts: some}}"));
    gateway.logs("another.yaml:").await;
    let more = gateway.log().lines().count() - lines;
    assert!(more < 5, "{more} more lines: {}", gateway.log());
}

#[tokio::test]
async fn files_that_are_none_or_far_too_large_are_named_and_left_alone() {
    let mesh = Mesh::with_edge();
    mesh.routes("- directResponse: {status: 200}");
    let folder = mesh.config.path().to_path_buf();
    // These are no files, so that nobody waits for their end.
    std::os::unix::fs::symlink("/dev/zero", folder.join("endless.yaml")).expect("a link can be made");
    let pipe = std::process::Command::new("mkfifo").arg(folder.join("pipe.yaml")).status();
    assert!(pipe.is_ok_and(|made| made.success()));
    // A server whose certificate is no file, and another whose CA is too large.
    let bundle = folder.join("bundle.pem");
    std::fs::File::create(&bundle).and_then(|file| file.set_len(100 << 20)).expect("a file");
    let server = |name: &str, host: &str, tls: &str| {
        format!("  - port: {{number: 443, name: {name}, protocol: HTTPS}}\n    hosts: [{host}]\n    tls: {{{tls}}}\n")
    };
    let issued = mesh.pki.server(&["other.example.org"]);
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    std::fs::write(&chain, &issued.chain_pem).and_then(|()| std::fs::write(&key, &issued.key_pem)).expect("files");
    let files = format!("serverCertificate: {}, privateKey: {}", chain.display(), key.display());
    let servers = [
        server("endless", "a.example.org", "mode: SIMPLE, serverCertificate: /dev/zero, privateKey: /dev/zero"),
        server("bundle", "b.example.org", &format!("mode: MUTUAL, {files}, caCertificates: {}", bundle.display())),
    ];
    mesh.write(
        "files.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: files, namespace: istio-system}}\n\
             spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{}",
            servers.concat()
        ),
    );

    let gateway = mesh.gateway().await;
    // At a start the ports would wait for it. Nothing of it is on the disk.
    std::fs::File::create(folder.join("large.yaml")).and_then(|file| file.set_len(65 << 20)).expect("a file");
    gateway.logs("large.yaml:1:1").await;
    assert_eq!(mesh.browser().get(SHOP).await.code(), 200);
    let log = gateway.log();
    for wanted in [
        "large.yaml:1:1: error: the file cannot be read: it is larger than 64 MiB, the most that is read",
        "reading /dev/zero: it is a device or a pipe, not a file",
        "bundle.pem: it is larger than 4 MiB, the most that is read",
    ] {
        assert!(log.contains(wanted), "{wanted}: {log}");
    }
    let memory = gateway.metrics().await.sum("process_resident_memory_bytes", &[]) / 1024.0;
    assert!(memory < MEMORY / 4.0, "{memory} KiB");
    // The others go on, also when the folder changes.
    mesh.write("cert.yaml", &tls_secret("istio-system", "unused", &issued));
    mesh.routes("- directResponse: {status: 204}");
    eventually("a change is live", async || mesh.browser().get(&format!("https://{HOST}/")).await.code() == 204).await;
}
