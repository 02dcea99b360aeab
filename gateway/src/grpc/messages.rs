//! The messages that are spoken, one file for each service.

pub(crate) mod health;
pub(crate) mod istio_ca;
pub(crate) mod secret_discovery;
pub(crate) mod workload_api;
