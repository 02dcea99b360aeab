//! What the library has gathered, as it is scraped.

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::Definition;
use crate::telemetry::exposition::{Exposition, Kind, label};

/// Writes families; labels in the order of the table, where the library sorts them by name.
pub(in crate::telemetry) fn write(families: &[MetricFamily], table: &[Definition], out: &mut Exposition) {
    for family in families {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::HISTOGRAM => Kind::Histogram,
            _ => Kind::Gauge,
        };
        let order = table.iter().find(|row| row.name == family.name()).map_or(&[][..], |row| row.labels);
        out.family(family.name(), kind, family.help());
        for metric in family.get_metric() {
            let labels = labels(metric, order);
            match kind {
                Kind::Counter => out.float(family.name(), &labels, metric.get_counter().get_value()),
                Kind::Gauge => out.float(family.name(), &labels, metric.get_gauge().get_value()),
                Kind::Histogram => histogram(family.name(), &labels, metric, out),
            }
        }
    }
}

fn labels(metric: &Metric, order: &[&str]) -> String {
    let mut pairs: Vec<_> = metric.get_label().iter().collect();
    pairs.sort_by_key(|pair| order.iter().position(|name| *name == pair.name()));
    let mut text = String::new();
    for pair in pairs {
        label(&mut text, pair.name(), pair.value());
    }
    text
}

fn histogram(name: &str, labels: &str, metric: &Metric, out: &mut Exposition) {
    let histogram = metric.get_histogram();
    for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
        out.bucket(name, labels, Some(bucket.upper_bound()), bucket.cumulative_count(), None);
    }
    out.bucket(name, labels, None, histogram.get_sample_count(), None);
    out.float(&format!("{name}_sum"), labels, histogram.get_sample_sum());
    out.integer(&format!("{name}_count"), labels, histogram.get_sample_count());
}
