//! Which policies hold for a workload: those of its namespace and of the root namespace whose selector picks it, and those
//! that are attached to its Gateway.

use std::{borrow::Cow, collections::BTreeMap};

use super::proxy::{Proxy, Role, is_subset};
use crate::{
    api::{TargetReference, destination_rule::LabelSelector},
    resources::Rejection,
};

/// The label that tells the proxies of a Gateway of Kubernetes' Gateway API by its name.
pub(super) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// A workload, as policies pick it.
pub(super) struct Workload<'a> {
    root_namespace: &'a str,
    namespace: &'a str,
    labels: Cow<'a, BTreeMap<String, String>>,
}

impl<'a> Workload<'a> {
    pub(super) fn new(root_namespace: &'a str, namespace: &'a str, labels: &'a BTreeMap<String, String>) -> Self {
        Self { root_namespace, namespace, labels: Cow::Borrowed(labels) }
    }

    /// The workload of a proxy. Istio's own gateways carry their name in two labels, so policies select them by `app` as
    /// well as by `istio`: what is for the one that a proxy stands in for must not be lost because Gateways name `istio` alone.
    pub(super) fn of(proxy: &'a Proxy) -> Self {
        let namespace = match &proxy.role {
            Role::Gateway => &proxy.namespace,
            Role::Sidecar { namespace, .. } => namespace,
        };
        let mut workload = Self::new(&proxy.root_namespace, namespace, &proxy.labels);
        if let Some(own) = proxy.labels.get("istio").filter(|_| proxy.is_gateway() && !proxy.labels.contains_key("app"))
        {
            let app = format!("istio-{own}");
            workload.labels.to_mut().insert("app".to_owned(), app);
        }
        workload
    }

    /// Its namespace.
    pub(super) fn namespace(&self) -> &'a str {
        self.namespace
    }

    /// Whether a policy of a namespace holds for it.
    pub(super) fn is_picked<'t>(
        &self,
        namespace: &str,
        selector: Option<&LabelSelector>,
        targets: impl IntoIterator<Item = &'t TargetReference>,
    ) -> bool {
        let empty = BTreeMap::new();
        self.is_picked_by(namespace, selector.map_or(&empty, |selector| &selector.match_labels), targets)
    }

    /// Whether a policy that gave no object would have held for it, or may have: one whose namespace cannot be read may
    /// be of any.
    pub(super) fn may_be_picked(&self, rejection: &Rejection) -> bool {
        let namespace = match rejection.object.namespace.as_str() {
            "" => self.namespace,
            known => known,
        };
        rejection.policy.as_ref().is_some_and(|it| self.is_picked_by(namespace, &it.selector, &it.targets))
    }

    /// As [`Self::is_picked`]; empty labels pick all.
    fn is_picked_by<'t>(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        targets: impl IntoIterator<Item = &'t TargetReference>,
    ) -> bool {
        let mut targets = targets.into_iter().peekable();
        if targets.peek().is_some() {
            let own = self.labels.get(GATEWAY_NAME);
            return namespace == self.namespace
                && targets.any(|target| target.is_gateway() && own.is_some_and(|own| *own == target.name));
        }
        (namespace == self.namespace || namespace == self.root_namespace) && is_subset(labels, &self.labels)
    }
}
