//! Trust: certificates and keys, identities, and the TLS handshakes on both sides.
//!
//! ```text
//!  PEM --pem--> workload identity, server and client specs        configuration: seconds
//!                 |        server: ServerSpec -> ServerTls
//!                 |        client: ClientSpec -> ClientTls
//!                 v
//!  downstream --accept::hello--> ClientHello --accept--> stream           data: microseconds
//!  upstream   <--ClientTls::connect-- stream: a socket, buffer, session (records)
//!                 `-- verify: chain, then identity (SPIFFE URI SAN)
//!                      `-- direct: what webpki does not take, such as X.509 version 1
//!
//!  key --csr--> CA of the mesh --> chain, roots --unfit--> workload identity
//!
//!  key --request--> CSR --acme::Client--> CA --> chain --facts--> Secret  certificates by ACME: minutes
//!                          `-- challenge: the certificate that proves a host is ours
//!                              placeholder: what serves until the first chain is there
//! ```
//!
//! This is the only crate that names rustls. The crypto provider is aws-lc-rs, passed to every
//! configuration explicitly: another library that installs its own provider changes nothing here.

#![forbid(unsafe_code)]

pub mod accept;
pub mod acme;
mod anchors;
pub mod authority;
mod block;
pub mod buffer;
pub mod challenge;
mod cipher;
pub mod client;
pub mod client_chain;
pub mod client_hello;
pub mod csr;
mod curve;
mod direct;
mod error;
pub mod facts;
pub mod identity;
pub mod jwt;
mod pace;
pub mod pem;
pub mod pins;
pub mod placeholder;
pub mod provider;
pub mod remarks;
pub mod request;
mod san;
pub mod server;
mod session;
pub mod stream;
mod subject;
pub mod unfit;
mod verify;
pub mod workload;
pub mod xfcc;

#[cfg(test)]
mod tests;

pub use error::Error;
