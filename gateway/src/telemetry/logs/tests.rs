use routing::{
    api::mesh_config::{AccessLogEncoding, MeshConfig},
    mesh::Mesh,
    snapshot::Workload,
    telemetry::Telemetry,
};

use super::*;
use crate::telemetry::{metrics::Metrics, tests::record};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a provider without a format of its own writes of one request.
fn written(given: Option<AccessLogFormat>, encoding: Option<AccessLogEncoding>, format: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let metrics = Metrics::new();
    let logs = Logs::start(given, Box::new(std::io::sink()), metrics.access_log_dropped()).unwrap();
    let config = MeshConfig {
        // As of Istio's chart: no log beside Telemetry.
        access_log_file: Some(String::new()),
        access_log_encoding: encoding,
        access_log_format: format.map(str::to_owned),
        ..MeshConfig::default()
    };
    let log = Log { filter: None, format: None, to: To::File(path.to_str().unwrap().into()) };
    let logged = Some(Sides { client: Some([log].into()), server: None });
    let mut installed = Installed::default();
    installed.snapshot.mesh = Arc::new(Mesh { config, ..Mesh::default() });
    installed.snapshot.telemetry = Some(Box::new(Telemetry { logged, ..Telemetry::default() }));
    logs.installed(&installed, metrics.exporting());
    let peer = Arc::new(Workload::default());
    logs.write(&record(Some(&peer), 200), &Exports::default());
    logs.flush(PATIENCE);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_provider_without_a_format_has_the_encoding_and_the_format_of_the_mesh() {
    let json = Some(AccessLogEncoding::Json);
    assert!(written(None, json, None).starts_with('{'));
    assert_eq!(written(None, json, Some(r#"{"own": "%REQ(:METHOD)%x"}"#)).trim(), r#"{"own":"-x"}"#);
    assert!(written(None, None, None).starts_with('['));
    assert_eq!(written(None, None, Some("own %RESPONSE_FLAGS%")).split(' ').next(), Some("own"));
}

#[test]
fn what_is_given_by_hand_stands_above_the_mesh() {
    let json = Some(AccessLogEncoding::Json);
    assert!(written(Some(AccessLogFormat::Text), json, None).starts_with('['));
    assert!(written(Some(AccessLogFormat::Json), None, Some("own")).starts_with('{'));
}
