//! The tree keeps its shape: doors for outside libraries, import directions, small files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::binary::repository;

/// A Rust file of the repository.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    /// Without comments.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["routing", "tls", "gateway", "tests"] {
        collect(&repository().join(folder), &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder of the repository").flatten().map(|entry| entry.path()).collect();
    for path in entries {
        if path.ends_with("target") {
            // What was built is nobody's source.
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            let code =
                text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
            let path = path.strip_prefix(repository()).expect("below the repository").display().to_string();
            found.push(Source { path, code, lines: text.lines().count() });
        }
    }
}

/// True when `code` names the library: `name::`, `use name;`, `use name as`.
fn names(code: &str, library: &str) -> bool {
    code.match_indices(library).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = &code[at + library.len()..];
        let alone = !(before.is_alphanumeric() || before == '_' || before == ':' || before == '"' || before == '.');
        alone && (after.starts_with("::") || (code[..at].ends_with("use ") && after.starts_with([';', ' '])))
    })
}

/// The files outside `doors` (path prefixes) that name one of the libraries.
fn outside(libraries: &[&str], doors: &[&str]) -> Vec<String> {
    let named = |source: &Source| libraries.iter().any(|library| names(&source.code, library));
    let inside = |source: &Source| doors.iter().any(|door| source.path.starts_with(door));
    sources().into_iter().filter(|source| named(source) && !inside(source)).map(|source| source.path).collect()
}

const NOBODY: Vec<String> = Vec::new();

#[test]
fn tls_is_the_only_crate_that_names_rustls() {
    let libraries =
        ["rustls", "tokio_rustls", "webpki", "rustls_pki_types", "rcgen", "x509_parser", "rustls_native_certs"];
    assert_eq!(outside(&libraries, &["tls/", "tests/"]), NOBODY);
}

#[test]
fn tls_knows_no_proxy() {
    assert_eq!(inside("tls/", &["pingora", "kube", "routing", "hyper", "prometheus"]), NOBODY);
}

/// The files below `folder` that name one of the libraries.
fn inside(folder: &str, libraries: &[&str]) -> Vec<String> {
    let named = |source: &Source| libraries.iter().any(|library| names(&source.code, library));
    sources().into_iter().filter(|it| it.path.starts_with(folder) && named(it)).map(|it| it.path).collect()
}

#[test]
fn routing_decides_without_waiting_for_anything() {
    let libraries = ["tokio", "rustls", "pingora", "kube", "hyper", "socket2", "notify"];
    assert_eq!(inside("routing/src/", &libraries), NOBODY);
    let manifest = fs::read_to_string(repository().join("routing/Cargo.toml")).expect("a manifest");
    assert!(!manifest.contains("\ntls"), "routing and tls never use each other");
}

#[test]
fn routing_knows_no_clock_and_no_file() {
    let effects = ["TcpStream", "std::fs", "Instant::now", "SystemTime::now"];
    let production =
        sources().into_iter().filter(|it| it.path.starts_with("routing/src/") && !it.path.contains("tests"));
    let named = production.filter(|it| effects.iter().any(|effect| it.code.contains(effect))).map(|it| it.path);
    assert_eq!(named.collect::<Vec<_>>(), NOBODY);
}

#[test]
fn codecs_have_one_door_each() {
    assert_eq!(outside(&["httparse"], &["gateway/src/http/h1"]), NOBODY);
    // Ours has the name of the crate, which judges it in the stories.
    let manifest = fs::read_to_string(repository().join("gateway/Cargo.toml")).expect("a manifest");
    assert!(!manifest.lines().any(|line| line.starts_with("h2.") || line.starts_with("h2 ")));
    assert_eq!(outside(&["pingora_limits"], &["gateway/src/telemetry/refusals.rs"]), NOBODY);
}

#[test]
fn outside_libraries_have_one_door_each() {
    assert_eq!(outside(&["kube"], &["gateway/src/kubernetes"]), NOBODY);
    assert_eq!(outside(&["k8s_openapi"], &["gateway/src/kubernetes", "tests/harness/injection/schema.rs"]), NOBODY);
    assert_eq!(outside(&["json_patch"], &["routing/src/injection.rs"]), NOBODY);
    assert_eq!(outside(&["prometheus"], &["gateway/src/telemetry/"]), NOBODY);
    assert_eq!(outside(&["notify"], &["gateway/src/source"]), NOBODY);
    let yaml = [
        "routing/src/resources",
        "routing/src/api",
        "routing/src/telemetry/metrics/tests.rs",
        "tests/harness/apiserver",
        "tests/harness/helm",
        "tests/harness/conformance",
        "tests/harness/authorization",
        "tests/stories/prometheus.rs",
    ];
    assert_eq!(outside(&["serde_saphyr"], &yaml), NOBODY);
    assert_eq!(outside(&["schemars"], &["routing/src/api"]), NOBODY);
    assert_eq!(outside(&["instant_acme"], &["tls/src/acme"]), NOBODY);
    assert_eq!(outside(&["jsonwebtoken"], &["tls/src/jwt"]), NOBODY);
    assert_eq!(outside(&["domain"], &["gateway/src/acme/dns/rfc2136"]), NOBODY);
    assert_eq!(
        outside(
            &["prost"],
            &[
                "gateway/src/grpc",
                "gateway/src/http/grpc",
                "gateway/src/http/external",
                "gateway/src/http/limit/protocol.rs",
                "gateway/src/http/export.rs",
                "gateway/src/telemetry/otlp.rs",
                "gateway/src/peers/metadata.rs",
                "tests/"
            ]
        ),
        NOBODY
    );
    assert_eq!(outside(&["matchit"], &["routing/src/table"]), NOBODY);
    assert_eq!(outside(&["cel"], &["routing/src/attributes/read.rs"]), NOBODY);
    assert_eq!(outside(&["regex_automata", "regex_syntax", "regex"], &["routing/src/re2"]), NOBODY);
}

#[test]
fn the_data_path_does_not_reach_up() {
    for folder in ["gateway/src/net/", "gateway/src/upstream/", "gateway/src/http/"] {
        assert_eq!(inside(folder, &["crate::command", "crate::cli", "crate::source", "crate::admin"]), NOBODY);
    }
    assert_eq!(inside("gateway/src/net/", &["crate::http", "crate::upstream"]), NOBODY);
    assert_eq!(inside("gateway/src/telemetry", &["crate::http", "crate::upstream", "crate::net"]), NOBODY);
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.lines > 500)
        .map(|source| format!("{} has {} lines", source.path, source.lines))
        .collect();
    assert_eq!(long, NOBODY);
}

#[test]
fn production_code_is_finished_and_safe() {
    let unfinished = ["todo!", "unimplemented!", "dbg!", "FIXME", "XXX"];
    let named: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.path.starts_with("tests/"))
        .filter(|source| unfinished.iter().any(|word| source.code.contains(word)))
        .map(|source| source.path)
        .collect();
    assert_eq!(named, NOBODY);
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains("unsafe_code = \"deny\""));
    let excused = ["allow(unsafe_code", "expect(unsafe_code"];
    let unsafe_ones: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.path.starts_with("tests/stories/architecture"))
        .filter(|source| excused.iter().any(|excuse| source.code.contains(excuse)))
        .map(|source| source.path)
        .collect();
    assert_eq!(unsafe_ones, ["gateway/src/pages.rs"]);
}

#[test]
fn every_crate_has_the_workspaces_lints() {
    for member in ["routing", "tls", "gateway", "tests"] {
        let manifest = fs::read_to_string(repository().join(member).join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
    }
}
