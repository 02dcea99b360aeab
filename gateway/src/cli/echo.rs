//! The flags of `sluice echo`.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;

use crate::settings;

/// `sluice echo`.
#[derive(Args, Debug)]
pub(crate) struct EchoFlags {
    /// Address to bind
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", value_parser = settings::parse_ip)]
    pub(crate) address: IpAddr,
    /// Port for HTTP; may be given several times
    #[arg(long = "port", value_name = "N", required_unless_present = "lines")]
    pub(crate) ports: Vec<u16>,
    /// Port for bytes that are no HTTP: it greets, then answers every line; may be given several times
    #[arg(long = "tcp-port", id = "lines", value_name = "N")]
    pub(crate) lines: Vec<u16>,
    /// Chain to show on every port, PEM; without one, ports are plain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// CA that clients must have a certificate of, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) client_ca: Option<PathBuf>,
    /// Service name to answer with
    #[arg(long, value_name = "S", default_value = "echo")]
    pub(crate) service: String,
    /// Pod name to answer with
    #[arg(long, value_name = "P", default_value = "echo-0")]
    pub(crate) pod: String,
    /// Version of the application to greet with
    #[arg(long, value_name = "V", default_value = "v1")]
    pub(crate) app_version: String,
}
