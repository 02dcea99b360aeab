//! Which DestinationRule holds for a service, and what it says about a subset and port.

use std::collections::{BTreeSet, HashMap};

use super::{context::full_host, proxy::Proxy};
use crate::{
    api::{
        DestinationRule,
        destination_rule::{
            ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, ProxyProtocol, RetryBudget, Subset,
            TrafficPolicy, Tunnel,
        },
    },
    host::{HostMap, HostPattern},
    resources::{Object, Resources},
};

/// The rules that the proxy may see, by namespace and host.
pub(super) struct DestinationRules<'a> {
    /// Rules of the proxy's own namespace with a `workloadSelector` that picks it.
    selecting: HostMap<MergedRule<'a>>,
    by_namespace: HashMap<&'a str, HostMap<MergedRule<'a>>>,
    own_namespace: &'a str,
    root_namespace: &'a str,
}

/// One DestinationRule, or several of the same namespace and host.
pub struct MergedRule<'a> {
    /// The oldest, which the others are merged into.
    pub base: &'a Object<DestinationRule>,
    traffic_policy: Option<(&'a Object<DestinationRule>, &'a TrafficPolicy)>,
    subsets: Vec<NamedSubset<'a>>,
}

/// A subset and where it is written.
pub struct NamedSubset<'a> {
    /// The rule that names it.
    pub object: &'a Object<DestinationRule>,
    pub(super) index: usize,
    /// As written.
    pub subset: &'a Subset,
}

/// Why a DestinationRule is the one that holds, the strongest reason first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuleLevel {
    /// It is of the client's namespace, and its `workloadSelector` picks the client.
    WorkloadSelector,
    /// It is of the client's namespace.
    ClientNamespace,
    /// It is of the service's namespace.
    ServiceNamespace,
    /// It is of the root namespace.
    RootNamespace,
}

/// What holds for one subset of one port, after Istio's inheritance.
#[derive(Default)]
pub struct Policy<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancer>,
    pub(super) connection_pool: Option<&'a ConnectionPool>,
    pub(super) outlier_detection: Option<&'a OutlierDetection>,
    /// Not of a port: `portLevelSettings` leave it as it is.
    pub(super) tunnel: Option<&'a Tunnel>,
    /// As [`Self::tunnel`].
    pub(super) proxy_protocol: Option<&'a ProxyProtocol>,
    pub(super) retry_budget: Option<&'a RetryBudget>,
    /// `None`: nobody says, so it is mutual TLS with endpoints that have a sidecar.
    pub tls: Option<TlsPolicy<'a>>,
}

/// TLS settings and where they are written.
#[derive(Clone)]
pub struct TlsPolicy<'a> {
    /// The rule that says it.
    pub object: &'a Object<DestinationRule>,
    /// Where, as `spec.trafficPolicy.tls`.
    pub field: String,
    /// As written.
    pub tls: &'a ClientTls,
}

impl<'a> DestinationRules<'a> {
    pub(super) fn new(resources: &'a Resources, proxy: &'a Proxy) -> Self {
        let mut rules = Self {
            selecting: HostMap::default(),
            by_namespace: HashMap::new(),
            own_namespace: &proxy.namespace,
            root_namespace: &proxy.root_namespace,
        };
        for object in &resources.destination_rules {
            let host = full_host(&object.spec.host, object.namespace(), &proxy.cluster_domain);
            let Ok(host) = host.parse::<HostPattern>() else { continue };
            let own = object.namespace() == proxy.namespace;
            match &object.spec.workload_selector {
                Some(selector) if own && proxy.selected_by(&selector.match_labels) => {
                    merge(&mut rules.selecting, &host, object);
                }
                Some(_) => {}
                None if own || proxy.sees_destination_rule(&object.spec.export_to, object.namespace()) => {
                    merge(rules.by_namespace.entry(object.namespace()).or_default(), &host, object);
                }
                None => {}
            }
        }
        rules
    }

    /// Proxy's namespace, then the service's, then the root's: the first with a rule for the host wins completely.
    pub(super) fn of(&self, host: &str, namespace: &str) -> Option<&MergedRule<'a>> {
        self.with_level(host, namespace).map(|(_, rule)| rule)
    }

    /// As [`Self::of`], with the reason. A client of the service's own namespace sees the service's rule.
    pub(super) fn with_level(&self, host: &str, namespace: &str) -> Option<(RuleLevel, &MergedRule<'a>)> {
        let find = |namespace: &str| self.by_namespace.get(namespace).and_then(|rules| rules.get(host));
        let client =
            if self.own_namespace == namespace { RuleLevel::ServiceNamespace } else { RuleLevel::ClientNamespace };
        let own = || Some(self.own_namespace).filter(|own| *own != self.root_namespace).and_then(find);
        let selecting = self.selecting.get(host).map(|rule| (RuleLevel::WorkloadSelector, rule));
        selecting
            .or_else(|| Some((client, own()?)))
            .or_else(|| Some((RuleLevel::ServiceNamespace, find(namespace)?)))
            .or_else(|| Some((RuleLevel::RootNamespace, find(self.root_namespace)?)))
    }
}

