//! AuthorizationPolicies and RateLimits that hold for nobody here.

use std::collections::BTreeMap;

use crate::{
    api::{AuthorizationPolicy, destination_rule::LabelSelector},
    compile::{context::Context, proxy::is_subset, report::UNSUPPORTED, selection::Workload, workloads::entry_facts},
    problem::Severity,
    resources::{Extent, Object},
};

/// A policy that picks none of the workloads that are known.
const IDLE: &str = "idle-policy";
/// The same of a RateLimit.
const IDLE_LIMIT: &str = "idle-limit";

pub(super) fn review(context: &Context<'_>) {
    let own = Workload::of(context.proxy);
    for object in &context.resources.authorization_policies {
        targets(context, object);
        // A cluster has policies for what is not running; a folder whose policy is for nobody lacks a namespace or a label.
        let spec = &object.spec;
        let picked = || own.is_picked(object.namespace(), spec.selector.as_ref(), spec.targets());
        if context.resources.extent() == Extent::Part && spec.targets().next().is_none() && !picked() {
            idle(context, object, spec.selector.as_ref(), (IDLE, "policy", "enforced"));
        }
    }
    for object in &context.resources.rate_limits {
        let spec = &object.spec;
        let picked = || own.is_picked(object.namespace(), spec.selector.as_ref(), []);
        if context.resources.extent() == Extent::Part && spec.target_refs.is_empty() && !picked() {
            idle(context, object, spec.selector.as_ref(), (IDLE_LIMIT, "RateLimit", "counted"));
        }
    }
}

/// Told where neither this proxy nor any workload that was read is picked.
fn idle<T>(
    context: &Context<'_>,
    object: &Object<T>,
    selector: Option<&LabelSelector>,
    (code, what, done): (&'static str, &str, &str),
) {
    let (resources, namespace) = (context.resources, object.namespace());
    let everywhere = namespace == context.proxy.root_namespace;
    let empty = BTreeMap::new();
    let wanted = selector.map_or(&empty, |selector| &selector.match_labels);
    let picks =
        |of: &str, labels: &BTreeMap<String, String>| (everywhere || of == namespace) && is_subset(wanted, labels);
    let pods = resources.pods.iter().any(|pod| picks(pod.namespace(), &pod.meta.labels));
    let templates = || {
        let mut all = resources.deployments.iter();
        all.any(|it| picks(it.namespace(), &it.spec.spec.template.metadata.labels))
    };
    let entries = || {
        let mut all = resources.workload_entries.iter();
        all.any(|entry| picks(entry.namespace(), &entry_facts(entry).labels))
    };
    // Whoever serves a Gateway has its labels.
    let gateways = || resources.gateways.iter().any(|gateway| is_subset(wanted, &gateway.spec.selector));
    if pods || templates() || entries() || (!wanted.is_empty() && gateways()) {
        return;
    }
    let message = format!(
        "nothing that was read is picked by it in namespace `{namespace}`, nor is this proxy of namespace `{}`, so it is {done} \
         nowhere here; a {what} holds in its metadata.namespace, or in all of them when that is `{}`",
        context.proxy.namespace, context.proxy.root_namespace
    );
    context.report.add(object, (Severity::Warning, code), "metadata.namespace", message);
}

/// What is for waypoints, sidecars and gateways pass over, in Istio too.
fn targets(context: &Context<'_>, object: &Object<AuthorizationPolicy>) {
    let single = object.spec.target_ref.iter().map(|target| ("spec.targetRef".to_owned(), target));
    let several = object.spec.target_refs.iter().enumerate();
    let several = several.map(|(number, target)| (format!("spec.targetRefs[{number}]"), target));
    for (field, target) in single.chain(several).filter(|(_, target)| !target.is_gateway()) {
        let message = format!(
            "a policy of a {} is for waypoints, which there are none of here, so no proxy enforces it; select the workloads \
             with selector.matchLabels",
            target.kind
        );
        context.report.warning(object, UNSUPPORTED, &field, message);
    }
}
