//! Every JSON answer of the admin pages as it was reviewed, in `testdata/admin`, and its fields as they are written down in
//! `schema/FIELDS.md`. `BLESS=1` writes both anew; a field that is new there has `?` for a meaning, which is no answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use routing::{
    compile::{Proxy, Role, compile},
    explain::{Question, Side, explain},
    problem::Problem,
    resources::{Resources, Store, parse_file},
    snapshot::Snapshot,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Readiness,
    schema::{
        Answer,
        certs::{Certificate, Certificates},
        overview::Overview,
        process::{Logging, Memory, ServerInfo, Version},
    },
    tell,
};
use crate::{
    telemetry::{
        ca::{Asked, CaMetrics},
        holders::Holder,
        told::{Family, Histogram, Sample},
    },
    upstream::{dial::Dials, endpoints::Endpoints},
};

/// Members of these have names that are not ours.
const MAPS: [&str; 10] = [
    "counts",
    "verdicts",
    "problem_counts",
    "issued",
    "refused",
    "roots_written",
    "pods",
    "connections",
    "components",
    "labels",
];

fn compiled(role: Role) -> (Snapshot, Vec<Problem>) {
    let text = include_str!("../../testdata/admin/mesh.yaml");
    let (resources, _): (Resources, _) =
        Store::default().replace(vec![("mesh.yaml".to_owned(), parse_file("mesh.yaml", text))]);
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let own = Proxy { name: "edge".to_owned(), namespace: "istio-system".to_owned(), labels, ..Proxy::default() };
    let compiled = compile(&resources, &Proxy { role, ..own });
    (compiled.snapshot, compiled.problems)
}

fn of(answer: impl Serialize) -> Value {
    serde_json::to_value(Answer::new(answer)).unwrap()
}

fn certificates() -> Vec<Certificate> {
    let own = Certificate {
        name: "istio-system/edge/https".to_owned(),
        hosts: vec!["shop.example.com".to_owned()],
        secret: "istio-system/shop".to_owned(),
        issuer: Some("CN=a CA".to_owned()),
        serial: Some("0a1b".to_owned()),
        not_after: Some("2027-01-01T00:00:00Z".to_owned()),
        kept: Some("the Secret was deleted".to_owned()),
        ..Certificate::default()
    };
    vec![own, Certificate { name: "workload".to_owned(), secret: "workload".to_owned(), ..Certificate::default() }]
}

