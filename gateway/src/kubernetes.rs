//! A Kubernetes API server: where configuration is read from and status is written to. The only folder that names `kube`.
//!
//! ```text
//! client ── reflect (one watch per kind) ──┐
//!       └── secrets (names; then contents) ─┴─> objects ── source (the same two functions as the files')
//!
//! applied ── report (a thread) ─┬ replicas: a Lease of each ─┐
//!                               ├ lease: who leads            │ who is alive, with what
//!                               └ the leader: conditions ── publish, events, certificates (acme) ── vault
//!                                                              └ write ── withdraw (when a gateway goes for good)
//!
//! dashboard ── pods (who runs a proxy; a port-forward to it)
//!
//! control_plane ── token_review (who asks the CA), leading, roots (one ConfigMap in each namespace), vault
//! ```

pub(crate) mod client;
mod conditions;
mod events;
mod kinds;
pub(crate) mod leading;
mod lease;
mod objects;
pub(crate) mod once;
mod pace;
pub(crate) mod pods;
mod publish;
mod reflect;
pub(crate) mod replicas;
pub(crate) mod report;
mod rewrites;
pub(crate) mod roots;
mod secrets;
pub(crate) mod source;
pub(crate) mod token_review;
pub(crate) mod told;
pub(crate) mod trust_bundle;
pub(crate) mod vault;
pub(crate) mod webhooks;
pub(crate) mod withdraw;
mod write;
