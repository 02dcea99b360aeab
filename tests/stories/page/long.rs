//! The page of a mesh with much to show, in a real browser: long lists are narrowed down by words and shown in parts, the drawing stays
//! readable. What there is to show is said by a proxy of the story, as many as it likes.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use harness::{
    binary::sluice,
    eventually::eventually,
    loopback::Loopback,
    process::Process,
    program::{executable, run_within, script},
    raw::Raw,
    scripted::Scripted,
};
use serde_json::{Value, json};

const WORKLOADS: u64 = 220;
const PROBLEMS: u64 = 500;
const HOSTS: u64 = 400;
const PART: u64 = 200;

fn end(number: u64) -> Value {
    let namespace = ["shop", "pay", "data", "edge"][usize::try_from(number % 4).expect("it is small")];
    json!({"namespace": namespace, "workload": format!("w-{number:03}")})
}

/// `beat`: how often it was asked; counters grow with it.
fn edge(number: u64, beat: u64) -> Value {
    let requests = beat * (number % 50);
    let failed = if number == 17 { requests / 2 } else { 0 };
    json!({
        "reporter": "source", "source": end(number / 3), "destination": end(number + 1), "service": format!("w-{:03}.shop", number + 1),
        "protocol": "http", "requests": requests, "client_errors": 0, "server_errors": failed, "mutual_tls": requests, "plain": 0,
        "durations": [requests, 0, 0], "connections": 0, "bytes": 0,
    })
}

fn problem(number: u64) -> Value {
    let severity = if number < 3 { "error" } else { "warning" };
    json!({
        "code": "unknown-host", "severity": severity, "kind": "VirtualService", "namespace": "shop", "name": format!("vs-{number:04}"),
        "field": "spec.http[0].route[0]", "file": "routes.yaml", "line": number + 1, "column": 3, "message": "nobody has this host",
    })
}

fn group(number: u64) -> Value {
    let route = |at: u64| {
        json!({"name": format!("r-{at}"), "source": "shop/all", "when": format!("path begins with /{at}"), "action": "route",
            "to": ["outbound|80||w.shop.svc.cluster.local"], "requests": number, "client_errors": 0, "server_errors": 0})
    };
    json!({"hosts": [format!("h-{number:04}.example.com")], "more_hosts": 0, "https_redirect": false, "more_routes": 0,
        "routes": (0..60).map(route).collect::<Vec<_>>()})
}

fn overview(beat: u64) -> Value {
    let problems: Vec<Value> = (0..PART).map(problem).collect();
    json!({"schema": 1, "left_out": 0, "notes": [], "proxies": [{
        "kind": "gateway", "name": "edge/gateway", "version": "1", "ready": true, "readiness": "ready", "generation": 1, "digest": "0",
        "counts": {"listeners": 1, "hosts": HOSTS, "clusters": 1, "endpoints": 1}, "certificates": [], "policies": [], "verdicts": {},
        "doors": [{"side": "gateway", "port": 443, "bound": 443, "tls": true, "hosts": ["h-0001.example.com"]}],
        "problems": problems, "problem_counts": {"error": 3, "warning": PROBLEMS - 3, "info": 0}, "left_out": {},
        "traffic": {"bounds": [1.0, 5.0], "left_out": 4, "edges": (0..WORKLOADS).map(|number| edge(number, beat)).collect::<Vec<_>>()},
    }]})
}

fn parameter(target: &str, name: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_default().replace('+', " ")
}

/// A part of what has the words.
fn part(target: &str, (all, one): (u64, fn(u64) -> Value)) -> (Vec<Value>, usize) {
    let words = parameter(target, "q");
    let from: usize = parameter(target, "from").parse().unwrap_or_default();
    let found: Vec<Value> = (0..all).map(one).filter(|it| it.to_string().contains(&words)).collect();
    let part = usize::try_from(PART).expect("it is small");
    let left = found.len().saturating_sub(from + part);
    (found.into_iter().skip(from).take(part).collect(), left)
}

