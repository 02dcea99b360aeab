//! Which kinds the server serves: the built-in ones, Istio's, and those of stored CustomResourceDefinitions.

use std::sync::Arc;

use serde_json::{Value, json};

/// One served resource.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// API group; empty = core.
    pub(crate) group: String,
    /// Served versions; the first is the preferred one. Objects are the same in all of them.
    pub(crate) versions: Vec<String>,
    /// Lower-case plural, as in paths.
    pub(crate) plural: String,
    /// Lower-case singular.
    pub(crate) singular: String,
    /// `Gateway`, for instance.
    pub(crate) kind: String,
    /// Short names of kubectl.
    pub(crate) short: Vec<String>,
    /// False = cluster scoped.
    pub(crate) namespaced: bool,
    /// True = status is written by the subresource `status` only.
    pub(crate) status: bool,
    /// True = `metadata.generation` counts changes of the spec.
    pub(crate) generation: bool,
    /// True = by a CustomResourceDefinition: no strategic merge patch, `kind` in every item of a list.
    pub(crate) custom: bool,
    /// True = answered at once and never stored (reviews).
    pub(crate) review: bool,
    /// Where its objects are: the same for `events` of both groups.
    pub(crate) storage: String,
    /// The structural schema of a CustomResourceDefinition, else null.
    pub(crate) schema: Arc<Value>,
    /// True = 404, as if its CustomResourceDefinition were not installed.
    pub(crate) hidden: bool,
}

impl Kind {
    /// `gateways.networking.istio.io`, `pods`.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// What stands in `apiVersion`.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The preferred version.
    pub(crate) fn version(&self) -> &str {
        self.versions.first().map_or("v1", String::as_str)
    }

    /// True for the kind's name, its plural, and both with `.group`.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let (word, group) = name.split_once('.').map_or((name, None), |(word, group)| (word, Some(group)));
        let group = group.is_none_or(|group| group == self.group);
        group && (self.kind == word || self.plural == word)
    }

    /// True for events.k8s.io, whose objects are core events with other field names.
    pub(crate) fn is_new_event(&self) -> bool {
        self.group == "events.k8s.io"
    }

    /// Its path below the server, of one object or of all.
    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}/{}", self.group, self.version())
        };
        let space =
            if self.namespaced && !namespace.is_empty() { format!("/namespaces/{namespace}") } else { String::new() };
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("{root}{space}/{}{name}", self.plural)
    }

    /// From a CustomResourceDefinition; `None` when it is not complete.
    pub(crate) fn of_definition(definition: &Value) -> Option<Self> {
        let spec = &definition["spec"];
        let names = &spec["names"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let versions = spec["versions"].as_array()?;
        let stored = versions.iter().find(|version| version["storage"] == true)?;
        let served = versions.iter().filter(|version| version["served"] != false);
        let kind = text(&names["kind"])?;
        let plural = text(&names["plural"])?;
        let group = text(&spec["group"])?;
        Some(Self {
            storage: format!("{plural}.{group}"),
            group,
            versions: served.filter_map(|version| text(&version["name"])).collect(),
            singular: text(&names["singular"]).unwrap_or_else(|| kind.to_lowercase()),
            short: names["shortNames"].as_array().into_iter().flatten().filter_map(text).collect(),
            namespaced: spec["scope"] == "Namespaced",
            status: versions.iter().any(|version| version["subresources"]["status"].is_object()),
            generation: true,
            custom: true,
            review: false,
            schema: Arc::new(stored["schema"]["openAPIV3Schema"].clone()),
            hidden: false,
            plural,
            kind,
        })
    }

    /// Its entries in an `APIResourceList`.
    pub(crate) fn described(&self) -> Vec<Value> {
        let verbs = if self.review {
            json!(["create"])
        } else {
            json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"])
        };
        let mut resources = vec![json!({
            "name": self.plural, "singularName": self.singular, "namespaced": self.namespaced, "kind": self.kind,
            "verbs": verbs, "shortNames": self.short,
        })];
        if self.status {
            resources.push(json!({
                "name": format!("{}/status", self.plural), "singularName": "", "namespaced": self.namespaced,
                "kind": self.kind, "verbs": ["get", "patch", "update"],
            }));
        }
        resources
    }
}

/// Everything the server has from its start.
pub(crate) fn built_in() -> Vec<Arc<Kind>> {
    BUILT_IN.lines().filter(|line| !line.is_empty()).map(|line| Arc::new(parse(line, false))).collect()
}

