//! What a description holds, whatever it is printed as.

use std::collections::BTreeMap;

use routing::problem::Problem;
use serde::Serialize;

/// Everything that `sluice describe` says.
#[derive(Debug, Serialize)]
pub(crate) struct Description {
    /// The workload that was asked for; `None` when it was a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workload: Option<Workload>,
    /// The service that was asked for, or those that lead to the workload.
    pub(super) services: Vec<Service>,
    /// What loading and compiling said about the objects named above.
    pub(super) problems: Vec<Problem>,
    /// Documents that cannot be read: what is in them is missing above.
    pub(super) unread: Vec<Problem>,
}

/// A remark of the description itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    /// `error`: requests fail. `warning`: perhaps not as meant.
    pub(super) severity: &'static str,
    /// A sentence.
    pub(super) message: String,
}

impl Finding {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self { severity: "error", message: message.into() }
    }

    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self { severity: "warning", message: message.into() }
    }
}

/// A Pod, or what stands for pods.
#[derive(Debug, Serialize)]
pub(super) struct Workload {
    /// As `Pod`.
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Name of what made the pod; its own name when nothing did.
    pub(super) owner: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) service_account: String,
    pub(super) addresses: Vec<String>,
    /// `None`: not known, as for a Deployment whose pods are not there.
    pub(super) sidecar: Option<bool>,
    pub(super) ports: Vec<WorkloadPort>,
    pub(super) mutual_tls: MutualTls,
    /// AuthorizationPolicies, by namespace and name.
    pub(super) authorization: Vec<PolicyLine>,
    /// RequestAuthentications and RateLimits.
    pub(super) checks: Vec<CheckLine>,
    pub(super) findings: Vec<Finding>,
}

/// A port that the workload declares, or that a service leads to.
#[derive(Debug, Serialize)]
pub(super) struct WorkloadPort {
    pub(super) number: u16,
    /// The container port's name; may be empty.
    pub(super) name: String,
    /// `host:port` of the services that lead here, hosts in full.
    pub(super) services: Vec<String>,
    /// STRICT, PERMISSIVE or DISABLE.
    pub(super) mutual_tls: &'static str,
}

/// A Kubernetes Service.
#[derive(Debug, Serialize)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Fully qualified.
    pub(super) host: String,
    /// As `ClusterIP`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) ports: Vec<Port>,
    /// Pods that the selector picks, and whatever stands for pods that are not known.
    pub(super) workloads: Vec<Backend>,
    /// One for each kind of client that sees something else.
    pub(super) policies: Vec<Policies>,
    /// One for each group of workloads that accept something else.
    pub(super) mutual_tls: Vec<MutualTls>,
    /// One for each group of workloads at which other AuthorizationPolicies hold.
    pub(super) authorization: Vec<Authorization>,
    /// One for each group of workloads at which other RequestAuthentications and RateLimits hold.
    pub(super) checks: Vec<Checks>,
    pub(super) gateways: Vec<Exposure>,
    /// One for each kind of client that is routed otherwise.
    pub(super) mesh: Vec<Mesh>,
    pub(super) findings: Vec<Finding>,
}

/// One port of a Service.
#[derive(Debug, Serialize)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) name: String,
    /// `targetPort` as written, else the number.
    pub(super) target: String,
    /// Istio's name; `None`: it is sniffed.
    pub(super) protocol: Option<String>,
    /// What told the protocol, in words.
    pub(super) chosen_by: &'static str,
    /// False for UDP and SCTP.
    pub(super) is_proxied: bool,
    /// How many are ready.
    pub(super) endpoints: usize,
}

/// A workload behind a service.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Backend {
    /// As `Pod`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    /// `None`: not known.
    pub(super) sidecar: Option<bool>,
}

/// What some clients do when they send to the service.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Policies {
    /// Which clients, in words; empty: all.
    pub(super) clients: Vec<String>,
    /// `None`: no rule holds, so it is Istio's defaults.
    pub(super) destination_rule: Option<Rule>,
    pub(super) ports: Vec<PortPolicy>,
    pub(super) subsets: Vec<Subset>,
}

/// The DestinationRule that holds.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Rule {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Its host, as written.
    pub(super) host: String,
    /// Why it is this one, in words.
    pub(super) why: String,
    /// `namespace/name` of rules that are merged into it.
    pub(super) merged: Vec<String>,
}

/// What holds for one port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct PortPolicy {
    pub(super) port: u16,
    #[serde(flatten)]
    pub(super) policy: Policy,
}

/// How requests are sent.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Policy {
    /// DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL; AUTOMATIC: mutual TLS with endpoints that have a sidecar.
    pub(super) tls: &'static str,
    /// SNI, credentialName and the like, in words.
    pub(super) tls_details: Vec<String>,
    /// `namespace/name field` that says so.
    pub(super) tls_set_by: Option<String>,
    /// Istio's name.
    pub(super) load_balancer: &'static str,
    /// Limits and timeouts that are not the defaults, in words.
    pub(super) connection_pool: Vec<String>,
}

