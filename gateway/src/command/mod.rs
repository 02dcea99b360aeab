//! One file per subcommand.

mod admin_page;
mod beside;
pub(crate) mod ca;
pub(crate) mod certs;
pub(crate) mod check;
pub(crate) mod crds;
pub(crate) mod dashboard;
pub(crate) mod demo;
pub(crate) mod describe;
mod document;
pub(crate) mod echo;
pub(crate) mod inject;
pub(crate) mod proxies_status;
pub(crate) mod proxy;
mod table;
