//! Rules for what policies are attached to.

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD};
use crate::api::{
    destination_rule::LabelSelector,
    target_reference::{GATEWAY_API, TargetReference},
};

/// Checks `selector`, `targetRef` and `targetRefs` of a policy, of which one may be given.
pub(super) fn attachment(
    findings: &mut Findings,
    selector: Option<&LabelSelector>,
    target: Option<&TargetReference>,
    targets: &[TargetReference],
) {
    if let Some(selector) = selector {
        findings.within("selector", |findings| super::names::selector(findings, "matchLabels", &selector.match_labels));
    }
    if target.is_some() && !targets.is_empty() {
        findings.error_at("targetRef", CONFLICT, "targetRef and targetRefs are both given; keep targetRefs");
    }
    if selector.is_some() && (target.is_some() || !targets.is_empty()) {
        let message =
            "selector and targetRefs are both given; labels pick workloads, targetRefs name objects: keep one";
        findings.error_at("selector", CONFLICT, message);
    }
    if let Some(target) = target {
        findings.within("targetRef", |findings| reference(findings, target));
    }
    findings.each("targetRefs", targets, |findings, _, target| reference(findings, target));
}

fn reference(findings: &mut Findings, target: &TargetReference) {
    if target.name.is_empty() {
        findings.error_at("name", MISSING_FIELD, "the name is missing; write the name of what the policy is for");
    }
    if target.kind.is_empty() {
        return findings.error_at("kind", MISSING_FIELD, "the kind is missing; write for example `kind: Gateway`");
    }
    if target.namespace.is_some() {
        let message = "a policy is attached to objects of its own namespace; remove namespace";
        findings.error_at("namespace", BAD_VALUE, message);
    }
    if !target.is_attachable() {
        let message = format!(
            "a policy cannot be attached to {} of {}; write a Gateway of {GATEWAY_API}, or use selector",
            target.kind,
            if target.group.is_empty() { "the core group" } else { &target.group }
        );
        findings.error_at("kind", BAD_VALUE, message);
    }
}
