//! The template `gateway`: the pod is the proxy. Its chart leaves the image `auto` and everything that the template knows out.

use serde_json::{Value, json};

use super::PROXY;
use super::json::{list, map, name};
use super::sidecar::common;
use super::template::{self, Draft};

/// Adds it.
pub(super) fn apply(pod: &mut Value, draft: Draft<'_>) {
    // Conditions, orders of certificates, and Leases need rights that the gateway's own chart would bring.
    let mut arguments =
        ["gateway", "--kubernetes", "--write-status=false", "--leases=false"].map(str::to_owned).to_vec();
    arguments.extend(common(draft));
    let proxy = template::proxy(draft, arguments);
    let containers = list(&mut pod["spec"], "containers");
    containers.retain(|it| name(it) != PROXY);
    containers.push(proxy);
    for sysctl in draft.sysctls() {
        let security = map(&mut pod["spec"], "securityContext");
        let sysctls = security.entry("sysctls").or_insert_with(|| json!([]));
        if let Value::Array(sysctls) = sysctls {
            sysctls.push(json!({"name": sysctl, "value": "0"}));
        }
    }
    template::furnish(pod, draft);
    if draft.wishes.merges_metrics {
        super::metrics::announce(pod, 15090);
    }
}
