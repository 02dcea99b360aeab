//! One file per subcommand.

pub(crate) mod check;
pub(crate) mod crds;
pub(crate) mod demo;
pub(crate) mod echo;
pub(crate) mod proxy;
