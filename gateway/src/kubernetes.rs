//! A Kubernetes API server: where configuration is read from and status is written to. The only folder that names `kube`.
//!
//! ```text
//! client ── reflect (one watch per kind) ──┐
//!       └── secrets (names; then one by one) ┴─> objects ── source (the same two functions as the files')
//! ```

pub(crate) mod client;
mod objects;
pub(crate) mod once;
mod reflect;
mod secrets;
pub(crate) mod source;
