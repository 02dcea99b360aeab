//! Istio's standard metrics: one series for each set of labels, made when it is first needed and forgotten when nobody needs it
//! any more.
//!
//! Who counts often keeps the series ([`super::series`]); looking one up takes a lock. What a client chooses is in no label,
//! unless a Telemetry asks for that, and then the number of series has its end like any other.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use routing::telemetry::metrics::METRICS;

use super::record::Reporter;

mod exemplars;
mod histogram;
mod kept;
mod render;
#[cfg(test)]
mod tests;
mod told;

pub(super) use self::{
    exemplars::Exemplar,
    histogram::{BUCKETS, Histogram},
    kept::Changed,
};
use self::{exemplars::Exemplars, kept::Kept};

/// Label sets that are kept apart; what comes beyond shares one more.
const MOST_SERIES: usize = 10_000;
/// The text that the series of one kind may come to: a scrape holds all of it.
const MOST_TEXT: usize = 128 << 20;
/// What a line of that text is beside its labels: the longest name of a metric, a bucket, a number.
const LINE: usize = 72;
/// What an exemplar adds to a line: its names, its ids, two numbers.
const EXEMPLAR: usize = 128;
/// A series that counted nothing for so long goes.
const IDLE: Duration = Duration::from_secs(3600);
/// One whose service is not configured any more goes after so long, and so many scrapes.
const LEAVING: (Duration, u64) = (Duration::from_secs(120), 2);

/// Where metrics stand in [`METRICS`].
pub(super) const REQUESTS: usize = 0;
pub(super) const DURATION: usize = 1;
pub(super) const REQUEST_SIZE: usize = 2;
pub(super) const RESPONSE_SIZE: usize = 3;
pub(super) const OPENED: usize = 4;
pub(super) const CLOSED: usize = 5;
pub(super) const SENT: usize = 6;
pub(super) const RECEIVED: usize = 7;
pub(super) const REQUEST_MESSAGES: usize = 8;
pub(super) const RESPONSE_MESSAGES: usize = 9;

/// Some of Istio's metrics, a bit for each.
pub(super) type Which = u16;

/// Those of requests, and those of connections that carry none.
pub(super) const OF_REQUESTS: Which = 1 << REQUESTS
    | 1 << DURATION
    | 1 << REQUEST_SIZE
    | 1 << RESPONSE_SIZE
    | 1 << REQUEST_MESSAGES
    | 1 << RESPONSE_MESSAGES;
pub(super) const OF_CONNECTIONS: Which = 1 << OPENED | 1 << CLOSED | 1 << SENT | 1 << RECEIVED;

/// What one request adds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) duration: Duration,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) request_messages: u64,
    pub(super) response_messages: u64,
    /// Of a request whose trace is told.
    pub(super) exemplar: Option<Exemplar>,
}

/// The metrics of one set of labels.
#[derive(Debug)]
pub(crate) struct Series {
    /// Metrics that it is for.
    which: Which,
    /// Those that are wanted now: a connection outlives the rules it began under.
    wanted: AtomicU16,
    /// As in [`METRICS`]; those of histograms stay at zero.
    counts: [AtomicU64; METRICS.len()],
    /// Duration in nanoseconds, sizes in bytes. Connections have none.
    histograms: Option<Box<[Histogram; 3]>>,
    /// By the buckets of durations.
    exemplars: Exemplars,
}

impl Series {
    fn new(which: Which, wanted: Which) -> Self {
        let histograms = (which & OF_REQUESTS != 0).then(Box::default);
        let wanted = AtomicU16::new(which & wanted);
        Self { which, wanted, counts: Default::default(), histograms, exemplars: Exemplars::default() }
    }

    fn counts(&self, metric: usize) -> bool {
        self.wanted.load(Ordering::Relaxed) & 1 << metric != 0
    }

    /// Counts a finished request.
    pub(super) fn request(&self, sample: &Sample) {
        self.add(REQUESTS, 1);
        if let Some(histograms) = &self.histograms {
            let [duration, request, response] = &**histograms;
            if self.counts(DURATION) {
                duration.observe(sample.duration.as_secs_f64() * 1e3, sample.duration.as_nanos() as u64);
            }
            if self.counts(REQUEST_SIZE) {
                request.observe(sample.request_bytes as f64, sample.request_bytes);
            }
            if self.counts(RESPONSE_SIZE) {
                response.observe(sample.response_bytes as f64, sample.response_bytes);
            }
        }
        if let Some(exemplar) = sample.exemplar.filter(|_| self.counts(DURATION) || self.counts(REQUESTS)) {
            self.exemplars.keep(Histogram::bucket(exemplar.value), exemplar);
        }
        self.messages(sample);
    }

    /// Counts messages of a call, which may go on.
    pub(super) fn messages(&self, sample: &Sample) {
        self.add(REQUEST_MESSAGES, sample.request_messages);
        self.add(RESPONSE_MESSAGES, sample.response_messages);
    }

    /// Adds to a counter, if it is counted.
    pub(super) fn add(&self, metric: usize, count: u64) {
        if count > 0 && self.counts(metric) {
            self.counts[metric].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Changes whenever something is counted.
    fn total(&self) -> u64 {
        let counted = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let seen = self.histograms.iter().flat_map(|all| all.iter()).map(Histogram::count);
        counted.chain(seen).fold(0, u64::wrapping_add)
    }
}

/// All series.
#[derive(Debug)]
pub(crate) struct Standard {
    kept: Mutex<Kept>,
    most: usize,
    most_text: usize,
    dropped: AtomicU64,
    /// Until this changes, a series that was looked up is the right one.
    epoch: AtomicU64,
}

/// Epochs are unique in the process, so one thread can count for several (tests do).
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// The plan that it is of; of no other one are there series.
    pub(super) plan: u64,
    pub(super) side: Reporter,
    /// Metrics that have these labels, and those among them that are wanted.
    pub(super) which: Which,
    pub(super) wanted: Which,
    /// As they are written.
    pub(super) labels: &'a str,
    /// The service that the labels name; empty = none.
    pub(super) host: &'a str,
}

impl Default for Standard {
    fn default() -> Self {
        Self::keeping(MOST_SERIES, MOST_TEXT)
    }
}

impl Standard {
    /// With room for so many label sets of requests, and as many of connections, and for so much text of each.
    pub(super) fn keeping(most: usize, most_text: usize) -> Self {
        let epoch = AtomicU64::new(NEXT_EPOCH.fetch_add(1, Ordering::Relaxed));
        Self { kept: Mutex::default(), most, most_text, dropped: AtomicU64::new(0), epoch }
    }

    /// Which earlier answers of [`Self::series`] are still good: those of the same number.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Labels may have changed, or series have gone.
    pub(super) fn next_epoch(&self) {
        self.epoch.store(NEXT_EPOCH.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }

    /// How often a label set found no room since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
