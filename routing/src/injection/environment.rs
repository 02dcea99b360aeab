//! What an injected proxy is told by its environment.

use serde_json::{Value, json};

use super::template::{Draft, NETWORK};

/// The variables, in an order in which those that refer to others come later.
pub(super) fn variables(draft: Draft<'_>) -> Vec<Value> {
    let settings = draft.context.settings;
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut variables = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("POD_IP", "status.podIP"),
        field("INSTANCE_IP", "status.podIP"),
        field("HOST_IP", "status.hostIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("ISTIO_META_NODE_NAME", "spec.nodeName"),
    ];
    let mut set = |name: &str, value: &str| {
        variables.retain(|it| it["name"] != name);
        variables.push(json!({"name": name, "value": value}));
    };
    set("WORKLOAD_NAME", &draft.workload.name);
    set("CA_ADDR", &settings.ca_address);
    set("ISTIO_META_CLUSTER_ID", &settings.cluster);
    for (name, value) in [
        ("CA_SNI", settings.ca_name.as_deref()),
        ("TRUST_DOMAIN", settings.trust_domain.as_deref()),
        (NETWORK, draft.network().as_deref()),
        ("ISTIO_META_MESH_ID", settings.mesh_id.as_deref()),
        ("SLUICE_LOG", draft.wishes.log_level.as_deref()),
    ] {
        if let Some(value) = value {
            set(name, value);
        }
    }
    for (name, value) in draft.wishes.environment.iter().chain(draft.context.parameters) {
        set(name, value);
    }
    variables
}
