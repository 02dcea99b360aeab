//! `tls` and `tcp` routes, and the connections to ports that are no HTTP.

mod gateway;
mod outbound;

use std::sync::Arc;

pub(super) use gateway::{contents, plain};
pub(super) use outbound::{compile as outbound, owned};

use super::{
    clusters::{self, Carries, Member},
    context::Context,
    destinations,
    virtual_services::{Bound, full_gateway},
};
use crate::{
    api::virtual_service::{RouteDestination, TcpMatch, TlsMatch},
    opaque::OpaqueRule,
    rule::{Destination, Destinations},
};

/// Which of two routes has what both want.
const CONFLICT: &str = "conflict";

/// Where routes are served.
#[derive(Clone, Copy)]
struct Binding<'s> {
    /// `namespace/name` of a gateway, or `mesh`.
    gateway: &'s str,
    /// Port of the Gateway server or of the service.
    port: u16,
}

impl Binding<'_> {
    /// Whether the parts of a match hold that Istio looks at everywhere: `port` and `gateways`.
    fn fits(&self, port: Option<u16>, gateways: &[String], namespace: &str) -> bool {
        port.is_none_or(|port| port == 0 || port == self.port)
            && (gateways.is_empty() || gateways.iter().any(|name| full_gateway(name, namespace) == self.gateway))
    }

    fn fits_tls(&self, when: &TlsMatch, namespace: &str) -> bool {
        self.fits(when.port, &when.gateways, namespace)
    }

    fn fits_tcp(&self, when: &TcpMatch, namespace: &str) -> bool {
        self.fits(when.port, &when.gateways, namespace)
    }
}

/// The rule of a route; `field` is where the route stands, as `spec.tcp[1]`.
fn rule(
    context: &Context<'_>,
    bound: &Bound<'_>,
    route: &[RouteDestination],
    (field, port): (&str, u16),
) -> Arc<OpaqueRule> {
    let all = destinations::of_bytes(context, bound.object, route, (field, port));
    let total = all.iter().map(|to| to.weight).fold(0, u32::saturating_add);
    let source = format!("{}/{}", bound.object.namespace(), bound.object.name()).into();
    Arc::new(OpaqueRule { source, to: Destinations { all: all.into(), total } })
}

/// The way straight to a service, or to a subset of it.
fn straight<'a>(context: &Context<'a>, member: &Member<'_, 'a>, carries: Carries) -> Arc<OpaqueRule> {
    let cluster = clusters::carrying(context, member, carries);
    let name = context.clusters.get(cluster).name.clone();
    let to = Destinations::one(Destination::new(Some(cluster), name));
    Arc::new(OpaqueRule { source: Arc::default(), to })
}
