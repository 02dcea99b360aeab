//! Levels, sides, providers and overrides.

use super::*;
use crate::api;

fn levels(specs: &[&str]) -> Vec<Level> {
    let read = |spec: &&str| {
        let spec: api::Telemetry = serde_saphyr::from_str(spec).unwrap();
        Level { namespace: "shop".to_owned(), name: "it".to_owned(), spec }
    };
    specs.iter().map(read).collect()
}

fn client(specs: &[&str]) -> Option<Rules> {
    resolve(&levels(specs), &Providers::from([("other".to_owned(), false)]), &[], WorkloadMode::Client)
}

fn rule(rules: &Rules, metric: IstioMetric) -> &Rule {
    &rules.metrics[index(metric).unwrap()]
}

#[test]
fn nothing_said_is_nothing_changed() {
    assert_eq!(client(&[]), None);
    assert_eq!(client(&["metrics: [{providers: [{name: prometheus}]}]"]), None);
    assert_eq!(client(&["tracing: [{randomSamplingPercentage: 10}]"]), None);
    let server = "metrics: [{overrides: [{match: {mode: SERVER}, disabled: true}]}]";
    assert_eq!(client(&[server]), None, "the other side");
}

#[test]
fn what_is_said_later_and_nearer_holds() {
    let off = "metrics: [{overrides: [{disabled: true}]}]";
    assert!(client(&[off]).unwrap().is_off());
    let on = "metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, disabled: false}]}]";
    let rules = client(&[off, on]).unwrap();
    assert!(!rule(&rules, IstioMetric::RequestCount).disabled);
    assert!(rule(&rules, IstioMetric::RequestSize).disabled);
    assert!(client(&[on, off]).unwrap().is_off());
    let tags = "metrics: [{overrides: [{match: {metric: ALL_METRICS, mode: CLIENT}, tagOverrides: {request_host: {value: \
                request.host}, source_app: {operation: REMOVE}}}]}]";
    let over = "metrics: [{overrides: [{match: {customMetric: requests_total}, tagOverrides: {source_app: {value: \"'x'\"}}}]}]";
    let rules = client(&[tags, over]).unwrap();
    let count = &rule(&rules, IstioMetric::RequestCount).tags;
    let set = |text: &str| Tag::Set(Arc::new(Expression::parse(text).unwrap()));
    assert_eq!(count["source_app"], set("'x'"));
    assert_eq!(count["request_host"], set("request.host"));
    assert_eq!(rule(&rules, IstioMetric::TcpSentBytes).tags["source_app"], Tag::Removed);
}

#[test]
fn providers_are_replaced_by_the_nearer_level() {
    let other = "metrics: [{providers: [{name: other}]}]";
    let prometheus = "metrics: [{providers: [{name: prometheus}]}]";
    assert!(client(&[other]).unwrap().is_off());
    assert_eq!(client(&[other, prometheus]), None);
    let own = Providers::from([("mine".to_owned(), true)]);
    assert_eq!(resolve(&[], &own, &["mine".to_owned()], WorkloadMode::Server), None);
    let default = resolve(&[], &own, &["stackdriver".to_owned()], WorkloadMode::Server);
    assert!(default.unwrap().is_off(), "the mesh's default has none for Prometheus");
    // Overrides of a level whose provider is another one are not for Prometheus.
    let apart = "metrics: [{providers: [{name: other}], overrides: [{disabled: true}]}]";
    assert_eq!(client(&[apart, prometheus]), None);
}

#[test]
fn an_interval_changes_nothing_and_is_told_so() {
    assert_eq!(client(&["metrics: [{reportingInterval: 20s}]"]), None);
    let yaml = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: it, namespace: shop}\n\
                spec: {metrics: [{reportingInterval: 20s}]}\n";
    let (_, problems) = crate::resources::Resources::read([("a.yaml", yaml)]);
    let problem = problems.iter().map(|it| format!("{it:?}")).collect::<String>();
    assert!(problem.contains("no-effect") && problem.contains("reportingInterval"), "{problem}");
}
