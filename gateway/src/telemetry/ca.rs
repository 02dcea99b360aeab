//! What the mesh's CA counts: by Istio's names what Istio counts, and beside it what that has no name for.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    doors::DoorMetrics,
    exposition::{Exposition, Format},
    holders::Holders,
    injection::InjectionMetrics,
    metrics::families,
    told,
};
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

/// What became of a request for a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// It came.
    Came,
    /// Nobody knows who asks.
    Unknown,
    /// It is no request, or its key is too weak.
    Unreadable,
    /// The identity cannot stand in a certificate.
    NoIdentity,
    /// Nothing was signed for another reason.
    Unsigned,
    /// There were too many at once.
    Shed,
}

/// All of them, in a registry of their own.
#[derive(Debug)]
pub(crate) struct CaMetrics {
    registry: Registry,
    /// Indexed by [`Asked`].
    asked: [IntCounter; 6],
    /// By how the caller proved who it is.
    issued: IntCounterVec,
    success: IntCounter,
    root_ends: Gauge,
    root_left: Gauge,
    chain_ends: Gauge,
    chain_left: Gauge,
    roots: IntGauge,
    phase: IntGauge,
    kept: IntGauge,
    signing: IntGauge,
    written: IntCounterVec,
    /// What the webhooks count.
    pub(crate) injection: InjectionMetrics,
    /// Connections.
    pub(crate) doors: DoorMetrics,
    /// Who holds certificates, and who got none.
    pub(crate) holders: Holders,
}

impl CaMetrics {
    /// Everything at zero.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let build =
            IntGaugeVec::new(Opts::new("istio_build", "The version that runs; always 1."), &["component", "tag"]);
        let build = registered(&registry, build.expect("the names are ours, and right"));
        build.with_label_values(&["pilot", env!("CARGO_PKG_VERSION")]).set(1);
        let asked = [
            ("citadel_server_csr_count", "Requests for certificates."),
            ("citadel_server_authentication_failure_count", "Requests whose caller could not prove who it is."),
            ("citadel_server_csr_parsing_err_count", "Requests that cannot be read, or whose key is too weak."),
            ("citadel_server_id_extraction_err_count", "Requests of callers whose identity no certificate can name."),
            ("citadel_server_csr_sign_err_count", "Requests that were in order and got no certificate."),
            ("sluice_ca_shed_total", "Requests refused because there were too many at once."),
        ]
        .map(|(name, help)| registered(&registry, counter(name, help)));
        let gauge = |name: &str, help: &str| {
            registered(&registry, Gauge::new(name, help).expect("the names are ours, and right"))
        };
        let whole = |name: &str, help: &str| {
            registered(&registry, IntGauge::new(name, help).expect("the names are ours, and right"))
        };
        let labelled = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]);
            registered(&registry, counters.expect("the names are ours, and right"))
        };
        let success = counter("citadel_server_success_cert_issuance_count", "Certificates that were issued.");
        Self {
            asked,
            issued: labelled(
                "sluice_ca_issued_total",
                "Certificates that were issued, by the proof of who asked.",
                "proof",
            ),
            success: registered(&registry, success),
            root_ends: gauge("citadel_server_root_cert_expiry_timestamp", "When the root ends, seconds since 1970."),
            root_left: gauge("citadel_server_root_cert_expiry_seconds", "Seconds until the root ends."),
            chain_ends: gauge(
                "citadel_server_cert_chain_expiry_timestamp",
                "When the certificate that signs, or one above it, ends, seconds since 1970.",
            ),
            chain_left: gauge("citadel_server_cert_chain_expiry_seconds", "Seconds until then."),
            roots: whole("sluice_ca_roots", "Roots that are handed out."),
            phase: whole("sluice_ca_rotation_phase", "Of a new root: 0 = none, 1 = handed out, 2 = it signs."),
            kept: whole("sluice_ca_kept", "1 = the CA's material was changed or deleted, and the last good one signs."),
            signing: whole("sluice_ca_signing", "1 = certificates are signed, 0 = nothing is signed."),
            written: labelled(
                "sluice_ca_roots_written_total",
                "Times the roots were written to a namespace.",
                "result",
            ),
            injection: InjectionMetrics::new(&registry),
            doors: DoorMetrics::new(&registry),
            holders: Holders::default(),
            registry,
        }
    }

    /// A request, as far as it came.
    pub(crate) fn asked(&self, asked: Asked) {
        self.asked[asked as usize].inc();
    }

    /// A certificate was issued to somebody with this proof.
    pub(crate) fn issued(&self, proof: &str) {
        self.success.inc();
        self.issued.with_label_values(&[proof]).inc();
    }

    /// The roots were written to a namespace, or could not be.
    pub(crate) fn written(&self, result: &str) {
        self.written.with_label_values(&[result]).inc();
    }

    /// What signs, and when it ends.
    pub(crate) fn in_force(&self, (root, chain): (SystemTime, SystemTime), roots: usize, phase: i64) {
        self.root_ends.set(seconds(root));
        self.chain_ends.set(seconds(chain));
        self.roots.set(i64::try_from(roots).unwrap_or(i64::MAX));
        self.phase.set(phase);
    }

    /// Whether the last good material signs in the place of what is there.
    pub(crate) fn kept(&self, kept: bool) {
        self.kept.set(i64::from(kept));
    }

    /// Whether anything is signed. Gives what was so before.
    pub(crate) fn signing(&self, signs: bool) -> bool {
        let before = self.signing.get() == 1;
        self.signing.set(i64::from(signs));
        before
    }

    /// Everything that is counted.
    pub(crate) fn told(&self) -> Vec<told::Family> {
        self.look_at_clock();
        told::families(&self.registry)
    }

    /// All as text, at this time.
    pub(crate) fn render(&self, format: Format) -> String {
        self.look_at_clock();
        let mut out = Exposition::new(format);
        families::write(&self.registry.gather(), &[], &mut out);
        out.finish()
    }

    fn look_at_clock(&self) {
        let now = seconds(SystemTime::now());
        for (end, left) in [(&self.root_ends, &self.root_left), (&self.chain_ends, &self.chain_left)] {
            left.set(if end.get() > 0.0 { end.get() - now } else { 0.0 });
        }
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64().trunc())
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("the names are ours, and right")
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("no name is used twice");
    collector
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_readme_names_all_of_them() {
        let metrics = CaMetrics::new();
        metrics.issued("token");
        metrics.written("ok");
        metrics.doors.open("ca").inc();
        metrics.doors.ended("ca", "idle");
        let text = metrics.render(Format::Text);
        let readme = include_str!("../../../README.md");
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = line.split(' ').next().unwrap();
            assert!(readme.contains(&format!("`{name}`")), "{name}");
        }
        assert_eq!(text.matches("# TYPE ").count(), 25);
    }

    #[test]
    fn what_ends_has_so_many_seconds_left() {
        let metrics = CaMetrics::new();
        assert!(metrics.render(Format::Text).contains("citadel_server_root_cert_expiry_seconds 0\n"));
        let end = SystemTime::now() + Duration::from_secs(3600);
        metrics.in_force((end, end), 2, 1);
        metrics.asked(Asked::Shed);
        let text = metrics.render(Format::Text);
        let left = text.lines().find_map(|line| line.strip_prefix("citadel_server_root_cert_expiry_seconds "));
        assert!((3590.0..3601.0).contains(&left.unwrap().parse::<f64>().unwrap()), "{text}");
        for line in ["sluice_ca_roots 2", "sluice_ca_rotation_phase 1", "sluice_ca_shed_total 1"] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
