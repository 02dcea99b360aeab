//! The messages that are spoken, one file for each service.

pub(crate) mod istio_ca;