/// Istio's kinds that Sluice reads, and its own.
pub(crate) fn istio() -> Vec<Arc<Kind>> {
    ISTIO.lines().filter(|line| !line.is_empty()).map(|line| Arc::new(parse(line, true))).collect()
}

/// `group versions plural Kind short flags`; `-` = empty; flags: n = namespaced, s = status, g = generation, r = review.
fn parse(line: &str, custom: bool) -> Kind {
    let mut words = line.split_whitespace().map(|word| if word == "-" { "" } else { word });
    let mut next = || words.next().unwrap_or_default();
    let (group, versions, plural, kind, short, flags) = (next(), next(), next(), next(), next(), next());
    let list = |text: &str| text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let storage = if plural == "events" { "events".to_owned() } else { format!("{plural}.{group}") };
    Kind {
        group: group.to_owned(),
        versions: list(versions),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        kind: kind.to_owned(),
        short: list(short),
        namespaced: flags.contains('n'),
        status: flags.contains('s'),
        generation: flags.contains('g'),
        custom,
        review: flags.contains('r'),
        storage,
        schema: Arc::new(Value::Null),
        hidden: false,
    }
}

const BUILT_IN: &str = "
- v1 namespaces Namespace ns s
- v1 nodes Node no s
- v1 secrets Secret - n
- v1 services Service svc ns
- v1 endpoints Endpoints ep n
- v1 pods Pod po ns
- v1 configmaps ConfigMap cm n
- v1 serviceaccounts ServiceAccount sa n
- v1 persistentvolumeclaims PersistentVolumeClaim pvc ns
- v1 events Event ev n
events.k8s.io v1 events Event ev n
apps v1 deployments Deployment deploy nsg
apps v1 statefulsets StatefulSet sts nsg
apps v1 daemonsets DaemonSet ds nsg
apps v1 replicasets ReplicaSet rs nsg
discovery.k8s.io v1 endpointslices EndpointSlice - ng
coordination.k8s.io v1 leases Lease - n
policy v1 poddisruptionbudgets PodDisruptionBudget pdb nsg
autoscaling v2 horizontalpodautoscalers HorizontalPodAutoscaler hpa ns
networking.k8s.io v1 networkpolicies NetworkPolicy netpol ng
networking.k8s.io v1 ingresses Ingress ing nsg
rbac.authorization.k8s.io v1 roles Role - n
rbac.authorization.k8s.io v1 rolebindings RoleBinding - n
rbac.authorization.k8s.io v1 clusterroles ClusterRole - -
rbac.authorization.k8s.io v1 clusterrolebindings ClusterRoleBinding - -
admissionregistration.k8s.io v1 mutatingwebhookconfigurations MutatingWebhookConfiguration - g
admissionregistration.k8s.io v1 validatingwebhookconfigurations ValidatingWebhookConfiguration - g
apiextensions.k8s.io v1 customresourcedefinitions CustomResourceDefinition crd,crds sg
certificates.k8s.io v1beta1 clustertrustbundles ClusterTrustBundle - -
authentication.k8s.io v1 tokenreviews TokenReview - r
authentication.k8s.io v1 selfsubjectreviews SelfSubjectReview - r
authorization.k8s.io v1 selfsubjectaccessreviews SelfSubjectAccessReview - r
authorization.k8s.io v1 subjectaccessreviews SubjectAccessReview - r
";

const ISTIO: &str = "
networking.istio.io v1,v1beta1,v1alpha3 gateways Gateway gw nsg
networking.istio.io v1,v1beta1,v1alpha3 virtualservices VirtualService vs nsg
networking.istio.io v1,v1beta1,v1alpha3 destinationrules DestinationRule dr nsg
networking.istio.io v1,v1beta1,v1alpha3 serviceentries ServiceEntry se nsg
networking.istio.io v1,v1beta1,v1alpha3 workloadentries WorkloadEntry we nsg
networking.istio.io v1,v1beta1,v1alpha3 workloadgroups WorkloadGroup wg nsg
networking.istio.io v1,v1beta1,v1alpha3 sidecars Sidecar - nsg
networking.istio.io v1beta1 proxyconfigs ProxyConfig - nsg
security.istio.io v1,v1beta1 peerauthentications PeerAuthentication pa nsg
security.istio.io v1,v1beta1 authorizationpolicies AuthorizationPolicy ap nsg
security.istio.io v1,v1beta1 requestauthentications RequestAuthentication ra nsg
acme.sluice.dev v1alpha1 issuers Issuer acme nsg
telemetry.istio.io v1,v1alpha1 telemetries Telemetry telemetry nsg
policy.sluice.dev v1alpha1 ratelimits RateLimit - nsg
";
