//! The endpoints of a service's port, whoever knows them: EndpointSlices, Pods, WorkloadEntries, ServiceEntries, DNS.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use super::{
    context::Context,
    networks::NETWORK,
    proxy::is_subset,
    report::BAD_VALUE,
    services::{Leads, Origin, Service, ServicePort, resolvable},
    workloads::{self, WorkloadFacts},
};
use crate::{
    api::{
        self, EndpointSlice, Pod, Protocol,
        endpoint_slice::{self, SERVICE_NAME_LABEL},
        service_entry::{Resolution, ServiceEntryPort},
    },
    hashed::HashMap,
    locality::Locality,
    resources::{Object, Resources},
    snapshot::Workload,
    unix,
};

/// Endpoint of a service before clusters and subsets choose among them.
#[derive(Clone)]
pub(super) struct Instance {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) owner: Rc<Owner>,
}

/// All endpoints of a port.
pub(super) type Instances = Rc<[Instance]>;

/// The workload behind an endpoint.
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    /// SPIFFE id; `None` when nobody says which service account it runs under.
    pub(super) principal: Option<String>,
    pub(super) workload: Arc<Workload>,
    pub(super) locality: Locality,
    /// Name of the node; empty when unknown.
    pub(super) node: String,
    /// Network, where it is written beside the labels.
    pub(super) network: Option<String>,
    /// It stands for all that a network's gateway leads to. Those take mesh TLS, and the gateway nothing else.
    pub(super) apart: bool,
}

impl Owner {
    /// Takes over where an entry says that it is.
    fn settle(&mut self, entry: &api::WorkloadEntry) {
        if let Some(locality) = entry.locality.as_deref().and_then(Locality::parse) {
            self.locality = locality;
        }
        self.network.clone_from(&entry.network);
    }

    /// The network that it is in; empty = the one that everybody is in.
    pub(super) fn network(&self) -> &str {
        let label = || self.labels.get(NETWORK).map_or("", String::as_str);
        self.network.as_deref().filter(|network| !network.is_empty()).unwrap_or_else(label)
    }

    /// Label of workloads that a sidecar stands beside: they can be spoken to in mesh TLS.
    pub(super) fn has_sidecar(&self) -> bool {
        has_sidecar(&self.labels)
    }
}

/// Whether labels are those of a workload with a sidecar.
pub fn has_sidecar(labels: &BTreeMap<String, String>) -> bool {
    labels.get(SIDECAR.0).is_some_and(|mode| mode == SIDECAR.1)
}

/// Label of such a workload.
pub(super) const SIDECAR: (&str, &str) = ("security.istio.io/tlsMode", "istio");

/// Somebody else's way to a socket of the proxy's pod.
const FOREIGN_SOCKET: &str = "foreign-unix-socket";

/// Indexes over what knows endpoints, and what has been asked before.
pub(super) struct Endpoints<'a> {
    slices: HashMap<(&'a str, &'a str), Vec<&'a Object<EndpointSlice>>>,
    pods_by_address: HashMap<&'a str, &'a Object<Pod>>,
    pods: RefCell<HashMap<(&'a str, &'a str), Rc<Owner>>>,
    /// By service and port.
    known: RefCell<HashMap<(usize, u16), Instances>>,
    names: RefCell<BTreeSet<String>>,
}

impl<'a> Endpoints<'a> {
    pub(super) fn new(resources: &'a Resources) -> Self {
        let mut slices: HashMap<(&str, &str), Vec<&Object<EndpointSlice>>> = HashMap::default();
        for slice in &resources.endpoint_slices {
            if let Some(service) = slice.meta.labels.get(SERVICE_NAME_LABEL) {
                slices.entry((slice.namespace(), service)).or_default().push(slice);
            }
        }
        let pods = resources.pods.iter().filter(|pod| !pod.spec.spec.host_network);
        Self {
            slices,
            pods_by_address: pods.map(|pod| (pod.spec.status.pod_ip.as_str(), &**pod)).collect(),
            pods: RefCell::default(),
            known: RefCell::default(),
            names: RefCell::default(),
        }
    }

