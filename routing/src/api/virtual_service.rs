//! Istio `VirtualService` (networking.istio.io).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Bytes, Percent, ProtoDuration, StringMatch, compact, non_empty};

/// Istio `VirtualService`: where requests to some hosts go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct VirtualService {
    /// Hosts the rules apply to; may be short service names or wildcards. Empty only in a delegate.
    pub hosts: Vec<String>,
    /// `name`, `namespace/name`, `./name` or `mesh`; `mesh` alone when empty.
    pub gateways: Vec<String>,
    /// Rules for HTTP traffic, the first that matches wins.
    #[serde(deserialize_with = "compact")]
    pub http: Vec<HttpRoute>,
    /// Rules for TLS traffic that is not terminated, by SNI.
    pub tls: Vec<TlsRoute>,
    /// Rules for other TCP traffic.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see this object: `.`, `*` or names; everywhere when empty.
    pub export_to: Vec<String>,
}

/// Istio `HTTPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRoute {
    /// For logs and statistics.
    #[serde(deserialize_with = "non_empty")]
    pub name: Option<String>,
    /// Any of these must hold; every request matches when empty.
    #[serde(rename = "match", deserialize_with = "compact")]
    pub matches: Vec<HttpMatch>,
    /// Weighted destinations.
    #[serde(deserialize_with = "compact")]
    pub route: Vec<HttpRouteDestination>,
    /// Answer with a redirect instead.
    pub redirect: Option<HttpRedirect>,
    /// Answer with a fixed response instead.
    pub direct_response: Option<HttpDirectResponse>,
    /// Take the rules of another VirtualService.
    pub delegate: Option<Delegate>,
    /// Change path or authority on the way.
    pub rewrite: Option<HttpRewrite>,
    /// Time for the whole exchange, retries included; no limit when unset.
    pub timeout: Option<ProtoDuration>,
    /// When to try again.
    pub retries: Option<HttpRetry>,
    /// Delays and aborts on purpose.
    pub fault: Option<HttpFaultInjection>,
    /// Send a copy there; excludes `mirrors`.
    pub mirror: Option<Destination>,
    /// Send copies there.
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Deprecated form of `mirrorPercentage`.
    pub mirror_percent: Option<u32>,
    /// How many requests `mirror` copies; all when unset.
    pub mirror_percentage: Option<Percent>,
    /// Cross-origin rules.
    pub cors_policy: Option<CorsPolicy>,
    /// Header changes for every destination.
    pub headers: Option<Headers>,
}

/// Istio `HTTPMatchRequest`: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpMatch {
    /// Appended to the route's name in logs.
    #[serde(deserialize_with = "non_empty")]
    pub name: Option<String>,
    /// Path without query string.
    pub uri: Option<StringMatch>,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// Request method.
    pub method: Option<StringMatch>,
    /// Host or :authority.
    pub authority: Option<StringMatch>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, StringMatch>,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Query parameters, case-sensitive.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Compare `uri` (exact and prefix) without regard to case.
    pub ignore_uri_case: bool,
    /// Port that the request came to; any when unset.
    pub port: Option<u16>,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the calling workload.
    #[serde(deserialize_with = "non_empty")]
    pub source_namespace: Option<String>,
    /// Overrides `VirtualService.gateways` for this match.
    pub gateways: Vec<String>,
    /// Prefix of the route's statistics.
    #[serde(deserialize_with = "non_empty")]
    pub stat_prefix: Option<String>,
}

/// Istio `HTTPRouteDestination`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRouteDestination {
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub destination: Option<Destination>,
    /// Share of the requests, relative to the sum of the route's weights.
    pub weight: i32,
    /// Header changes for this destination, after the route's own.
    pub headers: Option<Headers>,
}

/// Istio `Destination`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Destination {
    /// Service name, short or full. Required.
    #[schemars(extend("x-required" = true))]
    pub host: String,
    /// A subset of the host's DestinationRule.
    #[serde(deserialize_with = "non_empty")]
    pub subset: Option<String>,
    /// Needed when the service has more than one port.
    pub port: Option<PortSelector>,
}

/// Istio `PortSelector`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PortSelector {
    /// 1 to 65535.
    pub number: u16,
}

/// Istio `HTTPRedirect`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRedirect {
    /// Replaces the whole path.
    #[serde(deserialize_with = "non_empty")]
    pub uri: Option<String>,
    /// Replaces the matched prefix.
    #[serde(deserialize_with = "non_empty")]
    pub prefix_rewrite: Option<String>,
    /// Replaces the authority.
    #[serde(deserialize_with = "non_empty")]
    pub authority: Option<String>,
    /// Replaces the port; excludes `derivePort`.
    pub port: Option<u16>,
    /// Where the port comes from when `port` is unset.
    pub derive_port: Option<RedirectPort>,
    /// `http` or `https`.
    #[serde(deserialize_with = "non_empty")]
    pub scheme: Option<String>,
    /// 300 to 399; 0 means 301.
    pub redirect_code: u16,
}

/// Istio `HTTPRedirect.RedirectPortSelection`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RedirectPort {
    /// 80 for http, 443 for https.
    #[default]
    FromProtocolDefault,
    /// The port of the request.
    FromRequestPort,
}

/// Istio `HTTPDirectResponse`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpDirectResponse {
    /// 200 to 599. Required.
    #[schemars(extend("x-required" = true))]
    pub status: u16,
    /// Nothing when unset.
    pub body: Option<HttpBody>,
}

/// Istio `HTTPBody`: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpBody {
    /// As text.
    pub string: Option<String>,
    /// As base64.
    pub bytes: Option<Bytes>,
}

