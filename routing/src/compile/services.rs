//! Kubernetes Services and Istio ServiceEntries, as one table of services by host.

use std::sync::Arc;

use super::proxy::Proxy;
use crate::{
    api::{self, Protocol, service_entry},
    hashed::HashMap,
    host::HostPattern,
    resources::{Object, Resources},
};

/// Everything that has a host and endpoints, as far as the proxy may see it.
pub(super) struct Services<'a> {
    all: Vec<Service<'a>>,
    by_host: HashMap<Arc<str>, usize>,
    passed_over: Vec<PassedOver<'a>>,
}

/// A host of a ServiceEntry that is somebody else's for this proxy.
pub(super) struct PassedOver<'a> {
    pub(super) entry: &'a Object<api::ServiceEntry>,
    /// Position of the host in `spec.hosts`.
    pub(super) host: usize,
    /// Whose it is, in [`Services`].
    pub(super) service: usize,
}

/// One host.
pub(super) struct Service<'a> {
    /// Position in [`Services`].
    pub(super) index: usize,
    /// Fully qualified, lower case.
    pub(super) host: Arc<str>,
    /// Name for metrics: the Service's own, or a ServiceEntry's host.
    pub(super) name: Arc<str>,
    pub(super) namespace: Arc<str>,
    /// Virtual addresses.
    pub(super) addresses: Vec<&'a str>,
    /// Kubernetes `clusterIP: None`.
    pub(super) headless: bool,
    pub(super) kubernetes: bool,
    /// Outside of the mesh: no mesh TLS unless a DestinationRule says so.
    pub(super) external: bool,
    pub(super) ports: Vec<ServicePort<'a>>,
    /// The ServiceEntries that are united in it, the first of which counts where they disagree.
    pub(super) entries: Vec<&'a Object<api::ServiceEntry>>,
    /// For `ExternalName`: where it leads.
    pub(super) alias: Option<Alias<'a>>,
    /// `ServiceEntry.subjectAltNames`.
    pub(super) subject_alt_names: &'a [String],
    /// SPIFFE ids out of the Service's `alpha.istio.io/...-serviceaccounts` annotations.
    pub(super) accounts: Vec<String>,
}

/// A Service that is another name for something.
pub(super) struct Alias<'a> {
    pub(super) object: &'a Object<api::Service>,
    /// `externalName` as hosts are compared: in lower case, without the final dot.
    pub(super) target: String,
    pub(super) leads: Leads,
}

/// Where an alias leads, over other aliases if need be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leads {
    /// To a service, by its position in [`Services`].
    To(usize),
    /// To a name that no service has, which is resolved.
    Outside,
    /// Back to where it was.
    InACircle,
    /// Through more names than anybody follows.
    TooFar,
}

/// As many names resolvers follow.
pub(super) const MOST_ALIASES: usize = 8;

/// One port of a service.
#[derive(Clone, Copy)]
pub(super) struct ServicePort<'a> {
    pub(super) number: u16,
    /// `None`: nobody said, so it is sniffed (and HTTP/1.1 for a gateway).
    pub(super) protocol: Option<Protocol>,
    pub(super) chosen_by: ProtocolChoice,
    pub(super) origin: Origin<'a>,
}

/// What told the protocol of a service's port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolChoice {
    /// Kubernetes `appProtocol`.
    AppProtocol,
    /// The port's name: `http`, `grpc-web`, `tcp-db`.
    PortName,
    /// Its number, for some that never speak HTTP: 25, 53, 3306, 27017.
    WellKnown,
    /// `ServiceEntry.ports[].protocol`.
    Declared,
    /// Nothing: it is sniffed.
    Nothing,
}

/// The object that a port comes from: two ServiceEntries may share a host.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    Kubernetes(&'a Object<api::Service>, &'a api::service::ServicePort),
    Entry(&'a Object<api::ServiceEntry>, &'a service_entry::ServiceEntryPort),
}

impl ServicePort<'_> {
    /// Whether requests on it are routed one by one.
    pub(super) fn is_http(&self) -> bool {
        self.protocol.is_none_or(Protocol::is_plain_http)
    }
}

impl<'a> Service<'a> {
    pub(super) fn port(&self, number: u16) -> Option<&ServicePort<'a>> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// What ServiceEntries say about a port. They have to agree on its name, too, since it is the names that endpoints
    /// give their own port numbers for.
    pub(super) fn declared(
        &self,
        port: &ServicePort<'a>,
    ) -> impl Iterator<Item = (&'a Object<api::ServiceEntry>, &'a service_entry::ServiceEntryPort)> {
        let (number, name) = match port.origin {
            Origin::Kubernetes(..) => (port.number, None),
            Origin::Entry(_, declared) => (port.number, Some(declared.name.as_str())),
        };
        self.entries.iter().filter_map(move |entry| {
            let mut ports = entry.spec.ports.iter();
            Some((*entry, ports.find(|port| port.number == number && Some(port.name.as_str()) == name)?))
        })
    }

