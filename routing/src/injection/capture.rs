//! The init container that sends a pod's connections through its sidecar.

use serde_json::{Value, json};

use super::INIT;
use super::template::Draft;

/// Ports of the proxy itself that come in as they are: metrics and readiness; that of the probes is added.
const OPEN: [&str; 2] = ["15090", "15021"];

/// The container `istio-init`.
pub(super) fn container(draft: Draft<'_>) -> Value {
    let (settings, wishes) = (draft.context.settings, draft.wishes);
    let mut container = json!({
        "name": INIT,
        "image": settings.init_image,
        "args": arguments(draft),
        "resources": settings.init_resources.as_ref().unwrap_or(&wishes.resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": false,
            // iptables keeps a lock in a file.
            "readOnlyRootFilesystem": false,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        },
    });
    if let Some(policy) = &settings.pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    if let Some(profile) = &settings.seccomp {
        container["securityContext"]["seccompProfile"] = profile.clone();
    }
    container
}

fn arguments(draft: Draft<'_>) -> Vec<String> {
    let traffic = &draft.wishes.traffic;
    let mut excluded: Vec<String> = OPEN.map(str::to_owned).to_vec();
    excluded.extend(traffic.exclude_inbound.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()));
    let port = draft.wishes.status_port.to_string();
    if draft.wishes.status_port != 0 && !excluded.contains(&port) {
        excluded.push(port);
    }
    let excluded = excluded.join(",");
    let mut arguments = vec!["init".to_owned()];
    let mut add = |flag: &str, value: &str| arguments.extend([flag.to_owned(), value.to_owned()]);
    add("-p", "15001");
    add("-z", "15006");
    add("-u", "1337");
    add("-m", "REDIRECT");
    add("-i", &traffic.include_ranges);
    add("-x", &traffic.exclude_ranges);
    add("-b", &traffic.include_inbound);
    add("-d", &excluded);
    for (flag, value) in [
        ("-q", &traffic.include_outbound),
        ("-o", &traffic.exclude_outbound),
        ("-k", &draft.wishes.virtual_interfaces),
        ("-c", &draft.wishes.exclude_interfaces),
    ] {
        if !value.is_empty() {
            add(flag, value);
        }
    }
    arguments
}
