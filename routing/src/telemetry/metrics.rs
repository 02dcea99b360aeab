//! Which metrics a proxy counts, and with which labels.

use std::{collections::BTreeMap, sync::Arc};

use super::{Level, Providers};
use crate::{
    api::telemetry::{IstioMetric, MetricSelector, MetricsOverrides, TagOperation, WorkloadMode},
    attributes::Expression,
};

/// Istio's name of the provider that everybody has.
pub const PROMETHEUS: &str = "prometheus";

/// Istio's metrics, each with the name of its family.
pub const METRICS: [(IstioMetric, &str); 10] = [
    (IstioMetric::RequestCount, "istio_requests_total"),
    (IstioMetric::RequestDuration, "istio_request_duration_milliseconds"),
    (IstioMetric::RequestSize, "istio_request_bytes"),
    (IstioMetric::ResponseSize, "istio_response_bytes"),
    (IstioMetric::TcpOpenedConnections, "istio_tcp_connections_opened_total"),
    (IstioMetric::TcpClosedConnections, "istio_tcp_connections_closed_total"),
    (IstioMetric::TcpSentBytes, "istio_tcp_sent_bytes_total"),
    (IstioMetric::TcpReceivedBytes, "istio_tcp_received_bytes_total"),
    (IstioMetric::GrpcRequestMessages, "istio_request_messages_total"),
    (IstioMetric::GrpcResponseMessages, "istio_response_messages_total"),
];

/// Where a metric stands in [`METRICS`]; `None` for all of them.
pub fn index(metric: IstioMetric) -> Option<usize> {
    METRICS.iter().position(|(known, _)| *known == metric)
}

/// What one side counts otherwise than usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What of each metric, in the order of [`METRICS`].
    pub metrics: [Rule; METRICS.len()],
}

impl Rules {
    /// Whether nothing is counted.
    pub fn is_off(&self) -> bool {
        self.metrics.iter().all(|rule| rule.disabled)
    }
}

/// What one metric is otherwise than usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// It is not counted.
    pub disabled: bool,
    /// Its labels.
    pub tags: BTreeMap<String, Tag>,
}

/// What becomes of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// It is left out.
    Removed,
    /// It has the value of this expression.
    Set(Arc<Expression>),
}

/// What levels mean together on one side; `None`: everything is as usual.
///
/// As in Istio: who is told is what the narrowest level says that says it; overrides follow each other, level after level, and
/// what is said later holds.
pub fn resolve(levels: &[Level], providers: &Providers, default: &[String], side: WorkloadMode) -> Option<Rules> {
    let serves = |name: &str| providers.get(name).copied().unwrap_or(name == PROMETHEUS);
    // A mesh that names no default is one with Istio's own.
    let mut told = default.is_empty() || default.iter().any(|name| serves(name));
    let mut rules = Rules::default();
    for entry in levels.iter().flat_map(|level| &level.spec.metrics) {
        if !entry.providers.is_empty() {
            told = entry.providers.iter().any(|provider| serves(&provider.name));
        }
        // What is said for another provider is none of ours.
        if told {
            entry.overrides.iter().for_each(|one| rules.apply(one, side));
        }
    }
    if !told {
        rules.metrics.iter_mut().for_each(|rule| rule.disabled = true);
    }
    (rules != Rules::default()).then_some(rules)
}

impl Rules {
    fn apply(&mut self, one: &MetricsOverrides, side: WorkloadMode) {
        let all = MetricSelector::default();
        let selector = one.matches.as_ref().unwrap_or(&all);
        if !selector.mode.covers(side) {
            return;
        }
        for (number, rule) in self.metrics.iter_mut().enumerate() {
            if !selects(selector, number) {
                continue;
            }
            rule.disabled = one.disabled.unwrap_or(rule.disabled);
            for (name, tag) in &one.tag_overrides {
                let tag = match (tag.operation, Expression::parse(&tag.value)) {
                    (TagOperation::Remove, _) => Tag::Removed,
                    (TagOperation::Upsert, Ok(expression)) => Tag::Set(Arc::new(expression)),
                    // The object's check refuses it.
                    (TagOperation::Upsert, Err(_)) => continue,
                };
                rule.tags.insert(name.clone(), tag);
            }
        }
    }
}

fn selects(selector: &MetricSelector, number: usize) -> bool {
    match (&selector.custom_metric, selector.metric) {
        (Some(name), _) => custom(name) == Some(number),
        (None, Some(metric)) => index(metric).is_none_or(|at| at == number),
        (None, None) => true,
    }
}

/// Which of Istio's metrics is meant by a name of one's own: with `istio_` or without, as Istio's filter has it.
pub fn custom(name: &str) -> Option<usize> {
    METRICS.iter().position(|(_, known)| *known == name || known.strip_prefix("istio_") == Some(name))
}

#[cfg(test)]
mod tests;