    /// The ports in words, for problems.
    pub(super) fn ports_in_words(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(|port| port.number.to_string()).collect();
        if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
    }
}

impl<'a> Services<'a> {
    pub(super) fn new(resources: &'a Resources, proxy: &Proxy) -> Self {
        let mut services = Self { all: Vec::new(), by_host: HashMap::default(), passed_over: Vec::new() };
        for object in
            resources.services.iter().filter(|object| proxy.sees_service(&exported_to(object), object.namespace()))
        {
            services.add(of_kubernetes(object, proxy));
        }
        let entries = resources.service_entries.iter();
        let mut visible: Vec<_> =
            entries.filter(|object| proxy.sees_service(&object.spec.export_to, object.namespace())).collect();
        // Of ServiceEntries with the same host, the proxy's own namespace is preferred, then the oldest.
        visible.sort_by_key(|object| object.namespace() != proxy.namespace);
        for object in visible {
            for (number, host) in object.spec.hosts.iter().enumerate() {
                services.add_entry(object, number, host);
            }
        }
        let leads: Vec<Option<Leads>> = services.all.iter().map(|service| services.leads(service)).collect();
        for (service, leads) in services.all.iter_mut().zip(leads) {
            if let (Some(alias), Some(leads)) = (&mut service.alias, leads) {
                alias.leads = leads;
            }
        }
        services
    }

    /// Kubernetes wins over ServiceEntries. Those of one namespace and resolution are united port by port, the others are
    /// passed over.
    fn add_entry(&mut self, entry: &'a Object<api::ServiceEntry>, number: usize, host: &str) {
        let service = of_entry(entry, host);
        let Some(&index) = self.by_host.get(&service.host) else { return self.add(service) };
        let known = &mut self.all[index];
        let united = known.entries.first().is_some_and(|first| {
            first.namespace() == entry.namespace() && first.spec.resolution == entry.spec.resolution
        });
        if !united {
            self.passed_over.push(PassedOver { entry, host: number, service: index });
            return;
        }
        // The same host may be written twice in one entry.
        if known.entries.iter().any(|known| std::ptr::eq(*known, entry)) {
            return;
        }
        known.entries.push(entry);
        for port in service.ports {
            if known.port(port.number).is_none() {
                known.ports.push(port);
            }
        }
    }

    /// Of two Services with the same host there is none: their names differ.
    fn add(&mut self, mut service: Service<'a>) {
        service.index = self.all.len();
        self.by_host.insert(service.host.clone(), service.index);
        self.all.push(service);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Service<'a>> {
        self.all.iter()
    }

    /// The service of a host in full. An alias is what it leads to.
    pub(super) fn find(&self, host: &str) -> Option<&Service<'a>> {
        self.by_host.get(host).map(|&index| self.behind(&self.all[index]))
    }

    /// What has a host itself, be it an alias.
    pub(super) fn named(&self, host: &str) -> Option<&Service<'a>> {
        self.by_host.get(host).map(|&index| &self.all[index])
    }

    /// What a service stands for: itself, unless it is an alias for one that we know.
    pub(super) fn behind<'s>(&'s self, service: &'s Service<'a>) -> &'s Service<'a> {
        match service.alias.as_ref().map(|alias| alias.leads) {
            Some(Leads::To(index)) => &self.all[index],
            _ => service,
        }
    }

    /// Hosts of ServiceEntries that are not theirs.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = (&PassedOver<'a>, &Service<'a>)> {
        self.passed_over.iter().map(|passed| (passed, &self.all[passed.service]))
    }

    fn leads(&self, service: &Service<'a>) -> Option<Leads> {
        let mut alias = service.alias.as_ref()?;
        let mut seen = vec![service.index];
        loop {
            let Some(next) = self.named(&alias.target) else { return Some(Leads::Outside) };
            let Some(further) = &next.alias else { return Some(Leads::To(next.index)) };
            if seen.contains(&next.index) {
                return Some(Leads::InACircle);
            }
            if seen.len() == MOST_ALIASES {
                return Some(Leads::TooFar);
            }
            seen.push(next.index);
            alias = further;
        }
    }

    /// Whether a pattern holds for any service.
    pub(super) fn any_matches(&self, pattern: &HostPattern) -> bool {
        match pattern {
            HostPattern::Exact(host) => self.find(host).is_some(),
            HostPattern::Any => !self.all.is_empty(),
            HostPattern::Suffix(rest) => self.all.iter().any(|service| service.host.ends_with(&**rest)),
        }
    }

    /// The host nearest to a mistyped one: same first label, or the same text but for the namespace.
    pub(super) fn similar(&self, host: &str) -> Option<&str> {
        let label = host.split('.').next().unwrap_or(host);
        let mut found = self.all.iter().filter(|service| service.host.split('.').next() == Some(label));
        found.next().map(|service| &*service.host)
    }
}