    /// The names that endpoints asked for so far need resolved.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.borrow().iter().cloned().collect()
    }

    /// The ready endpoints of a service's port, by address.
    pub(super) fn of(&self, context: &Context<'a>, service: &Service<'a>, port: &ServicePort<'a>) -> Instances {
        let key = (service.index, port.number);
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        let search = Search { all: self, context };
        let mut found = match port.origin {
            Origin::Kubernetes(object, declared) => search.kubernetes(service, object, declared),
            Origin::Entry(..) => {
                let all = service.declared(port);
                all.flat_map(|(object, declared)| search.entry(service, object, declared)).collect()
            }
        };
        if let Origin::Entry(object, _) = port.origin
            && object.spec.resolution == Resolution::DnsRoundRobin
        {
            found.truncate(1);
        }
        if let Origin::Kubernetes(object, _) = port.origin
            && object.spec.spec.node_local
            && !context.proxy.node.is_empty()
        {
            found.retain(|instance| instance.owner.node == context.proxy.node);
        }
        // Networks that are apart may have the same addresses, and what has none is told apart by its gateway alone.
        if context.networks.is_some() {
            found.sort_by(|one, other| place(one).cmp(&place(other)));
            found.dedup_by(|one, other| place(one) == place(other) && !is_elsewhere(one.address));
        } else {
            found.sort_by_key(|instance| instance.address);
            found.dedup_by_key(|instance| instance.address);
        }
        let found: Instances = found.into();
        self.known.borrow_mut().insert(key, found.clone());
        found
    }

    /// The addresses of a name, as far as it is resolved by now.
    pub(super) fn resolve(&self, context: &Context<'_>, host: &str) -> Vec<IpAddr> {
        let host = resolvable(host);
        if host.is_empty() {
            return Vec::new();
        }
        let resolved = context.proxy.resolved.get(&host).cloned().unwrap_or_default();
        self.names.borrow_mut().insert(host);
        resolved
    }

    fn pod_owner(&self, context: &Context<'a>, pod: &'a Object<Pod>) -> Rc<Owner> {
        let mut pods = self.pods.borrow_mut();
        let describe = || {
            let own = owner(&workloads::pod_facts(context.resources, pod), &context.proxy.trust_domain);
            let (locality, node) = workloads::whereabouts(context.resources, pod);
            Owner { locality, node, ..own }
        };
        pods.entry((pod.namespace(), pod.name())).or_insert_with(|| Rc::new(describe())).clone()
    }
}

fn owner(facts: &WorkloadFacts, trust_domain: &str) -> Owner {
    let workload = facts.metrics(trust_domain);
    Owner {
        namespace: facts.namespace.clone(),
        labels: facts.labels.clone(),
        principal: Some(workload.principal.to_string()),
        workload: Arc::new(workload),
        locality: Locality::of_pod(&facts.labels).unwrap_or_default(),
        node: String::new(),
        network: None,
        apart: false,
    }
}

/// One look for the endpoints of one port.
struct Search<'s, 'a> {
    all: &'s Endpoints<'a>,
    context: &'s Context<'a>,
}

