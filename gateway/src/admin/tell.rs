//! From what is installed to what the pages answer.

pub(crate) mod asked;
mod clusters;
mod control;
mod dump;
mod listeners;
mod overview;
mod problems;
mod process;
mod routes;

use std::collections::BTreeMap;

pub(crate) use clusters::clusters;
pub(super) use control::control;
pub(crate) use dump::dump;
pub(crate) use listeners::listeners;
pub(crate) use overview::{summary, told, with_certificates};
pub(crate) use problems::problems;
pub(super) use process::{memory, server_info};
pub(crate) use routes::routes;

use super::schema::overview::Proxy;
use crate::telemetry::{edges::edges, told::Family};

/// Puts what is counted into what a proxy tells of itself.
pub(super) fn count(proxy: &mut Proxy, families: &[Family]) {
    proxy.traffic = edges(families);
    let samples = |name: &'static str| {
        families.iter().filter(move |family| family.name == name).flat_map(|family| &family.samples)
    };
    let label = |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
    for sample in samples("sluice_authorization_total") {
        let (verdict, policy) = (label(&sample.labels, "verdict"), label(&sample.labels, "policy"));
        let name = overview::object(&policy);
        let found = proxy.policies.iter_mut().find(|it| it.kind == overview::AUTHORIZATION && it.name == name);
        match found.filter(|_| !name.is_empty()) {
            Some(policy) => *policy.counts.entry(verdict).or_default() += sample.value as u64,
            None => *proxy.verdicts.entry(verdict).or_default() += sample.value as u64,
        }
    }
    for sample in samples("sluice_rate_limit_total") {
        let (limit, result) = (label(&sample.labels, "limit"), label(&sample.labels, "result"));
        if let Some(policy) = proxy.policies.iter_mut().find(|it| it.kind == overview::LIMIT && it.name == limit) {
            *policy.counts.entry(result).or_default() += sample.value as u64;
        }
    }
}
