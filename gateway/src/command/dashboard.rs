//! `sluice dashboard`: the page of a mesh, until Ctrl-C.

use std::{net::Ipv4Addr, process::ExitCode};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::dashboard::DashboardFlags,
    dashboard::{Dashboard, Mesh, Roster, Target, demos},
    kubernetes::client,
};

/// The usual port of admin pages.
const ADMIN: u16 = 15000;

/// Serves the page.
///
/// # Errors
/// A sentence: there is nobody to ask, or no port.
pub(crate) fn run(flags: &DashboardFlags) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(serve(flags))
}

async fn serve(flags: &DashboardFlags) -> Result<ExitCode> {
    let (mesh, what) = mesh(flags).await?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let dashboard = Dashboard::bind(mesh, flags.port).await?;
    println!("{what}: http://{}/\nCtrl-C ends it.", dashboard.address()?);
    let (_stop, stops) = watch::channel(false);
    tokio::select! {
        () = dashboard.serve(stops) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Whom to ask, and how to call them.
async fn mesh(flags: &DashboardFlags) -> Result<(Mesh, String)> {
    if flags.kubernetes {
        let client = client::connect(&flags.cluster()).await?;
        let of = flags.namespace.as_deref().map_or(String::new(), |namespace| format!(" in {namespace}"));
        let roster = Roster::new(client, flags.namespace.clone());
        return Ok((Mesh::Kubernetes(Box::new(roster)), format!("The mesh of the cluster{of}")));
    }
    if !flags.admin.is_empty() {
        let given = flags.admin.iter().map(|address| address.or(Ipv4Addr::LOCALHOST.into()));
        let targets: Vec<Target> = given.map(|address| Target::at(address, address.to_string())).collect();
        let what = format!("{} proxies", targets.len());
        return Ok((Mesh::Known(targets), what));
    }
    let demos = demos(flags.demo.as_deref())?;
    if !demos.is_empty() {
        let what = format!("{} proxies of demos on this machine", demos.len());
        return Ok((Mesh::Known(demos), what));
    }
    let usual = (Ipv4Addr::LOCALHOST, ADMIN).into();
    Ok((Mesh::Known(vec![Target::at(usual, "127.0.0.1:15000")]), "The proxy of this machine".to_owned()))
}
