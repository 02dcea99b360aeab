//! Ingress gateway and sidecar are assemblies of the same parts. This is the only place where they differ.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use routing::{
    compile::{Proxy, Role, workload},
    locality::Locality,
    resources::Resources,
    snapshot::Snapshot,
};

use crate::{
    live::{Front, Installed, Live},
    net::{everywhere::has_ipv6, listen::Door, own_ports::OwnPorts},
    peers::{Kind, Own},
    selectors,
    settings::{RoleSettings, Settings, SourceSettings, pod_address},
    trust::Trust,
    upstream::dial::{Dial, Dials, Sources},
};

/// Istio's capture port for requests of the application.
const OUTBOUND: u16 = 15001;
/// Istio's capture port for requests to the application.
const INBOUND: u16 = 15006;
/// Istio's addresses for a sidecar's own connections to its application: the rules of `sluice init` let them pass.
const TO_APPLICATION: Sources = Sources { v4: Ipv4Addr::new(127, 0, 0, 6), v6: Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6) };

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
        labels: settings.labels.clone().unwrap_or_else(|| usual_labels(&settings.role)),
        service_account: settings.service_account.clone(),
        network: settings.network.clone().unwrap_or_default(),
        trust_domain_given: settings.trust_domain.is_some(),
        trace_share: settings.trace_share,
        ..settings
            .trust_domain
            .clone()
            .map_or_else(Proxy::default, |trust_domain| Proxy { trust_domain, ..Proxy::default() })
    }
}

/// The labels of a proxy that was told none.
fn usual_labels(role: &RoleSettings) -> BTreeMap<String, String> {
    match role {
        RoleSettings::Gateway => Proxy::default().labels,
        // Those of its workload.
        RoleSettings::Sidecar { .. } => BTreeMap::new(),
    }
}

/// Who this proxy is, for the compiler.
pub(crate) fn proxy(settings: &Settings, resources: &Resources, resolved: Arc<BTreeMap<String, Vec<IpAddr>>>) -> Proxy {
    let mut proxy = Proxy { resolved, ..itself(settings) };
    if let (RoleSettings::Gateway, SourceSettings::Files(_), None) =
        (&settings.role, &settings.source, &settings.labels)
    {
        proxy.labels = selectors::labels(resources);
    }
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
    (proxy.locality, proxy.node) = whereabouts(settings, resources);
    proxy.within(resources)
}

/// Where this proxy is, as its flag says, else its pod or WorkloadEntry; and its node.
fn whereabouts(settings: &Settings, resources: &Resources) -> (Locality, String) {
    let (namespace, name) = match &settings.role {
        RoleSettings::Gateway => (&settings.namespace, &settings.replica),
        RoleSettings::Sidecar { namespace, workload, .. } => (namespace, workload),
    };
    let pod = resources.pods.get(namespace, name).map(|pod| routing::compile::whereabouts(resources, pod));
    let entry = || resources.workload_entries.get(namespace, name)?.spec.locality.as_deref().and_then(Locality::parse);
    let (known, node) = pod.unwrap_or_else(|| (entry().unwrap_or_default(), String::new()));
    (settings.locality.clone().unwrap_or(known), node)
}

/// Where a sidecar's application listens, when it is not where clients go.
pub(crate) fn app_address(settings: &Settings) -> Option<IpAddr> {
    match &settings.role {
        RoleSettings::Gateway => None,
        RoleSettings::Sidecar { app_address, .. } => *app_address,
    }
}

/// What connections to the application come from: captured traffic needs Istio's addresses, or it would be captured again.
fn app_source(settings: &Settings) -> Option<Sources> {
    match &settings.role {
        RoleSettings::Sidecar { app_address: None, .. } => Some(TO_APPLICATION),
        _ => None,
    }
}

