//! What a control plane tells of itself, out of what it counts.

use std::collections::BTreeMap;

use crate::{
    admin::schema::control::{Control, Validated},
    telemetry::{
        holders::Holders,
        told::{Family, Sample},
    },
};

/// Holders of certificates that are told.
const MOST: usize = 300;

const REFUSED: [(&str, &str); 5] = [
    ("not known who asks", "citadel_server_authentication_failure_count"),
    ("request or key not in order", "citadel_server_csr_parsing_err_count"),
    ("no identity for a certificate", "citadel_server_id_extraction_err_count"),
    ("not signed", "citadel_server_csr_sign_err_count"),
    ("too many at once", "sluice_ca_shed_total"),
];
const PODS: [(&str, &str); 3] = [
    ("injected", "sidecar_injection_success_total"),
    ("skipped", "sidecar_injection_skip_total"),
    ("failed", "sidecar_injection_failure_total"),
];

/// What a control plane with these figures tells.
pub(in crate::admin) fn control(families: &[Family], holders: &Holders) -> Control {
    let samples = |name: &'static str| {
        families.iter().filter(move |family| family.name == name).flat_map(|family| &family.samples)
    };
    let count = |name| samples(name).map(|sample| sample.value as u64).sum::<u64>();
    let by = |name, label: &str| -> BTreeMap<String, u64> {
        samples(name).map(|sample| (label_of(sample, label), sample.value as u64)).collect()
    };
    let mut validated: BTreeMap<String, Validated> = BTreeMap::new();
    for sample in samples("sluice_validation_total") {
        let kind = label_of(sample, "kind");
        let one = validated.entry(kind.clone()).or_insert_with(|| Validated { kind, ..Validated::default() });
        match label_of(sample, "result").as_str() {
            "allowed" => one.allowed += sample.value as u64,
            _ => one.refused += sample.value as u64,
        }
    }
    let (holders, more_holders, refusals) = holders.told(MOST);
    Control {
        asked: count("citadel_server_csr_count"),
        issued: by("sluice_ca_issued_total", "proof"),
        refused: REFUSED.map(|(why, name)| (why, count(name))).into(),
        roots_written: by("sluice_ca_roots_written_total", "result"),
        pods: PODS.map(|(what, name)| (what, count(name))).into(),
        validated: validated.into_values().collect(),
        connections: by("sluice_control_connections", "listener"),
        holders,
        more_holders,
        refusals,
    }
}

fn label_of(sample: &Sample, name: &str) -> String {
    sample.labels.get(name).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ca::{Asked, CaMetrics};

    #[test]
    fn what_is_counted_is_told() {
        let metrics = CaMetrics::new();
        metrics.asked(Asked::Came);
        metrics.asked(Asked::Shed);
        metrics.issued("token");
        metrics.issued("token");
        metrics.written("ok");
        metrics.injection.validated("Gateway", true);
        metrics.injection.validated("Gateway", false);
        metrics.injection.pod(crate::telemetry::injection::Pod::Skipped, 0.1);
        metrics.doors.open("ca").inc();
        let told = control(&metrics.told(), &metrics.holders);
        assert_eq!((told.asked, told.issued["token"], told.roots_written["ok"], told.connections["ca"]), (1, 2, 1, 1));
        assert_eq!((told.refused["too many at once"], told.refused["not signed"]), (1, 0));
        assert_eq!((told.pods["skipped"], told.pods["injected"]), (1, 0));
        let [gateway] = &told.validated[..] else { panic!("{:?}", told.validated) };
        assert_eq!((gateway.kind.as_str(), gateway.allowed, gateway.refused), ("Gateway", 1, 1));
    }

    #[test]
    fn every_figure_that_is_told_is_counted() {
        let metrics = CaMetrics::new();
        let names: Vec<String> = metrics.told().into_iter().map(|family| family.name).collect();
        for (_, name) in REFUSED.iter().chain(&PODS) {
            assert!(names.iter().any(|it| it == name), "{name}");
        }
    }
}
