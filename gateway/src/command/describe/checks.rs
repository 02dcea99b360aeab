//! Which RequestAuthentications, RateLimits and Telemetries hold at workloads and gateways.

use routing::compile::{HoldingCheck, View};

use super::{
    backends::Backend,
    clients::grouped,
    report::{Carries, CheckLine, Checks, Exposure},
};

/// At the workloads of a service, those together at which the same hold; those without any are left out.
pub(super) fn of_service(view: &View<'_>, backends: &[Backend]) -> Vec<Checks> {
    let each = backends.iter().map(|backend| (backend.title(), of_workload(view, backend)));
    let groups = grouped(each).into_iter().filter(|(_, checks)| !checks.is_empty());
    groups.map(|(workloads, checks)| Checks { workloads, checks }).collect()
}

/// At one workload.
pub(super) fn of_workload(view: &View<'_>, backend: &Backend) -> Vec<CheckLine> {
    view.checks(&backend.facts).iter().map(|check| line(view, check)).collect()
}

/// At a gateway, for what it exposes.
pub(super) fn of_exposure(view: &View<'_>, exposure: &Exposure) -> Vec<CheckLine> {
    // Bytes bring neither tokens nor requests.
    if exposure.routes.iter().all(|route| route.carries != Carries::Http) {
        return Vec::new();
    }
    let sources: Vec<&str> = exposure.routes.iter().map(|route| route.virtual_service.as_str()).collect();
    view.gateway_checks(&exposure.gateway, &sources).iter().map(|check| line(view, check)).collect()
}

fn line(view: &View<'_>, check: &HoldingCheck<'_>) -> CheckLine {
    let scope = match (check.narrow, check.namespace == view.root_namespace()) {
        (true, _) => "for what it names",
        (false, true) => "for the mesh",
        (false, false) => "for its namespace",
    };
    let tokens = check.kind == "RequestAuthentication";
    let effect = match &check.asks {
        None if tokens => "cannot be read, so tokens that no other one verifies are refused".to_owned(),
        None => "cannot be read, so it limits nothing".to_owned(),
        Some(asks) if check.kind == "Telemetry" => match asks.as_slice() {
            [] => "changes nothing of what is told".to_owned(),
            asks => format!("says what is told: {}", list(asks)),
        },
        Some(asks) if asks.is_empty() => "asks for nothing".to_owned(),
        Some(asks) if tokens => format!("tokens of {}", list(asks)),
        Some(asks) => format!("limits {}", list(asks)),
    };
    CheckLine { kind: check.kind, namespace: check.namespace.to_owned(), name: check.name.to_owned(), scope, effect }
}

fn list(all: &[String]) -> String {
    const LISTED: usize = 5;
    let named: Vec<&str> = all.iter().take(LISTED).map(|one| if one.is_empty() { "anybody" } else { one }).collect();
    match all.len().saturating_sub(LISTED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
