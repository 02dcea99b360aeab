//! What users write, field for field: Istio's resources, our Issuer and the few Kubernetes objects that routing reads.
//!
//! One file per kind. Names are those of the documents; the types hold what was written, and [`check`] says what in it is wrong.
//! Values that only mean something together with other objects (hosts, gateway names) stay text here and get their
//! types in `compile`.

pub mod authorization_policy;
pub mod check;
pub mod crd;
pub mod decode;
pub mod deployment;
pub mod destination_rule;
pub mod ending;
pub mod endpoint_slice;
pub mod extension_provider;
pub mod gateway;
pub mod issuer;
pub mod mesh_config;
pub mod mesh_networks;
pub mod meta;
pub mod node;
pub mod peer_authentication;
pub mod pod;
pub mod protocol;
pub mod proxy_config;
pub mod rate_limit;
pub mod request_authentication;
pub mod scalar;
pub mod secret;
pub mod service;
pub mod service_entry;
pub mod sidecar;
pub mod target_reference;
pub mod telemetry;
pub mod virtual_service;
pub mod workload_entry;
pub mod workload_group;

pub use authorization_policy::AuthorizationPolicy;
pub use deployment::Deployment;
pub use destination_rule::DestinationRule;
pub use endpoint_slice::EndpointSlice;
pub use gateway::Gateway;
pub use issuer::Issuer;
pub use mesh_config::{MeshConfig, MeshDocument};
pub use mesh_networks::MeshNetworks;
pub use meta::ObjectMeta;
pub use node::Node;
pub use peer_authentication::PeerAuthentication;
pub use pod::Pod;
pub use protocol::Protocol;
pub use proxy_config::{MeshProxyConfig, ProxyConfig};
pub use rate_limit::RateLimit;
pub use request_authentication::RequestAuthentication;
pub use scalar::{Percent, ProtoDuration, StringMatch};
pub use secret::Secret;
pub use service::Service;
pub use service_entry::ServiceEntry;
pub use sidecar::Sidecar;
pub use target_reference::TargetReference;
pub use telemetry::Telemetry;
pub use virtual_service::VirtualService;
pub use workload_entry::WorkloadEntry;
pub use workload_group::WorkloadGroup;
