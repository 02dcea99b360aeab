use std::{net::SocketAddr, sync::mpsc, time::SystemTime};

use super::*;
use crate::telemetry::{
    metrics::Metrics,
    record::{Asked, Labels, Reporter, Silent, Told},
};

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

fn record(path: &str) -> Record<'_> {
    Record {
        start: SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_860_800_007),
        duration: Duration::from_micros(12_900),
        asked: Asked {
            method: b"GET",
            path: path.as_bytes(),
            x_forwarded_for: b"192.0.2.7",
            user_agent: b"curl/8.5.0",
            request_id: b"1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
            authority: b"cargo.example.com",
        },
        protocol: "HTTP/2",
        status: 200,
        flags: "-",
        details: "via_upstream",
        transport_failure: "",
        bytes_received: 0,
        bytes_sent: 513,
        upstream_service_time: Some(11),
        upstream_host: address("127.10.1.1:8080"),
        upstream_local: address("127.0.0.1:50000"),
        upstream_cluster: "outbound|8080|v1|rating.default.svc.cluster.local",
        downstream_local: address("[::1]:8443"),
        downstream_remote: address("192.0.2.7:40000"),
        sni: "cargo.example.com",
        route: "default",
        trace: None,
        volume: crate::telemetry::record::Volume::default(),
        labels: Labels {
            reporter: Reporter::Source,
            peer: None,
            peer_principal: "",
            service_host: "",
            service_name: "",
            service_namespace: "",
            grpc: false,
            grpc_status: None,
            mutual_tls: false,
        },
        told: Told(&Silent),
    }
}

fn text(record: &Record<'_>) -> String {
    let mut line = Line::default();
    line.text(record);
    String::from_utf8(line.bytes).unwrap()
}

fn json(record: &Record<'_>) -> serde_json::Value {
    let mut line = Line::default();
    line.json(record);
    assert_eq!(line.bytes.last(), Some(&b'\n'));
    serde_json::from_slice(&line.bytes).unwrap()
}

#[test]
fn the_text_line_is_istios() {
    assert_eq!(
        text(&record("/api/freight-rating?x=1")),
        "[2026-01-31T12:00:00.007Z] \"GET /api/freight-rating?x=1 HTTP/2\" 200 - via_upstream - \"-\" 0 513 12 11 \
         \"192.0.2.7\" \"curl/8.5.0\" \"1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed\" \"cargo.example.com\" \"127.10.1.1:8080\" \
         outbound|8080|v1|rating.default.svc.cluster.local 127.0.0.1:50000 [::1]:8443 192.0.2.7:40000 cargo.example.com \
         default\n"
    );
}

#[test]
fn absent_values_are_dashes() {
    let bare = Record {
        status: 0,
        flags: "DC",
        details: "downstream remote disconnect",
        transport_failure: "TLS error: bad",
        upstream_service_time: None,
        asked: Asked { method: b"GET", path: b"/", ..Asked::default() },
        upstream_host: None,
        upstream_local: None,
        upstream_cluster: "",
        downstream_local: None,
        downstream_remote: None,
        sni: "",
        route: "",
        ..record("/")
    };
    assert_eq!(
        text(&bare),
        "[2026-01-31T12:00:00.007Z] \"GET / HTTP/2\" 0 DC downstream_remote_disconnect - \"TLS error: bad\" 0 513 12 - \
         \"-\" \"-\" \"-\" \"-\" \"-\" - - - - - -\n"
    );
}

#[test]
fn a_client_can_neither_end_a_line_nor_a_field() {
    let hostile = record("/x\" 200\r\n[fake]");
    let asked = Asked { user_agent: "a\"b\\c\nd\x7fé".as_bytes(), ..hostile.asked };
    let hostile = Record { asked, sni: "a b\t", ..hostile };
    let line = text(&hostile);
    assert_eq!(line.lines().count(), 1);
    assert!(line.contains(r#""GET /x\" 200\x0d\x0a[fake] HTTP/2""#), "{line}");
    assert!(line.contains(r#" "a\"b\\c\x0ad\x7fé" "#), "{line}");
    assert!(line.contains(r" a_b\x09 default"), "{line}");
    let object = json(&hostile);
    assert_eq!(object["user_agent"], "a\"b\\c\nd\x7fé");
    assert_eq!(object["path"], "/x\" 200\r\n[fake]");
}

#[test]
fn json_has_istios_keys_and_types() {
    let object = json(&record("/"));
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys.join(" "),
        "authority bytes_received bytes_sent connection_termination_details \
        downstream_local_address downstream_remote_address duration method path protocol request_id \
        requested_server_name response_code response_code_details response_flags route_name start_time upstream_cluster \
        upstream_host upstream_local_address upstream_service_time upstream_transport_failure_reason user_agent \
        x_forwarded_for"
    );
    assert_eq!(object["response_code"], 200);
    assert_eq!(object["duration"], 12);
    assert_eq!(object["upstream_service_time"], "11");
    assert_eq!(object["start_time"], "2026-01-31T12:00:00.007Z");
    assert_eq!(object["upstream_transport_failure_reason"], serde_json::Value::Null);
    assert_eq!(object["downstream_local_address"], "[::1]:8443");
}

#[test]
fn the_second_is_formatted_again_when_it_changes() {
    let mut line = Line::default();
    line.text(&record("/"));
    line.text(&Record { start: SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_860_801_999), ..record("/") });
    let lines = String::from_utf8(line.bytes).unwrap();
    assert!(lines.lines().nth(1).unwrap().starts_with("[2026-01-31T12:00:01.999Z]"));
}

#[test]
fn numbers_are_decimal() {
    for value in [0, 9, 10, 1_234_567_890, u64::MAX] {
        let mut out = Vec::new();
        text::number(&mut out, value);
        assert_eq!(out, value.to_string().into_bytes());
    }
}

/// Hands on what it is given.
struct Pipe(mpsc::Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes nothing until the other end of the channel is dropped.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(out: Box<dyn Write + Send>) -> (AccessLog, Counter) {
    let dropped = Metrics::new().access_log_dropped();
    (AccessLog::start(out, dropped.clone()).unwrap(), dropped)
}

#[test]
fn lines_of_all_threads_arrive_without_a_flush() {
    let (send, written) = mpsc::channel();
    let (log, dropped) = start(Box::new(Pipe(send)));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| log.write(&Form::Text, &record("/"))));
        }
    });
    let mut lines = 0;
    while lines < 4000 {
        let bytes = written.recv_timeout(Duration::from_secs(20)).expect("the writer writes by itself");
        lines += bytes.iter().filter(|&&byte| byte == b'\n').count();
    }
    assert_eq!((lines, dropped.get()), (4000, 0));
}

