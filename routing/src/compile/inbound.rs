//! What a sidecar accepts for its workload.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    context::Context,
    inbound_pools, ingress,
    peer_authentication::WorkloadMtls,
    proxy::is_subset,
    services::{Origin, Service, ServicePort},
    workloads::WorkloadFacts,
};
use crate::{
    api::Protocol,
    inbound::{Application, Inbound, InboundPort, InboundProtocol},
    upstream::UpstreamProtocol,
};

pub(super) fn compile(context: &Context<'_>, workload: &WorkloadFacts) -> Inbound {
    let mtls = context.peer_authentications.of(&workload.namespace, &workload.labels);
    let mut ports: BTreeMap<u16, InboundPort> = BTreeMap::new();
    let sidecar = context.scope.sidecar.filter(|sidecar| !sidecar.spec.ingress.is_empty());
    if let Some(sidecar) = sidecar {
        let found = ingress::compile(context, sidecar, (workload, &mtls));
        ports.extend(found.into_iter().map(|port| (port.port, port)));
    }
    for service in context.services.iter().filter(|_| sidecar.is_none()) {
        for port in &service.ports {
            if let Some(target) = own_port(workload, service, port) {
                ports.entry(target).or_insert_with(|| of_service(service, port, target, &mtls));
            }
        }
    }
    let declared = workload.ports.iter().map(|port| port.number);
    for port in declared.chain(mtls.ports()).filter(|&port| port != 0) {
        ports.entry(port).or_insert_with(|| undeclared(port, &mtls));
    }
    for port in ports.values_mut() {
        port.pool = inbound_pools::of(context, port);
    }
    Inbound {
        addresses: workload.addresses.clone(),
        ports,
        default_mtls: mtls.default,
        trust_domains: context.proxy.mesh.trust_domains(&context.proxy.trust_domain),
        tls: context.proxy.mesh.mesh_tls(),
    }
}

/// The port of this workload that a service's port leads to; `None` when the service does not select it.
pub(super) fn own_port(workload: &WorkloadFacts, service: &Service<'_>, port: &ServicePort<'_>) -> Option<u16> {
    if *service.namespace != *workload.namespace {
        return None;
    }
    match port.origin {
        Origin::Kubernetes(object, declared) => {
            let selector = &object.spec.spec.selector;
            let selected = service.alias.is_none() && !selector.is_empty() && is_subset(selector, &workload.labels);
            selected.then(|| workload.target_port(declared.target_port.as_ref(), port.number))?
        }
        Origin::Entry(..) => service.declared(port).find_map(|(object, declared)| {
            let selector = object.spec.workload_selector.as_ref()?;
            let selected = !selector.labels.is_empty() && is_subset(&selector.labels, &workload.labels);
            let target = if declared.target_port == 0 { port.number } else { declared.target_port };
            selected.then_some(target)
        }),
    }
}

fn of_service(service: &Service<'_>, port: &ServicePort<'_>, target: u16, mtls: &WorkloadMtls<'_>) -> InboundPort {
    let (protocol, application) = spoken(port.protocol);
    InboundPort {
        port: target,
        mtls: mtls.port(target),
        protocol,
        application,
        service_host: service.host.clone(),
        service_name: service.name.clone(),
        service_namespace: service.namespace.clone(),
        service_port: port.number,
        to: Application::AsMeant,
        bind: None,
        tls: None,
        pool: None,
    }
}

/// What a declared protocol means for what comes in, and for the application.
pub(super) fn spoken(declared: Option<Protocol>) -> (InboundProtocol, UpstreamProtocol) {
    match declared {
        None => (InboundProtocol::Auto, UpstreamProtocol::Downstream),
        Some(protocol) if protocol.is_http2() => (InboundProtocol::Http, UpstreamProtocol::Http2),
        Some(protocol) if Protocol::is_plain_http(protocol) => (InboundProtocol::Http, UpstreamProtocol::Http1),
        Some(_) => (InboundProtocol::Tcp, UpstreamProtocol::Http1),
    }
}

fn undeclared(port: u16, mtls: &WorkloadMtls<'_>) -> InboundPort {
    InboundPort {
        port,
        mtls: mtls.port(port),
        protocol: InboundProtocol::Auto,
        application: UpstreamProtocol::Downstream,
        service_host: Arc::default(),
        service_name: Arc::default(),
        service_namespace: Arc::default(),
        service_port: 0,
        to: Application::AsMeant,
        bind: None,
        tls: None,
        pool: None,
    }
}
