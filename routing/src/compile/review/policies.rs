//! AuthorizationPolicies that hold for nobody here.

use crate::{
    api::AuthorizationPolicy,
    compile::{context::Context, report::UNSUPPORTED},
    resources::Object,
};

pub(super) fn review(context: &Context<'_>) {
    for object in &context.resources.authorization_policies {
        targets(context, object);
    }
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
