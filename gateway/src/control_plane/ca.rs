//! The CA of the mesh.
//!
//! ```text
//!  Secret or folder --keeper--> InForce (what signs now) <--- service <-- callers (who asks: certificate, token)
//!        ^  record                  |                            gRPC, many at once
//!        `-- rotation (the leader)  `--> server_certificate, the roots in every namespace
//! ```

pub(crate) mod callers;
pub(crate) mod in_force;
pub(crate) mod keeper;
pub(crate) mod keys;
pub(crate) mod material;
pub(crate) mod record;
pub(crate) mod rotation;
pub(crate) mod server_certificate;
pub(crate) mod service;
pub(crate) mod succession;
pub(crate) mod trusted;
