//! What is counted, for those who read JSON: the same figures as Prometheus' text, from the same registry.

use std::collections::BTreeMap;

use prometheus::{
    Registry,
    proto::{Metric, MetricFamily, MetricType},
};
use serde::Serialize;

/// A metric with all of its label sets.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Family {
    /// Its name.
    pub(crate) name: String,
    /// What it tells.
    pub(crate) help: String,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: &'static str,
    /// One for each set of labels.
    pub(crate) samples: Vec<Sample>,
}

/// One set of labels.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Labels by name.
    pub(crate) labels: BTreeMap<String, String>,
    /// The number; of a histogram how many were observed.
    pub(crate) value: f64,
    /// Of a histogram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) histogram: Option<Histogram>,
}

/// What was observed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Histogram {
    /// Sum of all observations.
    pub(crate) sum: f64,
    /// Upper bounds, without the last one, which is infinite.
    pub(crate) bounds: Vec<f64>,
    /// Observations of each bucket alone; the last one is of those above all bounds.
    pub(crate) counts: Vec<u64>,
}

/// Everything that a registry has.
pub(super) fn families(registry: &Registry) -> Vec<Family> {
    registry.gather().iter().map(family).collect()
}

fn family(family: &MetricFamily) -> Family {
    let kind = family.get_field_type();
    let name = match kind {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    };
    let samples = family.get_metric().iter().map(|metric| sample(kind, metric)).collect();
    Family { name: family.name().to_owned(), help: family.help().to_owned(), kind: name, samples }
}

fn sample(kind: MetricType, metric: &Metric) -> Sample {
    let label = |label: &prometheus::proto::LabelPair| (label.name().to_owned(), label.value().to_owned());
    let labels = metric.get_label().iter().map(label).collect();
    let (value, histogram) = match kind {
        MetricType::COUNTER => (metric.get_counter().get_value(), None),
        MetricType::HISTOGRAM => {
            let histogram = histogram(metric);
            (histogram.counts.iter().fold(0.0, |sum, count| sum + to_float(*count)), Some(histogram))
        }
        _ => (metric.get_gauge().get_value(), None),
    };
    Sample { labels, value, histogram }
}

fn histogram(metric: &Metric) -> Histogram {
    let all = metric.get_histogram();
    let finite = all.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let (mut bounds, mut counts, mut before) = (Vec::new(), Vec::new(), 0);
    for bucket in finite {
        bounds.push(bucket.upper_bound());
        counts.push(bucket.cumulative_count().saturating_sub(before));
        before = bucket.cumulative_count();
    }
    counts.push(all.get_sample_count().saturating_sub(before));
    Histogram { sum: all.get_sample_sum(), bounds, counts }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a process fit in 53 bits")]
fn to_float(count: u64) -> f64 {
    count as f64
}
