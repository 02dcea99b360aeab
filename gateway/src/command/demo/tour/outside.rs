//! From a workload to what the demo plays outside of the mesh.

use std::collections::BTreeSet;

use http::HeaderMap;
use routing::{
    request::RequestView,
    rule::{Action, Destinations},
    snapshot::Snapshot,
};

use super::{Guide, Step, names, quoted, ready};
use crate::command::demo::{addresses::ports, plan::PodPlan};

/// Ports of HTTP and of TLS, which a sidecar takes connections for that were not captured.
const HTTP: u16 = 80;
const TLS: u16 = 443;

impl Guide<'_> {
    /// A step for each host outside that a pod's sidecar has a way to.
    pub(super) fn outside(&self, (index, pod): (usize, &PodPlan), snapshot: &Snapshot) -> Vec<Step> {
        let played = self.plan.pods.iter().filter_map(|pod| pod.application.tls.as_ref());
        let hosts: BTreeSet<&String> = played.flat_map(|tls| &tls.hosts).collect();
        let at = format!("{}:{}", self.addresses.pod(index), ports::OUTBOUND);
        let inside = self.inside(index);
        let steps = hosts.into_iter().filter_map(|host| {
            let (way, command, scheme) = match (http(snapshot, host), tls(snapshot, host)) {
                (Some(way), _) => match &inside {
                    Some(inside) => (way, format!("{inside} curl -sS http://{host}/"), "http"),
                    None => (way, format!("curl -sS -H 'Host: {host}' http://{at}/"), "http"),
                },
                (None, Some(way)) => {
                    let ca = quoted(&self.state_path("ca.pem"));
                    let command = match &inside {
                        Some(inside) => format!("{inside} curl -sS --cacert {ca} https://{host}/"),
                        None => format!("curl -sS --cacert {ca} --connect-to {host}:{TLS}:{at} https://{host}/"),
                    };
                    (way, command, "https")
                }
                (None, None) => return None,
            };
            let expect = format!("{} calls {host} outside of the mesh, by way of {way}", pod.name);
            Some(Step { url: format!("{scheme}://{host}/"), expect, command })
        });
        steps.collect()
    }
}

/// Where a request goes, in words. Straight to somebody who speaks TLS it would be plain text, which is no way.
fn http(snapshot: &Snapshot, host: &str) -> Option<String> {
    let table = snapshot.outbound.as_ref()?.by_port.get(&HTTP)?;
    let request = RequestView {
        method: "GET",
        scheme: "http",
        authority: host,
        path: "/",
        query: "",
        port: HTTP,
        headers: &HeaderMap::new(),
        token: None,
    };
    let rule = table.host(host)?.route(&request)?;
    let Action::Route(to) = &rule.action else { return None };
    let secure = |to: &Destinations| ready(snapshot, to).iter().all(|cluster| cluster.tls.is_some());
    (!rule.source.is_empty() || secure(to)).then(|| led(snapshot, to)).flatten()
}

/// Where a connection goes whose ClientHello names the host.
fn tls(snapshot: &Snapshot, host: &str) -> Option<String> {
    let table = snapshot.outbound.as_ref()?.opaque.get(&TLS)?;
    led(snapshot, &table.find(None, host)?.rule.to)
}

fn led(snapshot: &Snapshot, to: &Destinations) -> Option<String> {
    let ready = ready(snapshot, to);
    (!ready.is_empty()).then(|| names(&ready))
}
