//! Clusters: made when a route names them, once each.

use std::{cell::RefCell, sync::Arc, time::Duration};

use super::{
    balancing, connections,
    context::Context,
    destination_rules::{NamedSubset, Policy},
    endpoints::Instance,
    inbound_pools, localities,
    networks::Passing,
    proxy::is_subset,
    services::{Origin, Service, ServicePort},
    upstream_tls::{self, Peer},
};
use crate::{
    api::{
        Protocol,
        destination_rule::{H2UpgradePolicy, HttpPool, SimpleLb},
        service_entry::Resolution,
    },
    hashed::HashMap,
    opaque,
    reach::Reach,
    retry_budget::RetryBudget,
    upstream::ClusterId,
    upstream::{Cluster, Endpoint, UpstreamProtocol},
};

/// Where the clusters of the last compilation stood, so that routes which were made then find them there.
#[derive(Default)]
pub(super) struct Places {
    taken: HashMap<(Arc<str>, u16, String, Carries), ClusterId>,
    free: Vec<ClusterId>,
    count: u32,
}

impl Places {
    pub(super) fn are_mostly_vacant(&self) -> bool {
        self.free.len() > 64 && self.free.len() > self.taken.len()
    }

    fn of(&mut self, host: &Arc<str>, port: u16, (subset, carries): (&str, Carries)) -> ClusterId {
        let (free, count) = (&mut self.free, &mut self.count);
        *self.taken.entry((host.clone(), port, subset.to_owned(), carries)).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                *count += 1;
                ClusterId(*count - 1)
            })
        })
    }
}

/// The clusters of a snapshot so far.
pub(super) struct Clusters {
    all: RefCell<Vec<Option<Arc<Cluster>>>>,
    known: RefCell<HashMap<(usize, u16, String, Carries), ClusterId>>,
    places: RefCell<Places>,
}

/// `outbound|8080|v1|reviews.default.svc.cluster.local`, as Istio names it.
pub(super) fn name(port: u16, subset: &str, host: &str) -> Arc<str> {
    format!("outbound|{port}|{subset}|{host}").into()
}

impl Clusters {
    pub(super) fn new(places: Places) -> Self {
        Self { all: RefCell::default(), known: RefCell::default(), places: RefCell::new(places) }
    }

    /// One that was made.
    pub(super) fn get(&self, id: ClusterId) -> Arc<Cluster> {
        self.all.borrow()[id.0 as usize].clone().expect("whoever has the id has made the cluster")
    }

    /// All of them, and their places; a place whose cluster is no more is vacant.
    pub(super) fn into_all(self) -> (Vec<Arc<Cluster>>, Places) {
        let vacant: Arc<Cluster> = Arc::default();
        let (made, mut places) = (self.all.into_inner(), self.places.into_inner());
        let gone = |id: &ClusterId| made.get(id.0 as usize).is_none_or(Option::is_none);
        places.free.extend(places.taken.extract_if(|_, id| gone(id)).map(|(_, id)| id));
        (made.into_iter().map(|made| made.unwrap_or_else(|| vacant.clone())).collect(), places)
    }
}

/// A service port's subset, of which nothing stands in the way of a cluster.
pub(super) struct Member<'s, 'a> {
    pub(super) service: &'s Service<'a>,
    pub(super) port: &'s ServicePort<'a>,
    /// `None`: all endpoints.
    pub(super) subset: Option<&'s NamedSubset<'a>>,
}

/// What goes to the endpoints of a cluster. The same member is another cluster for each, of the same name, so that they share
/// their counters.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Carries {
    /// Requests.
    Http,
    /// Bytes that nobody looks at.
    Bytes,
    /// Mesh TLS that others have begun: it is passed on as it is, to endpoints that can end it.
    MeshTls,
}

/// The cluster of a member for requests, made first if need be.
pub(super) fn cluster<'a>(context: &Context<'a>, member: &Member<'_, 'a>) -> ClusterId {
    carrying(context, member, Carries::Http)
}

