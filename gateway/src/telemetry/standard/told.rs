//! Istio's standard metrics for those who read JSON.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::{BUCKETS, DURATION, METRICS, RESPONSE_SIZE, Series, Standard};
use crate::telemetry::{
    exposition::read_labels,
    metrics::Definition,
    told::{Family, Histogram, Sample},
};

impl Standard {
    /// All of them; this is no scrape.
    pub(in crate::telemetry) fn told(&self, table: &[Definition]) -> Vec<Family> {
        let all = self.all(false);
        let all: Vec<(BTreeMap<String, String>, &Series)> =
            all.iter().map(|one| (read_labels(one.labels()), &*one.series)).collect();
        let family = |(number, (_, name)): (usize, &(_, &'static str))| {
            let told = all.iter().filter(|(_, series)| series.is_told(number));
            let samples: Vec<Sample> = told.map(|(labels, series)| series.sample(number, labels)).collect();
            let help = table.iter().find(|row| row.name == *name).map_or("", |row| row.help).to_owned();
            let kind = if (DURATION..=RESPONSE_SIZE).contains(&number) { "histogram" } else { "counter" };
            (!samples.is_empty()).then(|| Family { name: (*name).to_owned(), help, kind, samples })
        };
        METRICS.iter().enumerate().filter_map(family).collect()
    }
}

impl Series {
    fn sample(&self, number: usize, labels: &BTreeMap<String, String>) -> Sample {
        let labels = labels.clone();
        let histograms = self.histograms.as_ref().filter(|_| (DURATION..=RESPONSE_SIZE).contains(&number));
        let Some(histogram) = histograms.map(|all| &all[number - DURATION]) else {
            let value = self.counts[number].load(Ordering::Relaxed) as f64;
            return Sample { labels, value, histogram: None };
        };
        let sum = histogram.sum() as f64;
        let told = Histogram {
            sum: if number == DURATION { sum / 1e6 } else { sum },
            bounds: BUCKETS.to_vec(),
            counts: histogram.counts(),
        };
        Sample { labels, value: histogram.count() as f64, histogram: Some(told) }
    }
}
