//! Header names and values that Envoy and Istio use. The names are plain text: pingora keeps the spelling of every name
//! beside its map, and takes a static text without copying it.

use http::HeaderValue;

pub(crate) const X_FORWARDED_FOR: &str = "x-forwarded-for";
pub(crate) const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
pub(crate) const X_REQUEST_ID: &str = "x-request-id";
pub(crate) const X_FORWARDED_CLIENT_CERT: &str = "x-forwarded-client-cert";
pub(crate) const X_ENVOY_EXTERNAL_ADDRESS: &str = "x-envoy-external-address";
pub(crate) const X_ENVOY_ATTEMPT_COUNT: &str = "x-envoy-attempt-count";
pub(crate) const X_ENVOY_ORIGINAL_PATH: &str = "x-envoy-original-path";
pub(crate) const X_ENVOY_EXPECTED_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";
pub(crate) const X_ENVOY_DECORATOR: &str = "x-envoy-decorator-operation";
pub(crate) const X_ENVOY_SERVICE_TIME: &str = "x-envoy-upstream-service-time";
pub(crate) const X_ENVOY_PEER_METADATA: &str = "x-envoy-peer-metadata";
pub(crate) const X_ENVOY_PEER_METADATA_ID: &str = "x-envoy-peer-metadata-id";
pub(crate) const X_ENVOY_OVERLOADED: &str = "x-envoy-overloaded";
pub(crate) const GRPC_STATUS: &str = "grpc-status";
pub(crate) const GRPC_MESSAGE: &str = "grpc-message";

/// What Istio's gateways and inbound sidecars answer as `server`.
pub(crate) const SERVER_ISTIO: HeaderValue = HeaderValue::from_static("istio-envoy");
/// What Istio's outbound sidecars answer as `server`.
pub(crate) const SERVER_OUTBOUND: HeaderValue = HeaderValue::from_static("envoy");
