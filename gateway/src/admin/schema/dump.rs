//! `/config_dump`: what is installed. Holds neither keys nor certificates: only names say where they came from.

use std::net::IpAddr;

use routing::problem::Problem;
use serde::Serialize;

/// Everything that is installed.
#[derive(Debug, Serialize)]
pub(crate) struct ConfigDump<'a> {
    /// Version of the binary.
    pub(crate) version: &'static str,
    /// Number of the installed configuration; 0 = none yet.
    pub(crate) generation: u64,
    /// Its content hash.
    pub(crate) digest: String,
    /// Whom the proxy serves.
    pub(crate) workload: Workload<'a>,
    /// Of a gateway.
    pub(crate) listeners: Vec<Listener<'a>>,
    /// Of a sidecar: to the application.
    pub(crate) inbound: Option<Inbound<'a>>,
    /// Of a sidecar: from the application, by port.
    pub(crate) outbound: Option<Vec<OutboundPort<'a>>>,
    /// The same for connections that carry no HTTP.
    pub(crate) outbound_opaque: Option<Vec<OpaquePort<'a>>>,
    /// Where requests can go to.
    pub(crate) clusters: Vec<Cluster<'a>>,
    /// Hosts that are looked up by DNS.
    pub(crate) names_to_resolve: &'a [String],
    /// Everything that is wrong with the configuration.
    pub(crate) problems: &'a [Problem],
}

/// A workload of the mesh.
#[derive(Debug, Serialize)]
pub(crate) struct Workload<'a> {
    /// As metrics name it.
    pub(crate) name: &'a str,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// Label `service.istio.io/canonical-name`, or what stands for it.
    pub(crate) canonical_service: &'a str,
    /// Label `service.istio.io/canonical-revision`, or what stands for it.
    pub(crate) canonical_revision: &'a str,
    /// Label `app`.
    pub(crate) app: &'a str,
    /// Label `version`.
    pub(crate) version: &'a str,
    /// SPIFFE id; empty = none.
    pub(crate) principal: &'a str,
}

/// A port of a gateway.
#[derive(Debug, Serialize)]
pub(crate) struct Listener<'a> {
    /// The address that the Gateway names; `null`: the one of `--bind`.
    pub(crate) bind: Option<IpAddr>,
    /// As the Gateway names it.
    pub(crate) port: u16,
    /// Port of the pod, where a Service says another one.
    pub(crate) bind_port: u16,
    /// Servers that speak TLS; `null`: none does.
    pub(crate) tls: Option<Vec<TlsServer<'a>>>,
    /// Routes of connections without TLS that carry no HTTP.
    pub(crate) bytes: Option<Vec<OpaqueRoute<'a>>>,
    /// Routes of requests, by host.
    pub(crate) hosts: Vec<Host<'a>>,
}

/// One server of a Gateway.
#[derive(Debug, Serialize)]
pub(crate) struct TlsServer<'a> {
    /// `namespace/gateway/port name`.
    pub(crate) name: &'a str,
    /// Names in a ClientHello that it is for.
    pub(crate) sni: Vec<String>,
    /// Its TLS.
    pub(crate) settings: ServerTls<'a>,
    /// What follows the handshake.
    pub(crate) content: Content<'a>,
}

/// What follows a handshake, or what is passed on with it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content<'a> {
    /// Requests.
    Http,
    /// Anything, after TLS has ended here.
    Bytes(Vec<OpaqueRoute<'a>>),
    /// TLS goes on to somebody else.
    Passthrough(Vec<OpaqueRoute<'a>>),
    /// The same, by the names that sidecars put into the ClientHello.
    AutoPassthrough(Vec<OpaqueRoute<'a>>),
}

/// TLS of a server.
#[derive(Debug, Serialize)]
pub(crate) struct ServerTls<'a> {
    /// Where its certificate is from.
    pub(crate) certificate: Certificate<'a>,
    /// What clients have to show.
    pub(crate) client: Client<'a>,
    /// Least version.
    pub(crate) min_version: String,
    /// Highest version.
    pub(crate) max_version: String,
    /// Cipher suites of TLS 1.2; empty = the usual ones.
    pub(crate) cipher_suites: &'a [String],
}

/// Where a certificate is from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Certificate<'a> {
    /// `namespace/name` of Secrets.
    Secrets(Vec<&'a str>),
    /// Paths.
    Files(Vec<&'a str>),
    /// The workload's own.
    Workload,
    /// A Secret that is not there: handshakes are refused.
    Missing(&'a str),
    /// The server is not in order: handshakes are refused.
    Rejected,
    /// TLS ends elsewhere.
    Elsewhere,
    /// A Secret that is being ordered.
    #[serde(untagged)]
    Pending {
        /// `namespace/name`.
        pending: &'a str,
        /// Who is asked for it.
        issuer: &'a str,
    },
}

/// What clients have to show.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Client<'a> {
    /// Nothing.
    None,
    /// A certificate that is not verified.
    Unverified {
        /// Whether there must be one.
        required: bool,
    },
    /// A certificate of these roots.
    #[serde(untagged)]
    Required {
        /// Where they are from.
        required: Roots<'a>,
        /// Names of which it must have one; empty = any.
        subject_alt_names: &'a [String],
    },
    /// The same, where one is shown.
    #[serde(untagged)]
    Optional {
        /// Where they are from.
        optional: Roots<'a>,
        /// Names of which it must have one; empty = any.
        subject_alt_names: &'a [String],
    },
    /// An identity of these trust domains.
    #[serde(untagged)]
    Mesh {
        /// Trust domains; empty = any.
        mesh: &'a [String],
        /// Names of which it must have one; empty = any.
        subject_alt_names: &'a [String],
    },
}

/// Where roots are from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Roots<'a> {
    /// A Secret.
    Secret,
    /// A path.
    File(&'a str),
    /// A Secret that is not there: handshakes are refused.
    Missing(&'a str),
}

/// Where connections go that carry no HTTP.
#[derive(Debug, Serialize)]
pub(crate) struct OpaqueRoute<'a> {
    /// Networks that they were meant for; empty = all.
    pub(crate) destinations: Vec<String>,
    /// Names in the ClientHello; empty = all.
    pub(crate) sni: Vec<String>,
    /// Not for what turns out to be HTTP.
    pub(crate) unless_http: bool,
    /// `namespace/name` of the VirtualService; empty = straight to a service.
    pub(crate) source: &'a str,
    /// Where to.
    pub(crate) action: Vec<Destination<'a>>,
}

/// A share of requests or of connections.
#[derive(Debug, Serialize)]
pub(crate) struct Destination<'a> {
    /// Name of the cluster.
    pub(crate) cluster: &'a str,
    /// Whether there is such a cluster.
    pub(crate) known: bool,
    /// Relative share.
    pub(crate) weight: u32,
}

/// Routes of one host.
#[derive(Debug, Serialize)]
pub(crate) struct Host<'a> {
    /// As `*.example.com`.
    pub(crate) host: &'a str,
    /// The Gateway's `httpsRedirect`.
    pub(crate) https_redirect: bool,
    /// In order: the first that holds is followed.
    pub(crate) routes: Vec<Route<'a>>,
}