fn answer(target: &str, beat: &AtomicU64) -> String {
    let told = match target.split('?').next().unwrap_or_default() {
        "/overview" => overview(beat.fetch_add(1, Ordering::Relaxed)),
        "/problems" => {
            let (problems, left_out) = part(target, (PROBLEMS, problem));
            json!({"schema": 1, "generation": 1, "problems": problems, "left_out": left_out})
        }
        _ => {
            let (groups, left_out) = part(target, (HOSTS, group));
            json!({"schema": 1, "generation": 1, "left_out": left_out, "tables": [{"side": "gateway", "port": 443, "tls": true, "groups": groups}]})
        }
    };
    let body = told.to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Keeps what was photographed, where somebody wants to look at it.
pub(super) fn keep_pictures(from: &Path) {
    let Ok(folder) = std::env::var("SLUICE_TEST_PICTURES") else { return };
    for entry in std::fs::read_dir(from).expect("the folder is there").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "png") {
            std::fs::copy(entry.path(), Path::new(&folder).join(entry.file_name())).expect("it can be kept");
        }
    }
}

#[tokio::test]
async fn long_lists_are_shown_in_parts_and_found_by_words_and_a_large_mesh_can_be_read() {
    let story = "the page of a large mesh in a browser";
    let Some(node) = executable(story, "node") else { return };
    let Some(chromium) = executable(story, "chromium") else { return };
    let (here, beat) = (Loopback::claim(), Arc::new(AtomicU64::new(1)));
    let _proxy = Scripted::start(here.at(1, 15000), move |mut raw: Raw| {
        let beat = Arc::clone(&beat);
        async move {
            while let Ok(head) = raw.read_until("\r\n\r\n").await {
                let Some(target) = head.split(' ').nth(1) else { return };
                if raw.send(answer(target, &beat)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let admin = here.at(1, 15000).to_string();
    let dashboard = Process::start("dashboard", sluice(), ["dashboard", "--admin", &admin, "--port", "0"]);
    let page =
        || dashboard.stdout().split("http://").nth(1)?.split('/').next().map(|address| format!("http://{address}/"));
    eventually("it says where the page is", async || page().is_some()).await;
    let pictures = tempfile::TempDir::new().expect("a folder");
    let axe = executable(story, "axe").map(|axe| axe.display().to_string()).unwrap_or_default();
    let folder = pictures.path().display().to_string();
    let arguments =
        [script("page_long.mjs"), chromium.display().to_string(), page().expect("it was there"), folder, axe.clone()];
    let output = run_within(Duration::from_secs(130), &node, &arguments, b"").await;
    keep_pictures(pictures.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"));
    assert_eq!(report["failed"], Value::Null, "{report:#}");
    assert_eq!(report["errors"], json!([]), "the console is silent");
    shows(&report);
    if !axe.is_empty() {
        assert_eq!(report["axe"], json!([[]]), "what axe-core finds");
    }
}

fn shows(report: &Value) {
    assert_eq!(report["edges"], json!([50, 100, 100]), "{report:#}");
    let boxes = report["boxes"].as_array().expect("boxes");
    assert!((10..=40).contains(&boxes.len()), "{} boxes", boxes.len());
    assert!(boxes.iter().any(|it| it[0] == "node folded"), "{boxes:?}");
    assert!(
        boxes.iter().any(|it| it[1].as_str().is_some_and(|id| id.ends_with("w-018"))),
        "whoever fails is drawn: {boxes:?}"
    );
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert!(text(&report["folded"]).contains("busiest of 22"), "{}", report["folded"]);
    let found = &report["found"];
    assert!(text(&found["edges"]).contains("w-123"), "{found:#}");
    assert!(found["boxes"].as_u64().is_some_and(|count| (2..10).contains(&count)), "{found:#}");
    assert_eq!((&found["focus"], &found["none"]), (&json!("edges-words"), &json!("none has these words")));
    let problems = &report["problems"];
    assert_eq!((&problems[0], &problems[1]), (&json!(50), &json!("50 of 500")), "{problems:#}");
    assert_eq!(problems[2], 250);
    assert!(text(&problems[3]).contains("vs-0499"), "{problems:#}");
    assert_eq!(report["routes"][0], 20);
    assert!(text(&report["routes"][1]).contains("h-0333.example.com"), "{}", report["routes"]);
    assert_eq!(report["sideways"], json!([0, 0]), "nothing is scrolled sideways");
}
