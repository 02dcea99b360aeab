//! What Kubernetes asks of an application whose port only the mesh may use, and what Prometheus asks of both: served on `--probes`
//! (15020, as Istio's agent does), told by the environment that the injection writes.
//!
//! ```text
//! kubelet ----GET /app-health/web/readyz----> serve --asked--> ask: HTTP, HTTPS, TCP, gRPC --> application
//! Prometheus -GET /stats/prometheus---------> serve --merged--> proxy's metrics and the application's
//! ```

mod ask;
mod asked;
mod merged;
mod redirect;
mod serve;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tokio::sync::{Semaphore, watch};

use crate::{
    admin::Admin,
    control_plane::serve::Door,
    settings::{RoleSettings, Settings},
};

/// Where the application is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Application {
    /// Its address: the pod's.
    pub(crate) address: IpAddr,
    /// Where questions come from: what the capture of traffic lets pass to the application.
    pub(crate) source: Option<IpAddr>,
}

impl Application {
    /// Of this process.
    fn of(settings: &Settings) -> Self {
        let told = match &settings.role {
            RoleSettings::Sidecar { app_address, .. } => *app_address,
            RoleSettings::Gateway => None,
        };
        if let Some(address) = told {
            return Self { address, source: None };
        }
        match crate::settings::pod_address() {
            Some(address @ IpAddr::V4(_)) => Self { address, source: Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6))) },
            Some(address @ IpAddr::V6(_)) => {
                Self { address, source: Some(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))) }
            }
            None => Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), source: None },
        }
    }
}

/// Serves `--probes`, when it was given.
///
/// # Errors
/// The port cannot be bound, or what the environment says cannot be understood.
pub(crate) fn start(settings: &Settings, admin: &Arc<Admin>, stop: &watch::Receiver<bool>) -> Result<()> {
    let Some(address) = settings.probes else { return Ok(()) };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let probes = asked::read(&variable(routing::injection::PROBES_VARIABLE))
        .with_context(|| format!("reading {}", routing::injection::PROBES_VARIABLE))?;
    let targets = merged::read(&variable(routing::injection::METRICS_VARIABLE))
        .with_context(|| format!("reading {}", routing::injection::METRICS_VARIABLE))?;
    let door = Door::bind("--probes", address)?;
    let scrapes = Semaphore::new(serve::SCRAPES);
    let desk =
        serve::Desk { probes, targets, application: Application::of(settings), admin: Arc::clone(admin), scrapes };
    tokio::spawn(door.serve(None, Arc::new(desk), stop.clone()));
    Ok(())
}
