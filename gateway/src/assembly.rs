//! Ingress gateway and sidecar are assemblies of the same parts. This is the only place where they differ.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use routing::{
    api::{Pod, Service, service::TargetPort},
    compile::{Proxy, Role, workload},
    resources::{Object, Resources},
    snapshot::Snapshot,
};

use crate::{
    live::{Front, Installed, Live},
    net::listen::Door,
    settings::{RoleSettings, Settings, SourceSettings},
    trust::Trust,
    upstream::dial::{Dial, Dials},
};

/// Istio's capture port for requests of the application.
const OUTBOUND: u16 = 15001;
/// Istio's capture port for requests to the application.
const INBOUND: u16 = 15006;
/// Istio's address for a sidecar's own connections to its application: iptables lets them pass.
const TO_APPLICATION: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));

/// Who this proxy is, as far as its settings tell.
pub(crate) fn itself(settings: &Settings) -> Proxy {
    let role = match &settings.role {
        RoleSettings::Gateway => Role::Gateway,
        RoleSettings::Sidecar { namespace, workload, .. } => {
            Role::Sidecar { namespace: namespace.clone(), workload: workload.clone() }
        }
    };
    Proxy {
        role,
        name: settings.name.clone(),
        namespace: settings.namespace.clone(),
        labels: settings.labels.clone(),
        service_account: settings.service_account.clone(),
        trust_domain: settings.trust_domain.clone(),
        ..Proxy::default()
    }
}

/// Who this proxy is, for the compiler.
pub(crate) fn proxy(settings: &Settings, resources: &Resources, resolved: Arc<BTreeMap<String, Vec<IpAddr>>>) -> Proxy {
    let mut proxy = Proxy { resolved, ..itself(settings) };
    if let RoleSettings::Sidecar { namespace, workload: name, .. } = &settings.role
        && let Some(facts) = workload(resources, namespace, name)
    {
        if proxy.labels.is_empty() {
            proxy.labels = facts.labels;
        }
        if proxy.service_account.is_empty() {
            proxy.service_account = facts.service_account;
        }
    }
    proxy
}

/// Where a sidecar's application listens, when it is not where clients go.
pub(crate) fn app_address(settings: &Settings) -> Option<IpAddr> {
    match &settings.role {
        RoleSettings::Gateway => None,
        RoleSettings::Sidecar { app_address, .. } => *app_address,
    }
}

/// What connections to the application come from: captured traffic needs Istio's address, or iptables would capture it
/// again.
pub(crate) fn app_source(settings: &Settings) -> Option<IpAddr> {
    match &settings.role {
        RoleSettings::Sidecar { app_address: None, .. } => Some(TO_APPLICATION),
        _ => None,
    }
}

/// The port to bind for each port that a Gateway names, where they differ: `--port-map`, and in Kubernetes what the
/// Services that select this gateway translate, as Istio does (443 arrives at targetPort 8443).
pub(crate) fn ports(settings: &Settings, resources: &Resources) -> BTreeMap<u16, u16> {
    let mut ports = match settings.source {
        SourceSettings::Files(_) => BTreeMap::new(),
        SourceSettings::Kubernetes(_) => {
            let pod = resources.pods.get(&settings.namespace, &settings.replica);
            translated_ports(
                resources.services.in_namespace(&settings.namespace),
                &settings.labels,
                pod.map(|it| &it.spec),
            )
        }
    };
    ports.extend(&settings.port_map);
    ports
}

/// Of two Services that disagree, the first by name holds. A targetPort that is a name is looked up in the pod.
fn translated_ports(
    services: &[Arc<Object<Service>>],
    labels: &BTreeMap<String, String>,
    pod: Option<&Pod>,
) -> BTreeMap<u16, u16> {
    let selects = |selector: &BTreeMap<String, String>| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let named = |name: &str| {
        let ports = pod.iter().flat_map(|pod| &pod.spec.containers).flat_map(|container| &container.ports);
        ports.filter(|port| port.name == name).map(|port| port.container_port).next()
    };
    let mut ports = BTreeMap::new();
    for service in services.iter().filter(|service| selects(&service.spec.spec.selector)) {
        for port in &service.spec.spec.ports {
            let target = match &port.target_port {
                Some(TargetPort::Number(number)) => Some(*number),
                Some(TargetPort::Name(name)) => named(name),
                None => None,
            };
            ports.entry(port.port).or_insert(target.unwrap_or(port.port));
        }
    }
    ports
}

