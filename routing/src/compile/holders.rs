//! Which policies are a gateway's own affair, for who tells of them in their status.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    proxy::{Proxy, is_subset},
    selection::{GATEWAY_NAME, Workload},
    virtual_services::full_gateway,
};
use crate::{
    api::{ObjectMeta, TargetReference, destination_rule::LabelSelector, rate_limit::TargetRef},
    resources::{Kind, Object, Resources},
};

/// Where a policy holds, as a gateway sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holds {
    /// At this gateway, perhaps elsewhere, too.
    Here,
    /// At workloads, at no gateway that is known.
    AtWorkloads,
}

/// A policy: its kind, its metadata, and where it holds.
pub type HeldPolicy<'a> = (Kind, &'a ObjectMeta, Holds);

/// The policies that a gateway has to tell something about. Those of other gateways are theirs to tell.
pub fn held_policies<'a>(resources: &'a Resources, proxy: &Proxy) -> Vec<HeldPolicy<'a>> {
    let holders = Holders::new(resources, proxy);
    let mut all = Vec::new();
    for object in &resources.authorization_policies {
        let (selector, targets) = (object.spec.selector.as_ref(), object.spec.targets().collect::<Vec<_>>());
        all.extend(
            holders.of(object, selector, &targets).map(|holds| (Kind::AuthorizationPolicy, &object.meta, holds)),
        );
    }
    for object in &resources.request_authentications {
        let (selector, targets) = (object.spec.selector.as_ref(), object.spec.targets().collect::<Vec<_>>());
        all.extend(
            holders.of(object, selector, &targets).map(|holds| (Kind::RequestAuthentication, &object.meta, holds)),
        );
    }
    for object in &resources.rate_limits {
        let (spec, targets) = (&object.spec, &object.spec.target_refs);
        let holds = match targets.as_slice() {
            [] => holders.of(object, spec.selector.as_ref(), &[]),
            [only] => holders.of_target(object.namespace(), only),
            several => {
                let all: Vec<Holds> =
                    several.iter().filter_map(|it| holders.of_target(object.namespace(), it)).collect();
                all.iter().copied().find(|it| *it == Holds::Here).or_else(|| all.first().copied())
            }
        };
        all.extend(holds.map(|holds| (Kind::RateLimit, &object.meta, holds)));
    }
    for object in &resources.telemetries {
        let (selector, targets) = (object.spec.selector.as_ref(), object.spec.targets().collect::<Vec<_>>());
        all.extend(holders.of(object, selector, &targets).map(|holds| (Kind::Telemetry, &object.meta, holds)));
    }
    // Whoever calls a workload has to know what it accepts.
    all.extend(resources.peer_authentications.iter().map(|it| (Kind::PeerAuthentication, &it.meta, Holds::Here)));
    all
}

struct Holders<'a> {
    resources: &'a Resources,
    proxy: &'a Proxy,
    own: Workload<'a>,
    /// Pods of other gateways, by namespace and labels.
    others: Vec<(&'a str, &'a BTreeMap<String, String>)>,
}

impl<'a> Holders<'a> {
    fn new(resources: &'a Resources, proxy: &'a Proxy) -> Self {
        // Many Gateways select the same few pods.
        let selectors: BTreeSet<_> =
            resources.gateways.iter().map(|it| &it.spec.selector).filter(|it| !it.is_empty()).collect();
        let pods = resources.pods.iter().map(|pod| (pod.namespace(), &pod.meta.labels));
        let others = pods.filter(|(namespace, labels)| {
            let own = *namespace == proxy.namespace && is_subset(&proxy.labels, labels);
            !own && selectors.iter().any(|selector| is_subset(selector, labels))
        });
        let mut others: Vec<_> = others.collect();
        others.sort();
        others.dedup();
        Self { resources, proxy, own: Workload::of(proxy), others }
    }

    /// `None`: another gateway tells.
    fn of<T>(
        &self,
        object: &Object<T>,
        selector: Option<&LabelSelector>,
        targets: &[&TargetReference],
    ) -> Option<Holds> {
        let targets = || targets.iter().copied();
        if self.own.is_picked(object.namespace(), selector, targets()) {
            return Some(Holds::Here);
        }
        // What is attached to another Gateway is that one's.
        let other = targets().any(TargetReference::is_gateway)
            || self.others.iter().any(|(namespace, labels)| {
                let workload = Workload::new(&self.proxy.root_namespace, namespace, labels);
                workload.is_picked(object.namespace(), selector, targets())
            });
        (!other).then_some(Holds::AtWorkloads)
    }

