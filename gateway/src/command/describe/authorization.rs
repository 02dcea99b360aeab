//! Which AuthorizationPolicies hold at workloads.

use routing::compile::{HoldingPolicy, View};

use super::{
    backends::Backend,
    clients::grouped,
    report::{Authorization, PolicyLine},
};

/// At the workloads of a service, those together at which the same hold; those without any are left out.
pub(super) fn of_service(view: &View<'_>, backends: &[Backend]) -> Vec<Authorization> {
    let each = backends.iter().map(|backend| (backend.title(), of_workload(view, backend)));
    let groups = grouped(each).into_iter().filter(|(_, policies)| !policies.is_empty());
    groups.map(|(workloads, policies)| Authorization { workloads, policies }).collect()
}

/// At one workload.
pub(super) fn of_workload(view: &View<'_>, backend: &Backend) -> Vec<PolicyLine> {
    held(view, backend).iter().map(|policy| line(view, policy)).collect()
}

/// Which they are, by namespace and name.
pub(super) fn held<'a>(view: &View<'a>, backend: &Backend) -> Vec<HoldingPolicy<'a>> {
    view.authorization(&backend.facts.namespace, &backend.facts.labels)
}

fn line(view: &View<'_>, policy: &HoldingPolicy<'_>) -> PolicyLine {
    let scope = match (policy.narrow, policy.namespace == view.root_namespace()) {
        (true, _) => "for its workload",
        (false, true) => "for the mesh",
        (false, false) => "for its namespace",
    };
    let effect = match (policy.rules, policy.action) {
        (None, Some("ALLOW")) => "cannot be read, so it allows nothing".to_owned(),
        (None, _) => "cannot be read, so it denies everything".to_owned(),
        (Some(0), Some("ALLOW")) => "without rules, so it allows nothing".to_owned(),
        (Some(1), _) => "1 rule".to_owned(),
        (Some(count), _) => format!("{count} rules"),
    };
    PolicyLine {
        namespace: policy.namespace.to_owned(),
        name: policy.name.to_owned(),
        action: policy.action,
        provider: policy.provider.map(str::to_owned),
        scope,
        effect,
        tried: policy.tried,
    }
}
