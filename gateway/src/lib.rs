//! `sluice`: a gateway and a sidecar that speak Istio's API.
//!
//! ```text
//!             source --> routing::compile --> live                      control: seconds
//!               |             |                | pinned once per request
//!            (files)      problems             v
//!  listen -> accept -> serve -> admit -> attempt -> connect -> record     data: microseconds
//!    net/      net/    http/    http/     http/    upstream/  telemetry/
//! ```
//!
//! Imports go one way: `command > control, assembly > http, opaque, tcp, admin, source > upstream, net > live, telemetry, drain`.

mod acme;
mod admin;
mod applied;
mod assembly;
mod capture;
mod challenges;
mod cli;
mod command;
mod control;
mod control_plane;
mod dashboard;
mod drain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grpc;
mod http;
mod identity;
mod keys;
mod kubernetes;
mod live;
mod net;
mod opaque;
mod overload;
mod pages;
mod peers;
mod probes;
mod problem_log;
mod selectors;
mod settings;
mod source;
mod status;
mod stored;
mod tcp;
mod telemetry;
mod trust;
mod unix;
mod upstream;
mod worker;

use std::{ffi::OsString, process::ExitCode};

use crate::{
    cli::{Command, ExitMessage},
    telemetry::log,
};

/// Does what the command line says, to its end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before anything else can install another provider.
    tls::provider::install();
    let command = match cli::parse(arguments) {
        Ok(command) => command,
        Err(message) => return message.print(),
    };
    run(command).unwrap_or_else(|error| {
        eprintln!("sluice: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Gateway(settings) | Command::Sidecar(settings) => match log::start() {
            Ok(level) => command::proxy::run(*settings, level),
            Err(text) => Ok(ExitMessage::usage(text).print()),
        },
        Command::Check(flags) => Ok(command::check::run(&flags)),
        Command::Describe(flags, source) => Ok(command::describe::run(&flags, &source)),
        Command::Dashboard(flags) => command::dashboard::run(&flags),
        Command::Demo(flags) => command::demo::run(flags),
        Command::Status(flags) => command::proxies_status::run(&flags),
        Command::Certs(command) => Ok(command::certs::run(&command)),
        Command::Inject(flags) => command::inject::run(&flags),
        Command::Crds => command::crds::run().map(|()| ExitCode::SUCCESS),
        Command::Init(orders) => capture::apply::run(&orders).map(|()| ExitCode::SUCCESS),
        Command::Control(settings) => match log::start() {
            Ok(level) => control_plane::run(&settings, level),
            Err(text) => Ok(ExitMessage::usage(text).print()),
        },
        Command::Ca(command) => Ok(command::ca::run(&command)),
        Command::Echo(flags) => command::echo::run(flags).map(|()| ExitCode::SUCCESS),
    }
}
