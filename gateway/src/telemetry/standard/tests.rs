//! Series: made, found again, bounded, forgotten.

use std::sync::Arc;

use super::*;
use crate::telemetry::{
    exposition::{Exposition, Format},
    metrics::TABLE,
};

fn requests(standard: &Standard, labels: &str) -> Arc<Series> {
    series(standard, OF_REQUESTS, labels, "")
}

fn series(standard: &Standard, which: Which, labels: &str, host: &str) -> Arc<Series> {
    let wish = Wish { plan: 0, side: Reporter::Source, which, wanted: which, labels, host };
    standard.series(&wish, || "a=\"overflow\"".to_owned()).unwrap()
}

/// Everything begins anew, with the same plan.
fn begin_anew(standard: &Standard, wanted: Which) {
    let changed = Changed { source: [true; 2], wanted: [wanted; 2], ..Changed::default() };
    standard.begin_anew(0, changed, || ());
}

fn rendered(standard: &Standard) -> String {
    let mut out = Exposition::new(Format::Text);
    standard.render(&TABLE, &mut out);
    out.finish()
}

fn counts(standard: &Standard, metric: &str) -> Vec<String> {
    let text = rendered(standard);
    text.lines().filter_map(|line| line.strip_prefix(&format!("{metric}{{"))).map(str::to_owned).collect()
}

#[test]
fn the_same_labels_are_the_same_series() {
    let standard = Standard::default();
    for labels in ["a=\"1\"", "a=\"2\"", "a=\"1\""] {
        requests(&standard, labels).request(&Sample::default());
    }
    assert_eq!(counts(&standard, "istio_requests_total"), ["a=\"1\"} 2", "a=\"2\"} 1"]);
}