/// One route.
#[derive(Debug, Serialize)]
pub(crate) struct Route<'a> {
    /// Its name; may be empty.
    pub(crate) name: &'a str,
    /// `namespace/name` of the VirtualService; empty = straight to a service.
    pub(crate) source: &'a str,
    /// Milliseconds; `null` = no limit.
    pub(crate) timeout_ms: Option<u64>,
    /// What happens.
    pub(crate) action: Action<'a>,
}

/// What happens to a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action<'a> {
    /// A status.
    Redirect(u16),
    /// A status.
    DirectResponse(u16),
    /// It goes on.
    #[serde(untagged)]
    To(Vec<Destination<'a>>),
}

/// What a sidecar takes for its application.
#[derive(Debug, Serialize)]
pub(crate) struct Inbound<'a> {
    /// Of the workload.
    pub(crate) addresses: &'a [IpAddr],
    /// `Strict`, `Permissive`, `Disable`.
    pub(crate) default_mtls: String,
    /// Of whom identities are believed.
    pub(crate) trust_domains: &'a [String],
    /// By port.
    pub(crate) ports: Vec<InboundPort<'a>>,
}

/// A port of an application.
#[derive(Debug, Serialize)]
pub(crate) struct InboundPort<'a> {
    /// Its number.
    pub(crate) port: u16,
    /// `Strict`, `Permissive`, `Disable`.
    pub(crate) mtls: String,
    /// As the Service calls it.
    pub(crate) protocol: String,
    /// Host of the service; empty = none has it.
    pub(crate) service: &'a str,
}

/// Routes of one port of services.
#[derive(Debug, Serialize)]
pub(crate) struct OutboundPort<'a> {
    /// Its number.
    pub(crate) port: u16,
    /// By host.
    pub(crate) hosts: Vec<Host<'a>>,
}

/// Routes of one port of services, without HTTP.
#[derive(Debug, Serialize)]
pub(crate) struct OpaquePort<'a> {
    /// Its number.
    pub(crate) port: u16,
    /// In order: the first that holds is followed.
    pub(crate) routes: Vec<OpaqueRoute<'a>>,
}

/// Where requests can go to.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster<'a> {
    /// As `outbound|8080|v1|reviews.default.svc.cluster.local`.
    pub(crate) name: &'a str,
    /// Host of the service.
    pub(crate) host: &'a str,
    /// Port of the service.
    pub(crate) port: u16,
    /// What is spoken.
    pub(crate) protocol: String,
    /// How endpoints are chosen.
    pub(crate) balance: String,
    /// `null`: none.
    pub(crate) tls: Option<ClientTls>,
    /// All of them.
    pub(crate) endpoints: Vec<Endpoint<'a>>,
}

/// TLS to a cluster.
#[derive(Debug, Serialize)]
pub(crate) struct ClientTls {
    /// Whether it is that of the mesh.
    pub(crate) mesh: bool,
    /// The name in the ClientHello.
    pub(crate) sni: String,
    /// Names that the certificate may have.
    pub(crate) names: String,
}

/// One endpoint.
#[derive(Debug, Serialize)]
pub(crate) struct Endpoint<'a> {
    /// Address and port, or a unix socket.
    pub(crate) address: String,
    /// Relative share.
    pub(crate) weight: u32,
    /// Whether it is spoken to in TLS.
    pub(crate) tls: bool,
    /// Whose it is.
    pub(crate) workload: Workload<'a>,
}
