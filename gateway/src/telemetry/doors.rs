//! Connections of the control plane's listeners, in its registry.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Counts connections, by listener.
#[derive(Debug)]
pub(crate) struct DoorMetrics {
    open: IntGaugeVec,
    ended: IntCounterVec,
}

impl DoorMetrics {
    /// Everything at zero.
    pub(crate) fn new(registry: &Registry) -> Self {
        const RIGHT: &str = "the names are ours, and right";
        const ONCE: &str = "no name is used twice";
        let open = Opts::new("sluice_control_connections", "Connections that are open.");
        let open = IntGaugeVec::new(open, &["listener"]).expect(RIGHT);
        registry.register(Box::new(open.clone())).expect(ONCE);
        let ended = Opts::new("sluice_control_connections_ended_total", "Connections that were closed from this side.");
        let ended = IntCounterVec::new(ended, &["listener", "reason"]).expect(RIGHT);
        registry.register(Box::new(ended.clone())).expect(ONCE);
        Self { open, ended }
    }

    /// Those that are open at a listener.
    pub(crate) fn open(&self, listener: &str) -> IntGauge {
        self.open.with_label_values(&[listener])
    }

    /// One was closed.
    pub(crate) fn ended(&self, listener: &str, reason: &str) {
        self.ended.with_label_values(&[listener, reason]).inc();
    }
}
