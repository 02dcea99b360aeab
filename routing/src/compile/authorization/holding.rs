//! The policies that hold for a workload, for those who explain them to people.

use super::{failing, holding, is_tried};
use crate::{
    api::{AuthorizationPolicy, authorization_policy::Action},
    compile::selection::Workload,
    resources::{Object, Rejection, Resources},
};

/// A policy that holds for a workload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HoldingPolicy<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name; empty where not even that can be read.
    pub name: &'a str,
    /// ALLOW, DENY, AUDIT or CUSTOM; `None`: it cannot be read.
    pub action: Option<&'static str>,
    /// Whom CUSTOM asks.
    pub provider: Option<&'a str>,
    /// How many rules it has; `None`: it cannot be read, and fails closed.
    pub rules: Option<usize>,
    /// Whether it picks workloads by their labels, or is attached to a Gateway.
    pub narrow: bool,
    /// Whether it is only tried.
    pub tried: bool,
}

/// All that hold for a workload, by namespace and name.
pub(in crate::compile) fn all<'a>(resources: &'a Resources, workload: &Workload<'_>) -> Vec<HoldingPolicy<'a>> {
    let read = holding(resources, workload).into_iter().map(|object| of_object(object));
    let mut all: Vec<_> = read.chain(failing(resources, workload).into_iter().map(of_rejection)).collect();
    all.sort_by_key(|policy| (policy.namespace, policy.name));
    all
}

fn of_object(object: &Object<AuthorizationPolicy>) -> HoldingPolicy<'_> {
    let spec = &object.spec;
    let labelled = spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    HoldingPolicy {
        namespace: object.namespace(),
        name: object.name(),
        action: Some(spec.action.name()),
        provider: spec.provider.as_ref().map(|provider| provider.name.as_str()),
        rules: Some(spec.rules.len()),
        narrow: labelled || spec.targets().next().is_some(),
        tried: is_tried(object),
    }
}

fn of_rejection(rejection: &Rejection) -> HoldingPolicy<'_> {
    let policy = rejection.policy.as_ref();
    HoldingPolicy {
        namespace: &rejection.object.namespace,
        name: &rejection.object.name,
        action: policy.and_then(|policy| policy.action).map(Action::name),
        provider: None,
        rules: None,
        narrow: policy.is_some_and(|policy| !policy.selector.is_empty() || !policy.targets.is_empty()),
        tried: false,
    }
}
