//! What the proxy tells about itself: the access log and the metrics, both out of one [`record::Record`] per request, and
//! the log for operators.

pub(crate) mod access_log;
pub(crate) mod ca;
pub(crate) mod connections;
pub(crate) mod doors;
pub(crate) mod edges;
pub(crate) mod exports;
pub(crate) mod exposition;
pub(crate) mod holders;
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
mod said;
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
    time::{Duration, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use routing::{
    api::telemetry::WorkloadMode,
    attributes::Expression,
    snapshot::{Snapshot, Workload},
    telemetry::{Sides, tracing::Tracing},
};

use self::{
    connections::Traffic,
    exports::{Destination, Exports},
    labels::Values,
    logs::Logs,
    metrics::Metrics,
    plan::{Group, Plan, Side},
    record::{Record, Reporter, Volume},
    said::Said,
    standard::{Exemplar, Sample, Series, Wish},
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
    /// What the data path asks of it, by who reports.
    sides: [Asked; 2],
}

/// What one side of the plan has, to be seen without it.
#[derive(Debug, Default)]
struct Asked {
    /// Nothing is counted of requests.
    is_silent: AtomicBool,
    /// Labels of requests are what expressions say.
    has_expressions: AtomicBool,
}

impl Asked {
    fn set(&self, side: &Side) {
        self.is_silent.store(side.requests.is_empty(), Ordering::Relaxed);
        self.has_expressions.store(!side.of_requests().is_empty(), Ordering::Relaxed);
    }
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
            sides: Default::default(),
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
            exemplar: record.trace.map(|(trace, span)| Exemplar {
                trace,
                span,
                value: record.duration.as_secs_f64() * 1e3,
                at: record.start.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(record.duration),
            }),
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
        let epoch = standard.epoch();
        let side = &self.sides[record.labels.reporter as usize];
        if side.is_silent.load(Ordering::Relaxed) {
            return;
        }
        let say = |said: &mut Said| {
            if side.has_expressions.load(Ordering::Relaxed) {
                let plan = self.plan.load();
                said.evaluate(plan.side(record.labels.reporter).of_requests(), record.told.0);
            } else {
                said.evaluate(&[], record.told.0);
            }
        };
        series::observe(epoch, record, say, || self.find(record), count);
    }

    /// The series of a request.
    fn find(&self, record: &Record<'_>) -> Box<[Arc<Series>]> {
        self.all(record, |side| (&side.requests, side.of_requests()), labels::values)
    }

    /// Where a connection with the labels of this record is counted.
    pub(crate) fn traffic(&self, record: &Record<'_>) -> Traffic {
        Traffic(self.all(record, |side| (&side.connections, &side.expressions), labels::of_connection).into())
    }

    fn all(
        &self,
        record: &Record<'_>,
        of: impl for<'s> Fn(&'s Side) -> (&'s [Group], &'s [Arc<Expression>]),
        values: impl for<'v> Fn(&'v Record<'_>, &'v Workload) -> Values<'v>,
    ) -> Box<[Arc<Series>]> {
        let own = self.own.load();
        let values = values(record, &own);
        loop {
            let plan = self.plan.load();
            let (groups, expressions) = of(plan.side(record.labels.reporter));
            let mut said = Said::default();
            said.evaluate(expressions, record.told.0);
            let found = groups.iter().map(|group| {
                let wish = Wish {
                    plan: plan.number,
                    side: record.labels.reporter,
                    which: group.which,
                    wanted: group.wanted,
                    labels: &group.write(&values, &said),
                    host: group.host(record),
                };
                self.metrics.standard.series(&wish, || group.overflow(&labels::overflow()))
            });
            let found: Option<_> = found.collect();
            // Otherwise another plan holds since; it is there already.
            if let Some(found) = found {
                return found;
            }
        }
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
        let before = self.plan.load_full();
        if !before.is_of(wishes) {
            let plan = Arc::new(Plan::new(before.number + 1, wishes));
            let changed = plan.changed(&before);
            standard.begin_anew(plan.number, changed, || {
                for (side, reporter) in self.sides.iter().zip([Reporter::Source, Reporter::Destination]) {
                    side.set(plan.side(reporter));
                }
                self.plan.store(Arc::clone(&plan));
            });
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
