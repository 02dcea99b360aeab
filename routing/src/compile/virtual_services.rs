//! VirtualServices as a proxy sees them: visible ones in Istio's order, with their hosts and gateways in full.

use std::sync::Arc;

use super::context::Context;
use crate::{api::VirtualService, host::HostPattern, resources::Object};

/// The gateway name that means sidecars.
pub(super) const MESH: &str = "mesh";

/// A VirtualService.
pub(super) struct Bound<'a> {
    pub(super) object: &'a Arc<Object<VirtualService>>,
    /// Hosts in full, each with its index in `spec.hosts`.
    pub(super) hosts: Vec<(HostPattern, usize)>,
    /// `namespace/name`, or `mesh`.
    pub(super) gateways: Vec<String>,
}

impl Bound<'_> {
    /// Whether it has routes for requests.
    pub(super) fn has_http(&self) -> bool {
        !self.object.spec.http.is_empty()
    }

    /// Whether it names a gateway.
    pub(super) fn binds(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|own| own == gateway)
    }
}

/// The visible ones: exported to their own namespace only, exported to the proxy's by name, public; each class oldest first.
pub(super) fn visible<'a>(context: &Context<'a>) -> Vec<Bound<'a>> {
    let all = context.resources.virtual_services.iter();
    let mut seen: Vec<_> =
        all.filter(|object| context.proxy.sees_virtual_service(&object.spec.export_to, object.namespace())).collect();
    seen.sort_by_key(|object| {
        let default = &context.proxy.mesh.config.default_virtual_service_export_to;
        let to = if object.spec.export_to.is_empty() { default } else { &object.spec.export_to };
        match () {
            () if to.iter().any(|to| to == ".") => 0,
            () if to.is_empty() || to.iter().any(|to| to == "*") => 2,
            () => 1,
        }
    });
    // Without hosts it is a delegate, which is served below the hosts of its roots.
    seen.retain(|object| !object.spec.hosts.is_empty());
    seen.into_iter().map(|object| bind(context, object)).collect()
}

fn bind<'a>(context: &Context<'_>, object: &'a Arc<Object<VirtualService>>) -> Bound<'a> {
    let hosts = object.spec.hosts.iter().enumerate().filter_map(|(index, host)| {
        // A host that is no host was refused when the object was read.
        let pattern = context.full_host(host, object.namespace()).parse().ok()?;
        Some((pattern, index))
    });
    let hosts = hosts.collect();
    let mut gateways: Vec<String> =
        object.spec.gateways.iter().map(|gateway| full_gateway(gateway, object.namespace())).collect();
    if gateways.is_empty() {
        gateways.push(MESH.to_owned());
    }
    Bound { object, hosts, gateways }
}

/// `namespace/name` of a gateway as a VirtualService of `namespace` names it; `mesh` stays.
pub(super) fn full_gateway(gateway: &str, namespace: &str) -> String {
    if gateway == MESH {
        return gateway.to_owned();
    }
    match gateway.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => gateway.to_owned(),
        None => match gateway.split_once('.') {
            // The old form: `name.namespace.svc.cluster.local`.
            Some((name, rest)) => format!("{}/{name}", rest.split('.').next().unwrap_or(namespace)),
            None => format!("{namespace}/{gateway}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_names_are_completed() {
        assert_eq!(full_gateway("edge", "shop"), "shop/edge");
        assert_eq!(full_gateway("./edge", "shop"), "shop/edge");
        assert_eq!(full_gateway("infra/edge", "shop"), "infra/edge");
        assert_eq!(full_gateway("edge.infra.svc.cluster.local", "shop"), "infra/edge");
        assert_eq!(full_gateway("mesh", "shop"), "mesh");
    }
}