#[test]
fn sizes_and_durations_fall_into_istios_buckets() {
    let standard = Standard::default();
    let sample = Sample {
        duration: Duration::from_micros(7250),
        request_bytes: 100,
        response_bytes: 4_000_000,
        ..Sample::default()
    };
    requests(&standard, "a=\"1\"").request(&sample);
    let text = rendered(&standard);
    for line in [
        "istio_request_duration_milliseconds_bucket{a=\"1\",le=\"5\"} 0",
        "istio_request_duration_milliseconds_bucket{a=\"1\",le=\"10\"} 1",
        "istio_request_duration_milliseconds_sum{a=\"1\"} 7.25",
        "istio_request_bytes_bucket{a=\"1\",le=\"100\"} 1",
        "istio_request_bytes_sum{a=\"1\"} 100",
        "istio_response_bytes_bucket{a=\"1\",le=\"3600000\"} 0",
        "istio_response_bytes_bucket{a=\"1\",le=\"+Inf\"} 1",
        "istio_response_bytes_count{a=\"1\"} 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(!text.contains("messages"), "it was no gRPC");
}

#[test]
fn the_last_trace_of_a_bucket_stands_behind_it_where_there_is_a_place_for_it() {
    let standard = Standard::default();
    let sample = |trace, milliseconds| Sample {
        duration: Duration::from_millis(milliseconds),
        exemplar: Some(Exemplar { trace, span: 1, value: milliseconds as f64, at: Duration::from_secs(trace as u64) }),
        ..Sample::default()
    };
    let one = requests(&standard, "a=\"1\"");
    for sample in [sample(1, 3), sample(2, 4), Sample::default(), sample(3, 30)] {
        one.request(&sample);
    }
    // The same labels of the other side are told in the same lines.
    let wish = Wish {
        plan: 0,
        side: Reporter::Destination,
        which: OF_REQUESTS,
        wanted: OF_REQUESTS,
        labels: "a=\"1\"",
        host: "",
    };
    standard.series(&wish, String::new).unwrap().request(&sample(7, 2));
    let mut out = Exposition::new(Format::OpenMetrics);
    standard.render(&TABLE, &mut out);
    let text = out.finish();
    let exemplar =
        |trace: u32, value: u32| format!("# {{trace_id=\"{trace:032x}\",span_id=\"{:016x}\"}} {value} {trace}.000", 1);
    let bucket = |most: &str| format!("istio_request_duration_milliseconds_bucket{{a=\"1\",le=\"{most}\"}}");
    for line in [
        format!("{} 4 {}", bucket("5"), exemplar(7, 2)),
        format!("{} 5 {}", bucket("50"), exemplar(3, 30)),
        format!("{} 1", bucket("0.5")),
        format!("istio_requests_total{{a=\"1\"}} 5 {}", exemplar(7, 1)),
        "istio_request_bytes_bucket{a=\"1\",le=\"5\"} 5".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(!rendered(&standard).contains("trace_id"));
}

#[test]
fn what_is_not_wanted_is_not_told() {
    let standard = Standard::default();
    let only = 1 << REQUESTS | 1 << REQUEST_MESSAGES;
    let series = series(&standard, only, "a=\"1\"", "");
    series.request(&Sample { request_messages: 3, response_messages: 4, ..Sample::default() });
    let text = rendered(&standard);
    assert_eq!(text.matches("# TYPE ").count(), 2, "{text}");
    assert!(text.contains("istio_request_messages_total{a=\"1\"} 3\n"));
}

#[test]
fn the_number_of_series_has_an_end() {
    let standard = Standard::keeping(10, MOST_TEXT);
    for number in 0..15 {
        requests(&standard, &format!("a=\"{number}\"")).request(&Sample::default());
    }
    assert_eq!((standard.len(), standard.take_dropped(), standard.take_dropped()), (11, 5, 0));
    assert!(counts(&standard, "istio_requests_total").contains(&"a=\"overflow\"} 5".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_series_without_requests_for_an_hour_goes() {
    let standard = Standard::default();
    let epoch = standard.epoch();
    requests(&standard, "a=\"1\"").request(&Sample::default());
    assert_eq!(counts(&standard, "istio_requests_total").len(), 1);
    tokio::time::advance(IDLE - Duration::from_secs(1)).await;
    requests(&standard, "a=\"1\"").request(&Sample::default());
    assert_eq!(counts(&standard, "istio_requests_total").len(), 1);
    tokio::time::advance(IDLE - Duration::from_secs(1)).await;
    assert_eq!((counts(&standard, "istio_requests_total").len(), standard.epoch()), (1, epoch));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(counts(&standard, "istio_requests_total").len(), 0);
    assert_ne!(standard.epoch(), epoch, "whoever keeps it looks it up again");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_open_keeps_its_series() {
    let standard = Standard::default();
    let open = series(&standard, OF_CONNECTIONS, "a=\"1\"", "gone.example");
    open.add(OPENED, 1);
    standard.keep_hosts(std::iter::empty());
    for _ in 0..3 {
        tokio::time::advance(2 * IDLE).await;
        assert_eq!(counts(&standard, "istio_tcp_connections_opened_total"), ["a=\"1\"} 1"]);
    }
    begin_anew(&standard, OF_CONNECTIONS);
    open.add(CLOSED, 1);
    drop(open);
    assert_eq!(counts(&standard, "istio_tcp_connections_closed_total"), ["a=\"1\"} 1"]);
    begin_anew(&standard, OF_CONNECTIONS);
    assert_eq!(standard.len(), 0, "nobody counts there any more");
}

#[tokio::test(start_paused = true)]
async fn series_of_a_service_that_is_gone_are_told_twice_more() {
    let standard = Standard::default();
    for host in ["a.example", "b.example", ""] {
        series(&standard, OF_REQUESTS, &format!("a=\"{host}\""), host).request(&Sample::default());
    }
    assert_eq!(counts(&standard, "istio_requests_total").len(), 3);
    standard.keep_hosts(["b.example"].into_iter());
    tokio::time::advance(LEAVING.0 * 2).await;
    for _ in 0..LEAVING.1 {
        assert_eq!(counts(&standard, "istio_requests_total").len(), 3);
    }
    assert_eq!(counts(&standard, "istio_requests_total"), ["a=\"\"} 1", "a=\"b.example\"} 1"]);
    // One that comes back in time stays.
    standard.keep_hosts(std::iter::empty());
    standard.keep_hosts(["b.example"].into_iter());
    tokio::time::advance(LEAVING.0 * 2).await;
    for _ in 0..4 {
        assert_eq!(counts(&standard, "istio_requests_total").len(), 2);
    }
}

#[test]
fn the_text_of_a_scrape_has_an_end() {
    let standard = Standard::keeping(1000, 1 << 20);
    let long = "x".repeat(900);
    for number in 0..1000 {
        let sample = Sample { request_messages: 1, response_messages: 1, ..Sample::default() };
        requests(&standard, &format!("a=\"{number}{long}\"")).request(&sample);
    }
    let text = rendered(&standard);
    assert!(text.len() <= 1 << 20 && text.len() > 1 << 19, "{}", text.len());
    assert!(standard.take_dropped() > 900);
    begin_anew(&standard, 0);
    assert_eq!((standard.len(), standard.kept.lock().unwrap().text()), (0, [0, 0]), "the room is given back");
}

#[test]
fn a_connection_that_is_open_counts_what_is_wanted_now() {
    let standard = Standard::default();
    let open = series(&standard, OF_CONNECTIONS, "a=\"1\"", "");
    open.add(SENT, 1);
    begin_anew(&standard, OF_CONNECTIONS & !(1 << SENT));
    open.add(SENT, 10);
    open.add(RECEIVED, 5);
    assert_eq!(counts(&standard, "istio_tcp_sent_bytes_total").len(), 0);
    assert_eq!(counts(&standard, "istio_tcp_received_bytes_total"), ["a=\"1\"} 5"]);
    begin_anew(&standard, OF_CONNECTIONS);
    open.add(SENT, 2);
    assert_eq!(counts(&standard, "istio_tcp_sent_bytes_total"), ["a=\"1\"} 3"]);
}

#[test]
fn a_series_of_another_plan_is_not_made() {
    let standard = Standard::default();
    let wish =
        Wish { plan: 0, side: Reporter::Source, which: OF_REQUESTS, wanted: OF_REQUESTS, labels: "a=\"1\"", host: "" };
    assert!(standard.series(&wish, String::new).is_some());
    let epoch = standard.epoch();
    standard.begin_anew(1, Changed { source: [true; 2], ..Changed::default() }, || assert_eq!(standard.epoch(), epoch));
    assert_ne!(standard.epoch(), epoch);
    assert!(standard.series(&wish, String::new).is_none());
    assert!(standard.series(&Wish { plan: 1, ..wish }, String::new).is_some());
}

#[test]
fn what_has_not_changed_goes_on() {
    let standard = Standard::default();
    let of = |side| Wish { plan: 0, side, which: OF_REQUESTS, wanted: OF_REQUESTS, labels: "a=\"1\"", host: "" };
    for side in [Reporter::Source, Reporter::Destination] {
        standard.series(&of(side), String::new).unwrap().request(&Sample::default());
    }
    assert_eq!(counts(&standard, "istio_requests_total"), ["a=\"1\"} 2"], "one set of labels is told once");
    assert_eq!(counts(&standard, "istio_request_bytes_count"), ["a=\"1\"} 2"]);
    standard.begin_anew(0, Changed { source: [false, true], destination: [true, false], wanted: [0; 2] }, || ());
    assert_eq!(counts(&standard, "istio_requests_total"), ["a=\"1\"} 1"]);
}
