//! `sluice crds`: the CustomResourceDefinitions, for `kubectl apply -f -` and for the chart.

use std::io::{self, Write};

use anyhow::Context;

/// Prints them on stdout as one YAML stream.
///
/// # Errors
/// When stdout takes no more, unless its reader has only seen enough.
pub(crate) fn run() -> anyhow::Result<()> {
    let stream = routing::api::crd::yaml().context("the definitions cannot be written as YAML")?;
    match io::stdout().write_all(stream.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("the definitions cannot be written to stdout"),
    }
}
