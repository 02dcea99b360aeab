//! Whoever sees a slow bucket finds the trace that shows why: exemplars, as a real Prometheus keeps them.

use std::{fs, net::SocketAddr, time::Duration};

use harness::{
    client::{Client, get},
    eventually::within,
    loopback::Loopback,
    mesh::{Mesh, SHOP},
    process::Process,
    program::{executable, serve},
};
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::traces::{OTEL, traced};

const SLOW: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const FAST: &str = "0af7651916cd43dd8448eb211c80319c";
const UNTOLD: &str = "11111111111111111111111111111111";

/// The bucket of what takes 300 ms and not much longer.
const BUCKET: &str = "500";

/// A Prometheus that keeps exemplars.
async fn prometheus(program: &std::path::Path, target: SocketAddr) -> (Client, Process, TempDir) {
    let folder = TempDir::with_prefix("sluice-prometheus-").expect("a temporary folder");
    let config = folder.path().join("prometheus.yml");
    let scrape = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{
            "job_name": "edge", "metrics_path": "/stats/prometheus", "static_configs": [{"targets": [target.to_string()]}],
        }],
    });
    fs::write(&config, scrape.to_string()).expect("it can be written");
    let address = Loopback::claim().at(1, 9090);
    let arguments = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.path().join("data").display()),
        format!("--web.listen-address={address}"),
        "--enable-feature=exemplar-storage".to_owned(),
        "--log.level=warn".to_owned(),
    ];
    let process = serve("prometheus", program, &arguments, &[address]).await;
    (Client::plain(address), process, folder)
}

/// The exemplars of a query, each with the labels of its series.
async fn exemplars(asks: &Client, query: &str) -> Vec<(Value, Value)> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let range = "start=2020-01-01T00:00:00Z&end=2099-01-01T00:00:00Z";
    let reply = asks.get(&format!("http://prometheus/api/v1/query_exemplars?query={encoded}&{range}")).await;
    // It does not answer at once when it begins.
    if reply.code() == 503 {
        return Vec::new();
    }
    let answer = reply.json();
    assert_eq!(answer["status"], "success", "{query}: {}", reply.text());
    let series = answer["data"].as_array().cloned().unwrap_or_default();
    let of_one = |series: &Value| {
        let all = series["exemplars"].as_array().cloned().unwrap_or_default();
        let labels = series["seriesLabels"].clone();
        all.into_iter().map(|exemplar| (labels.clone(), exemplar)).collect::<Vec<_>>()
    };
    series.iter().flat_map(of_one).collect()
}

async fn ask(mesh: &Mesh, path: &str, trace: &str, sampled: bool) {
    let parent = format!("00-{trace}-00f067aa0ba902b7-0{}", u8::from(sampled));
    let mut request = get(&format!("{SHOP}{path}"));
    request.headers_mut().insert("traceparent", parent.parse().expect("a value"));
    assert_eq!(mesh.browser().call(request).await.code(), 200);
}

async fn scraped(stats: SocketAddr, accept: &str) -> String {
    let mut request: Request<_> = get("http://localhost/stats/prometheus");
    request.headers_mut().insert("accept", accept.parse().expect("a value"));
    Client::plain(stats).call(request).await.text()
}

#[tokio::test]
async fn a_slow_bucket_leads_to_the_trace_of_a_request_that_fell_into_it() {
    const STORY: &str = "a_slow_bucket_leads_to_the_trace_of_a_request_that_fell_into_it";
    let Some(program) = executable(STORY, "prometheus") else { return };
    let mesh = Mesh::with_edge();
    // Nobody takes the spans, which is no reason not to name them.
    traced(&mesh, OTEL, "randomSamplingPercentage: 0");
    let _reviews = mesh.workload("reviews").start().await;
    let to = "route: [{destination: {host: reviews, port: {number: 8080}}}]";
    mesh.routes(&format!(
        "- match: [{{uri: {{prefix: /slow}}}}]\n  fault: {{delay: {{percentage: {{value: 100}}, fixedDelay: 0.3s}}}}\n  {to}\n- {to}"
    ));
    let gateway = mesh.gateway().await;
    let stats = gateway.addresses().stats;
    ask(&mesh, "/slow", UNTOLD, false).await;
    let text = scraped(stats, "application/openmetrics-text").await;
    assert!(text.ends_with("# EOF\n") && !text.contains("trace_id"), "it was not sampled: {text}");
    ask(&mesh, "/slow", SLOW, true).await;
    ask(&mesh, "/fast", FAST, true).await;
    ask(&mesh, "/slow", UNTOLD, false).await;
    assert!(!scraped(stats, "text/plain").await.contains("trace_id"), "that format has no place for them");

    let (asks, _prometheus, _folder) = prometheus(&program, stats).await;
    let slow = format!("istio_request_duration_milliseconds_bucket{{le=\"{BUCKET}\"}}");
    within(Duration::from_secs(20), "Prometheus has the slow request", async || {
        !exemplars(&asks, &slow).await.is_empty()
    })
    .await;
    let found = exemplars(&asks, &slow).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let (series, exemplar) = &found[0];
    assert_eq!((&series["response_flags"], &series["reporter"]), (&"DI".into(), &"source".into()), "{series:#}");
    assert_eq!(exemplar["labels"]["trace_id"], SLOW, "{exemplar:#}");
    assert_eq!(exemplar["labels"]["span_id"].as_str().map(str::len), Some(16), "{exemplar:#}");
    let value: f64 = exemplar["value"].as_str().and_then(|it| it.parse().ok()).expect("a number");
    assert!((300.0..=500.0).contains(&value), "{exemplar:#}");

    let all = exemplars(&asks, "istio_request_duration_milliseconds_bucket").await;
    assert!(all.iter().any(|(_, it)| it["labels"]["trace_id"] == FAST), "{all:#?}");
    let counted = exemplars(&asks, "istio_requests_total").await;
    for trace in [SLOW, FAST] {
        assert!(counted.iter().any(|(_, it)| it["labels"]["trace_id"] == trace), "{counted:#?}");
    }
    assert!(all.iter().chain(&counted).all(|(_, it)| it["labels"]["trace_id"] != UNTOLD), "{all:#?}");
}
