//! What every story stands on: the real `sluice` executable, real peers, and clients that see bytes.
//!
//! ```text
//! Mesh ── Loopback (an address block of its own)      clients: Client, Connection, Raw, Grpc, websocket, talk, Load
//!   ├──── ConfigDir (YAML that the binary watches)    peers:   Origin, Scripted, Endpoint, Echo, Envoy, Balancer, Knot
//!   ├──── or ClusterConfig (in a Cluster: ApiServer or Envtest)
//!   ├──── Pki (edge CA, mesh CA)                      waiting: eventually
//!   └──── Workload, Gateway, Sidecar (processes)
//!
//! AcmeMesh ── Mesh, an Issuer, a Gateway that orders from it
//!   └──────── CaProxy ──> Pebble ──> Challtest (the DNS it asks)
//! ```

pub mod acme;
pub mod acme_cluster;
pub mod apiserver;
pub mod authorization;
pub mod authorizer;
pub mod balancer;
pub mod binary;
pub mod ca_mesh;
pub mod ca_proxy;
pub mod challtest;
pub mod client;
pub mod cluster;
pub mod cluster_config;
pub mod collector;
pub mod config_dir;
pub mod conformance;
pub mod control_plane;
pub mod crowd;
pub mod demo;
pub mod endpoint;
pub mod envoy;
pub mod envtest;
pub mod eventually;
pub mod forward_proxy;
pub mod frames;
pub mod gateway;
pub mod grpc;
mod h1;
pub mod helm;
pub mod injection;
pub mod istio_ca;
pub mod jwt;
pub mod knot;
pub mod kubectl;
pub mod kubernetes_schemas;
pub mod listening;
pub mod load;
pub mod loopback;
pub mod mesh;
pub mod message;
pub mod metrics;
pub mod netns;
pub mod origin;
pub mod pebble;
pub mod peer_metadata;
pub mod pieces;
pub mod pki;
pub mod process;
pub mod program;
pub mod raw;
pub mod reply;
pub mod rest;
pub mod scripted;
pub mod shell;
pub mod talk;
pub mod tls_peer;
pub mod tunnel;
pub mod websocket;
pub mod workload;
pub mod yaml;
