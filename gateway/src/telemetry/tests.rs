use std::{collections::BTreeMap, time::SystemTime};

use routing::api::telemetry::WorkloadMode;
use routing::telemetry::{Level, Telemetry as Wishes, metrics};

use super::{
    exposition::Format,
    record::{Asked, Labels, Reporter, Silent, Told},
    *,
};

fn telemetry() -> Telemetry {
    Telemetry::new(Some(AccessLogFormat::Off), Box::new(std::io::sink())).unwrap()
}

fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload { name: name.into(), ..Workload::default() })
}

fn described(name: &str) -> Snapshot {
    Snapshot { workload: (*workload(name)).clone(), ..Snapshot::default() }
}

pub(super) fn record(peer: Option<&Arc<Workload>>, status: u16) -> Record<'_> {
    Record {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(3),
        asked: Asked { method: b"GET", path: b"/", ..Asked::default() },
        protocol: "HTTP/1.1",
        status,
        flags: "-",
        details: "via_upstream",
        transport_failure: "",
        bytes_received: 0,
        bytes_sent: 0,
        upstream_service_time: None,
        upstream_host: None,
        upstream_local: None,
        upstream_cluster: "",
        downstream_local: None,
        downstream_remote: None,
        sni: "",
        route: "",
        trace: None,
        volume: Volume::default(),
        labels: Labels {
            reporter: Reporter::Source,
            peer,
            peer_principal: "",
            service_host: "web.shop.svc.cluster.local",
            service_name: "web",
            service_namespace: "shop",
            grpc: false,
            grpc_status: None,
            mutual_tls: false,
        },
        told: Told(&Silent),
    }
}

/// `source_workload destination_workload response_code count` of each series, sorted.
fn counted(telemetry: &Telemetry) -> Vec<String> {
    let text = telemetry.metrics().render(Format::Text);
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let mut found: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"))
        .map(|line| {
            let names = ["source_workload", "destination_workload", "response_code"].map(|name| label(line, name));
            format!("{} {}", names.join(" "), line.rsplit_once(' ').unwrap().1)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn requests_are_counted_by_what_differs_between_them() {
    let telemetry = telemetry();
    let (one, other) = (workload("one"), workload("other"));
    for (peer, status) in [(&one, 200), (&one, 200), (&one, 503), (&other, 200), (&one, 200)] {
        telemetry.finish(&record(Some(peer), status));
    }
    telemetry.finish(&record(None, 404));
    assert_eq!(
        counted(&telemetry),
        ["unknown one 200 3", "unknown one 503 1", "unknown other 200 1", "unknown unknown 404 1"]
    );
}

#[test]
fn all_threads_count_in_the_same_series() {
    let telemetry = telemetry();
    let peer = workload("one");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| telemetry.finish(&record(Some(&peer), 200))));
        }
    });
    assert_eq!(counted(&telemetry), ["unknown one 200 400"]);
}

#[test]
fn a_workload_in_place_of_another_is_counted_under_its_own_name() {
    let telemetry = telemetry();
    for name in ["one", "two", "three"] {
        telemetry.finish(&record(Some(&workload(name)), 200));
    }
    assert_eq!(counted(&telemetry), ["unknown one 200 1", "unknown three 200 1", "unknown two 200 1"]);
}

#[test]
fn a_new_configuration_may_rename_this_workload() {
    let telemetry = telemetry();
    telemetry.installed(&described("gateway"));
    telemetry.finish(&record(None, 200));
    telemetry.installed(&described("edge"));
    telemetry.finish(&record(None, 200));
    assert_eq!(counted(&telemetry), ["edge unknown 200 1", "gateway unknown 200 1"]);
}

#[test]
fn two_proxies_in_one_process_count_apart() {
    let (first, second) = (telemetry(), telemetry());
    first.finish(&record(None, 200));
    second.finish(&record(None, 200));
    first.finish(&record(None, 200));
    assert_eq!(
        (counted(&first), counted(&second)),
        (vec!["unknown unknown 200 2".into()], vec!["unknown unknown 200 1".into()])
    );
}

