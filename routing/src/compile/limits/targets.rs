//! Where a RateLimit holds at this proxy.

use std::sync::Arc;

use crate::{
    api::{RateLimit, rate_limit::TargetRef},
    compile::{
        context::Context,
        inbound::own_port,
        selection::{GATEWAY_NAME, Workload},
        virtual_services::full_gateway,
        workloads::WorkloadFacts,
    },
    limits::Target,
    resources::{Kind, Object, Rejection},
};

/// A `targetRefs` that names nothing.
const UNKNOWN_TARGET: &str = "unknown-target";
/// One that can never apply.
const IDLE: &str = "idle-limit";

/// Those of which no version can be read.
pub(in crate::compile) fn unread<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a Rejection> {
    let all = context.resources.rejected().values();
    all.filter(|it| it.object.kind == Kind::RateLimit.name() && !it.skipped)
}

/// Whether one that cannot be read may have been meant for this proxy, as far as its namespace says: that of the proxy, of the
/// mesh, or of something that the gateway serves.
pub(in crate::compile) fn may_hold(context: &Context<'_>, rejection: &Rejection) -> bool {
    let (proxy, all) = (context.proxy, context.resources);
    let namespace = rejection.object.namespace.as_str();
    if namespace.is_empty() || namespace == proxy.namespace || namespace == proxy.root_namespace {
        return true;
    }
    let ours = |name: &str| {
        let (of, name) = name.split_once('/')?;
        Some(proxy.selected_by(&all.gateways.get(of, name)?.spec.selector))
    };
    let served = || all.gateways.iter().any(|it| it.namespace() == namespace && proxy.selected_by(&it.spec.selector));
    let routed = || {
        let mut services = all.virtual_services.iter().filter(|it| it.namespace() == namespace);
        services.any(|it| it.spec.gateways.iter().any(|name| ours(&full_gateway(name, namespace)) == Some(true)))
    };
    proxy.is_gateway() && (served() || routed())
}

/// Empty = nowhere.
pub(in crate::compile) fn of(
    context: &Context<'_>,
    object: &Object<RateLimit>,
    workload: Option<&WorkloadFacts>,
) -> Vec<Target> {
    if !object.spec.target_refs.is_empty() {
        let all = object.spec.target_refs.iter().enumerate();
        return all.filter_map(|(index, reference)| target(context, object, (index, reference), workload)).collect();
    }
    let picked = Workload::of(context.proxy).is_picked(object.namespace(), object.spec.selector.as_ref(), []);
    if picked { vec![Target::Proxy] } else { Vec::new() }
}

fn target(
    context: &Context<'_>,
    object: &Object<RateLimit>,
    (index, reference): (usize, &TargetRef),
    workload: Option<&WorkloadFacts>,
) -> Option<Target> {
    let (proxy, all) = (context.proxy, context.resources);
    let (namespace, name) = (object.namespace(), reference.name.as_str());
    let lacks = |kind: Kind| {
        let absence = context.absent(object, UNKNOWN_TARGET, kind, (namespace, name));
        let field = format!("spec.targetRefs[{index}].name");
        context.report.absent(object, &field, absence, ", so nothing is limited by it");
        None
    };
    match (reference.group.as_str(), reference.kind.as_str()) {
        ("networking.istio.io", "Gateway") => {
            let Some(gateway) = all.gateways.get(namespace, name) else { return lacks(Kind::Gateway) };
            let ours = proxy.is_gateway() && proxy.selected_by(&gateway.spec.selector);
            let servers = gateway.spec.servers.iter().flat_map(|server| {
                let port = server.port.as_ref().map_or(0, |port| port.number);
                server
                    .hosts
                    .iter()
                    .map(move |host| (port, host.split_once('/').map_or(host.as_str(), |(_, host)| host)))
            });
            let doors = servers.filter_map(|(port, host)| Some((port, host.parse().ok()?)));
            ours.then(|| Target::Gateway(doors.collect()))
        }
        ("networking.istio.io", _) => {
            let Some(service) = all.virtual_services.get(namespace, name) else { return lacks(Kind::VirtualService) };
            let gateways = &service.spec.gateways;
            let of_root = service.spec.hosts.is_empty();
            let message = if of_root {
                "a delegate has no requests of its own; name the VirtualService that delegates to it"
            } else {
                "its routes are for sidecars alone, and routes are limited at gateways; name a Service to limit what comes to it"
            };
            if of_root || gateways.iter().all(|gateway| gateway == "mesh") {
                context.report.warning(object, IDLE, &format!("spec.targetRefs[{index}].name"), message);
            }
            let route = reference.section_name.as_deref().map(Arc::from);
            proxy.is_gateway().then(|| Target::Routes(format!("{namespace}/{name}").into(), route))
        }
        ("", _) => {
            let Some(service) = all.services.get(namespace, name) else { return lacks(Kind::Service) };
            if service.spec.spec.selector.is_empty() {
                let message = "this Service selects no pods, so nothing that comes to it passes a sidecar, and nothing is limited";
                context.report.warning(object, IDLE, &format!("spec.targetRefs[{index}].name"), message);
            }
            ports(context, &format!("{name}.{namespace}.svc.{}", proxy.cluster_domain), workload?)
        }
        _ => {
            let ours = namespace == proxy.namespace && proxy.labels.get(GATEWAY_NAME).is_some_and(|own| own == name);
            (proxy.is_gateway() && ours).then_some(Target::Proxy)
        }
    }
}

/// The ports of the workload that a service leads to. What arrives at one that others lead to as well does not say by which of
/// them it came, except in words of the client's, so all of it counts.
fn ports(context: &Context<'_>, host: &str, workload: &WorkloadFacts) -> Option<Target> {
    let service = context.services.named(host)?;
    let mut ports: Vec<u16> = service.ports.iter().filter_map(|port| own_port(workload, service, port)).collect();
    ports.sort_unstable();
    ports.dedup();
    (!ports.is_empty()).then_some(Target::Ports(ports))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile::Proxy, resources::Resources};

    #[test]
    fn one_that_cannot_be_read_is_told_of_where_it_may_have_held() {
        let gateway = |name: &str, namespace: &str, label: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
                 {{selector: {{istio: {label}}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n"
            )
        };
        let routes = |namespace: &str, gateway: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: {namespace}}}\nspec: \
                 {{hosts: [{namespace}.example], gateways: [{gateway}], http: [{{directResponse: {{status: 200}}}}]}}\n---\n"
            )
        };
        let mut text = gateway("own", "edge", "ingressgateway") + &gateway("other", "out", "egressgateway");
        text += &(routes("shop", "edge/own") + &routes("books", "out/other") + &routes("inner", "mesh"));
        for namespace in ["edge", "out", "shop", "books", "inner", "nothing", "gateways", "istio-system"] {
            text += &format!(
                "apiVersion: policy.sluice.dev/v1alpha1\nkind: RateLimit\nmetadata: {{name: bad, namespace: {namespace}}}\nspec: \
                 {{rules: [{{limit: {{requests: 0}}}}]}}\n---\n"
            );
        }
        let (resources, _) = Resources::read([("a.yaml", text.as_str())]);
        let proxy = Proxy { namespace: "gateways".to_owned(), ..Proxy::default() };
        let context = Context::new(&resources, &proxy);
        let told = unread(&context).filter(|it| may_hold(&context, it)).map(|it| it.object.namespace.as_str());
        let mut told: Vec<_> = told.collect();
        told.sort_unstable();
        assert_eq!(told, ["edge", "gateways", "istio-system", "shop"]);
    }
}
