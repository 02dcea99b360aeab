//! Where series are found, and what becomes of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
};

use tokio::time::Instant;

use super::{BUCKETS, DURATION, EXEMPLAR, IDLE, LEAVING, LINE, OF_REQUESTS, REQUESTS, Series, Standard, Which, Wish};
use crate::telemetry::record::Reporter;

/// Letters in front of labels that say whose metrics are meant, and which.
const WIDTH: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By whose and which metrics they are and their labels as they are written, for requests and for connections.
    series: [HashMap<Arc<str>, Slot>; 2],
    /// Text that those of requests and of connections come to.
    text: [usize; 2],
    /// The plan that they are of.
    plan: u64,
    scrapes: u64,
}

/// A series, and what tells whether somebody needs it.
#[derive(Debug)]
struct Slot {
    series: Arc<Series>,
    side: Reporter,
    /// The service that it is about; empty = none.
    host: Box<str>,
    counted: u64,
    since: Instant,
    /// Since when its service is gone, and after how many scrapes.
    gone: Option<(Instant, u64)>,
}

/// One set of labels.
#[derive(Debug)]
pub(super) struct Labelled {
    key: Arc<str>,
    pub(super) series: Arc<Series>,
}

impl Labelled {
    /// As they are written.
    pub(super) fn labels(&self) -> &str {
        &self.key[WIDTH..]
    }
}

/// What of a plan has changed, for those who report and for requests and connections.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::telemetry) struct Changed {
    /// Where requests leave a workload: requests, connections.
    pub(in crate::telemetry) source: [bool; 2],
    /// Where they arrive.
    pub(in crate::telemetry) destination: [bool; 2],
    /// Metrics of connections that are wanted now, in the same order.
    pub(in crate::telemetry) wanted: [Which; 2],
}

impl Changed {
    fn of(&self, side: Reporter) -> ([bool; 2], Which) {
        match side {
            Reporter::Source => (self.source, self.wanted[0]),
            Reporter::Destination => (self.destination, self.wanted[1]),
        }
    }
}

/// What the series of some metrics with labels of this length come to in a scrape.
fn text_of(which: Which, labels: usize) -> usize {
    let histograms = (which >> DURATION & 0b111).count_ones() as usize;
    let lines = which.count_ones() as usize + histograms * (BUCKETS.len() + 2);
    let exemplars = [(REQUESTS, 1), (DURATION, BUCKETS.len() + 1)].map(|(metric, most)| (which >> metric & 1, most));
    let exemplars: usize = exemplars.into_iter().map(|(counted, most)| usize::from(counted) * most).sum();
    lines * (labels + LINE) + exemplars * EXEMPLAR
}

impl Standard {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series of a set of labels. `overflow` writes the labels of what finds no room. `None`: another plan holds meanwhile.
    pub(in crate::telemetry) fn series(
        &self,
        wish: &Wish<'_>,
        overflow: impl FnOnce() -> String,
    ) -> Option<Arc<Series>> {
        // Metrics of one request may have the same labels and be counted apart, as rules say: they are told apart here. So are
        // the sides, whose rules change one without the other.
        let side = if wish.side == Reporter::Source { 's' } else { 'd' };
        let keyed = |labels: &str| format!("{side}{:04x}{labels}", wish.which);
        let key = keyed(wish.labels);
        let number = usize::from(wish.which & OF_REQUESTS == 0);
        let mut kept = self.kept();
        if kept.plan != wish.plan {
            return None;
        }
        let kept = &mut *kept;
        if let Some(slot) = kept.series[number].get(&*key) {
            return Some(Arc::clone(&slot.series));
        }
        let size = text_of(wish.which, wish.labels.len());
        let fits = kept.series[number].len() < self.most && kept.text[number] + size <= self.most_text;
        let (key, host) = if fits { (key, wish.host) } else { (keyed(&overflow()), "") };
        if !fits {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let size = text_of(wish.which, key.len() - WIDTH);
        let slot = kept.series[number].entry(key.into()).or_insert_with(|| {
            kept.text[number] += size;
            Slot {
                series: Arc::new(Series::new(wish.which, wish.wanted)),
                side: wish.side,
                host: host.into(),
                counted: 0,
                since: Instant::now(),
                gone: None,
            }
        });
        Some(Arc::clone(&slot.series))
    }

    /// What is counted has changed: `swap` makes the plan of this number hold. What it changes begins anew, except where
    /// connections that are open count: of those what is not wanted is neither counted nor told.
    pub(in crate::telemetry) fn begin_anew(&self, plan: u64, changed: Changed, swap: impl FnOnce()) {
        let mut kept = self.kept();
        swap();
        kept.plan = plan;
        kept.retain(|number, slot| {
            let (changed, wanted) = changed.of(slot.side);
            let open = number == 1 && Arc::strong_count(&slot.series) > 1;
            if open {
                slot.series.wanted.store(slot.series.which & wanted, Ordering::Relaxed);
            }
            open || !changed[number]
        });
        self.next_epoch();
    }

    /// The services that are configured now. Series of others go after some scrapes.
    pub(in crate::telemetry) fn keep_hosts<'h>(&self, hosts: impl Iterator<Item = &'h str>) {
        let mut kept = self.kept();
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
    pub(in crate::telemetry) fn retire_idle(&self) {
        let now = Instant::now();
        let mut kept = self.kept();
        let (scrapes, before) = (kept.scrapes, kept.len());
        kept.retain(|number, slot| {
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
        if kept.len() != before {
            self.next_epoch();
        }
    }

    /// All of them, in the order of their labels. Nobody who counts waits while they are written.
    pub(super) fn all(&self, scrape: bool) -> Vec<Labelled> {
        let mut kept = self.kept();
        kept.scrapes += u64::from(scrape);
        let all = kept.series.iter().flat_map(HashMap::iter);
        let mut all: Vec<Labelled> =
            all.map(|(key, slot)| Labelled { key: Arc::clone(key), series: Arc::clone(&slot.series) }).collect();
        drop(kept);
        all.sort_unstable_by(|one, other| one.labels().cmp(other.labels()));
        all
    }
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.series.iter().map(HashMap::len).sum()
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> [usize; 2] {
        self.text
    }

    fn retain(&mut self, mut stays: impl FnMut(usize, &mut Slot) -> bool) {
        for (number, all) in self.series.iter_mut().enumerate() {
            let text = &mut self.text[number];
            all.retain(|key, slot| {
                let stays = stays(number, slot);
                if !stays {
                    *text -= text_of(slot.series.which, key.len() - WIDTH);
                }
                stays
            });
        }
    }
}
