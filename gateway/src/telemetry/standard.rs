//! Istio's standard metrics: one series for each set of labels, made when it is first needed and forgotten when nobody needs it
//! any more.
//!
//! Who counts often keeps the series ([`super::series`]); looking one up takes a lock. What a client chooses is in no label,
//! unless a Telemetry asks for that, and then the number of series has its end like any other.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use routing::telemetry::metrics::METRICS;
use tokio::time::Instant;

mod histogram;
mod render;
#[cfg(test)]
mod tests;
mod told;

pub(super) use self::histogram::{BUCKETS, Histogram};

/// Label sets that are kept apart; what comes beyond shares one more.
const MOST_SERIES: usize = 10_000;
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
}

/// The metrics of one set of labels.
#[derive(Debug)]
pub(crate) struct Series {
    /// Metrics that are counted here.
    which: Which,
    /// As in [`METRICS`]; those of histograms stay at zero.
    counts: [AtomicU64; METRICS.len()],
    /// Duration in nanoseconds, sizes in bytes. Connections have none.
    histograms: Option<Box<[Histogram; 3]>>,
}

impl Series {
    fn new(which: Which) -> Self {
        let histograms = (which & OF_REQUESTS != 0).then(Box::default);
        Self { which, counts: Default::default(), histograms }
    }

    fn counts(&self, metric: usize) -> bool {
        self.which & 1 << metric != 0
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

/// Letters in front of labels that say which metrics are meant.
const WIDTH: usize = 4;

/// All series.
#[derive(Debug)]
pub(crate) struct Standard {
    kept: Mutex<Kept>,
    most: usize,
    dropped: AtomicU64,
    /// Until this changes, a series that was looked up is the right one.
    epoch: AtomicU64,
}

/// Epochs are unique in the process, so one thread can count for several (tests do).
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
struct Kept {
    /// By which metrics they are and their labels as they are written, for requests and for connections.
    series: [HashMap<Box<str>, Slot>; 2],
    scrapes: u64,
}

/// A series, and what tells whether somebody needs it.
#[derive(Debug)]
struct Slot {
    series: Arc<Series>,
    /// The service that it is about; empty = none.
    host: Box<str>,
    counted: u64,
    since: Instant,
    /// Since when its service is gone, and after how many scrapes.
    gone: Option<(Instant, u64)>,
}

impl Default for Standard {
    fn default() -> Self {
        Self::keeping(MOST_SERIES)
    }
}

impl Standard {
    /// With room for so many label sets of requests, and as many of connections.
    pub(super) fn keeping(most: usize) -> Self {
        let epoch = AtomicU64::new(NEXT_EPOCH.fetch_add(1, Ordering::Relaxed));
        Self { kept: Mutex::default(), most, dropped: AtomicU64::new(0), epoch }
    }

    /// Which earlier answers of [`Self::series`] are still good: those of the same number.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Labels may have changed, or series have gone.
    pub(super) fn next_epoch(&self) {
        self.epoch.store(NEXT_EPOCH.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The series of a set of labels, as they are written. `host` is the service that it is about, `overflow` writes the labels
    /// of what finds no room.
    pub(super) fn series(
        &self,
        which: Which,
        labels: &str,
        host: &str,
        overflow: impl FnOnce() -> String,
    ) -> Arc<Series> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let all = &mut kept.series[usize::from(which & OF_REQUESTS == 0)];
        // Metrics of one request may have the same labels and be counted apart, as rules say: they are told apart here.
        let keyed = |labels: &str| format!("{which:0WIDTH$x}{labels}").into_boxed_str();
        let key = keyed(labels);
        if let Some(slot) = all.get(&key) {
            return Arc::clone(&slot.series);
        }
        let fits = all.len() < self.most;
        let (key, host) = if fits { (key, host) } else { (keyed(&overflow()), "") };
        if !fits {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let slot = all.entry(key).or_insert_with(|| Slot {
            series: Arc::new(Series::new(which)),
            host: host.into(),
            counted: 0,
            since: Instant::now(),
            gone: None,
        });
        Arc::clone(&slot.series)
    }

    /// How often a label set found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What is counted has changed: everything begins anew, except where connections that are open count.
    pub(super) fn begin_anew(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let [requests, connections] = &mut kept.series;
        requests.clear();
        connections.retain(|_, slot| Arc::strong_count(&slot.series) > 1);
    }

    /// The services that are configured now. Series of others go after some scrapes.
    pub(super) fn keep_hosts<'h>(&self, hosts: impl Iterator<Item = &'h str>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.series.iter().all(HashMap::is_empty) {
            return;
        }
        let hosts: HashSet<&str> = hosts.collect();
        let now = (Instant::now(), kept.scrapes);
        for slot in kept.series.iter_mut().flat_map(HashMap::values_mut) {
            let stays = slot.host.is_empty() || hosts.contains(&*slot.host);
            slot.gone = if stays { None } else { slot.gone.or(Some(now)) };
        }
    }

    /// Forgets series that nobody needs. Whoever keeps one of requests has to look it up again.
    pub(super) fn retire_idle(&self) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (scrapes, before) = (kept.scrapes, kept.len());
        for (number, all) in kept.series.iter_mut().enumerate() {
            all.retain(|_, slot| {
                let total = slot.series.total();
                // A connection may be silent for long.
                let open = number == 1 && Arc::strong_count(&slot.series) > 1;
                if total != slot.counted || open {
                    (slot.counted, slot.since) = (total, now);
                    // What was counted meanwhile is told, too.
                    slot.gone = slot.gone.map(|_| (now, scrapes));
                }
                let told = |(since, seen)| now.duration_since(since) >= LEAVING.0 && scrapes >= seen + LEAVING.1;
                open || now.duration_since(slot.since) < IDLE && !slot.gone.is_some_and(told)
            });
        }
        if kept.len() != before {
            self.next_epoch();
        }
    }
}

impl Kept {
    fn len(&self) -> usize {
        self.series.iter().map(HashMap::len).sum()
    }
}
