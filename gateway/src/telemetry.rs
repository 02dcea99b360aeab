//! What the proxy tells about itself: the access log and the metrics, both out of one [`record::Record`] per request, and
//! the log for operators.

pub(crate) mod access_log;
pub(crate) mod ca;
pub(crate) mod connections;
pub(crate) mod doors;
pub(crate) mod edges;
pub(crate) mod exports;
pub(crate) mod injection;
pub(crate) mod labels;
pub(crate) mod log;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod otlp;
pub(crate) mod outcomes;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod refusals;
mod series;
pub(crate) mod told;
pub(crate) mod verdicts;
pub(crate) mod zipkin;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use routing::{
    api::telemetry::WorkloadMode,
    snapshot::Workload,
    telemetry::{Sides, tracing::Tracing},
};

use self::{
    connections::Traffic,
    exports::{Destination, Exports},
    logs::Logs,
    metrics::Metrics,
    record::Record,
};
use crate::{live::Installed, settings::AccessLogFormat};

/// Where finished requests end. One per process, shared by all threads.
#[derive(Debug)]
pub(crate) struct Telemetry {
    metrics: Arc<Metrics>,
    logs: Logs,
    /// What waits for collectors.
    pub(crate) exports: Exports,
    /// Who gets spans, of each side.
    collectors: ArcSwap<Sides<Arc<Destination>>>,
    /// The workload this proxy speaks for.
    own: ArcSwap<Workload>,
    /// Which [`series`] cache entries are valid: changes whenever label values may have changed.
    epoch: AtomicU64,
}

/// Epochs are unique in the process, so one thread can serve several `Telemetry` (tests do).
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

fn next_epoch() -> u64 {
    NEXT_EPOCH.fetch_add(1, Ordering::Relaxed)
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
            collectors: ArcSwap::default(),
            metrics,
            own: ArcSwap::default(),
            epoch: AtomicU64::new(next_epoch()),
        })
    }

    /// Counts and logs one finished request. Called on the data path: in the usual case it allocates nothing.
    pub(crate) fn finish(&self, record: &Record<'_>) {
        self.logs.write(record, &self.exports);
        let epoch = self.epoch.load(Ordering::Relaxed);
        series::observe(epoch, record, || self.metrics.series(&labels::values(record, &self.own.load())));
    }

    /// Where a connection with the labels of this record is counted.
    pub(crate) fn traffic(&self, record: &Record<'_>) -> Traffic {
        self.metrics.opaque.traffic(&labels::of_connection(record, &self.own.load()))
    }

    /// Logs one finished connection that carried no HTTP.
    pub(crate) fn log_connection(&self, record: &Record<'_>) {
        self.logs.write(record, &self.exports);
    }

    /// A configuration was installed: peers may have gone and this workload may be described in another way.
    pub(crate) fn installed(&self, own: &Workload) {
        if **self.own.load() != *own {
            self.own.store(Arc::new(own.clone()));
        }
        self.epoch.store(next_epoch(), Ordering::Relaxed);
        self.metrics.retire_idle_series();
    }

    /// A configuration was installed: others may get lines and spans.
    pub(crate) fn redirect(&self, installed: &Installed) {
        let counts = self.metrics.exporting();
        self.logs.installed(installed, counts);
        let traced = installed.snapshot.telemetry.as_ref().map(|telemetry| &telemetry.traced);
        let side = |side: WorkloadMode| {
            let tracing: &Arc<Tracing> = traced?.get(side)?;
            let collector = tracing.collector.as_ref()?;
            Some(Arc::new(Destination::new(collector, installed, "", counts)))
        };
        let (client, server) = (side(WorkloadMode::Client), side(WorkloadMode::Server));
        self.collectors.store(Arc::new(Sides { client, server }));
    }

    /// Who gets spans of one side.
    pub(crate) fn collector(&self, side: WorkloadMode) -> Option<Arc<Destination>> {
        self.collectors.load().get(side).cloned()
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
