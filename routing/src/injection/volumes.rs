//! What an injected proxy mounts, under Istio's names: a volume of the pod's own with such a name, or one that an
//! annotation asks for, is used instead, which is how a
//! SPIFFE agent's socket or ready-made certificates get there.

use serde_json::{Value, json};

use super::json::{name, text};
use super::template::Draft;

/// A volume and where it is mounted.
struct Mounted {
    name: &'static str,
    path: &'static str,
    read_only: bool,
    source: Value,
}

/// How long a token for the CA is valid; the kubelet renews it before.
const TOKEN_SECONDS: u32 = 43_200;
/// The same of the API server's token, as Kubernetes has it for every pod.
const ACCOUNT_SECONDS: u32 = 3607;

fn list() -> [Mounted; 8] {
    let mounted = |name, path, read_only, source| Mounted { name, path, read_only, source };
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let empty = || json!({"emptyDir": {}});
    [
        mounted("workload-socket", "/var/run/secrets/workload-spiffe-uds", false, empty()),
        mounted("workload-certs", "/var/run/secrets/workload-spiffe-credentials", false, empty()),
        // For a private socket while the proxy starts; its root is read-only.
        mounted("istio-data", "/tmp", false, json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})),
        mounted(
            "istio-podinfo",
            "/etc/podinfo",
            true,
            json!({"downwardAPI": {"items": [
                field("labels", "metadata.labels"), field("annotations", "metadata.annotations"),
            ]}}),
        ),
        mounted(
            "istio-token",
            "/var/run/secrets/tokens",
            true,
            json!({"projected": {"sources": [{"serviceAccountToken":
                {"audience": "istio-ca", "expirationSeconds": TOKEN_SECONDS, "path": "istio-token"}}]}}),
        ),
        mounted("istiod-ca-cert", "/var/run/secrets/istio", true, json!({"configMap": {"name": "istio-ca-root-cert"}})),
        // Sidecars read the API server themselves; the pod may have turned its own token off.
        mounted(
            "sluice-api-access",
            "/var/run/secrets/kubernetes.io/serviceaccount",
            true,
            json!({"projected": {"sources": [
                {"serviceAccountToken": {"expirationSeconds": ACCOUNT_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [field("namespace", "metadata.namespace")]}},
            ]}}),
        ),
        // Of a plugged-in CA that has revoked one of those below it.
        mounted(
            "istio-ca-crl",
            "/var/run/secrets/istio/crl",
            true,
            json!({"configMap": {"name": "istio-ca-crl", "optional": true}}),
        ),
    ]
}

/// The volumes that the pod gets, those that it asks for included.
pub(super) fn all(draft: Draft<'_>) -> Vec<Value> {
    let wishes = &draft.wishes.volumes;
    let own = list().into_iter().map(|it| {
        let mut volume = it.source;
        volume["name"] = it.name.into();
        wishes.iter().find(|wish| name(wish) == it.name).cloned().unwrap_or(volume)
    });
    let more = wishes.iter().filter(|wish| !list().iter().any(|it| it.name == name(wish)));
    own.chain(more.cloned()).collect()
}

/// Their names.
pub(super) fn names(draft: Draft<'_>) -> Vec<String> {
    all(draft).iter().map(|it| name(it).to_owned()).collect()
}

/// Where the proxy has them.
pub(super) fn mounts(draft: Draft<'_>) -> Vec<Value> {
    // Two mounts of one path are a pod that Kubernetes refuses.
    let wishes = &draft.wishes.mounts;
    let at = |wish: &Value, path: &str| text(wish, "/mountPath").trim_end_matches('/') == path;
    let own = list().into_iter().map(|it| {
        let mut mount = json!({"name": it.name, "mountPath": it.path});
        if it.read_only {
            mount["readOnly"] = true.into();
        }
        wishes.iter().find(|wish| at(wish, it.path)).cloned().unwrap_or(mount)
    });
    let more = wishes.iter().filter(|wish| !list().iter().any(|it| at(wish, it.path)));
    own.chain(more.cloned()).collect()
}
