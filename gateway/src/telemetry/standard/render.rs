//! Istio's standard metrics as they are scraped.

use std::sync::atomic::Ordering;

use super::{
    DURATION, Exemplar, METRICS, REQUEST_SIZE, REQUESTS, Series, Standard, exemplars, histogram::BUCKETS,
    kept::Labelled,
};
use crate::telemetry::{
    exposition::{Exposition, Kind},
    metrics::Definition,
};

impl Standard {
    /// Writes all of them, and counts it as a scrape.
    pub(in crate::telemetry) fn render(&self, table: &[Definition], out: &mut Exposition) {
        self.retire_idle();
        let all = self.all(true);
        for (number, (_, name)) in METRICS.iter().enumerate() {
            let told: Vec<&Labelled> = all.iter().filter(|one| one.series.is_told(number)).collect();
            let help = table.iter().find(|row| row.name == *name).map_or("", |row| row.help);
            let histogram = (DURATION..=REQUEST_SIZE + 1).contains(&number);
            if !told.is_empty() {
                out.family(name, if histogram { Kind::Histogram } else { Kind::Counter }, help);
            }
            // Connections that were open when the rules changed count where they began, and where labels do not say who
            // reports both sides of a sidecar have the same.
            for same in told.chunk_by(|one, other| one.labels() == other.labels()) {
                if histogram {
                    write_histogram(number, name, same, out);
                    continue;
                }
                let count = same.iter().map(|one| one.series.counts[number].load(Ordering::Relaxed)).sum();
                let exemplar = || {
                    let all = same.iter().filter_map(|one| one.series.exemplars.last());
                    // Each request counts as one.
                    exemplars::last(all).map(|exemplar| Exemplar { value: 1.0, ..exemplar })
                };
                let exemplar = if number == REQUESTS && out.has_exemplars() { exemplar() } else { None };
                out.counted(name, same[0].labels(), count, exemplar.as_ref());
            }
        }
    }
}

impl Series {
    /// Of requests what has counted something: a call that goes on has messages and is no finished request.
    pub(super) fn is_told(&self, number: usize) -> bool {
        let histogram = self.histograms.as_ref().and_then(|all| all.get(number.wrapping_sub(DURATION)));
        let any = || match histogram {
            Some(histogram) => histogram.count() > 0,
            None => self.counts[number].load(Ordering::Relaxed) > 0,
        };
        self.counts(number) && (super::OF_CONNECTIONS & 1 << number != 0 || any())
    }
}

/// One set of labels; `same` are those that have it.
fn write_histogram(number: usize, name: &str, same: &[&Labelled], out: &mut Exposition) {
    let (mut counts, mut sum) = ([0; BUCKETS.len() + 1], 0);
    for histogram in same.iter().filter_map(|one| one.series.histograms.as_ref()).map(|all| &all[number - DURATION]) {
        counts.iter_mut().zip(histogram.cumulative()).for_each(|(all, more)| *all += more);
        sum += histogram.sum();
    }
    let labels = same[0].labels();
    let with_exemplars = number == DURATION && out.has_exemplars();
    let buckets = BUCKETS.iter().map(|most| Some(*most)).chain([None]).zip(counts);
    for (at, (most, count)) in buckets.enumerate() {
        let all = same.iter().filter(|_| with_exemplars).filter_map(|one| one.series.exemplars.of(at));
        out.bucket(name, labels, most, count, exemplars::last(all).as_ref());
    }
    let sum = sum as f64;
    let sum = if number == DURATION { sum / 1e6 } else { sum };
    out.float(&format!("{name}_sum"), labels, sum);
    out.integer(&format!("{name}_count"), labels, counts[BUCKETS.len()]);
}
