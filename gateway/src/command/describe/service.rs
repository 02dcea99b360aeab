//! Everything about one Service.

use routing::{
    api::{
        self,
        endpoint_slice::SERVICE_NAME_LABEL,
        service::{ServicePort, TargetPort},
    },
    compile::{ProtocolChoice, Proxy, View, ViewedService},
    resources::{Object, Resources},
};

use super::{
    Concerned, authorization,
    backends::{self, Backend},
    checks,
    clients::{self, Client, grouped},
    mutual_tls, policies,
    report::{Exposure, Finding, Mesh, Policies, Port, Route, Service},
    routes,
};

/// Describes a Service, and notes which objects and proxies that concerns.
pub(super) fn describe(resources: &Resources, object: &Object<api::Service>, concerned: &mut Concerned) -> Service {
    let (namespace, name, spec) = (object.namespace(), object.name(), &object.spec.spec);
    let host = format!("{name}.{namespace}.svc.{}", Proxy::default().cluster_domain);
    let clients = clients::of(resources, &host, namespace);
    let backends = backends::selected(resources, namespace, &spec.selector);
    let views: Vec<(&Client, View<'_>)> =
        clients.iter().map(|client| (client, View::new(resources, &client.proxy))).collect();
    let (_, home) = &views[0];
    let own = home.service(&host);
    let behind = own.as_ref().map(|own| own.host.clone()).filter(|behind| **behind != *host);
    if let Some(behind) = &behind
        && let Some(named) = with_host(resources, behind)
    {
        let service = describe(resources, named, concerned);
        let told = Finding::warning(format!(
            "{namespace}/{name} is another name for this Service, which is what is described"
        ));
        return Service { findings: std::iter::once(told).chain(service.findings).collect(), ..service };
    }
    let mut findings = about_ports(object, own.as_ref());
    findings.extend(behind.map(|behind| {
        Finding::warning(format!(
            "it is another name for `{behind}` of a ServiceEntry, whose ports and endpoints count"
        ))
    }));
    findings.extend(about_endpoints(object, own.as_ref(), &backends));

    let seen = each(&views, &host, &backends);
    findings.extend(seen.findings);
    let service = Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        host: host.clone(),
        kind: if spec.kind.is_empty() { "ClusterIP".to_owned() } else { spec.kind.clone() },
        selector: spec.selector.clone(),
        ports: spec.ports.iter().map(|port| describe_port(port, own.as_ref())).collect(),
        workloads: backends.iter().map(Backend::report).collect(),
        policies: seen.policies,
        mutual_tls: mutual_tls::of_service(home, &backends),
        authorization: authorization::of_service(home, &backends),
        checks: checks::of_service(home, &backends),
        gateways: seen.gateways,
        mesh: seen.mesh,
        findings,
    };
    let mut scope = Scope { resources, home, host: &host, concerned };
    scope.note(object, &clients, &backends);
    let idle = scope.virtual_services(&service);
    Service { findings: service.findings.into_iter().chain(idle).collect(), ..service }
}

/// The Service that has a host.
fn with_host<'a>(resources: &'a Resources, host: &str) -> Option<&'a Object<api::Service>> {
    let (name, rest) = host.split_once('.')?;
    let object = resources.services.get(rest.split('.').next()?, name)?;
    let own = format!("{name}.{}.svc.{}", object.namespace(), Proxy::default().cluster_domain);
    (own == host).then_some(object)
}

/// What depends on the client.
#[derive(Default)]
struct Seen {
    policies: Vec<Policies>,
    gateways: Vec<Exposure>,
    mesh: Vec<Mesh>,
    findings: Vec<Finding>,
}

fn each(views: &[(&Client, View<'_>)], host: &str, backends: &[Backend]) -> Seen {
    let mut seen = Seen::default();
    let (mut policies, mut mesh) = (Vec::new(), Vec::new());
    for (client, view) in views {
        let Some(service) = view.service(host) else {
            let message = format!("{} do not see this service (annotation networking.istio.io/exportTo)", client.name);
            seen.findings.push(Finding::warning(message));
            continue;
        };
        policies.push((client.name.clone(), policies::of(view, &service, backends)));
        let told = policies::empty_subsets(view, &service, backends);
        let told = told.into_iter().chain(mutual_tls::conflicts(view, &service, backends));
        for finding in told.collect::<Vec<_>>() {
            if !seen.findings.contains(&finding) {
                seen.findings.push(finding);
            }
        }
        if client.proxy.is_gateway() {
            let exposures = routes::exposures(view, host).into_iter();
            let exposures = exposures.map(|it| Exposure { checks: checks::of_exposure(view, &it), ..it });
            let fresh: Vec<Exposure> = exposures.filter(|it| !seen.gateways.contains(it)).collect();
            seen.gateways.extend(fresh);
        } else {
            mesh.push((client.name.clone(), routes::mesh(view, &service)));
        }
    }
    seen.policies = grouped(policies).into_iter().map(|(clients, it)| Policies { clients, ..it }).collect();
    seen.mesh = grouped(mesh).into_iter().map(|(clients, it)| Mesh { clients, ..it }).collect();
    seen
}

fn describe_port(port: &ServicePort, service: Option<&ViewedService>) -> Port {
    let target = match &port.target_port {
        None | Some(TargetPort::Number(0)) => port.port.to_string(),
        Some(TargetPort::Number(number)) => number.to_string(),
        Some(TargetPort::Name(name)) => name.clone(),
    };
    let viewed = viewed(port, service);
    let chosen_by = match viewed.map(|viewed| viewed.chosen_by) {
        None if is_tcp(port) => "not exported, so nobody sees it",
        None => "not TCP, so it is not proxied",
        Some(ProtocolChoice::AppProtocol) => "by appProtocol",
        Some(ProtocolChoice::PortName) => "by the port's name",
        Some(ProtocolChoice::WellKnown) => "by its number",
        Some(ProtocolChoice::Declared) => "as declared",
        Some(ProtocolChoice::Nothing) => "sniffed: nothing tells the protocol",
    };
    let other = || Some(port.protocol.clone()).filter(|_| !is_tcp(port));
    Port {
        number: port.port,
        name: port.name.clone(),
        target,
        protocol: viewed.and_then(|viewed| viewed.protocol).map(|it| it.to_string()).or_else(other),
        chosen_by,
        is_proxied: viewed.is_some(),
        endpoints: viewed.map_or(0, |viewed| viewed.endpoints.len()),
    }
}

/// The compiler's view of a port; it knows TCP ports only.
fn viewed<'v>(port: &ServicePort, service: Option<&'v ViewedService>) -> Option<&'v routing::compile::ViewedPort> {
    service?.ports.iter().find(|viewed| is_tcp(port) && viewed.number == port.port)
}

