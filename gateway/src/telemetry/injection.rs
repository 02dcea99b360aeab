//! What the webhooks count, by Istio's names, in the registry of the control plane.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// What became of a pod that was asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pod {
    /// It got a sidecar.
    Injected,
    /// It gets none.
    Skipped,
    /// It asks for what cannot be had, or the question was none.
    Failed,
}

/// Counters of the webhooks.
#[derive(Debug)]
pub(crate) struct InjectionMetrics {
    requests: IntCounter,
    /// Indexed by [`Pod`].
    became: [IntCounter; 3],
    seconds: Histogram,
    validated: IntCounterVec,
}

impl InjectionMetrics {
    /// Everything at zero.
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the names are ours, and right");
            registry.register(Box::new(counter.clone())).expect("no name is used twice");
            counter
        };
        let seconds = HistogramOpts::new("sidecar_injection_time_seconds", "Time that a pod took.");
        let seconds = Histogram::with_opts(seconds.buckets(vec![0.001, 0.01, 0.1, 1.0])).expect("buckets rise");
        registry.register(Box::new(seconds.clone())).expect("no name is used twice");
        let validated = Opts::new("sluice_validation_total", "Objects that were judged before they were written.");
        let validated = IntCounterVec::new(validated, &["kind", "result"]).expect("the names are ours, and right");
        registry.register(Box::new(validated.clone())).expect("no name is used twice");
        Self {
            requests: counter("sidecar_injection_requests_total", "Pods that were asked about."),
            became: [
                counter("sidecar_injection_success_total", "Pods that got a sidecar."),
                counter("sidecar_injection_skip_total", "Pods that get none."),
                counter("sidecar_injection_failure_total", "Pods that could not get theirs, and are not made."),
            ],
            seconds,
            validated,
        }
    }

    /// A pod was asked about.
    pub(crate) fn pod(&self, became: Pod, seconds: f64) {
        self.requests.inc();
        self.became[became as usize].inc();
        self.seconds.observe(seconds);
    }

    /// An object of a kind that is known was judged.
    pub(crate) fn validated(&self, kind: &str, allowed: bool) {
        self.validated.with_label_values(&[kind, if allowed { "allowed" } else { "refused" }]).inc();
    }
}
