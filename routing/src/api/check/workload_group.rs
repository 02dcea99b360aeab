//! Rules for WorkloadGroup and ProxyConfig.

use super::{BAD_VALUE, Findings, MISSING_FIELD, names};
use crate::api::{ProxyConfig, WorkloadGroup};

impl WorkloadGroup {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        let Some(template) = &self.template else {
            return findings.error_at("template", MISSING_FIELD, "a template is wanted, with serviceAccount and ports");
        };
        if !template.address.is_empty() {
            findings.within("template", |findings| {
                findings.error_at("address", BAD_VALUE, "each workload has an address of its own; remove it");
            });
        }
        if let Some(metadata) = &self.metadata {
            findings.within("metadata", |findings| names::labels(findings, "labels", &metadata.labels));
        }
    }
}

impl ProxyConfig {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        if let Some(selector) = &self.selector {
            findings.within("selector", |findings| names::selector(findings, "matchLabels", &selector.match_labels));
        }
        if self.concurrency.is_some_and(|number| number < 0) {
            findings.error_at(
                "concurrency",
                BAD_VALUE,
                "0 for as many threads as processors, or their number, is wanted",
            );
        }
        findings.each_key("environmentVariables", &self.environment_variables, |findings, name, _| {
            if name.is_empty() || name.contains('=') {
                findings.error(BAD_VALUE, format!("`{name}` is not the name of an environment variable"));
            }
        });
    }
}
