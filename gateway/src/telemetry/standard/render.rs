//! Istio's standard metrics as they are scraped.

use std::{
    collections::HashMap,
    sync::{PoisonError, atomic::Ordering},
};

use super::{DURATION, METRICS, REQUEST_SIZE, Series, Standard, WIDTH, histogram::BUCKETS};
use crate::telemetry::{
    exposition::{Exposition, Kind},
    metrics::Definition,
};

impl Standard {
    /// Writes all of them, and counts it as a scrape.
    pub(in crate::telemetry) fn render(&self, table: &[Definition], out: &mut Exposition) {
        self.retire_idle();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.scrapes += 1;
        let mut all: Vec<(&str, &Series)> =
            kept.series.iter().flat_map(HashMap::iter).map(|(key, slot)| (&key[WIDTH..], &*slot.series)).collect();
        all.sort_unstable_by_key(|(labels, _)| *labels);
        for (number, (_, name)) in METRICS.iter().enumerate() {
            let told = all.iter().filter(|(_, series)| series.is_told(number));
            let mut told = told.peekable();
            let help = table.iter().find(|row| row.name == *name).map_or("", |row| row.help);
            let histogram = (DURATION..=REQUEST_SIZE + 1).contains(&number);
            if told.peek().is_some() {
                out.family(name, if histogram { Kind::Histogram } else { Kind::Counter }, help);
            }
            while let Some((labels, series)) = told.next() {
                if histogram {
                    series.histogram(number, name, labels, out);
                    continue;
                }
                let mut count = series.counts[number].load(Ordering::Relaxed);
                // Connections that were open when the rules changed count where they began.
                while let Some((_, more)) = told.next_if(|(next, _)| next == labels) {
                    count += more.counts[number].load(Ordering::Relaxed);
                }
                out.integer(name, labels, count);
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

    fn histogram(&self, number: usize, name: &str, labels: &str, out: &mut Exposition) {
        let Some(histogram) = self.histograms.as_ref().map(|all| &all[number - DURATION]) else { return };
        let counts = histogram.cumulative();
        for (most, count) in BUCKETS.iter().map(|most| Some(*most)).chain([None]).zip(counts) {
            out.bucket(name, labels, most, count);
        }
        let sum = histogram.sum() as f64;
        let sum = if number == DURATION { sum / 1e6 } else { sum };
        out.float(&format!("{name}_sum"), labels, sum);
        out.integer(&format!("{name}_count"), labels, counts[BUCKETS.len()]);
    }
}