/// A name as it is asked for: without the dot that says it is complete.
pub(super) fn resolvable(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn exported_to(object: &Object<api::Service>) -> Vec<String> {
    let annotation = object.meta.annotations.get("networking.istio.io/exportTo");
    annotation.map(|list| list.split(',').map(|to| to.trim().to_owned()).collect()).unwrap_or_default()
}

fn of_kubernetes<'a>(object: &'a Object<api::Service>, proxy: &Proxy) -> Service<'a> {
    let (name, namespace, spec) = (object.name(), object.namespace(), &object.spec.spec);
    let given = std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips);
    let mut addresses: Vec<&str> = given.map(String::as_str).filter(|ip| !matches!(*ip, "" | "None")).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let ports = spec.ports.iter().filter(|port| matches!(port.protocol.as_str(), "" | "TCP"));
    let external = spec.kind == "ExternalName";
    let target = spec.external_name.as_deref().filter(|_| external);
    let alias = target.map(|target| Alias { object, target: resolvable(target), leads: Leads::Outside });
    Service {
        index: 0,
        host: format!("{name}.{namespace}.svc.{}", proxy.cluster_domain).into(),
        name: name.into(),
        namespace: namespace.into(),
        addresses,
        headless: spec.cluster_ip == "None",
        kubernetes: true,
        external,
        ports: ports.map(|port| port_of_kubernetes(object, port)).collect(),
        entries: Vec::new(),
        alias,
        subject_alt_names: &[],
        accounts: annotated_accounts(object, proxy),
    }
}

/// Istio's protocol selection: `appProtocol`, then the port's name, then some well-known numbers, else sniffed.
fn port_of_kubernetes<'a>(object: &'a Object<api::Service>, port: &'a api::service::ServicePort) -> ServicePort<'a> {
    let by_application = port.app_protocol.as_deref().and_then(Protocol::from_app_protocol);
    let by_application = by_application.map(|found| (found, ProtocolChoice::AppProtocol));
    let by_name = || Some((Protocol::from_port_name(&port.name)?, ProtocolChoice::PortName));
    let well_known = matches!(port.port, 25 | 53 | 3306 | 27017);
    let by_number = || well_known.then_some((Protocol::Tcp, ProtocolChoice::WellKnown));
    let (protocol, chosen_by) = by_application
        .or_else(by_name)
        .or_else(by_number)
        .map_or((None, ProtocolChoice::Nothing), |(protocol, by)| (Some(protocol), by));
    ServicePort { number: port.port, protocol, chosen_by, origin: Origin::Kubernetes(object, port) }
}

fn annotated_accounts(object: &Object<api::Service>, proxy: &Proxy) -> Vec<String> {
    let of = |key: &str| object.meta.annotations.get(key).map(String::as_str).unwrap_or_default();
    let names = |list: &'static str| of(list).split(',').map(str::trim).filter(|name| !name.is_empty());
    let canonical = names("alpha.istio.io/canonical-serviceaccounts").map(str::to_owned);
    let kubernetes =
        names("alpha.istio.io/kubernetes-serviceaccounts").map(|account| proxy.spiffe_id(object.namespace(), account));
    canonical.chain(kubernetes).collect()
}

fn of_entry<'a>(object: &'a Object<api::ServiceEntry>, host: &str) -> Service<'a> {
    let spec = &object.spec;
    let host: Arc<str> = host.to_ascii_lowercase().into();
    let ports = spec.ports.iter().filter(|port| port.protocol != Some(Protocol::Udp)).map(|port| ServicePort {
        number: port.number,
        protocol: port.protocol,
        chosen_by: if port.protocol.is_some() { ProtocolChoice::Declared } else { ProtocolChoice::Nothing },
        origin: Origin::Entry(object, port),
    });
    Service {
        index: 0,
        name: host.clone(),
        host,
        namespace: object.namespace().into(),
        addresses: spec.addresses.iter().map(String::as_str).filter(|address| !address.contains('/')).collect(),
        headless: false,
        kubernetes: false,
        external: spec.location == service_entry::Location::MeshExternal,
        ports: ports.collect(),
        entries: vec![object],
        alias: None,
        subject_alt_names: &spec.subject_alt_names,
        accounts: Vec::new(),
    }
}
