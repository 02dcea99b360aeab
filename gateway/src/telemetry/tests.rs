use std::time::SystemTime;

use super::{
    record::{Labels, Reporter, Silent, Told},
    *,
};

fn telemetry() -> Telemetry {
    Telemetry::new(Some(AccessLogFormat::Off), Box::new(std::io::sink())).unwrap()
}

fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload { name: name.into(), ..Workload::default() })
}

fn record(peer: Option<&Arc<Workload>>, status: u16) -> Record<'_> {
    Record {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(3),
        method: "GET",
        path: "/",
        protocol: "HTTP/1.1",
        status,
        flags: "-",
        details: "via_upstream",
        transport_failure: "",
        bytes_received: 0,
        bytes_sent: 0,
        upstream_service_time: None,
        x_forwarded_for: "",
        user_agent: "",
        request_id: "",
        authority: "",
        upstream_host: None,
        upstream_local: None,
        upstream_cluster: "",
        downstream_local: None,
        downstream_remote: None,
        sni: "",
        route: "",
        trace: None,
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
    let text = telemetry.metrics().render();
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
    telemetry.installed(&workload("gateway"));
    telemetry.finish(&record(None, 200));
    telemetry.installed(&workload("edge"));
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