/// Istio `Delegate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Delegate {
    /// Name of the delegate VirtualService. Required.
    pub name: String,
    /// Its namespace; the root VirtualService's when unset.
    #[serde(deserialize_with = "non_empty")]
    pub namespace: Option<String>,
}

/// Istio `HTTPRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRewrite {
    /// Replaces the matched prefix, or the whole path where the match was exact.
    #[serde(deserialize_with = "non_empty")]
    pub uri: Option<String>,
    /// Replaces the authority.
    #[serde(deserialize_with = "non_empty")]
    pub authority: Option<String>,
    /// Replaces by regular expression; excludes `uri`.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Istio `RegexRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RegexRewrite {
    /// RE2 expression.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Replacement, with `\1` for groups.
    pub rewrite: String,
}

/// Istio `HTTPRetry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRetry {
    /// How often to try again; 0 turns retries off.
    pub attempts: i32,
    /// Time for each attempt; the route's timeout when unset.
    pub per_try_timeout: Option<ProtoDuration>,
    /// Comma-separated conditions and status numbers; Istio's default list when unset.
    #[serde(deserialize_with = "non_empty")]
    pub retry_on: Option<String>,
    /// Whether other localities may be tried.
    pub retry_remote_localities: Option<bool>,
    /// Whether endpoints that already failed are avoided.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Lowest wait between attempts.
    pub backoff: Option<ProtoDuration>,
}

/// Istio `HTTPFaultInjection`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpFaultInjection {
    /// Wait first.
    pub delay: Option<FaultDelay>,
    /// Answer with an error.
    pub abort: Option<FaultAbort>,
}

/// Istio `HTTPFaultInjection.Delay`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FaultDelay {
    /// How long.
    pub fixed_delay: Option<ProtoDuration>,
    /// Reserved by Istio, always refused.
    pub exponential_delay: Option<ProtoDuration>,
    /// Deprecated form of `percentage`.
    pub percent: Option<i32>,
    /// How many requests; none when unset.
    pub percentage: Option<Percent>,
}

/// Istio `HTTPFaultInjection.Abort`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FaultAbort {
    /// HTTP status to answer, 200 to 600.
    pub http_status: Option<u16>,
    /// gRPC status name to answer, as `UNAVAILABLE`.
    #[serde(deserialize_with = "non_empty")]
    pub grpc_status: Option<String>,
    /// Reserved by Istio, always refused.
    #[serde(deserialize_with = "non_empty")]
    pub http2_error: Option<String>,
    /// How many requests; none when unset.
    pub percentage: Option<Percent>,
}

/// Istio `HTTPMirrorPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpMirrorPolicy {
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub destination: Option<Destination>,
    /// How many requests are copied; all when unset.
    pub percentage: Option<Percent>,
}

/// Istio `CorsPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Deprecated form of `allowOrigins`, exact origins.
    pub allow_origin: Vec<String>,
    /// Origins that may ask.
    pub allow_origins: Vec<StringMatch>,
    /// Access-Control-Allow-Methods.
    pub allow_methods: Vec<String>,
    /// Access-Control-Allow-Headers.
    pub allow_headers: Vec<String>,
    /// Access-Control-Expose-Headers.
    pub expose_headers: Vec<String>,
    /// Access-Control-Max-Age.
    pub max_age: Option<ProtoDuration>,
    /// Access-Control-Allow-Credentials.
    pub allow_credentials: Option<bool>,
    /// What happens to preflights of origins that are not allowed.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// Istio `CorsPolicy.UnmatchedPreflights`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As `FORWARD`.
    #[default]
    Unspecified,
    /// Forward them to the service.
    Forward,
    /// Answer them without CORS headers.
    Ignore,
}

/// Istio `Headers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Headers {
    /// Changes on the way to the service.
    pub request: Option<HeaderOperations>,
    /// Changes on the way back.
    pub response: Option<HeaderOperations>,
}

/// Istio `Headers.HeaderOperations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HeaderOperations {
    /// Replace.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Remove.
    pub remove: Vec<String>,
}

/// Istio `TLSRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsRoute {
    /// Any of these must hold; at least one.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// Istio `TLSMatchAttributes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsMatch {
    /// Server names; at least one.
    pub sni_hosts: Vec<String>,
    /// Destination addresses as IP or CIDR.
    pub destination_subnets: Vec<String>,
    /// Port that the connection came to.
    pub port: Option<u16>,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Overrides `VirtualService.gateways` for this match.
    pub gateways: Vec<String>,
    /// Namespace of the calling workload.
    #[serde(deserialize_with = "non_empty")]
    pub source_namespace: Option<String>,
}

/// Istio `TCPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpRoute {
    /// Any of these must hold; every connection matches when empty.
    #[serde(rename = "match")]
    pub matches: Vec<TcpMatch>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// Istio `L4MatchAttributes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpMatch {
    /// Destination addresses as IP or CIDR.
    pub destination_subnets: Vec<String>,
    /// Port that the connection came to.
    pub port: Option<u16>,
    /// Source addresses as IP or CIDR.
    #[serde(deserialize_with = "non_empty")]
    pub source_subnet: Option<String>,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Overrides `VirtualService.gateways` for this match.
    pub gateways: Vec<String>,
    /// Namespace of the calling workload.
    #[serde(deserialize_with = "non_empty")]
    pub source_namespace: Option<String>,
}

/// Istio `RouteDestination`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RouteDestination {
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub destination: Option<Destination>,
    /// Share of the connections.
    pub weight: i32,
}