/// Where captured connections arrive when nobody said it: what is redirected keeps its family.
fn capture_addresses(bind: IpAddr, port: u16) -> Vec<SocketAddr> {
    let twin = match bind {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Some(Ipv6Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(Ipv6Addr::LOCALHOST),
        _ => None,
    };
    let twin = twin.filter(|_| has_ipv6()).map(|twin| SocketAddr::new(twin.into(), port));
    std::iter::once(SocketAddr::new(bind, port)).chain(twin).collect()
}

/// Ports of this proxy that no captured connection is led to.
pub(crate) fn own_ports(settings: &Settings) -> OwnPorts {
    match &settings.role {
        RoleSettings::Gateway => OwnPorts::default(),
        RoleSettings::Sidecar { inbound, outbound, .. } => OwnPorts::new([
            inbound.map_or(INBOUND, |it| it.port()),
            outbound.map_or(OUTBOUND, |it| it.port()),
            settings.admin.port(),
        ]),
    }
}

/// The sockets a snapshot asks for.
pub(crate) fn doors(settings: &Settings, snapshot: &Snapshot) -> BTreeMap<SocketAddr, Door> {
    match &settings.role {
        RoleSettings::Gateway => snapshot
            .listeners
            .iter()
            .map(|listener| {
                let port = settings.port_map.get(&listener.port).copied().unwrap_or(listener.bind_port);
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
            for address in inbound.map_or_else(|| capture_addresses(settings.bind, INBOUND), |given| vec![given]) {
                doors.insert(address, Door::Inbound { port: None });
            }
            for port in snapshot.inbound.iter().flat_map(|own| own.ports.values()) {
                if let Some(bind) = port.bind {
                    doors.insert(SocketAddr::new(bind, port.port), Door::Inbound { port: Some(port.port) });
                }
            }
            for door in snapshot.outbound.iter().flat_map(|outbound| &outbound.doors) {
                doors.insert(door.at, Door::Egress { port: door.port });
            }
            let local = || capture_addresses(Ipv4Addr::LOCALHOST.into(), OUTBOUND);
            for address in outbound.map_or_else(local, |given| vec![given]) {
                doors.insert(address, Door::Outbound);
            }
            doors
        }
    }
}

/// What others of the mesh are told of this workload.
fn told(settings: &Settings, snapshot: &Snapshot) -> Own {
    let own = snapshot.inbound.as_ref().and_then(|inbound| inbound.addresses.first());
    let (kind, pod) = match &settings.role {
        RoleSettings::Gateway => (Kind::Router, &settings.replica),
        RoleSettings::Sidecar { workload, .. } => (Kind::Sidecar, workload),
    };
    Own::new(kind, &snapshot.workload, pod, own.copied().or_else(pod_address).unwrap_or(settings.bind))
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
        .map(|(index, listener)| ((listener.bind, listener.port), Front::new(index, trust.listener(listener))))
        .collect();
    let inbound_tls = snapshot.inbound.as_ref().and_then(|inbound| trust.inbound(inbound, false));
    let inbound_bytes = snapshot.inbound.as_ref().and_then(|inbound| trust.inbound(inbound, true));
    let own = trust.identity().map(|_| told(settings, &snapshot));
    let ports = snapshot.inbound.iter().flat_map(|inbound| inbound.ports.values());
    let own_tls = ports.filter_map(|port| Some((port.port, trust.own(port.tls.as_deref()?)))).collect();
    let direct = |source| {
        let mut dials = Dials::default();
        for h2 in [false, true] {
            dials.set(false, h2, live.dials.enter(Dial::direct(h2, source)));
        }
        dials
    };
    let pools = snapshot.inbound.iter().flat_map(|inbound| inbound.ports.values()).filter_map(|port| {
        let pool = port.pool.as_ref()?;
        let mut dials = Dials::default();
        let source = app_source(settings);
        for h2 in [false, true] {
            dials.set(false, h2, live.dials.enter(Dial { source, ..Dial::new(pool, None, h2, source) }));
        }
        Some((port.port, Arc::new(live.endpoints.join(pool, dials))))
    });
    let pools = pools.collect();
    live.install(Installed {
        generation,
        keys: live.keys.slots(&snapshot),
        upstreams,
        buckets: Arc::clone(&live.buckets),
        limits: live.buckets.join(&snapshot),
        lookups: Arc::clone(&live.lookups),
        listeners,
        inbound_tls,
        own_tls,
        inbound_bytes,
        own,
        peers: Arc::clone(&live.peers),
        collectors: OnceLock::new(),
        demands: routing::telemetry::demands(&snapshot),
        direct: direct(None),
        application: direct(app_source(settings)),
        pools,
        port_map: settings.port_map.clone(),
        snapshot,
    });
}
