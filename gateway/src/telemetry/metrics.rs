//! What counts, and the only file that names the prometheus library.

use std::{collections::HashSet, sync::Arc};

use prometheus::{
    Counter as Seconds, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

use super::{
    exposition::{Exposition, Format},
    outcomes::{MIRROR_RESULTS, Mirroring, RETRY_RESULTS, Retry},
    process::Usage,
    standard::{BUCKETS, Standard},
};
use crate::peers::{CLAIM_RESULTS, Claim};

mod ejections;
pub(crate) mod exports;
mod external;
pub(super) mod families;
mod identity;
mod reloads;
mod table;
#[cfg(test)]
mod tests;
mod told;
mod verdicts;

use ejections::Ejections;
use exports::Exporting;
use external::External;
pub(crate) use identity::Attempt;
use identity::Identity;
pub(crate) use reloads::Reload;
use reloads::Reloads;
pub(super) use table::row;
use table::{
    ASKED, ASKING, ATTEMPTS, BUILD, CERTIFICATES, CLAIMS, CONNECTIONS, CPU, DROPPED, EJECTED, EJECTIONS, EXPIRY,
    EXPORTS, FAILING, FILES, GENERATION, HANDSHAKES, INSTALLED, KEPT, KEY_FETCHES, LIMITED, MEMORY, MIRRORS, ORDERS,
    OVERFLOWS, PROBLEMS, RATE_LIMITS, REFUSALS, RELOADING, RELOADS, RENEWAL, RETRIES, SERIES, SERIES_DROPPED, SHED,
    SNAPSHOT, SPARED, STARTED, THREADS, UPSTREAMS, VERDICTS,
};
pub(crate) use table::{Definition, TABLE};
use verdicts::Verdicts;

/// A counter without labels, to be kept by who counts.
pub(crate) type Counter = IntCounter;

/// How a handshake with a client ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handshake {
    /// The connection is encrypted.
    Ok,
    /// The client broke it off or did not prove itself.
    Failed,
    /// There was no server or no certificate for the SNI.
    Refused,
    /// It took too long.
    TimedOut,
}

/// How connecting to an endpoint ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Connect {
    /// Connected, with TLS where TLS was due.
    Ok,
    /// TCP failed.
    Failed,
    /// It took longer than the connect timeout.
    TimedOut,
    /// TCP was there, TLS failed.
    TlsFailed,
}

/// What came of ordering a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// It is stored.
    Issued,
    /// It is tried again.
    Failed,
}

/// A certificate that is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CertificateValue<'a> {
    /// `namespace/gateway/port name`, or `workload`.
    pub(crate) server: &'a str,
    /// Hosts that it is served for.
    pub(crate) hosts: &'a [String],
    /// Where it comes from: `namespace/name`, a file, `workload`.
    pub(crate) secret: &'a str,
    /// Its end, seconds since 1970.
    pub(crate) not_after: i64,
    /// It is the last good one, and another is asked for.
    pub(crate) kept: bool,
}

/// Hosts that a label names; servers with hundreds of them would make lines that nobody can read.
const MOST_HOSTS: usize = 5;

/// `a,b,c`, with the number of those that are left out.
fn few(hosts: &[String]) -> String {
    let named = hosts.get(..MOST_HOSTS).unwrap_or(hosts);
    match hosts.len() - named.len() {
        0 => named.join(","),
        more => format!("{},+{more}", named.join(",")),
    }
}

/// All metrics of the process, in an own registry.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    problems: IntGaugeVec,
    generation: IntGauge,
    snapshot: IntGaugeVec,
    reloads: Reloads,
    connections: IntGauge,
    /// Indexed by [`Handshake`].
    handshakes: [IntCounter; 4],
    refusals: IntCounterVec,
    shed: IntCounterVec,
    certificates: IntGaugeVec,
    kept: IntGauge,
    /// Indexed by [`Order`].
    orders: [IntCounter; 2],
    key_fetches: [IntCounter; 2],
    failing: IntGauge,
    /// Indexed by [`Connect`].
    upstreams: [IntCounter; 4],
    ejections: Ejections,
    external: External,
    exporting: Exporting,
    identity: Identity,
    limited: IntGaugeVec,
    overflows: IntCounterVec,
    rate_limits: IntCounterVec,
    /// Indexed by [`Retry`].
    retries: [IntCounter; 5],
    /// Indexed by [`Mirroring`].
    mirrors: [IntCounter; 8],
    /// Indexed by [`Claim`].
    claims: [IntCounter; CLAIM_RESULTS.len()],
    verdicts: Verdicts,
    dropped: IntCounter,
    cpu: Seconds,
    memory: IntGauge,
    started: Gauge,
    files: IntGauge,
    threads: IntGauge,
    series: IntGauge,
    series_dropped: IntCounter,
    /// Istio's own.
    pub(super) standard: Standard,
}

