//! What the proxy tells about itself: the access log and the metrics, both out of one [`record::Record`] per request, and
//! the log for operators.

pub(crate) mod access_log;
pub(crate) mod ca;
pub(crate) mod connections;
pub(crate) mod doors;
pub(crate) mod edges;
pub(crate) mod exports;
pub(crate) mod exposition;
pub(crate) mod injection;
pub(crate) mod labels;
pub(crate) mod log;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod otlp;
pub(crate) mod outcomes;
mod plan;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod refusals;
mod series;
mod standard;
pub(crate) mod told;
pub(crate) mod verdicts;
pub(crate) mod zipkin;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use routing::{
    api::telemetry::WorkloadMode,
    snapshot::{Snapshot, Workload},
    telemetry::{Sides, tracing::Tracing},
};

use self::{
    connections::Traffic,
    exports::{Destination, Exports},
    labels::Values,
    logs::Logs,
    metrics::Metrics,
    plan::{Group, Plan},
    record::{Record, Volume},
    standard::{Sample, Series},
};
use crate::{live::Installed, settings::AccessLogFormat};

/// Where finished requests end. One per process, shared by all threads.
#[derive(Debug)]
pub(crate) struct Telemetry {
    metrics: Arc<Metrics>,
    logs: Logs,
    /// What waits for collectors.
    pub(crate) exports: Exports,
    /// The workload this proxy speaks for.
    own: ArcSwap<Workload>,
    /// Which metrics have which labels.
    plan: ArcSwap<Plan>,
    /// Whether any of them are what an expression says.
    by_expression: AtomicBool,
}

impl Telemetry {
    /// With the access log on stdout.
    ///
    /// # Errors
    /// The thread that writes the log could not be started.
    pub(crate) fn start(format: Option<AccessLogFormat>) -> std::io::Result<Self> {
        Self::new(format, Box::new(std::io::stdout()))
    }

    /// With the access log written to `out`.
    ///
    /// # Errors
    /// The thread that writes the log could not be started.
    pub(crate) fn new(given: Option<AccessLogFormat>, out: Box<dyn std::io::Write + Send>) -> std::io::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let logs = Logs::start(given, out, metrics.access_log_dropped())?;
        Ok(Self {
            logs,
            exports: Exports::default(),
            metrics,
            own: ArcSwap::default(),
            plan: ArcSwap::default(),
            by_expression: AtomicBool::new(false),
        })
    }

    /// Counts and logs one finished request. Called on the data path: in the usual case it allocates nothing.
    pub(crate) fn finish(&self, record: &Record<'_>) {
        self.logs.write(record, &self.exports);
        let volume = &record.volume;
        let sample = Sample {
            duration: record.duration,
            request_bytes: record.bytes_received.saturating_add(volume.request_head),
            response_bytes: record.bytes_sent.saturating_add(volume.response_head),
            request_messages: volume.request_messages,
            response_messages: volume.response_messages,
        };
        self.count(record, |series| series.request(&sample));
    }

    /// Counts messages of a call that goes on.
    pub(crate) fn messages(&self, record: &Record<'_>) {
        let Volume { request_messages, response_messages, .. } = record.volume;
        let sample = Sample { request_messages, response_messages, ..Sample::default() };
        self.count(record, |series| series.messages(&sample));
    }

    fn count(&self, record: &Record<'_>, count: impl Fn(&Series)) {
        let standard = &self.metrics.standard;
        if self.by_expression.load(Ordering::Relaxed) {
            // Each request has labels of its own.
            return self.find(record).iter().for_each(|series| count(series));
        }
        series::observe(standard.epoch(), record, || self.find(record), count);
    }

    /// The series of a request.
    fn find(&self, record: &Record<'_>) -> Box<[Arc<Series>]> {
        let (own, plan) = (self.own.load(), self.plan.load());
        let values = labels::values(record, &own);
        plan.side(record.labels.reporter).requests.iter().map(|group| self.series(group, &values, record)).collect()
    }

    /// Where a connection with the labels of this record is counted.
    pub(crate) fn traffic(&self, record: &Record<'_>) -> Traffic {
        let (own, plan) = (self.own.load(), self.plan.load());
        let values = labels::of_connection(record, &own);
        let groups = plan.side(record.labels.reporter).connections.iter();
        Traffic(groups.map(|group| self.series(group, &values, record)).collect())
    }

    fn series(&self, group: &Group, values: &Values<'_>, record: &Record<'_>) -> Arc<Series> {
        let text = group.write(values, record);
        let host = record.labels.service_host;
        self.metrics.standard.series(group.which, &text, host, || group.overflow(&labels::overflow()))
    }

    /// Logs one finished connection that carried no HTTP.
    pub(crate) fn log_connection(&self, record: &Record<'_>) {
        self.logs.write(record, &self.exports);
    }

    /// A configuration was installed: peers may have gone, and this workload may be described and told of in another way.
    pub(crate) fn installed(&self, snapshot: &Snapshot) {
        let (own, wishes) = (&snapshot.workload, snapshot.telemetry.as_deref());
        if **self.own.load() != *own {
            self.own.store(Arc::new(own.clone()));
        }
        let standard = &self.metrics.standard;
        if !self.plan.load().is_of(wishes) {
            let plan = Plan::new(wishes);
            self.by_expression.store(plan.has_expressions(), Ordering::Relaxed);
            self.plan.store(Arc::new(plan));
            standard.begin_anew();
        }
        let inbound = snapshot.inbound.iter().flat_map(|inbound| inbound.ports.values());
        let inbound = inbound.map(|port| &*port.service_host);
        standard.keep_hosts(snapshot.named_clusters().map(|cluster| &*cluster.host).chain(inbound));
        standard.retire_idle();
        standard.next_epoch();
    }

    /// A configuration was installed: others may get lines.
    pub(crate) fn redirect(&self, installed: &Installed) {
        self.logs.installed(installed, self.metrics.exporting());
    }

    /// Who gets spans of one side of a configuration: found with the first of them.
    pub(crate) fn collector(&self, installed: &Installed, side: WorkloadMode) -> Option<Arc<Destination>> {
        let found = installed.collectors.get_or_init(|| {
            let traced = installed.snapshot.telemetry.as_ref().map(|telemetry| &telemetry.traced);
            let one = |side| {
                let tracing: &Arc<Tracing> = traced?.get(side)?;
                let collector = tracing.collector.as_ref()?;
                Some(Arc::new(Destination::new(collector, installed, "", self.metrics.exporting())))
            };
            Sides { client: one(WorkloadMode::Client), server: one(WorkloadMode::Server) }
        });
        found.get(side).cloned()
    }

    /// The metrics, to count what is not a request.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Writes what the access log still holds; gives up after `limit` when nobody reads it. Blocks.
    pub(crate) fn flush(&self, limit: Duration) {
        self.logs.flush(limit);
    }
}