fn wishes(spec: &str) -> Snapshot {
    let yaml = format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: it, namespace: istio-system}}\nspec: {spec}\n"
    );
    let (resources, problems) = routing::resources::Resources::read([("a.yaml", yaml.as_str())]);
    assert!(problems.iter().all(|it| it.code == "no-effect"), "{problems:?}");
    let spec = resources.telemetries.iter().next().unwrap().spec.clone();
    let levels = vec![Level { namespace: "istio-system".to_owned(), name: "it".to_owned(), spec }];
    let client = metrics::resolve(&levels, &BTreeMap::new(), &[], WorkloadMode::Client).map(Arc::new);
    let wishes = Wishes { levels, client, ..Wishes::default() };
    Snapshot { telemetry: Some(Box::new(wishes)), ..Snapshot::default() }
}

fn lines(telemetry: &Telemetry, name: &str) -> Vec<String> {
    let text = telemetry.metrics().render(Format::Text);
    text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

#[test]
fn labels_are_those_of_istio_in_its_order() {
    let telemetry = telemetry();
    telemetry.finish(&record(None, 200));
    let [line] = &lines(&telemetry, "istio_requests_total")[..] else { panic!() };
    let labels = line.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let names: Vec<&str> = labels.split(',').map(|it| it.split_once('=').unwrap().0).collect();
    assert_eq!(names, labels::NAMES);
    telemetry.traffic(&record(None, 0)).opened();
    let [line] = &lines(&telemetry, "istio_tcp_connections_opened_total")[..] else { panic!() };
    let labels = line.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let names: Vec<&str> = labels.split(',').map(|it| it.split_once('=').unwrap().0).collect();
    assert_eq!(names, labels::CONNECTION_NAMES);
    assert!(line.contains("request_protocol=\"tcp\""));
}

#[test]
fn labels_are_taken_away_and_added_as_telemetry_says() {
    let telemetry = telemetry();
    telemetry.finish(&record(None, 200));
    telemetry.installed(&wishes(
        "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {response_code: {operation: REMOVE}, \
         source_app: {value: \"'shop'\"}, where: {value: request.host}}}, {match: {metric: REQUEST_SIZE}, disabled: true}]}]}",
    ));
    // What was counted before had other labels.
    assert_eq!(lines(&telemetry, "istio_requests_total").len(), 0);
    for status in [200, 404, 503] {
        telemetry.finish(&record(None, status));
    }
    let [line] = &lines(&telemetry, "istio_requests_total")[..] else { panic!("{:?}", lines(&telemetry, "istio_")) };
    assert!(line.contains("source_app=\"shop\"") && line.contains(",where=\"unknown\"} 3"), "{line}");
    assert!(!line.contains("response_code"), "{line}");
    assert_eq!(lines(&telemetry, "istio_response_bytes_count").len(), 3);
    assert_eq!(lines(&telemetry, "istio_request_bytes").len(), 0);
    telemetry.installed(&Snapshot::default());
    telemetry.finish(&record(None, 200));
    assert_eq!(lines(&telemetry, "istio_request_bytes_count").len(), 1, "all is as usual again");
}

#[test]
fn what_is_disabled_makes_no_series() {
    let telemetry = telemetry();
    telemetry.installed(&wishes("{metrics: [{overrides: [{disabled: true}]}]}"));
    telemetry.finish(&record(None, 200));
    assert_eq!(telemetry.metrics().standard.len(), 0);
    telemetry.traffic(&record(None, 0)).opened();
    assert!(lines(&telemetry, "istio_").iter().all(|line| line.starts_with("istio_build")));
}

#[test]
fn messages_of_a_call_that_lasts_are_counted_once() {
    let telemetry = telemetry();
    let with = |request_messages, response_messages| Record {
        volume: Volume { request_messages, response_messages, ..Volume::default() },
        ..record(None, 200)
    };
    telemetry.messages(&with(3, 0));
    telemetry.messages(&with(0, 2));
    telemetry.finish(&with(1, 0));
    let sum =
        |name| lines(&telemetry, name).iter().map(|it| it.rsplit_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>();
    assert_eq!(sum("istio_request_messages_total"), ["4"]);
    assert_eq!(sum("istio_response_messages_total"), ["2"]);
    assert_eq!(sum("istio_requests_total"), ["1"]);
}

#[test]
fn metrics_whose_labels_come_out_the_same_are_counted_apart() {
    let telemetry = telemetry();
    telemetry.installed(&wishes(
        "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {request_host: {operation: REMOVE}}}]}]}",
    ));
    telemetry.finish(&record(None, 200));
    let [line] = &lines(&telemetry, "istio_requests_total")[..] else { panic!() };
    assert!(line.ends_with(" 1"), "{line}");
    assert_eq!(lines(&telemetry, "istio_request_duration_milliseconds_count").len(), 1);
}

#[test]
fn expressions_of_one_side_are_none_of_the_other() {
    let telemetry = telemetry();
    telemetry.installed(&wishes(
        "{metrics: [{overrides: [{match: {mode: CLIENT}, tagOverrides: {where: {value: request.path}, again: {value: \
         request.path}}}]}]}",
    ));
    let plan = telemetry.plan.load();
    assert_eq!(plan.side(Reporter::Source).of_requests().len(), 1, "each is evaluated once");
    assert!(plan.side(Reporter::Destination).of_requests().is_empty());
    let on = |reporter| telemetry.sides[reporter as usize].has_expressions.load(Ordering::Relaxed);
    assert_eq!((on(Reporter::Source), on(Reporter::Destination)), (true, false));
}

/// Knows the path alone.
struct At(&'static str);

impl routing::template::Values for At {
    fn request(&self, _: &routing::pattern::HeaderField) -> Option<std::borrow::Cow<'_, [u8]>> {
        Some(self.0.as_bytes().into())
    }

    fn response(&self, _: &routing::template::ResponseField) -> Option<std::borrow::Cow<'_, [u8]>> {
        None
    }

    fn fact(&self, _: routing::template::Fact, _: &mut Vec<u8>) {}

    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn start(&self) -> Duration {
        Duration::ZERO
    }

    fn certificate(&self, _: routing::template::Validity) -> Option<i64> {
        None
    }
}

#[test]
fn requests_are_told_apart_by_what_expressions_say() {
    let telemetry = telemetry();
    telemetry.installed(&wishes(
        "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {where: {value: \"request.headers['x']\"}, \
         it: {value: \"'always'\"}}}]}]}",
    ));
    for at in ["a", "b", "a", "a"] {
        telemetry.finish(&Record { told: Told(&At(at)), ..record(None, 200) });
    }
    let lines = lines(&telemetry, "istio_requests_total");
    let has = |end: &str| lines.iter().any(|line| line.ends_with(end) && line.contains("it=\"always\""));
    assert!(lines.len() == 2 && has("where=\"a\"} 3") && has("where=\"b\"} 1"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_series_without_a_service_does_not_leave_with_one() {
    let telemetry = telemetry();
    let wished = wishes(
        "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {destination_service: {operation: REMOVE}}}]}]}",
    );
    telemetry.installed(&wished);
    telemetry.finish(&record(None, 200));
    telemetry.installed(&wished);
    for _ in 0..4 {
        tokio::time::advance(Duration::from_secs(180)).await;
        assert_eq!(lines(&telemetry, "istio_requests_total").len(), 1);
    }
    assert_eq!(lines(&telemetry, "istio_request_bytes_count").len(), 0, "its service is not there any more");
}

#[test]
fn an_interval_leaves_counts_alone() {
    let telemetry = telemetry();
    telemetry.finish(&record(None, 200));
    telemetry.traffic(&record(None, 0)).opened();
    telemetry.installed(&wishes("{metrics: [{reportingInterval: 20s}]}"));
    telemetry.finish(&record(None, 200));
    assert!(lines(&telemetry, "istio_requests_total")[0].ends_with(" 2"));
    // What is said of requests leaves connections alone.
    telemetry.installed(&wishes("{metrics: [{overrides: [{match: {metric: REQUEST_SIZE}, disabled: true}]}]}"));
    assert_eq!(lines(&telemetry, "istio_requests_total").len(), 0);
    assert!(lines(&telemetry, "istio_tcp_connections_opened_total")[0].ends_with(" 1"));
}

#[test]
fn both_formats_tell_how_many_series_there_are() {
    let telemetry = telemetry();
    telemetry.finish(&record(None, 200));
    let all = telemetry.metrics().told();
    let series = all.iter().find(|family| family.name == "sluice_metrics_series").unwrap();
    assert_eq!(series.samples[0].value, 1.0);
}