/// A subset of the service.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Subset {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The workloads that it picks, as `Pod reviews-v1-x`.
    pub(super) workloads: Vec<String>,
    /// Where it differs from the whole service.
    pub(super) ports: Vec<PortPolicy>,
}

/// What workloads accept.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct MutualTls {
    /// Which workloads, as `Pod reviews-v1-x`; empty: all.
    pub(super) workloads: Vec<String>,
    /// STRICT, PERMISSIVE or DISABLE.
    pub(super) mode: &'static str,
    /// Who says so, in words.
    pub(super) set_by: String,
    /// Ports with another word.
    pub(super) ports: Vec<MutualTlsPort>,
}

/// A port with a mode of its own.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct MutualTlsPort {
    /// The workload's port, which is not always the service's.
    pub(super) workload_port: u16,
    pub(super) mode: &'static str,
    pub(super) set_by: String,
}

/// AuthorizationPolicies that hold at workloads.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Authorization {
    /// Which workloads; empty: all.
    pub(super) workloads: Vec<String>,
    /// By namespace and name.
    pub(super) policies: Vec<PolicyLine>,
}

/// One AuthorizationPolicy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct PolicyLine {
    pub(super) namespace: String,
    pub(super) name: String,
    /// `None`: it cannot be read.
    pub(super) action: Option<&'static str>,
    /// Whom CUSTOM asks.
    pub(super) provider: Option<String>,
    /// For what, in words.
    pub(super) scope: &'static str,
    /// How many rules it has, or what becomes of requests without, in words.
    pub(super) effect: String,
    /// It is not enforced.
    pub(super) tried: bool,
}

/// RequestAuthentications and RateLimits that hold at workloads.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Checks {
    /// Which workloads; empty: all.
    pub(super) workloads: Vec<String>,
    /// By kind, namespace and name.
    pub(super) checks: Vec<CheckLine>,
}

/// One RequestAuthentication, RateLimit or Telemetry.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct CheckLine {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    /// For what, in words.
    pub(super) scope: &'static str,
    /// Issuers or limits, in words.
    pub(super) effect: String,
}

/// A Gateway's server that the service is reached through.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Exposure {
    /// `namespace/name` of the Gateway.
    pub(super) gateway: String,
    pub(super) port: u16,
    pub(super) protocol: String,
    /// As written.
    pub(super) hosts: Vec<String>,
    /// `None`: plain text.
    pub(super) tls: Option<String>,
    pub(super) credentials: Vec<String>,
    /// RequestAuthentications and RateLimits that hold there.
    pub(super) checks: Vec<CheckLine>,
    /// Plain requests are sent to https before any route is looked at.
    pub(super) redirects_to_https: bool,
    /// Those that lead to the service.
    pub(super) routes: Vec<Route>,
}

/// Routes for some clients inside of the mesh.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Mesh {
    /// Which clients, in words; empty: all.
    pub(super) clients: Vec<String>,
    pub(super) hosts: Vec<MeshHost>,
}

/// Routes of one host inside of the mesh.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct MeshHost {
    /// What clients ask for.
    pub(super) host: String,
    /// Ports with these routes.
    pub(super) ports: Vec<u16>,
    /// Empty: straight to the endpoints.
    pub(super) routes: Vec<Route>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Route {
    /// What it is for.
    pub(super) carries: Carries,
    /// `namespace/name`; empty for the way that peers of other networks take (`AUTO_PASSTHROUGH`).
    pub(super) virtual_service: String,
    /// Its place among the routes of its host, from 0: the first that fits wins.
    pub(super) position: usize,
    /// Its name, `default` when it has none.
    pub(super) name: String,
    /// To try it at a gateway, whose address stands for `<gateway>`; `None`: no address can be told, as for a regular expression, or it is for the mesh.
    pub(super) url: Option<String>,
    /// What a request must be, in words; empty: every request.
    pub(super) when: Vec<String>,
    /// What changes on the way, in words.
    pub(super) rewrite: Vec<String>,
    /// Where it leads; empty for an answer of the proxy's own.
    pub(super) destinations: Vec<Destination>,
    /// The answer of the proxy's own, in words.
    pub(super) answer: Option<String>,
}

/// What goes along a route, as the lists of a VirtualService are called.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Carries {
    /// Requests.
    Http,
    /// Connections whose server name is looked at.
    Tls,
    /// Connections.
    Tcp,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Destination {
    /// Fully qualified.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) subset: Option<String>,
    /// Share of the requests, 0 to 100, with one decimal.
    pub(super) percent: f64,
    /// False: there is no such service, port or subset: its requests get 503, its connections end.
    pub(super) exists: bool,
}