fn families() -> Vec<Family> {
    let labels = |more: &[(&str, &str)]| {
        let usual = [
            ("reporter", "source"),
            ("source_workload", "edge"),
            ("source_workload_namespace", "istio-system"),
            ("destination_workload", "web"),
            ("destination_workload_namespace", "shop"),
            ("request_protocol", "http"),
            ("destination_service_name", "web"),
            ("destination_service_namespace", "shop"),
        ];
        usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let histogram = Histogram { sum: 12.5, bounds: vec![1.0, 5.0], counts: vec![1, 2, 0] };
    let family = |name: &str, kind, sample| Family {
        name: name.to_owned(),
        help: "What it counts.".to_owned(),
        kind,
        samples: vec![sample],
    };
    vec![
        family(
            "istio_requests_total",
            "counter",
            Sample {
                labels: labels(&[("response_code", "200"), ("source_principal", "a"), ("destination_principal", "b")]),
                value: 3.0,
                histogram: None,
            },
        ),
        family(
            "istio_request_duration_milliseconds",
            "histogram",
            Sample { labels: labels(&[]), value: 3.0, histogram: Some(histogram) },
        ),
        family(
            "sluice_authorization_total",
            "counter",
            Sample {
                labels: BTreeMap::from([
                    ("verdict".to_owned(), "allowed".to_owned()),
                    ("policy".to_owned(), "ns[shop]-policy[readers]-rule[0]".to_owned()),
                ]),
                value: 2.0,
                histogram: None,
            },
        ),
    ]
}

fn overview((snapshot, problems): &(Snapshot, Vec<Problem>)) -> Value {
    let ready = Readiness::ReadyBut("shop/limit cannot be read and limits nothing".to_owned());
    let summary = tell::summary((snapshot, &BTreeMap::new()), 3, problems, &ready);
    let mut proxy = tell::with_certificates(summary, certificates());
    tell::count(&mut proxy, &families());
    of(Overview { proxies: vec![proxy], left_out: 0, notes: vec!["The list of pods is 20 s old.".to_owned()] })
}

fn control() -> Value {
    let metrics = CaMetrics::new();
    metrics.asked(Asked::Came);
    metrics.issued("token");
    metrics.written("ok");
    metrics.injection.validated("Gateway", false);
    metrics.doors.open("ca").inc();
    metrics.holders.issued(Holder {
        identity: "spiffe://cluster.local/ns/shop/sa/web".to_owned(),
        from: "web-1".to_owned(),
        proof: "token",
        serial: "0a1b".to_owned(),
        issued: "2026-01-01T00:00:00Z".to_owned(),
        not_after: "2026-01-02T00:00:00Z".to_owned(),
        count: 0,
    });
    metrics.holders.refused("", [127, 0, 0, 1].into(), "nobody knows this token");
    let mut told = serde_json::to_value(tell::control(&metrics.told(), &metrics.holders)).unwrap();
    told["refusals"][0]["at"] = "2026-01-01T00:00:00Z".into();
    of(json!({"control": told}))
}

fn explained(side: Side, (snapshot, _): &(Snapshot, Vec<Problem>)) -> Value {
    let (port, host) = if side == Side::Gateway { (443, "shop.example.com") } else { (80, "web.shop") };
    let question = Question { side, port, host: host.to_owned(), target: "/x?y=z".to_owned(), ..Question::default() };
    of(explain(snapshot, &BTreeMap::new(), &question))
}

fn process() -> [(&'static str, Value); 4] {
    let memory = || Memory { resident_bytes: 1, cpu_seconds: 0.5 };
    let info = ServerInfo {
        version: env!("CARGO_PKG_VERSION"),
        state: "LIVE",
        ready: "ready".to_owned(),
        uptime_seconds: 1,
        pid: 2,
        threads: 3,
        open_files: 4,
        memory: memory(),
    };
    let components = BTreeMap::from([("http", "info".to_owned())]);
    [
        ("server_info", of(info)),
        ("version", of(Version { version: env!("CARGO_PKG_VERSION") })),
        ("memory", of(memory())),
        ("logging", of(Logging { filter: "info".to_owned(), components })),
    ]
}

/// Page and case -> answer.
fn answers() -> Vec<(&'static str, &'static str, Value)> {
    let edge = compiled(Role::Gateway);
    let web = compiled(Role::Sidecar { namespace: "shop".to_owned(), workload: "web-1".to_owned() });
    let failures = || vec!["port 443: the address is taken".to_owned()];
    let endpoints = Endpoints::default();
    let upstreams: Vec<_> = edge.0.clusters.iter().map(|it| Arc::new(endpoints.join(it, Dials::default()))).collect();
    let mut all = vec![
        ("config_dump", "config_dump_gateway", of(tell::dump(&edge.0, 3, &edge.1))),
        ("config_dump", "config_dump_sidecar", of(tell::dump(&web.0, 3, &web.1))),
        ("listeners", "listeners_gateway", of(tell::listeners(&edge.0, &BTreeMap::new(), failures()))),
        ("listeners", "listeners_sidecar", of(tell::listeners(&web.0, &BTreeMap::new(), Vec::new()))),
        ("routes", "routes_gateway", of(tell::routes(&edge.0, 3, ("", 0)))),
        ("routes", "routes_sidecar", of(tell::routes(&web.0, 3, ("web", 0)))),
        ("problems", "problems", of(tell::problems(&edge.1, 3, ("", 0)))),
        ("clusters", "clusters", of(tell::clusters(&edge.0, &upstreams))),
        ("certs", "certs", of(Certificates { certificates: certificates() })),
        ("overview", "overview_gateway", overview(&edge)),
        ("overview", "overview_sidecar", overview(&web)),
        ("overview", "overview_control", control()),
        ("explain", "explain_gateway", explained(Side::Gateway, &edge)),
        ("explain", "explain_sidecar", explained(Side::Outbound, &web)),
        ("stats", "stats", of(json!({"stats": families()}))),
    ];
    all.extend(process().map(|(page, answer)| (page, page, answer)));
    all
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// The next release is no change of the answers, nor is what else a snapshot knows and its digest is of.
fn without_what_changes(answer: &str) -> String {
    let line = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.trim_start() {
            text if text.starts_with("\"digest\": \"") => format!("{indent}\"digest\": \"DIGEST\",\n"),
            _ => format!("{line}\n"),
        }
    };
    let answer: String = answer.lines().map(line).collect();
    answer.replace(&format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION")), "\"version\": \"VERSION\"")
}

#[test]
fn golden_answers_are_what_was_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/admin");
    let mut differing = Vec::new();
    for (_, case, answer) in answers() {
        let actual = serde_json::to_string_pretty(&answer).unwrap() + "\n";
        let actual = without_what_changes(&actual);
        let file = folder.join(case).with_extension("json");
        if blessing() {
            fs::write(file, actual).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != actual {
            differing.push(format!("{case}:\n{actual}"));
        }
    }
    assert!(differing.is_empty(), "run with BLESS=1 and review the difference\n{}", differing.join("\n"));
}

type Fields = BTreeMap<(String, String), BTreeSet<&'static str>>;

fn walk(page: &str, path: &str, value: &Value, fields: &mut Fields) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    if !path.is_empty() {
        fields.entry((page.to_owned(), path.to_owned())).or_default().insert(kind);
    }
    match value {
        Value::Array(all) => all.iter().for_each(|one| walk(page, &format!("{path}[]"), one, fields)),
        Value::Object(members) => {
            let is_map = MAPS.iter().any(|map| path.rsplit('.').next() == Some(map));
            for (name, one) in members {
                let name = if is_map { "*" } else { name };
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                walk(page, &path, one, fields);
            }
        }
        _ => {}
    }
}

fn written(fields: &Fields, meanings: &BTreeMap<(String, String), String>) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut before = "";
    for ((page, path), kinds) in fields {
        if page != before {
            let _ = write!(text, "\n## `/{page}`\n\n| field | type | meaning |\n|---|---|---|\n");
            before = page;
        }
        let kinds: Vec<&str> = kinds.iter().copied().collect();
        let meaning = meanings.get(&(page.clone(), path.clone())).map_or("?", String::as_str);
        let _ = writeln!(text, "| `{path}` | {} | {meaning} |", kinds.join(" or "));
    }
    text
}

