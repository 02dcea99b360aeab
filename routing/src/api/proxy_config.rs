//! Istio `ProxyConfig`: settings of one proxy, as `MeshConfig.defaultConfig`, as the annotation `proxy.istio.io/config` of a
//! pod, and as an object (networking.istio.io) that is read when a pod is made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::scalar::{ProtoDuration, non_empty};
use super::{destination_rule::LabelSelector, telemetry::CustomTag};

/// Istio `ProxyConfig` of `MeshConfig`, as far as it is honoured. What stands beside these fields is told of by
/// [`super::check::mesh_config`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshProxyConfig {
    /// Who stands in front of the gateways.
    pub gateway_topology: Option<GatewayTopology>,
    /// Longest drain.
    pub drain_duration: Option<ProtoDuration>,
    /// Time after the signal in which connections are still accepted.
    pub termination_drain_duration: Option<ProtoDuration>,
    /// Headers that proxies add.
    pub proxy_headers: Option<ProxyHeaders>,
    /// Variables of the environment; of these the ones about the end are honoured ([`super::ending`]).
    pub proxy_metadata: BTreeMap<String, String>,
    /// What is traced where no Telemetry says it.
    pub tracing: Option<ProxyTracing>,
    /// What traces call the proxy; after its label `app` when unset.
    pub tracing_service_name: Option<TracingServiceName>,
}

/// Istio `ProxyConfig` `Tracing`, as far as it is honoured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyTracing {
    /// How many of a hundred requests are traced whose sender has not decided it; 1 when unset.
    pub sampling: Option<f64>,
    /// Longest path in a tag; 256 when unset.
    pub max_path_tag_length: Option<u32>,
    /// Tags besides the usual ones, by name.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// A collector, which is a provider here.
    pub zipkin: Option<Value>,
    /// A collector.
    pub lightstep: Option<Value>,
    /// A collector.
    pub datadog: Option<Value>,
    /// A collector.
    pub stackdriver: Option<Value>,
    /// A collector.
    pub open_census_agent: Option<Value>,
    /// TLS towards it.
    pub tls_settings: Option<Value>,
}

impl ProxyTracing {
    /// What is said of collectors.
    pub fn collectors(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("zipkin", &self.zipkin),
            ("lightstep", &self.lightstep),
            ("datadog", &self.datadog),
            ("stackdriver", &self.stackdriver),
            ("openCensusAgent", &self.open_census_agent),
            ("tlsSettings", &self.tls_settings),
        ];
        all.into_iter().filter(|(_, it)| it.as_ref().is_some_and(|it| !it.is_null())).map(|(name, _)| name)
    }
}

/// Istio `ProxyConfig.TracingServiceName`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TracingServiceName {
    /// Label `app` and the namespace.
    #[default]
    AppLabelAndNamespace,
    /// The canonical service.
    CanonicalNameOnly,
    /// The canonical service and the namespace.
    CanonicalNameAndNamespace,
}

impl MeshProxyConfig {
    /// With what a narrower level says on top: each field that it names replaces the whole field, and of
    /// `proxyMetadata` each variable the one of its name.
    #[must_use]
    pub fn under(self, over: &Self) -> Self {
        let mut proxy_metadata = self.proxy_metadata;
        proxy_metadata.extend(over.proxy_metadata.clone());
        Self {
            gateway_topology: over.gateway_topology.clone().or(self.gateway_topology),
            drain_duration: over.drain_duration.or(self.drain_duration),
            termination_drain_duration: over.termination_drain_duration.or(self.termination_drain_duration),
            proxy_headers: over.proxy_headers.clone().or(self.proxy_headers),
            proxy_metadata,
            tracing: over.tracing.clone().or(self.tracing),
            tracing_service_name: over.tracing_service_name.or(self.tracing_service_name),
        }
    }
}