/// One open connection; dropping it is the end of the connection.
#[derive(Debug)]
pub(crate) struct ActiveConnection(IntGauge);

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Every metric of the table, registered.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let build: IntGaugeVec = register(&registry, IntGaugeVec::new(options(&BUILD), BUILD.labels));
        build.with_label_values(&["proxy", env!("CARGO_PKG_VERSION")]).set(1);
        let handshakes = register(&registry, IntCounterVec::new(options(&HANDSHAKES), HANDSHAKES.labels));
        let upstreams = register(&registry, IntCounterVec::new(options(&UPSTREAMS), UPSTREAMS.labels));
        let retries = register(&registry, IntCounterVec::new(options(&RETRIES), RETRIES.labels));
        let mirrors = register(&registry, IntCounterVec::new(options(&MIRRORS), MIRRORS.labels));
        let claims = register(&registry, IntCounterVec::new(options(&CLAIMS), CLAIMS.labels));
        let orders = register(&registry, IntCounterVec::new(options(&ORDERS), ORDERS.labels));
        let key_fetches = register(&registry, IntCounterVec::new(options(&KEY_FETCHES), KEY_FETCHES.labels));
        Self {
            problems: register(&registry, IntGaugeVec::new(options(&PROBLEMS), PROBLEMS.labels)),
            generation: register(&registry, IntGauge::with_opts(options(&GENERATION))),
            snapshot: register(&registry, IntGaugeVec::new(options(&SNAPSHOT), SNAPSHOT.labels)),
            reloads: Reloads::new(&registry),
            connections: register(&registry, IntGauge::with_opts(options(&CONNECTIONS))),
            handshakes: ["ok", "failed", "refused", "timeout"].map(|it| handshakes.with_label_values(&[it])),
            refusals: register(&registry, IntCounterVec::new(options(&REFUSALS), REFUSALS.labels)),
            shed: register(&registry, IntCounterVec::new(options(&SHED), SHED.labels)),
            certificates: register(&registry, IntGaugeVec::new(options(&CERTIFICATES), CERTIFICATES.labels)),
            kept: register(&registry, IntGauge::with_opts(options(&KEPT))),
            orders: ["issued", "failed"].map(|it| orders.with_label_values(&[it])),
            key_fetches: ["ok", "failed"].map(|it| key_fetches.with_label_values(&[it])),
            failing: register(&registry, IntGauge::with_opts(options(&FAILING))),
            upstreams: ["ok", "failed", "timeout", "tls_failed"].map(|it| upstreams.with_label_values(&[it])),
            ejections: Ejections::new(&registry),
            external: External::new(&registry),
            exporting: Exporting::new(&registry),
            identity: Identity::new(&registry),
            limited: register(&registry, IntGaugeVec::new(options(&LIMITED), LIMITED.labels)),
            overflows: register(&registry, IntCounterVec::new(options(&OVERFLOWS), OVERFLOWS.labels)),
            rate_limits: register(&registry, IntCounterVec::new(options(&RATE_LIMITS), RATE_LIMITS.labels)),
            retries: RETRY_RESULTS.map(|it| retries.with_label_values(&[it])),
            mirrors: MIRROR_RESULTS.map(|it| mirrors.with_label_values(&[it])),
            claims: CLAIM_RESULTS.map(|it| claims.with_label_values(&[it])),
            verdicts: Verdicts::new(&registry),
            dropped: register(&registry, IntCounter::with_opts(options(&DROPPED))),
            cpu: register(&registry, Seconds::with_opts(options(&CPU))),
            memory: register(&registry, IntGauge::with_opts(options(&MEMORY))),
            started: register(&registry, Gauge::with_opts(options(&STARTED))),
            files: register(&registry, IntGauge::with_opts(options(&FILES))),
            threads: register(&registry, IntGauge::with_opts(options(&THREADS))),
            series: register(&registry, IntGauge::with_opts(options(&SERIES))),
            series_dropped: register(&registry, IntCounter::with_opts(options(&SERIES_DROPPED))),
            standard: Standard::default(),
            registry,
        }
    }

    /// A connection was accepted.
    pub(crate) fn connection(&self) -> ActiveConnection {
        self.connections.inc();
        ActiveConnection(self.connections.clone())
    }

    /// A handshake with a client failed, for a reason that is one of few words.
    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Something was given up because a limit was reached.
    pub(crate) fn shed(&self, limit: &'static str) {
        self.shed.with_label_values(&[limit]).inc();
    }

    /// A handshake with a client ended.
    pub(crate) fn handshake(&self, result: Handshake) {
        self.handshakes[result as usize].inc();
    }

    /// Connecting to an endpoint ended.
    pub(crate) fn connect(&self, result: Connect) {
        self.upstreams[result as usize].inc();
    }

    /// A retry, or the wish for one.
    pub(crate) fn retry(&self, result: Retry) {
        self.retries[result as usize].inc();
    }

    /// A copy of a request.
    pub(crate) fn mirror(&self, result: Mirroring) {
        self.mirrors[result as usize].inc();
    }

    /// A peer told of its workload.
    pub(crate) fn claim(&self, claim: Claim) {
        self.claims[claim as usize].inc();
    }

    /// What is installed: its number and its content hash.
    pub(crate) fn set_snapshot(&self, generation: u64, digest: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.snapshot.reset();
        self.snapshot.with_label_values(&[format!("{digest:016x}")]).set(1);
    }

    /// How many problems of each severity (`error`, `warning`, `info`) the installed configuration has.
    pub(crate) fn set_problems(&self, counts: &[(&'static str, usize)]) {
        for (severity, count) in counts {
            self.problems.with_label_values(&[severity]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// All certificates that are served.
    pub(crate) fn set_certificates<'a>(&self, certificates: impl IntoIterator<Item = CertificateValue<'a>>) {
        self.certificates.reset();
        let mut kept = 0;
        for it in certificates {
            let hosts = few(it.hosts);
            self.certificates.with_label_values(&[it.server, &hosts, it.secret]).set(it.not_after);
            kept += i64::from(it.kept);
        }
        self.kept.set(kept);
    }

    /// Ordering a certificate ended.
    pub(crate) fn acme_order(&self, result: Order) {
        self.orders[result as usize].inc();
    }

    /// An issuer was asked for its keys.
    pub(crate) fn count_key_fetch(&self, good: bool) {
        self.key_fetches[usize::from(!good)].inc();
    }

    /// How many certificates to order or renew were tried without success the last time.
    pub(crate) fn set_acme_failing(&self, count: usize) {
        self.failing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// What is counted for limits of clusters: cluster, limit, how much there is, how often it was reached.
    pub(crate) fn set_limits(&self, all: impl IntoIterator<Item = (Arc<str>, &'static str, u32, u64)>) {
        self.limited.reset();
        self.overflows.reset();
        // A port that is for requests and for bytes has one account, of which both tell.
        let mut told = HashSet::new();
        for (cluster, limit, active, reached) in all {
            if !told.insert((Arc::clone(&cluster), limit)) {
                continue;
            }
            self.limited.with_label_values(&[&cluster, limit]).set(i64::from(active));
            self.overflows.with_label_values(&[&cluster, limit]).inc_by(reached);
        }
    }

    /// What is counted for rate limits: limit, result, how often.
    pub(crate) fn set_rate_limits(&self, all: impl IntoIterator<Item = (Arc<str>, &'static str, u64)>) {
        self.rate_limits.reset();
        for (limit, result, count) in all {
            self.rate_limits.with_label_values(&[&limit, result]).inc_by(count);
        }
    }

    /// The counter of access log lines that were dropped.
    pub(crate) fn access_log_dropped(&self) -> Counter {
        self.dropped.clone()
    }

    /// Everything, the labels in the order of the table.
    pub(crate) fn render(&self, format: Format) -> String {
        self.look_at_process();
        let mut out = Exposition::new(format);
        self.standard.render(&TABLE, &mut out);
        self.look_at_series();
        families::write(&self.registry.gather(), &TABLE, &mut out);
        out.finish()
    }

    fn look_at_series(&self) {
        self.series.set(i64::try_from(self.standard.len()).unwrap_or(i64::MAX));
        self.series_dropped.inc_by(self.standard.take_dropped());
    }

    fn look_at_process(&self) {
        let usage = Usage::now();
        self.cpu.inc_by((usage.cpu_seconds - self.cpu.get()).max(0.0));
        self.memory.set(usage.resident_bytes);
        self.started.set(usage.started);
        self.files.set(usage.open_files);
        self.threads.set(usage.threads);
    }
}

pub(super) fn options(definition: &Definition) -> Opts {
    Opts::new(definition.name, definition.help)
}

/// Makes a metric known to the registry. The table is constant, so that what could go wrong goes wrong in every test.
pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("the table has valid names and labels");
    registry.register(Box::new(metric.clone())).expect("the table names every metric once");
    metric
}