/// The sockets a snapshot asks for, its ports translated.
pub(crate) fn doors(
    settings: &Settings,
    snapshot: &Snapshot,
    ports: &BTreeMap<u16, u16>,
) -> BTreeMap<SocketAddr, Door> {
    match &settings.role {
        RoleSettings::Gateway => snapshot
            .listeners
            .iter()
            .map(|listener| {
                let port = ports.get(&listener.port).copied().unwrap_or(listener.bind_port);
                let address = SocketAddr::new(listener.bind.unwrap_or(settings.bind), port);
                (address, Door::Gateway { bind: listener.bind, port: listener.port })
            })
            .collect(),
        RoleSettings::Sidecar { app_address, inbound, outbound, .. } => {
            let mut doors = BTreeMap::new();
            if let (Some(app_address), Some(own)) = (app_address, &snapshot.inbound) {
                for address in own.addresses.iter().filter(|address| *address != app_address) {
                    for port in own.ports.keys() {
                        doors.insert(SocketAddr::new(*address, *port), Door::Inbound { port: Some(*port) });
                    }
                }
            }
            doors.insert(inbound.unwrap_or(SocketAddr::new(settings.bind, INBOUND)), Door::Inbound { port: None });
            let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), OUTBOUND);
            doors.insert(outbound.unwrap_or(local), Door::Outbound);
            doors
        }
    }
}

/// Joins a snapshot with trust and with what survives reloads.
pub(crate) fn install(settings: &Settings, live: &Live, trust: &mut Trust, generation: u64, snapshot: Snapshot) {
    let upstreams = snapshot
        .clusters
        .iter()
        .map(|cluster| Arc::new(live.endpoints.join(cluster, trust.dials(cluster, &live.dials))))
        .collect();
    let listeners: HashMap<_, _> = snapshot
        .listeners
        .iter()
        .enumerate()
        .map(|(index, listener)| {
            ((listener.bind, listener.port), Front::new(index, listener, trust.listener(listener)))
        })
        .collect();
    let inbound_tls = snapshot.inbound.as_ref().and_then(|inbound| trust.inbound(inbound));
    let direct = |source| {
        let mut dials = Dials::default();
        for h2 in [false, true] {
            dials.set(false, h2, live.dials.enter(Dial::direct(h2, source)));
        }
        dials
    };
    live.install(Installed {
        generation,
        upstreams,
        listeners,
        inbound_tls,
        direct: direct(None),
        application: direct(app_source(settings)),
        snapshot,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_that_select_a_gateway_translate_its_ports() {
        let text = "\
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  ports: [{port: 443, targetPort: 8443}, {port: 80, targetPort: http2}, {port: 15021}, {port: 9000, targetPort: gone}]
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: istio-system}
spec: {selector: {istio: egressgateway}, ports: [{port: 444, targetPort: 1}]}
---
apiVersion: v1
kind: Service
metadata: {name: without-selector, namespace: istio-system}
spec: {ports: [{port: 445, targetPort: 1}]}
---
apiVersion: v1
kind: Service
metadata: {name: z-later, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{port: 443, targetPort: 1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-0, namespace: istio-system}
spec: {containers: [{name: proxy, ports: [{name: http2, containerPort: 8080}]}]}
";
        let (resources, problems) = Resources::read([("a.yaml", text)]);
        assert_eq!(problems, []);
        let labels =
            BTreeMap::from([("istio", "ingressgateway"), ("app", "x")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let services = resources.services.in_namespace("istio-system");
        let pod = resources.pods.get("istio-system", "edge-0").map(|pod| &pod.spec);
        let ports = translated_ports(services, &labels, pod);
        assert_eq!(ports, BTreeMap::from([(80, 8080), (443, 8443), (9000, 9000), (15021, 15021)]));
    }
}
