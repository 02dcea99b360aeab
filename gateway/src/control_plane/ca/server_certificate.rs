//! The control plane's own certificate, which its CA issues and which is renewed by itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tls::server::{CertifiedPem, ClientAuth, ServerSpec, ServerTls, Version};
use tokio::{sync::watch, time::sleep};
use tracing::{error, info};

use super::in_force::{Current, InForce};
use crate::control_plane::{settings::ControlSettings, webhooks::DEFAULT};

/// Its lifetime, unless the CA ends sooner.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// No pause is shorter: the last second of a CA has many halves.
const LEAST: Duration = Duration::from_secs(1);
/// When it could not be issued.
const AGAIN: Duration = Duration::from_secs(10);

/// By which names the control plane is reached: Istio's, ours, and what flags say.
pub(crate) fn names(settings: &ControlSettings, revision: &str) -> Vec<String> {
    let mut services = ["istiod", "istiod-remote", "istio-pilot", "sluice-control"].map(str::to_owned).to_vec();
    if revision != DEFAULT {
        services.extend(["istiod", "sluice-control"].map(|service| format!("{service}-{revision}")));
    }
    let mut names: Vec<String> =
        services.iter().map(|service| format!("{service}.{}.svc", settings.namespace)).collect();
    names.push("localhost".to_owned());
    let addresses = [settings.ca.ip(), std::net::Ipv4Addr::LOCALHOST.into()];
    names.extend(addresses.into_iter().filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    names.extend(settings.hosts.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

/// Keeps `certificate` current until dropped. Clients may show a certificate of the mesh.
pub(crate) async fn keep(current: &Current, names: &[String], certificate: &watch::Sender<Option<ServerTls>>) {
    let mut in_force = current.follow();
    loop {
        let now = in_force.borrow_and_update().clone();
        let wait = match now.as_deref().map(|now| issue(now, names)) {
            None => None,
            Some(Ok((tls, life))) => {
                info!(serial = tls.serial(), names = names.join(","), "the control plane's own certificate is issued");
                certificate.send_replace(Some(tls));
                Some((life / 2).max(LEAST))
            }
            Some(Err(why)) => {
                error!(error = format!("{why:#}"), "the control plane's own certificate cannot be issued");
                Some(AGAIN)
            }
        };
        tokio::select! {
            changed = in_force.changed() => if changed.is_err() { return },
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

fn issue(in_force: &InForce, names: &[String]) -> Result<(ServerTls, Duration)> {
    let now = SystemTime::now();
    let (chain, key, issued) = in_force.signer.server(names, LIFETIME, now)?;
    let crl = Some(in_force.material.crl.clone()).filter(|crl| !crl.trim_ascii().is_empty());
    let spec = ServerSpec {
        certificates: vec![CertifiedPem { chain: chain.into(), key: key.into(), ocsp: None }],
        client: ClientAuth::Optional { roots_pem: in_force.roots.clone().into(), crl, sans: Vec::new() },
        min_version: Version::Tls12,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        ..ServerSpec::default()
    };
    let life = (UNIX_EPOCH + Duration::from_secs(issued.not_after)).duration_since(now).unwrap_or_default();
    Ok((ServerTls::build(&spec, None)?, life))
}