/// Rules of one namespace and host: the oldest is the base, subsets of the others are added, the first traffic policy
/// counts. Rules that are exported elsewhere stay out.
fn merge<'a>(rules: &mut HostMap<MergedRule<'a>>, host: &HostPattern, object: &'a Object<DestinationRule>) {
    let fresh = || MergedRule { base: object, traffic_policy: None, subsets: Vec::new() };
    let rule = rules.get_or_insert_with(host, fresh);
    let exported = |object: &'a Object<DestinationRule>| object.spec.export_to.iter().collect::<BTreeSet<_>>();
    if exported(rule.base) != exported(object) || rule.base.spec.workload_selector != object.spec.workload_selector {
        return;
    }
    if rule.traffic_policy.is_none() {
        rule.traffic_policy = object.spec.traffic_policy.as_ref().map(|policy| (object, policy));
    }
    for (index, subset) in object.spec.subsets.iter().enumerate() {
        if rule.subset(&subset.name).is_none() {
            rule.subsets.push(NamedSubset { object, index, subset });
        }
    }
}

impl<'a> MergedRule<'a> {
    /// Its subsets, and those of the rules merged into it, in order.
    pub fn subsets(&self) -> &[NamedSubset<'a>] {
        &self.subsets
    }

    /// The rules merged into the oldest, as far as anything of them counts.
    pub fn merged(&self) -> Vec<&'a Object<DestinationRule>> {
        let policy = self.traffic_policy.map(|(object, _)| object);
        let mut found: Vec<&Object<DestinationRule>> = Vec::new();
        for object in policy.into_iter().chain(self.subsets.iter().map(|named| named.object)) {
            if !std::ptr::eq(object, self.base) && !found.iter().any(|known| std::ptr::eq(*known, object)) {
                found.push(object);
            }
        }
        found
    }

    pub(super) fn subset(&self, name: &str) -> Option<&NamedSubset<'a>> {
        self.subsets.iter().find(|known| known.subset.name == name)
    }

    /// The names of the subsets, for problems.
    pub(super) fn subsets_in_words(&self) -> String {
        let names: Vec<&str> = self.subsets.iter().map(|known| known.subset.name.as_str()).collect();
        names.join(", ")
    }

    /// A subset's blocks replace the rule's; an entry of `portLevelSettings` replaces all of them, and what it omits falls
    /// back to the defaults.
    pub fn policy(&self, subset: Option<&NamedSubset<'a>>, port: u16) -> Policy<'a> {
        let mut policy = Policy::default();
        if let Some((object, rule)) = self.traffic_policy {
            policy.lay_over(object, rule, "spec.trafficPolicy", port);
        }
        if let Some((named, over)) = subset.and_then(|named| Some((named, named.subset.traffic_policy.as_ref()?))) {
            policy.lay_over(named.object, over, &format!("spec.subsets[{}].trafficPolicy", named.index), port);
        }
        policy
    }
}

impl<'a> Policy<'a> {
    fn lay_over(&mut self, object: &'a Object<DestinationRule>, over: &'a TrafficPolicy, field: &str, port: u16) {
        // A level of a port has none of its own.
        self.retry_budget = over.retry_budget.as_ref().or(self.retry_budget);
        let tls = |tls: &'a ClientTls, field: String| TlsPolicy { object, field, tls };
        self.tunnel = over.tunnel.as_ref().or(self.tunnel);
        self.proxy_protocol = over.proxy_protocol.as_ref().or(self.proxy_protocol);
        let mut levels = over.port_level_settings.iter().enumerate();
        if let Some((index, level)) = levels.find(|(_, level)| level.port.is_some_and(|at| at.number == port)) {
            let field = format!("{field}.portLevelSettings[{index}].tls");
            *self = Self {
                load_balancer: level.load_balancer.as_ref(),
                connection_pool: level.connection_pool.as_ref(),
                outlier_detection: level.outlier_detection.as_ref(),
                tunnel: self.tunnel,
                proxy_protocol: self.proxy_protocol,
                retry_budget: self.retry_budget,
                tls: level.tls.as_ref().map(|found| tls(found, field)),
            };
            return;
        }
        self.load_balancer = over.load_balancer.as_ref().or(self.load_balancer);
        self.connection_pool = over.connection_pool.as_ref().or(self.connection_pool);
        self.outlier_detection = over.outlier_detection.as_ref().or(self.outlier_detection);
        if let Some(found) = &over.tls {
            self.tls = Some(tls(found, format!("{field}.tls")));
        }
    }
}
