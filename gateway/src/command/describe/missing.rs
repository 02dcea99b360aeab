//! What to say of an object that is not there.

use routing::{api::decode::nearest::nearest, problem::Problem, resources::Resources};

/// No such Service.
pub(super) fn service(resources: &Resources, problems: &[Problem], namespace: &str, name: &str) -> String {
    let known: Vec<(&str, &str)> = resources.services.iter().map(|it| (it.namespace(), it.name())).collect();
    sentence(("Service", &["Service"]), (namespace, name), &known, problems)
}

/// No such workload.
pub(super) fn workload(resources: &Resources, problems: &[Problem], namespace: &str, name: &str) -> String {
    let pods = resources.pods.iter().map(|it| (it.namespace(), it.name()));
    let entries = resources.workload_entries.iter().map(|it| (it.namespace(), it.name()));
    let templates = resources.deployments.iter().map(|it| (it.namespace(), it.name()));
    let known: Vec<(&str, &str)> = pods.chain(entries).chain(templates).collect();
    const KINDS: &[&str] = &["Pod", "WorkloadEntry", "Deployment", "StatefulSet", "DaemonSet"];
    sentence(("Pod, WorkloadEntry, Deployment, StatefulSet or DaemonSet", KINDS), (namespace, name), &known, problems)
}

fn sentence(
    (kind, kinds): (&str, &[&str]),
    (namespace, name): (&str, &str),
    known: &[(&str, &str)],
    problems: &[Problem],
) -> String {
    let broken = problems.iter().find(|it| {
        let object = &it.object;
        kinds.contains(&object.kind.as_str()) && object.namespace == namespace && object.name == name
    });
    if let Some(problem) = broken {
        return format!("{} {namespace}/{name} cannot be read: {problem}", problem.object.kind);
    }
    let near = near((namespace, name), known);
    let hint = match near.as_slice() {
        [] if known.is_empty() => "; there is none at all in the configuration".to_owned(),
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    };
    format!("there is no {kind} {namespace}/{name}{hint}")
}

/// The same name elsewhere and longer names here (`reviews-v1-7f9c` for `reviews`), else misspelt ones here, else both
/// parts misspelt.
fn near((namespace, name): (&str, &str), known: &[(&str, &str)]) -> Vec<String> {
    const MOST: usize = 3;
    let here: Vec<&str> = known.iter().filter(|(other, _)| *other == namespace).map(|(_, name)| *name).collect();
    let elsewhere = known.iter().filter(|(_, other)| *other == name).map(|(other, _)| format!("{other}/{name}"));
    let longer = here.iter().filter(|other| other.starts_with(name)).map(|other| format!("{namespace}/{other}"));
    let mut found: Vec<String> = elsewhere.chain(longer).collect();
    if found.is_empty() {
        found.extend(nearest(name, &here).iter().map(|other| format!("{namespace}/{other}")));
    }
    if found.is_empty() {
        let all: Vec<String> = known.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        found.extend(nearest(&format!("{namespace}/{name}"), &all).iter().map(|&other| other.to_owned()));
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST);
    found.iter().map(|title| format!("`{title}`")).collect()
}
