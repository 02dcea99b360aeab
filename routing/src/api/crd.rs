//! The CustomResourceDefinitions of the kinds that routing reads, made from the types that it reads them with.
//!
//! Names, versions and columns of Istio's kinds are Istio's, so that either side's definitions serve both. The schemas refuse nothing
//! that Istio's accept: what they let through and [`super::check`] does not is named by it, with its reason.

mod scalar;
mod structural;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{
    AuthorizationPolicy, DestinationRule, Gateway, Issuer, PeerAuthentication, ProxyConfig, RateLimit,
    RequestAuthentication, ServiceEntry, Sidecar, Telemetry, VirtualService, WorkloadEntry, WorkloadGroup,
};

/// One kind, as the API server has to know it.
struct Definition {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
    /// Served versions with the same schema; the first is the stored one.
    versions: &'static [&'static str],
    /// Columns of `kubectl get`, before the age.
    columns: &'static [Column],
    spec: fn() -> Value,
}

/// A column of `kubectl get`: title, path below the object, what it says.
struct Column(&'static str, &'static str, &'static str);

const ACME: &str = "acme.sluice.dev";
const NETWORKING: &str = "networking.istio.io";
const POLICY: &str = "policy.sluice.dev";
const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

const ACCEPTED: Column =
    Column("Accepted", r#".status.conditions[?(@.type=="Accepted")].status"#, "Whether the gateways take it over");
const HOSTS: Column = Column("Hosts", ".spec.hosts", "The hosts that it is about");

const DEFINITIONS: [Definition; 14] = [
    Definition {
        group: ACME,
        kind: "Issuer",
        plural: "issuers",
        short: "acme",
        versions: &["v1alpha1"],
        columns: &[Column("Server", ".spec.server", "The CA's directory")],
        spec: spec::<Issuer>,
    },
    Definition {
        group: SECURITY,
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short: "ap",
        versions: &["v1", "v1beta1"],
        columns: &[Column("Action", ".spec.action", "What becomes of a request that matches")],
        spec: spec::<AuthorizationPolicy>,
    },
    Definition {
        group: NETWORKING,
        kind: "DestinationRule",
        plural: "destinationrules",
        short: "dr",
        versions: VERSIONS,
        columns: &[Column("Host", ".spec.host", "The service that it is about"), ACCEPTED],
        spec: spec::<DestinationRule>,
    },
    Definition {
        group: NETWORKING,
        kind: "Gateway",
        plural: "gateways",
        short: "gw",
        versions: VERSIONS,
        columns: &[Column(
            "Programmed",
            r#".status.conditions[?(@.type=="Programmed")].status"#,
            "Whether every replica serves it",
        )],
        spec: spec::<Gateway>,
    },
    Definition {
        group: SECURITY,
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short: "pa",
        versions: &["v1", "v1beta1"],
        columns: &[Column("Mode", ".spec.mtls.mode", "Whether mutual TLS is demanded")],
        spec: spec::<PeerAuthentication>,
    },
    Definition {
        group: NETWORKING,
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        short: "",
        versions: &["v1beta1"],
        columns: &[],
        spec: spec::<ProxyConfig>,
    },
    Definition {
        group: SECURITY,
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short: "ra",
        versions: &["v1", "v1beta1"],
        columns: &[],
        spec: spec::<RequestAuthentication>,
    },
    Definition {
        group: NETWORKING,
        kind: "ServiceEntry",
        plural: "serviceentries",
        short: "se",
        versions: VERSIONS,
        columns: &[
            HOSTS,
            Column("Location", ".spec.location", "Whether the service is outside or inside of the mesh"),
            Column("Resolution", ".spec.resolution", "How its addresses are found"),
            ACCEPTED,
        ],
        spec: spec::<ServiceEntry>,
    },
    Definition {
        group: NETWORKING,
        kind: "Sidecar",
        plural: "sidecars",
        short: "",
        versions: VERSIONS,
        columns: &[],
        spec: spec::<Sidecar>,
    },
    Definition {
        group: TELEMETRY,
        kind: "Telemetry",
        plural: "telemetries",
        short: "telemetry",
        versions: &["v1", "v1alpha1"],
        columns: &[],
        spec: spec::<Telemetry>,
    },
    Definition {
        group: NETWORKING,
        kind: "VirtualService",
        plural: "virtualservices",
        short: "vs",
        versions: VERSIONS,
        columns: &[Column("Gateways", ".spec.gateways", "The gateways that serve it"), HOSTS, ACCEPTED],
        spec: spec::<VirtualService>,
    },
    Definition {
        group: NETWORKING,
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short: "we",
        versions: VERSIONS,
        columns: &[Column("Address", ".spec.address", "The address of the workload")],
        spec: spec::<WorkloadEntry>,
    },
    Definition {
        group: NETWORKING,
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short: "wg",
        versions: VERSIONS,
        columns: &[],
        spec: spec::<WorkloadGroup>,
    },
    Definition {
        group: POLICY,
        kind: "RateLimit",
        plural: "ratelimits",
        short: "",
        versions: &["v1alpha1"],
        columns: &[],
        spec: spec::<RateLimit>,
    },
];

/// Every definition, our kind and then Istio's, sorted; ready for `apiextensions.k8s.io/v1`.
pub fn all() -> Vec<Value> {
    DEFINITIONS.iter().map(Definition::render).collect()
}

/// All of them as one stream of YAML documents, the same bytes for the same build.
///
/// # Errors
/// When the YAML printer refuses a value, which none of ours gives it a reason for.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut stream = String::new();
    for definition in all() {
        stream.push_str("---\n");
        stream.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(stream)
}

impl Definition {
    fn render(&self) -> Value {
        let Self { group, kind, plural, short, .. } = *self;
        // As Istio does it: `networking.istio.io` is in `istio-io` and in `networking-istio-io`.
        let category = group.replace('.', "-");
        let family = category.split_once('-').map_or("", |(_, family)| family);
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{group}"),
                // Uninstalling a chart must not delete every object of the kind.
                "annotations": {"helm.sh/resource-policy": "keep"},
                "labels": {"app.kubernetes.io/name": "sluice", "app.kubernetes.io/component": "crds"},
            },
            "spec": {
                "group": group,
                "names": {
                    "categories": [family, category],
                    "kind": kind,
                    "listKind": format!("{kind}List"),
                    "plural": plural,
                    "shortNames": if short.is_empty() { Vec::new() } else { vec![short] },
                    "singular": kind.to_lowercase(),
                },
                "scope": "Namespaced",
                "versions": self.versions(),
            },
        })
    }

    fn versions(&self) -> Vec<Value> {
        let schema = object(&(self.spec)());
        let version = |(index, name): (usize, &&str)| {
            json!({
                "name": name,
                "served": true,
                "storage": index == 0,
                "additionalPrinterColumns": self.columns(),
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
            })
        };
        self.versions.iter().enumerate().map(version).collect()
    }

    fn columns(&self) -> Vec<Value> {
        let own = self.columns.iter().map(|Column(name, path, description)| {
            json!({"name": name, "jsonPath": path, "description": description, "type": "string"})
        });
        let age = json!({
            "name": "Age",
            "jsonPath": ".metadata.creationTimestamp",
            "description": "Time since it was made",
            "type": "date",
        });
        own.chain([age]).collect()
    }
}

/// The whole object; `apiVersion`, `kind` and `metadata` are the API server's own and need no schema.
fn object(spec: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec, "status": status()}})
}

fn spec<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    structural::structural(settings.into_generator().into_root_schema_for::<T>().to_value())
}

/// `IstioStatus`; open, because istiod writes more into it than we do.
fn status() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let time = |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    let generation = |description: &str| {
        json!({
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
            "description": description,
        })
    };
    json!({
        "type": "object",
        "description": "What became of the object.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "conditions": {
                "type": "array",
                "description": "One entry for each thing that is true or false about it.",
                "items": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {
                        "type": text("What is judged, as `Accepted`."),
                        "status": text("`True`, `False` or `Unknown`."),
                        "reason": text("Why, in one word."),
                        "message": text("Why, in a sentence."),
                        "lastProbeTime": time("When it was judged last."),
                        "lastTransitionTime": time("When `status` changed last."),
                        "observedGeneration": generation("The `metadata.generation` that was judged."),
                    },
                },
            },
            "observedGeneration": generation("The `metadata.generation` that the status is about."),
            "validationMessages": {
                "type": "array",
                "description": "What istiod's analysis says.",
                "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        },
    })
}