/// The cluster of a member, made first if need be.
pub(super) fn carrying<'a>(context: &Context<'a>, member: &Member<'_, 'a>, carries: Carries) -> ClusterId {
    let subset = member.subset.map_or("", |named| &named.subset.name);
    let port = member.port.number;
    let key = (member.service.index, member.port.number, subset.to_owned(), carries);
    if let Some(&known) = context.clusters.known.borrow().get(&key) {
        return known;
    }
    let mut made = build(context, member, (subset, carries));
    if carries != Carries::Http {
        made.protocol = UpstreamProtocol::Opaque;
        made.original = !context.proxy.is_gateway() && is_original(member);
        // Of requests, which there are none of.
        made.limits.max_requests = None;
    }
    if carries == Carries::MeshTls {
        made.name = opaque::service_name(port, subset, &member.service.host).into();
        made.tls = None;
    }
    let made = Arc::new(made);
    let id = context.clusters.places.borrow_mut().of(&member.service.host, port, (subset, carries));
    let mut all = context.clusters.all.borrow_mut();
    let at = id.0 as usize;
    if all.len() <= at {
        all.resize(at + 1, None);
    }
    all[at] = Some(made);
    context.clusters.known.borrow_mut().insert(key, id);
    id
}

fn build<'a>(context: &Context<'a>, member: &Member<'_, 'a>, (subset, carries): (&str, Carries)) -> Cluster {
    let (service, port) = (member.service, member.port);
    let rule = context.destination_rules.of(&service.host, &service.namespace);
    let policy = rule.map(|rule| rule.policy(member.subset, port.number)).unwrap_or_default();
    let instances = context.endpoints.of(context, service, port);
    let peer = Peer { service, port: port.number, subset, instances: &instances };
    let tls = upstream_tls::compile(context, &peer, policy.tls.as_ref());
    let sealed = carries == Carries::MeshTls;
    let fits = |instance: &&Instance| {
        belongs(instance, member.subset) && (!sealed || upstream_tls::takes_mesh_tls(context, instance))
    };
    let reached = context.networks.as_ref().map(|networks| {
        let mesh = tls.tls.as_ref().is_some_and(|tls| tls.mesh);
        networks.reach(context, instances.iter().filter(fits), Passing { mesh, sealed })
    });
    let fitting: Vec<&Instance> = match &reached {
        Some(reached) => reached.iter().collect(),
        None => instances.iter().filter(fits).collect(),
    };
    let made = fitting.into_iter().map(|instance| {
        let (weight, workload) = (instance.weight, instance.owner.workload.clone());
        let tls = !sealed && (instance.owner.apart || tls.applies(context, instance));
        (Endpoint { weight, tls, workload, ..Endpoint::new(instance.address) }, instance)
    });
    let (endpoints, groups) = localities::arrange(context, &policy, (service, port), made.collect());
    let balance = balancing::balance(&policy);
    let http = policy.connection_pool.and_then(|pool| pool.http.as_ref());
    let made = Cluster {
        name: name(port.number, subset, &service.host),
        host: service.host.clone(),
        service_name: service.name.clone(),
        service_namespace: service.namespace.clone(),
        port: port.number,
        protocol: protocol(context, port.protocol, http),
        tls: tls.tls,
        warmup: balancing::warmup(&policy, &balance),
        outliers: balancing::outliers(&policy),
        groups,
        balance,
        connect_timeout: connect_timeout(context, &policy),
        idle_timeout: http.and_then(|http| http.idle_timeout).map_or(Cluster::IDLE_TIMEOUT, Duration::from),
        limits: policy.connection_pool.map(inbound_pools::limits).unwrap_or_default(),
        connections: connections::compile(&policy, context.proxy.mesh.config.tcp_keepalive),
        retry_budget: retry_budget(&policy),
        original: false,
        reach: reach(context, member, &policy),
        endpoints,
    };
    if let Some(rule) = rule {
        balancing::review(context, rule, &policy, &made);
    }
    made
}

