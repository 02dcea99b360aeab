//! Decisions. Istio resources in, an immutable [`snapshot::Snapshot`] out; then, per request, which rule and which
//! endpoint. No sockets, no clock, no randomness: whatever of those a decision needs is an argument.
//!
//! ```text
//! text --resources::parse--> Resources --compile--> Snapshot --table--> rule --balance--> endpoint
//!                               \____________________/
//!                                every Problem collected
//! ```
//!
//! Modules in the order data meets them.

#![forbid(unsafe_code)]

pub mod api;
pub mod problem;
pub mod request;
pub mod resources;

pub mod compile;
pub mod snapshot;

pub mod acme;
pub mod attributes;
pub mod authority;
pub mod authorization;
pub mod balance;
pub mod connections;
pub mod cors;
pub mod explain;
pub mod external;
pub mod fault;
pub mod forwarded;
pub mod guard;
mod hashed;
pub mod host;
pub mod inbound;
pub mod injection;
pub mod limits;
pub mod locality;
pub mod log_format;
pub mod mesh;
pub mod mirrors;
pub mod opaque;
pub mod outbound;
pub mod outlier;
pub mod path;
pub mod pattern;
pub mod proxy_headers;
pub mod proxy_protocol;
pub mod re2;
pub mod reach;
pub mod retries;
pub mod retry_budget;
pub mod rule;
pub mod table;
pub mod telemetry;
pub mod template;
pub mod token;
pub mod tokens;
pub mod unix;
pub mod upstream;
