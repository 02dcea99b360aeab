//! VirtualServices: features that are not there yet, and routes behind a catch-all.

use super::finding::Findings;
use crate::{
    api::{
        StringMatch, VirtualService,
        virtual_service::{HttpMatch, HttpRetry, HttpRoute},
    },
    compile::{context::Context, retries, virtual_services::MESH},
    resources::Object,
};

pub(super) fn review(context: &Context<'_>, object: &Object<VirtualService>) {
    let mut findings = Findings::default();
    opaque_fields(&mut findings, context, object);
    for (index, route) in object.spec.http.iter().enumerate() {
        route_fields(&mut findings, route, index);
        if let Some(retries) = &route.retries {
            retry_fields(&mut findings, retries, index);
        }
    }
    findings.tell(context, object);
    unreachable_routes(context, object);
}

fn route_fields(findings: &mut Findings, route: &HttpRoute, index: usize) {
    let at = |field: &str| format!("spec.http[{index}].{field}");
    let answers = route.redirect.is_some() || route.direct_response.is_some();
    let mirror = "only what is forwarded is mirrored; nothing is copied here";
    findings.note(answers && route.mirror.is_some(), mirror, || at("mirror"));
    findings.note(answers && !route.mirrors.is_empty(), mirror, || at("mirrors"));
    let cors =
        "corsPolicy holds for routes that forward only, as in Istio; browsers do not show these answers to pages";
    findings.note(answers && route.cors_policy.is_some(), cors, || at("corsPolicy"));
    for (number, when) in route.matches.iter().enumerate() {
        findings.note(
            when.stat_prefix.is_some(),
            "statPrefix means nothing: series by route would cost memory for each; the access log names the route",
            || at(&format!("match[{number}].statPrefix")),
        );
    }
}

/// What Istio does not look at either.
fn opaque_fields(findings: &mut Findings, context: &Context<'_>, object: &Object<VirtualService>) {
    let spec = &object.spec;
    let at_gateway = context.proxy.is_gateway() && spec.gateways.iter().any(|gateway| gateway != MESH);
    for (index, route) in spec.tcp.iter().enumerate() {
        for (number, when) in route.matches.iter().enumerate() {
            let at = |field: &str| format!("spec.tcp[{index}].match[{number}].{field}");
            let source = "sourceSubnet is not looked at, as in Istio: the route holds for clients of any address";
            findings.note(when.source_subnet.is_some(), source, || at("sourceSubnet"));
            findings.note(at_gateway && !when.destination_subnets.is_empty(), SUBNETS, || at("destinationSubnets"));
            findings.note(at_gateway && !when.source_labels.is_empty(), LABELS, || at("sourceLabels"));
            findings.note(at_gateway && when.source_namespace.is_some(), NAMESPACE, || at("sourceNamespace"));
        }
    }
    for (index, route) in spec.tls.iter().enumerate() {
        for (number, when) in route.matches.iter().enumerate() {
            let at = |field: &str| format!("spec.tls[{index}].match[{number}].{field}");
            findings.note(at_gateway && !when.destination_subnets.is_empty(), SUBNETS, || at("destinationSubnets"));
            findings.note(at_gateway && !when.source_labels.is_empty(), LABELS, || at("sourceLabels"));
            findings.note(at_gateway && when.source_namespace.is_some(), NAMESPACE, || at("sourceNamespace"));
        }
    }
}

const SUBNETS: &str = "a gateway does not look at destinationSubnets of tls and tcp routes, as in Istio; sidecars do";
const LABELS: &str = "a gateway does not look at sourceLabels of tls and tcp routes, as in Istio; sidecars do";
const NAMESPACE: &str = "a gateway does not look at sourceNamespace of tls and tcp routes, as in Istio; sidecars do";

fn retry_fields(findings: &mut Findings, given: &HttpRetry, index: usize) {
    let at = |field: &str| format!("spec.http[{index}].retries.{field}");
    let tokens = given.retry_on.as_deref().unwrap_or_default();
    for token in tokens.split(',').map(str::trim) {
        if let Some(message) = retries::never_holds(token) {
            findings.note(true, message, || at("retryOn"));
        }
    }
}

fn unreachable_routes(context: &Context<'_>, object: &Object<VirtualService>) {
    let routes = &object.spec.http;
    let Some(last) = routes.iter().position(takes_everything).filter(|&last| last + 1 < routes.len()) else { return };
    let behind = routes.len() - last - 1;
    let dead = match behind {
        1 => "this route is never reached".to_owned(),
        _ => format!("this route and what is behind it ({behind} in all) are never reached"),
    };
    let message = format!("{dead}, since spec.http[{last}] matches every request; move that one to the end");
    context.report.warning(object, "unreachable-rule", &format!("spec.http[{}]", last + 1), message);
}

fn takes_everything(route: &HttpRoute) -> bool {
    // What a delegate leaves open, the next route takes.
    route.delegate.is_none() && (route.matches.is_empty() || route.matches.iter().any(is_empty))
}

/// Whether a match entry holds for every request of every client.
fn is_empty(when: &HttpMatch) -> bool {
    let all_paths = match &when.uri {
        None | Some(StringMatch::Present) => true,
        Some(StringMatch::Prefix(prefix)) => matches!(prefix.as_str(), "" | "/"),
        Some(StringMatch::Regex(regex)) => regex == ".*",
        Some(StringMatch::Exact(_)) => false,
    };
    let no_fields = when.scheme.is_none() && when.method.is_none() && when.authority.is_none() && when.port.is_none();
    let no_maps = when.headers.is_empty() && when.without_headers.is_empty() && when.query_params.is_empty();
    let any_client = when.source_labels.is_empty() && when.source_namespace.is_none() && when.gateways.is_empty();
    all_paths && no_fields && no_maps && any_client
}