    fn of_target(&self, namespace: &str, target: &TargetRef) -> Option<Holds> {
        let (all, name) = (self.resources, target.name.as_str());
        let ours = |selector: &BTreeMap<String, String>| self.proxy.selected_by(selector);
        let here = match (target.group.as_str(), target.kind.as_str()) {
            ("networking.istio.io", "Gateway") => {
                // One that is not there is told by everybody.
                all.gateways.get(namespace, name).is_none_or(|gateway| ours(&gateway.spec.selector))
            }
            ("networking.istio.io", _) => {
                let Some(service) = all.virtual_services.get(namespace, name) else { return Some(Holds::Here) };
                let named = service.spec.gateways.iter().filter_map(|gateway| {
                    let gateway = full_gateway(gateway, namespace);
                    let (of, name) = gateway.split_once('/')?;
                    all.gateways.get(of, name)
                });
                let mut serving = named.map(|gateway| ours(&gateway.spec.selector)).peekable();
                if serving.peek().is_none() {
                    // Its routes are at no gateway, so nobody else tells.
                    return Some(Holds::AtWorkloads);
                }
                serving.any(|ours| ours)
            }
            ("", _) => return Some(Holds::AtWorkloads),
            _ => {
                namespace == self.proxy.namespace && self.proxy.labels.get(GATEWAY_NAME).is_some_and(|own| own == name)
            }
        };
        here.then_some(Holds::Here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: istio-system}
spec: {selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: egress, namespace: istio-system, labels: {app: egress, istio: egressgateway}}
---
apiVersion: v1
kind: Pod
metadata: {name: ingress, namespace: istio-system, labels: {istio: ingressgateway}}
";

    fn holds(namespace: &str, spec: &str) -> Option<Holds> {
        let policy = format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a, namespace: {namespace}}}\nspec: {{{spec}}}\n"
        );
        let (resources, _) = Resources::read([("a.yaml", format!("{OBJECTS}{policy}").as_str())]);
        held_policies(&resources, &Proxy::default()).first().map(|(.., holds)| *holds)
    }

    fn limit_holds(routes: &str) -> Option<Holds> {
        let text = format!(
            "{OBJECTS}---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: in, namespace: istio-system}}\nspec: \
             {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: shop}}\nspec: \
             {{{routes}, http: [{{directResponse: {{status: 200}}}}]}}\n---\napiVersion: policy.sluice.dev/v1alpha1\nkind: RateLimit\n\
             metadata: {{name: a, namespace: shop}}\nspec: {{targetRefs: [{{group: networking.istio.io, kind: VirtualService, name: v}}], \
             rules: [{{limit: {{requests: 1}}}}]}}\n"
        );
        let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
        assert!(problems.iter().all(|problem| problem.severity != crate::problem::Severity::Error), "{problems:?}");
        held_policies(&resources, &Proxy::default()).first().map(|(.., holds)| *holds)
    }

    #[test]
    fn somebody_tells_of_every_limit() {
        let bound = |gateways: &str| limit_holds(&format!("hosts: [a.example], gateways: [{gateways}]"));
        assert_eq!(bound("istio-system/in"), Some(Holds::Here));
        assert_eq!(bound("mesh, in.istio-system.svc.cluster.local"), Some(Holds::Here));
        assert_eq!(bound("istio-system/out, istio-system/in"), Some(Holds::Here));
        assert_eq!(bound("istio-system/out"), None, "another gateway does");
        for nowhere in ["mesh", "istio-system/gone", "mesh, gone"] {
            assert_eq!(bound(nowhere), Some(Holds::AtWorkloads), "{nowhere}");
        }
        assert_eq!(limit_holds("hosts: []"), Some(Holds::AtWorkloads), "of a delegate");
    }

    #[test]
    fn a_gateway_tells_of_its_own_policies_and_those_of_workloads() {
        assert_eq!(holds("istio-system", ""), Some(Holds::Here));
        assert_eq!(holds("istio-system", "selector: {matchLabels: {istio: ingressgateway}}"), Some(Holds::Here));
        assert_eq!(holds("istio-system", "selector: {matchLabels: {app: egress}}"), None);
        assert_eq!(holds("shop", "selector: {matchLabels: {app: web}}"), Some(Holds::AtWorkloads));
        assert_eq!(holds("shop", ""), Some(Holds::AtWorkloads));
        let other = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: other}]";
        assert_eq!(holds("istio-system", other), None);
    }
}
