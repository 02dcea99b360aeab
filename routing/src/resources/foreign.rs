//! Kinds that are not read: what is lost with each, and what says the same here.

use Weight::{Nothing, Protection, Routing, Unknown};

use crate::problem::Severity;

/// What is known of a kind that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    weight: Weight,
    words: &'static str,
}

/// What is lost when it is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It would keep requests out.
    Protection,
    /// Requests would go elsewhere, or nowhere.
    Routing,
    /// Nothing that the proxies do.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl Foreign {
    /// Whether nothing is known of it.
    pub(super) fn is_unknown(self) -> bool {
        self.weight == Unknown
    }

    /// How much it matters, and a sentence.
    pub(super) fn verdict(self, kind: &str, group: &str) -> (Severity, String) {
        let group = if group.is_empty() { "the core group" } else { group };
        match self.weight {
            Protection => {
                let message = format!("{kind} of {group} is not enforced: {}", self.words);
                (Severity::Warning, message)
            }
            Routing => (Severity::Warning, format!("{kind} of {group} is not read: {}", self.words)),
            Nothing => (Severity::Info, format!("{kind} of {group} is ignored: {}", self.words)),
            Unknown => {
                (Severity::Info, format!("{kind} of {group} is ignored, it has no part in routing{}", self.words))
            }
        }
    }
}

/// A kind of which we know nothing. Istio's groups hold nothing that can be passed over.
pub(super) fn unknown(group: &str) -> Foreign {
    let group = group.to_ascii_lowercase();
    if group == "istio.io" || group.ends_with(".istio.io") {
        let words = "nobody here knows what it asks for; compare the kind's name with Istio's reference";
        return Foreign { weight: Routing, words };
    }
    Foreign { weight: Unknown, words: "" }
}

/// What is known of a kind, in whatever case it is written.
pub(super) fn find(group: &str, kind: &str) -> Option<Foreign> {
    let fits = |(own, kinds, ..): &&Row| {
        own.eq_ignore_ascii_case(group)
            && (kinds.is_empty() || kinds.iter().any(|name| name.eq_ignore_ascii_case(kind)))
    };
    let (.., weight, words) = KNOWN.iter().find(fits)?;
    Some(Foreign { weight: *weight, words })
}

/// Group, kinds (none: all that are not above), what is lost, and what to do.
type Row = (&'static str, &'static [&'static str], Weight, &'static str);

const KNOWN: &[Row] = &[
    ("rbac.istio.io", &[], Protection, UNPROTECTED),
    ("authentication.istio.io", &[], Protection, UNPROTECTED),
    (
        "networking.istio.io",
        &["EnvoyFilter"],
        Routing,
        "there is no Envoy to patch, so what it adds is missing; say it with Gateway, VirtualService or DestinationRule",
    ),
    (
        "extensions.istio.io",
        &[],
        Routing,
        "its code does not run, so requests pass without what it does; do that in the application",
    ),
    (
        "install.istio.io",
        &[],
        Routing,
        "nothing is installed by it and its meshConfig has no effect; install the chart, flags are the settings",
    ),
    ("config.istio.io", &[], Routing, "Mixer's rules have no effect, in today's Istio neither"),
    (
        "gateway.networking.k8s.io",
        &["Gateway", "ListenerSet"],
        Routing,
        "its listeners are not opened; write a Gateway of networking.istio.io/v1 with the same ports and hosts as servers",
    ),
    ("gateway.networking.k8s.io", &["HTTPRoute", "GRPCRoute"], Routing, WRITE_HTTP),
    (
        "gateway.networking.k8s.io",
        &["TLSRoute", "TCPRoute", "UDPRoute"],
        Routing,
        "its connections go nowhere, and nothing says the same here: only HTTP is routed yet",
    ),
    (
        "gateway.networking.k8s.io",
        &["GatewayClass"],
        Routing,
        "no class is served; the selector of a Gateway of networking.istio.io/v1 says which proxies serve it",
    ),
    (
        "gateway.networking.k8s.io",
        &["BackendTLSPolicy", "BackendTrafficPolicy"],
        Routing,
        "backends are reached without it; write a DestinationRule of networking.istio.io/v1 with trafficPolicy",
    ),
    (
        "gateway.networking.k8s.io",
        &["ReferenceGrant"],
        Routing,
        "it grants nothing; Secrets are looked up in the gateway's own namespace, and Services by their full host",
    ),
    ("gateway.networking.k8s.io", &[], Routing, WRITE_HTTP),
    ("gateway.networking.x-k8s.io", &[], Routing, WRITE_HTTP),
    ("networking.k8s.io", &["Ingress"], Routing, WRITE_BOTH),
    ("extensions", &["Ingress"], Routing, WRITE_BOTH),
    ("networking.k8s.io", &["IngressClass"], Nothing, "no Ingress is served"),
    (
        "",
        &["Endpoints"],
        Routing,
        "its addresses get no requests; write an EndpointSlice of discovery.k8s.io/v1 with the label \
         kubernetes.io/service-name, or a ServiceEntry",
    ),
    ("traefik.io", MIDDLEWARE, Routing, WRITE_ROUTE_FIELDS),
    ("traefik.containo.us", MIDDLEWARE, Routing, WRITE_ROUTE_FIELDS),
    ("traefik.io", &[], Routing, WRITE_BOTH),
    ("traefik.containo.us", &[], Routing, WRITE_BOTH),
    ("projectcontour.io", &[], Routing, WRITE_BOTH),
    ("contour.heptio.com", &[], Routing, WRITE_BOTH),
    ("k8s.nginx.org", &[], Routing, WRITE_BOTH),
    ("getambassador.io", &[], Routing, WRITE_BOTH),
    ("configuration.konghq.com", &[], Routing, WRITE_BOTH),
    ("gateway.solo.io", &[], Routing, WRITE_BOTH),
    ("appmesh.k8s.aws", &[], Routing, WRITE_BOTH),
    ("route.openshift.io", &[], Routing, WRITE_BOTH),
    ("serving.knative.dev", &[], Routing, WRITE_BOTH),
    (
        "cert-manager.io",
        &["Issuer", "ClusterIssuer"],
        Nothing,
        "cert-manager reads it; certificates that the gateway orders itself need an Issuer of acme.sluice.dev/v1alpha1",
    ),
    ("cert-manager.io", &[], Nothing, "cert-manager reads it, and the Secret that it makes is read here"),
    ("kustomize.config.k8s.io", &[], Nothing, "what it changes is not seen here; check what `kustomize build` prints"),
];

const MIDDLEWARE: &[&str] = &["Middleware", "MiddlewareTCP", "TLSOption", "TLSStore", "ServersTransport"];
const UNPROTECTED: &str = "requests pass as if it were not there";
const WRITE_HTTP: &str = "its requests are not routed; write a VirtualService of networking.istio.io/v1 with the same hosts and rules as http";
const WRITE_BOTH: &str = "its hosts and paths are not served; write a Gateway of networking.istio.io/v1 for the hosts, and a \
                          VirtualService for the paths";
const WRITE_ROUTE_FIELDS: &str = "it changes no request; rewrite, redirect, headers and retries stand in the routes of a \
                                  VirtualService, tls in the servers of a Gateway and in DestinationRules";