/// Istio `Topology`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayTopology {
    /// Proxies in front whose `x-forwarded-for` is believed.
    pub num_trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert`.
    pub forward_client_cert_details: ForwardClientCert,
    /// Whether a PROXY header stands before each connection.
    pub proxy_protocol: Option<ProxyProtocolIn>,
}

/// Istio `Topology.ProxyProtocolConfiguration`, which has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyProtocolIn {}

/// Istio `ForwardClientCertDetails`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// The role's default.
    #[default]
    Undefined,
    /// It is dropped.
    Sanitize,
    /// It is passed on, when the client has a certificate.
    ForwardOnly,
    /// The client is added to it.
    AppendForward,
    /// The client replaces it.
    SanitizeSet,
    /// It is passed on, whatever the client.
    AlwaysForwardOnly,
}

/// Istio `ProxyConfig.ProxyHeaders`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyHeaders {
    /// `x-forwarded-client-cert` of sidecars.
    pub forwarded_client_cert: ForwardClientCert,
    /// What of the client's certificate `x-forwarded-client-cert` holds.
    pub set_current_client_cert_details: Option<ClientCertDetails>,
    /// `server` of answers.
    pub server: Option<ServerHeader>,
    /// `x-request-id`.
    pub request_id: Option<HeaderSwitch>,
    /// `x-envoy-attempt-count`.
    pub attempt_count: Option<HeaderSwitch>,
    /// `x-envoy-...` about what the proxy did.
    pub envoy_debug_headers: Option<HeaderSwitch>,
    /// `x-envoy-peer-metadata`.
    pub metadata_exchange_headers: Option<MetadataExchange>,
    /// Spelling of HTTP/1.1 headers.
    pub preserve_http1_header_case: Option<bool>,
    /// `x-forwarded-host`.
    pub x_forwarded_host: Option<HeaderOn>,
    /// `x-forwarded-port`.
    pub x_forwarded_port: Option<HeaderOn>,
}

/// Istio `SetCurrentClientCertDetails`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientCertDetails {
    /// Its subject; true when unset.
    pub subject: Option<bool>,
    /// Itself.
    pub cert: Option<bool>,
    /// And its chain.
    pub chain: Option<bool>,
    /// Its DNS names; true when unset.
    pub dns: Option<bool>,
    /// Its URI; true when unset.
    pub uri: Option<bool>,
}

/// Istio `ProxyHeaders.Server`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerHeader {
    /// Whether none is set.
    pub disabled: Option<bool>,
    /// Instead of `istio-envoy`.
    #[serde(deserialize_with = "non_empty")]
    pub value: Option<String>,
}

/// A header that can be turned off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeaderSwitch {
    /// Whether it is off.
    pub disabled: Option<bool>,
}

/// A header that can be turned on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeaderOn {
    /// Whether it is on.
    pub enabled: Option<bool>,
}

/// Istio `ProxyHeaders.MetadataExchangeHeaders`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetadataExchange {
    /// Towards whom.
    pub mode: MetadataExchangeMode,
}

/// Istio `ProxyHeaders.MetadataExchangeMode`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MetadataExchangeMode {
    /// Everybody.
    #[default]
    Undefined,
    /// The mesh only.
    InMesh,
}

/// The object `ProxyConfig` (networking.istio.io).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyConfig {
    /// The pods; all of the namespace when unset, all of the mesh in the root namespace.
    pub selector: Option<LabelSelector>,
    /// Data threads; 0: as many as there are processors.
    pub concurrency: Option<i32>,
    /// Environment of the proxy's container.
    pub environment_variables: BTreeMap<String, String>,
    /// Its image.
    pub image: Option<ProxyImage>,
}

/// Istio `ProxyImage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyImage {
    /// `default`, `debug` or `distroless`.
    pub image_type: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrower_level_may_go_back_to_the_default_name() {
        let of =
            |name: Option<TracingServiceName>| MeshProxyConfig { tracing_service_name: name, ..Default::default() };
        let (app, canonical) = (TracingServiceName::AppLabelAndNamespace, TracingServiceName::CanonicalNameOnly);
        let under = |wide, narrow| of(wide).under(&of(narrow)).tracing_service_name;
        assert_eq!(under(Some(canonical), Some(app)), Some(app));
        assert_eq!(under(Some(canonical), None), Some(canonical));
        assert_eq!(under(None, None), None);
    }
}