#[test]
fn a_flush_waits_for_the_lines_before_it() {
    let (send, written) = mpsc::channel();
    let (log, _) = start(Box::new(Pipe(send)));
    log.write(&Form::Text, &record("/last"));
    log.flush(Duration::from_secs(20));
    assert!(written.try_iter().any(|bytes| String::from_utf8(bytes).unwrap().contains("/last")));
}

#[test]
fn a_reader_that_stops_costs_lines_and_no_time() {
    let (release, stuck) = mpsc::channel();
    let (log, dropped) = start(Box::new(Stuck(stuck)));
    let path = "x".repeat(64 << 10);
    (0..100).for_each(|_| log.write(&Form::Text, &record(&path)));
    log.flush(Duration::from_millis(1));
    assert!(dropped.get() >= 100 - 2 * (FULL / path.len()) as u64 - 2, "{}", dropped.get());
    drop(release);
}

#[test]
fn a_closed_stdout_costs_lines_and_no_error() {
    let (send, written) = mpsc::channel();
    drop(written);
    let (log, dropped) = start(Box::new(Pipe(send)));
    (0..3).for_each(|_| log.write(&Form::Text, &record("/")));
    log.flush(Duration::from_secs(20));
    assert_eq!(dropped.get(), 3);
}

#[test]
fn each_log_of_a_thread_has_its_own_lines() {
    let (send, written) = mpsc::channel();
    let (first, _) = start(Box::new(Pipe(send)));
    let (send, other) = mpsc::channel();
    let (second, _) = start(Box::new(Pipe(send)));
    first.write(&Form::Json, &record("/first"));
    second.write(&Form::Text, &record("/second"));
    first.write(&Form::Text, &record("/third"));
    first.flush(Duration::from_secs(20));
    second.flush(Duration::from_secs(20));
    let written = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
    let first: Vec<Option<char>> = written.lines().map(|line| line.chars().next()).collect();
    assert_eq!(first, [Some('{'), Some('[')], "{written}");
    let written = String::from_utf8(other.try_iter().flatten().collect()).unwrap();
    assert_eq!((written.lines().count(), written.contains("/second")), (1, true), "{written}");
}

proptest::proptest! {
    #[test]
    fn whatever_a_client_sends_is_one_line(path in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", agent in "[\\x00-\\x7f]{0,40}") {
        let hostile = record(&path);
        let asked = Asked { user_agent: agent.as_bytes(), authority: path.as_bytes(), ..hostile.asked };
        let hostile = Record { asked, sni: &agent, ..hostile };
        let line = text(&hostile);
        proptest::prop_assert_eq!(line.matches('\n').count(), 1);
        proptest::prop_assert!(line.ends_with('\n') && !line.contains('\r'));
        let object = json(&hostile);
        if !agent.is_empty() {
            proptest::prop_assert_eq!(object["user_agent"].as_str(), Some(agent.as_str()));
        }
    }
}

/// A disk that takes so many bytes, until there is room again.
struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = lock(&self.0);
        let count = bytes.len().min(disk.0);
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.0 -= count;
        disk.1.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_that_a_full_disk_has_torn_does_not_spoil_the_next_one() {
    let dropped = Metrics::new().access_log_dropped();
    let disk = Arc::new(Mutex::new((0, Vec::new())));
    let log = AccessLog::start(Box::new(Disk(Arc::clone(&disk))), dropped.clone()).unwrap();
    let form = Form::of(AccessLogFormat::Text).unwrap();
    let length = line(&form, &record("/a")).len();
    lock(&disk).0 = length + 9;
    for path in ["/a", "/b", "/c"] {
        log.write(&form, &record(path));
    }
    log.flush(Duration::from_secs(20));
    assert_eq!(dropped.get(), 2, "one has arrived");
    lock(&disk).0 = 1 << 20;
    log.write(&form, &record("/d"));
    log.flush(Duration::from_secs(20));
    let text = String::from_utf8(lock(&disk).1.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("GET /a") && lines[1].len() == 9 && lines[2].contains("GET /d"), "{text}");
    assert_eq!(dropped.get(), 2);
}