/// Whether the client's own choice of an address counts.
fn is_original(member: &Member<'_, '_>) -> bool {
    let entry = match member.port.origin {
        Origin::Kubernetes(..) => None,
        Origin::Entry(object, _) => Some(object.spec.resolution),
    };
    member.service.headless || entry == Some(Resolution::None)
}

/// How the endpoints of a port are found. What a sidecar does not have to know it takes from the client; a gateway's clients
/// connect to the gateway alone.
fn reach(context: &Context<'_>, member: &Member<'_, '_>, policy: &Policy<'_>) -> Reach {
    let passes = policy.load_balancer.is_some_and(|balancer| balancer.simple == Some(SimpleLb::Passthrough));
    let original = if context.proxy.is_gateway() { Reach::Endpoints } else { Reach::Original };
    match member.port.origin {
        Origin::Entry(object, _) if object.spec.resolution == Resolution::None => original,
        Origin::Entry(object, declared) if object.spec.resolution == Resolution::DynamicDns => {
            let port = if declared.target_port == 0 { declared.number } else { declared.target_port };
            let inside = object.meta.annotations.get(ALLOW_PRIVATE).is_some_and(|allowed| allowed == "true");
            Reach::Name { port, inside }
        }
        _ if passes => original,
        _ => Reach::Endpoints,
    }
}

/// Annotation of a ServiceEntry of resolution `DYNAMIC_DNS` whose names may have addresses that are not public.
const ALLOW_PRIVATE: &str = "egress.sluice.dev/allow-private";

fn belongs(instance: &Instance, subset: Option<&NamedSubset<'_>>) -> bool {
    subset.is_none_or(|named| is_subset(&named.subset.labels, &instance.owner.labels))
}

fn protocol(context: &Context<'_>, declared: Option<Protocol>, http: Option<&HttpPool>) -> UpstreamProtocol {
    if http.is_some_and(|http| http.use_client_protocol) {
        return UpstreamProtocol::Downstream;
    }
    let upgrade = match http.map(|http| http.h2_upgrade_policy).unwrap_or_default() {
        H2UpgradePolicy::Upgrade => true,
        H2UpgradePolicy::DoNotUpgrade => false,
        H2UpgradePolicy::Default => context.proxy.mesh.upgrades_h2(),
    };
    match declared {
        Some(protocol) if protocol.is_http2() || (upgrade && protocol.is_plain_http()) => UpstreamProtocol::Http2,
        None if upgrade => UpstreamProtocol::Http2,
        None if !context.proxy.is_gateway() => UpstreamProtocol::Downstream,
        _ => UpstreamProtocol::Http1,
    }
}

fn connect_timeout(context: &Context<'_>, policy: &Policy<'_>) -> Duration {
    let tcp = policy.connection_pool.and_then(|pool| pool.tcp.as_ref());
    let own = tcp.and_then(|tcp| tcp.connect_timeout).map(Duration::from);
    own.unwrap_or_else(|| context.proxy.mesh.connect_timeout())
}

/// Envoy's budget replaces its limit of retries at once.
fn retry_budget(policy: &Policy<'_>) -> RetryBudget {
    let http = policy.connection_pool.and_then(|pool| pool.http.as_ref());
    let most = http.and_then(|http| u32::try_from(http.max_retries).ok()).filter(|&most| most > 0);
    match (policy.retry_budget, most) {
        (Some(given), _) => RetryBudget::Share {
            // Validation keeps it within 0 and 100.
            parts: (given.percent.unwrap_or(20.0).clamp(0.0, 100.0) * 10_000.0).round() as u32,
            least: given.min_retry_concurrency.unwrap_or(3),
            at_once: true,
            window: given.budget_interval.map(Duration::from).unwrap_or_default(),
        },
        (None, Some(most)) => RetryBudget::AtOnce(most),
        (None, None) => RetryBudget::default(),
    }
}
