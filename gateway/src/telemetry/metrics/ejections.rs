//! Who is ejected from clusters with `outlierDetection`, under Envoy's names: people have dashboards for them.

use std::sync::Arc;

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::{EJECTED, EJECTIONS, Metrics, SPARED, options, register};

/// By cluster.
#[derive(Debug)]
pub(super) struct Ejections {
    active: IntGaugeVec,
    enforced: IntCounterVec,
    spared: IntCounterVec,
}

impl Ejections {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            active: register(registry, IntGaugeVec::new(options(&EJECTED), EJECTED.labels)),
            enforced: register(registry, IntCounterVec::new(options(&EJECTIONS), EJECTIONS.labels)),
            spared: register(registry, IntCounterVec::new(options(&SPARED), SPARED.labels)),
        }
    }
}

impl Metrics {
    /// Endpoints that are out now, by cluster. Of a cluster that is not among these nothing is told any more.
    pub(crate) fn set_ejected(&self, all: impl IntoIterator<Item = (Arc<str>, usize)>) {
        self.ejections.active.reset();
        for (cluster, active) in all {
            self.ejections.active.with_label_values(&[&cluster]).set(i64::try_from(active).unwrap_or(i64::MAX));
        }
    }

    /// An endpoint had to go; `enforced`: it went.
    pub(crate) fn ejection(&self, cluster: &str, enforced: bool) {
        let counter = if enforced { &self.ejections.enforced } else { &self.ejections.spared };
        counter.with_label_values(&[cluster]).inc();
    }
}