const INTRODUCTION: &str = "# Fields of the admin pages\n\nJSON of `/PAGE` or `/PAGE?format=json`, schema 1: a field keeps its name and its meaning \
    as long as that stays, and new ones may come. `*` stands for names that are not fixed. What a page answers to examples stands \
    in [`testdata/admin`](../../../testdata/admin); a test compares both with the program.\n";

#[test]
fn every_field_is_written_down() {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/schema/FIELDS.md");
    let mut fields = Fields::default();
    for (page, _, answer) in answers() {
        walk(page, "", &answer, &mut fields);
    }
    fields.retain(|(_, path), _| path != "schema" && !path.ends_with("[]"));
    let text = fs::read_to_string(&file).unwrap_or_default();
    let (mut meanings, mut page) = (BTreeMap::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## `/").and_then(|rest| rest.strip_suffix('`')) {
            name.clone_into(&mut page);
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [path, _, meaning] = cells[..] {
            meanings.insert((page.clone(), path.trim_matches('`').to_owned()), meaning.to_owned());
        }
    }
    let actual = written(&fields, &meanings);
    if blessing() {
        fs::write(&file, &actual).unwrap();
    }
    assert!(blessing() || actual == text, "run with BLESS=1 and write down what is new in {}", file.display());
    assert!(!actual.contains("| ? |"), "a field has no meaning in {}", file.display());
}
