//! `grpc.health.v1`: whether a service serves.

use prost::Message;

/// The method that is asked.
pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";
/// The one answer that is a yes.
pub(crate) const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HealthCheckRequest {
    /// Empty: the server as a whole.
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct HealthCheckResponse {
    /// `ServingStatus`.
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}