impl<'a> Search<'_, 'a> {
    fn kubernetes(
        &self,
        service: &Service<'a>,
        object: &'a Object<api::Service>,
        port: &'a api::service::ServicePort,
    ) -> Vec<Instance> {
        let spec = &object.spec.spec;
        if let Some(alias) = &service.alias {
            if alias.leads != Leads::Outside {
                return Vec::new();
            }
            let number = WorkloadFacts::default().target_port(port.target_port.as_ref(), port.port);
            return self.named(&alias.target, number.unwrap_or(port.port), 1, &unknown_owner(service));
        }
        let mut found = Vec::new();
        match self.all.slices.get(&(object.namespace(), object.name())) {
            Some(slices) => {
                let family = family(spec, slices);
                let of_family = |slice: &&&Object<EndpointSlice>| family.is_none_or(|it| slice.spec.address_type == it);
                for slice in slices.iter().filter(of_family) {
                    self.slice(&mut found, slice, object, port);
                }
            }
            // A folder of YAML has no endpoints controller, so we do its work.
            None if spec.selector.is_empty() => {}
            None => {
                for (pod, address) in self.pods(object.namespace(), &spec.selector, spec.publish_not_ready_addresses) {
                    let owner = self.all.pod_owner(self.context, pod);
                    let facts = workloads::pod_facts(self.context.resources, pod);
                    if let Some(number) = facts.target_port(port.target_port.as_ref(), port.port) {
                        found.push(Instance { address: (address, number).into(), weight: 1, owner });
                    }
                }
            }
        }
        if !spec.selector.is_empty() {
            let default = |facts: &WorkloadFacts| facts.target_port(port.target_port.as_ref(), port.port);
            self.entries(&mut found, (object.namespace(), &spec.selector), &port.name, default);
        }
        found
    }

    fn slice(
        &self,
        found: &mut Vec<Instance>,
        slice: &'a Object<EndpointSlice>,
        service: &'a Object<api::Service>,
        port: &api::service::ServicePort,
    ) {
        let Some(number) = slice_port(&slice.spec, port) else { return };
        for endpoint in &slice.spec.endpoints {
            let ready = endpoint.conditions.ready.unwrap_or(true) && !endpoint.conditions.terminating.unwrap_or(false);
            let address = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok());
            let Some(address) = address.filter(|_| ready) else { continue };
            let owner = match self.pod_of(endpoint, slice.namespace()) {
                Some(pod) => self.all.pod_owner(self.context, pod),
                None => Rc::new(self.selected_owner(endpoint, service)),
            };
            found.push(Instance { address: (address, number).into(), weight: 1, owner });
        }
    }

    /// An endpoint without a Pod that we know: the Service's selector holds for its labels, and its slice says where it is.
    fn selected_owner(&self, endpoint: &endpoint_slice::Endpoint, service: &Object<api::Service>) -> Owner {
        let labels = service.spec.spec.selector.clone();
        let pod = endpoint.target_ref.as_ref().map_or("", |target| &target.name);
        let workload = Arc::new(workloads::describe(pod, service.namespace(), &labels, ""));
        let node = endpoint.node_name.clone().unwrap_or_default();
        let known = workloads::of_node(self.context.resources, &node);
        let zone = || Locality { zone: endpoint.zone.clone().unwrap_or_default(), ..Locality::default() };
        let (namespace, locality) = (service.namespace().to_owned(), known.unwrap_or_else(zone));
        Owner { namespace, labels, principal: None, workload, locality, node, network: None, apart: false }
    }

    fn pod_of(&self, endpoint: &endpoint_slice::Endpoint, namespace: &str) -> Option<&'a Object<Pod>> {
        let pods = &self.context.resources.pods;
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod");
        let named = target.and_then(|target| {
            let namespace = if target.namespace.is_empty() { namespace } else { &target.namespace };
            pods.get(namespace, &target.name).map(|pod| &**pod)
        });
        let address = endpoint.addresses.first().map(String::as_str).unwrap_or_default();
        named.or_else(|| self.all.pods_by_address.get(address).copied())
    }

    fn pods(
        &self,
        namespace: &str,
        selector: &BTreeMap<String, String>,
        unready: bool,
    ) -> impl Iterator<Item = (&'a Object<Pod>, IpAddr)> {
        let pods = self.context.resources.pods.in_namespace(namespace).iter().map(|pod| &**pod);
        pods.filter(move |pod| is_subset(selector, &pod.meta.labels)).filter_map(move |pod| {
            let status = &pod.spec.status;
            let away = (status.unready && !unready) || matches!(status.phase.as_str(), "Succeeded" | "Failed");
            Some((pod, status.pod_ip.parse().ok().filter(|_| !away)?))
        })
    }

    /// The WorkloadEntries of a namespace that a selector picks.
    fn entries(
        &self,
        found: &mut Vec<Instance>,
        (namespace, selector): (&str, &BTreeMap<String, String>),
        port_name: &str,
        default: impl Fn(&WorkloadFacts) -> Option<u16>,
    ) {
        for entry in self.context.resources.workload_entries.in_namespace(namespace) {
            let facts = workloads::entry_facts(entry);
            if !is_subset(selector, &facts.labels) {
                continue;
            }
            let Some(number) = entry.spec.ports.get(port_name).copied().or_else(|| default(&facts)) else { continue };
            let mut owner = owner(&facts, &self.context.proxy.trust_domain);
            if entry.spec.service_account.is_none() {
                owner.principal = None;
            }
            owner.settle(&entry.spec);
            self.review_socket(entry, "spec.address", &entry.spec.address);
            found.extend(self.named(&entry.spec.address, number, entry.spec.weight, &Rc::new(owner)));
        }
    }

    fn entry(
        &self,
        service: &Service<'a>,
        object: &'a Object<api::ServiceEntry>,
        port: &'a ServiceEntryPort,
    ) -> Vec<Instance> {
        let spec = &object.spec;
        if matches!(spec.resolution, Resolution::None | Resolution::DynamicDns) {
            // A sidecar brings bytes to the address that was meant.
            let requests = port.protocol.is_none_or(Protocol::is_plain_http);
            if requests || spec.resolution == Resolution::DynamicDns || self.context.proxy.is_gateway() {
                self.cannot_resolve(object);
            }
            return Vec::new();
        }
        let default = if port.target_port == 0 { port.number } else { port.target_port };
        let mut found = Vec::new();
        if let Some(selector) = &spec.workload_selector {
            for (pod, address) in self.pods(object.namespace(), &selector.labels, false) {
                let owner = self.all.pod_owner(self.context, pod);
                found.push(Instance { address: (address, default).into(), weight: 1, owner });
            }
            self.entries(&mut found, (object.namespace(), &selector.labels), &port.name, |_| Some(default));
            return found;
        }
        for (index, endpoint) in spec.endpoints.iter().enumerate() {
            let number = endpoint.ports.get(&port.name).copied().unwrap_or(default);
            let owner = Rc::new(self.declared_owner(service, object, endpoint));
            self.review_socket(object, &format!("spec.endpoints[{index}].address"), &endpoint.address);
            found.extend(self.named(&endpoint.address, number, endpoint.weight, &owner));
        }
        let dns = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if spec.endpoints.is_empty() && dns && !service.host.contains('*') {
            found = self.named(&service.host, default, 1, &unknown_owner(service));
        }
        found
    }

    /// Clients of a gateway connect to the gateway, so there is no address that they meant.
    fn cannot_resolve(&self, object: &Object<api::ServiceEntry>) {
        if self.context.proxy.is_gateway() && object.spec.resolution == Resolution::None {
            let message = "resolution NONE gives a gateway no address to send requests to, so they get 503; use STATIC with \
                           endpoints, or DNS";
            self.context.report.error(object, super::report::UNSUPPORTED, "spec.resolution", message);
        }
    }

    /// The owner of an endpoint that a ServiceEntry spells out.
    fn declared_owner(
        &self,
        service: &Service<'a>,
        object: &Object<api::ServiceEntry>,
        endpoint: &api::WorkloadEntry,
    ) -> Owner {
        let account = endpoint.service_account.as_deref();
        let principal = account.map(|account| self.context.proxy.spiffe_id(object.namespace(), account));
        let workload = if service.external {
            Workload::default()
        } else {
            let (name, principal) = (object.name(), principal.as_deref().unwrap_or_default());
            workloads::describe(name, object.namespace(), &endpoint.labels, principal)
        };
        let mut owner = Owner {
            namespace: object.namespace().to_owned(),
            labels: endpoint.labels.clone(),
            principal,
            workload: Arc::new(workload),
            locality: Locality::of_pod(&endpoint.labels).unwrap_or_default(),
            node: String::new(),
            network: None,
            apart: false,
        };
        owner.settle(endpoint);
        owner
    }

    /// A socket is in the proxy's own pod, or on its machine. What is there is nobody's business who only shares the proxy.
    fn leads_to_sockets(&self, namespace: &str) -> bool {
        let proxy = self.context.proxy;
        namespace == proxy.namespace || namespace == proxy.root_namespace
    }

    fn review_socket<T>(&self, object: &Object<T>, field: &str, address: &str) {
        if !address.starts_with(unix::SCHEME) {
            return;
        }
        let proxy = self.context.proxy;
        if !self.leads_to_sockets(object.namespace()) {
            let message = format!(
                "a unix socket is in the proxy's own pod, so only objects in its namespace `{}` or in the root namespace `{}` lead \
                 to one; this endpoint is left out",
                proxy.namespace, proxy.root_namespace
            );
            self.context.report.warning(object, FOREIGN_SOCKET, field, message);
        } else if let Err(why) = unix::address(address) {
            self.context.report.error(object, BAD_VALUE, field, why);
        }
    }

    /// An address, or each address that a name is resolved to.
    fn named(&self, host: &str, port: u16, weight: u32, owner: &Rc<Owner>) -> Vec<Instance> {
        let weight = weight.max(1);
        let at = |ip: IpAddr| Instance { address: (ip, port).into(), weight, owner: owner.clone() };
        if let Ok(ip) = host.parse() {
            return vec![at(ip)];
        }
        if host.starts_with(unix::SCHEME) {
            // A path is not even remembered for others: what is remembered stays.
            let socket = if self.leads_to_sockets(&owner.namespace) { unix::address(host).ok() } else { None };
            return socket.into_iter().map(|address| Instance { address, weight, owner: owner.clone() }).collect();
        }
        if host.is_empty() && self.context.networks.is_some() {
            // Its network's gateway knows where it is.
            return vec![at(IpAddr::V4(Ipv4Addr::UNSPECIFIED))];
        }
        self.all.resolve(self.context, host).into_iter().map(at).collect()
    }
}

