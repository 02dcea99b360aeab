//! The cluster as it is now, for commands that only look.

use anyhow::{Result, anyhow};
use kube::{Client, api::ListParams};
use routing::{
    compile::Proxy,
    problem::{Problem, Severity},
    resources::{Kind, Parsed, Resources, Store},
};

use super::{
    kinds::{KINDS, OPTIONAL, api, resource, which},
    objects::{Failure, UNKNOWN_KIND},
    reflect,
    source::orders_certificates,
};

/// What a person may look at beside what proxies read.
const MORE: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
/// Objects in one answer, as client-go asks for.
const PAGE: u32 = 500;

/// Lists every kind but Secrets.
///
/// # Errors
/// The API server cannot be reached, or refuses.
pub(crate) async fn read(client: &Client) -> Result<(Resources, Vec<Problem>)> {
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    let mut lacking = Vec::new();
    for kind in KINDS.into_iter().chain(OPTIONAL).chain(MORE) {
        match list(client, kind).await {
            Ok(parsed) => documents.extend(parsed.into_iter().map(|parsed| (String::new(), parsed))),
            Err(failure) if failure.is_lack(kind) && kind == Kind::Node => {}
            Err(failure) if failure.is_lack(kind) => lacking.push(failure.problem(kind.name(), "", "")),
            Err(failure) if failure.code == UNKNOWN_KIND => problems.push(failure.problem(kind.name(), "", "")),
            // What people may not read is left out, and said; without Istio's kinds there would be nothing to tell.
            Err(failure) if MORE.contains(&kind) => {
                problems.push(Problem { severity: Severity::Warning, ..failure.problem(kind.name(), "", "") });
            }
            Err(failure) => return Err(anyhow!(failure.message)),
        }
    }
    let (resources, found) = Store::default().replace(documents);
    problems.extend(found);
    if orders_certificates(&resources, |_| true) {
        problems.extend(lacking);
    }
    Ok((resources, problems))
}

/// The objects of a kind, in all namespaces.
pub(super) async fn list(client: &Client, kind: Kind) -> Result<Vec<Parsed>, Failure> {
    let what = format!("{}s", kind.name());
    let mut version = 0;
    let mut params = ListParams::default().limit(PAGE);
    // No proxy asks, so no revision is known: every document of mesh configuration is looked at, by whoever may.
    let which = which(kind, &Proxy::default()).remove(0);
    let mut all = Vec::new();
    loop {
        let api = api(client.clone(), &resource(kind, version), &which);
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                version += 1;
                if version < kind.group_versions().1.len() {
                    continue;
                }
                return Err(reflect::unknown_kind(kind));
            }
            Err(error) => return Err(reflect::api_failure(&error, &what)),
        };
        all.extend(page.items.into_iter().map(|object| reflect::read(kind, object)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}