fn is_tcp(port: &ServicePort) -> bool {
    matches!(port.protocol.as_str(), "" | "TCP")
}

fn about_ports(object: &Object<api::Service>, service: Option<&ViewedService>) -> Vec<Finding> {
    let ports = object.spec.spec.ports.iter();
    let silent = ports.filter(|port| viewed(port, service).is_some_and(|it| it.chosen_by == ProtocolChoice::Nothing));
    let told = silent.map(|port| {
        Finding::warning(format!(
            "port {} has neither an appProtocol nor a name that tells its protocol, so it is sniffed, and a gateway speaks \
             HTTP/1.1 to it; name it as in `http-{}`",
            port.port,
            if port.name.is_empty() { "web" } else { &port.name }
        ))
    });
    told.collect()
}

fn about_endpoints(
    object: &Object<api::Service>,
    service: Option<&ViewedService>,
    backends: &[Backend],
) -> Option<Finding> {
    let spec = &object.spec.spec;
    let ready = service.is_some_and(|service| service.ports.iter().any(|port| !port.endpoints.is_empty()));
    if ready || spec.kind == "ExternalName" || !backends.is_empty() {
        return None;
    }
    Some(Finding::warning(if spec.selector.is_empty() {
        "it has no selector, and no EndpointSlice with ready endpoints names it, so requests to it get 503".to_owned()
    } else {
        format!(
            "its selector {} picks no workload of namespace {}, so requests to it get 503",
            clients::words(&spec.selector),
            object.namespace()
        )
    }))
}

/// What a description of a host concerns.
struct Scope<'s, 'a> {
    resources: &'s Resources,
    home: &'s View<'a>,
    host: &'s str,
    concerned: &'s mut Concerned,
}

impl Scope<'_, '_> {
    fn note(&mut self, object: &Object<api::Service>, clients: &[Client], backends: &[Backend]) {
        let concerned = &mut *self.concerned;
        concerned.name("Service", object.namespace(), object.name());
        clients.iter().for_each(|client| concerned.looked_as(&client.proxy));
        for backend in backends {
            concerned.name(backend.kind, &backend.facts.namespace, &backend.name);
            let found = self.home.mutual_tls(&backend.facts.namespace, &backend.facts.labels);
            let ports = found.ports().filter_map(|port| found.at_port(port).1);
            for policy in found.source.into_iter().chain(ports) {
                concerned.name("PeerAuthentication", policy.namespace(), policy.name());
            }
            for policy in authorization::held(self.home, backend) {
                concerned.name("AuthorizationPolicy", policy.namespace, policy.name);
            }
            for check in self.home.checks(&backend.facts) {
                concerned.name(check.kind, check.namespace, check.name);
            }
        }
        for rule in &self.resources.destination_rules {
            if clients::covers(self.home, &rule.spec.host, rule.namespace(), self.host) {
                concerned.name("DestinationRule", rule.namespace(), rule.name());
            }
        }
        for slice in self.resources.endpoint_slices.in_namespace(object.namespace()) {
            if slice.meta.labels.get(SERVICE_NAME_LABEL).is_some_and(|service| service == object.name()) {
                concerned.name("EndpointSlice", slice.namespace(), slice.name());
            }
        }
    }

    /// Those that name the service, with their Gateways; what is told of those that lead nobody here.
    fn virtual_services(&mut self, service: &Service) -> Vec<Finding> {
        let exposed = service.gateways.iter().flat_map(|exposure| &exposure.routes);
        let inside = service.mesh.iter().flat_map(|mesh| &mesh.hosts).flat_map(|host| &host.routes);
        let routes: Vec<&Route> = exposed.chain(inside).collect();
        for check in service.gateways.iter().flat_map(|exposure| &exposure.checks) {
            self.concerned.name(check.kind, &check.namespace, &check.name);
        }
        for (namespace, name) in service.gateways.iter().filter_map(|exposure| exposure.gateway.split_once('/')) {
            self.concerned.name("Gateway", namespace, name);
        }
        let mut idle = Vec::new();
        for object in &self.resources.virtual_services {
            let title = format!("{}/{}", object.namespace(), object.name());
            let shown = routes.iter().any(|route| route.virtual_service == title);
            if !shown && !clients::names(self.home, object, self.host) {
                continue;
            }
            self.concerned.name("VirtualService", object.namespace(), object.name());
            for (namespace, name) in self.home.gateways_of(object.namespace(), object.name()) {
                self.concerned.name("Gateway", namespace, name);
            }
            if !shown {
                idle.push(Finding::warning(format!(
                    "VirtualService {title} names this service, but no route of it is in force for it, on any gateway or \
                     inside of the mesh"
                )));
            }
        }
        idle
    }
}