/// What tells endpoints apart.
fn place(instance: &Instance) -> (SocketAddr, &str) {
    (instance.address, instance.owner.network())
}

/// Whether an endpoint has no address of its own, but a network whose gateway knows it.
pub(super) fn is_elsewhere(address: SocketAddr) -> bool {
    address.ip().is_unspecified()
}

/// Of a service with addresses of both families the first one's, which its clients use too; else each pod would be there twice.
/// `None`: it has one family.
fn family(service: &api::service::ServiceSpec, slices: &[&Object<EndpointSlice>]) -> Option<&'static str> {
    let has = |family: &str| slices.iter().any(|slice| slice.spec.address_type == family);
    let first = service.cluster_ips.first().unwrap_or(&service.cluster_ip).parse::<IpAddr>();
    let v6 = first.is_ok_and(|address| address.is_ipv6());
    (has("IPv4") && has("IPv6")).then_some(if v6 { "IPv6" } else { "IPv4" })
}

/// The port of a slice that belongs to a port of its service.
fn slice_port(slice: &EndpointSlice, port: &api::service::ServicePort) -> Option<u16> {
    let tcp = slice.ports.iter().filter(|candidate| matches!(candidate.protocol.as_str(), "" | "TCP"));
    let found = tcp.into_iter().find(|candidate| candidate.name == port.name)?;
    found.port.or_else(|| WorkloadFacts::default().target_port(port.target_port.as_ref(), port.port))
}

fn unknown_owner(service: &Service<'_>) -> Rc<Owner> {
    Rc::new(Owner {
        namespace: service.namespace.to_string(),
        labels: BTreeMap::new(),
        principal: None,
        workload: Arc::default(),
        locality: Locality::default(),
        node: String::new(),
        network: None,
        apart: false,
    })
}

#[cfg(test)]
mod tests;
