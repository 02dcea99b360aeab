//! Rules for PeerAuthentication.

use super::{BAD_VALUE, Findings, MISSING_FIELD, names};
use crate::api::PeerAuthentication;

impl PeerAuthentication {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        if let Some(selector) = &self.selector {
            findings.within("selector", |findings| names::selector(findings, "matchLabels", &selector.match_labels));
        }
        let Some(ports) = &self.port_level_mtls else { return };
        if ports.is_empty() {
            let message = "portLevelMtls is empty; give a port with its mode, as `8080: {mode: STRICT}`, or remove it";
            return findings.error_at("portLevelMtls", MISSING_FIELD, message);
        }
        if self.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty()) {
            let message = "portLevelMtls needs a selector that names the workloads; add `selector.matchLabels`";
            findings.error_at("portLevelMtls", MISSING_FIELD, message);
        }
        findings.each_key("portLevelMtls", ports, |findings, port, _| {
            if *port == 0 {
                findings.error(BAD_VALUE, "0 is not a port; a key from 1 to 65535 is wanted");
            }
        });
    }
}
