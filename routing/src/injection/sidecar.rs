//! The template `sidecar`: a proxy beside the application, and what captures the traffic of both.

use serde_json::{Value, json};

use super::json::{list, name};
use super::probes::Begins;
use super::template::{self, Draft};
use super::{INIT, PROXY, Refusal, capture, metrics, probes};

/// How long the application is held back for the proxy, at most; then it starts without.
const HOLD: &str = "60s";
/// Where the image has the executable.
const EXECUTABLE: &str = "/usr/local/bin/sluice";

/// Adds it.
pub(super) fn apply(pod: &mut Value, draft: Draft<'_>, warnings: &mut Vec<String>) -> Result<(), Refusal> {
    let wishes = draft.wishes;
    let mut proxy = template::proxy(draft, arguments(draft));
    if let Some(failures) = draft.context.settings.startup {
        proxy["startupProbe"] = template::ready(json!({"periodSeconds": 1, "failureThreshold": failures}));
    }
    if wishes.rewrites_probes {
        let begins = match (wishes.native, wishes.holds) {
            (true, _) => Begins::First,
            (false, true) => Begins::BeforeContainers,
            (false, false) => Begins::Last,
        };
        probes::rewrite(pod, &mut proxy, (wishes.status_port, begins), warnings);
    }
    if wishes.merges_metrics {
        metrics::merge(pod, &mut proxy, wishes.status_port, warnings)?;
    }
    if wishes.native {
        proxy["restartPolicy"] = "Always".into();
        if proxy["lifecycle"].is_null() {
            // It is told to end after the application; until then it says on its answers that connections are to end.
            let drain = json!({"exec": {"command": [EXECUTABLE, "status", "drain"]}});
            proxy["lifecycle"] = json!({"preStop": drain});
        }
    } else if wishes.holds && proxy["lifecycle"].is_null() {
        let wait = json!({"exec": {"command": [EXECUTABLE, "status", "wait", "--limit", HOLD]}});
        proxy["lifecycle"] = json!({"postStart": wait});
    }
    place(pod, draft, proxy);
    template::furnish(pod, draft);
    Ok(())
}

/// Puts the containers where they belong: what captures after the pod's own init containers, which then reach the network as
/// they are used to; a native sidecar before them, since it serves them too.
fn place(pod: &mut Value, draft: Draft<'_>, proxy: Value) {
    let wishes = draft.wishes;
    let init = wishes.captures.then(|| capture::container(draft));
    let spec = &mut pod["spec"];
    if wishes.native {
        let own = std::mem::take(list(spec, "initContainers"));
        *list(spec, "initContainers") = init.into_iter().chain([proxy]).chain(own).collect();
        return;
    }
    list(spec, "initContainers").retain(|it| name(it) != INIT);
    list(spec, "initContainers").extend(init);
    let containers = list(spec, "containers");
    containers.retain(|it| name(it) != PROXY);
    if wishes.holds {
        containers.insert(0, proxy);
    } else {
        containers.push(proxy);
    }
}

fn arguments(draft: Draft<'_>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["sidecar", "--kubernetes", "--workload=$(POD_NAMESPACE)/$(POD_NAME)"].map(str::to_owned).to_vec();
    if draft.wishes.status_port != 0 {
        arguments.push(format!("--probes=:{}", draft.wishes.status_port));
    }
    arguments.extend(common(draft));
    arguments
}

/// Arguments of both templates.
pub(super) fn common(draft: Draft<'_>) -> Vec<String> {
    let trust_domain = draft.context.settings.trust_domain.as_ref().map(|it| format!("--trust-domain={it}"));
    let workers = draft.wishes.workers.map(|it| format!("--workers={it}"));
    trust_domain.into_iter().chain(workers).collect()
}
