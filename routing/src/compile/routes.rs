//! One VirtualService to routes: a rule for each match entry, in order.

use std::{sync::Arc, time::Duration};

use super::{
    conditions::{self, Refused},
    context::Context,
    destinations, header_ops, report,
    retries::retries,
    virtual_services::{Bound, full_gateway},
};
use crate::{
    api::{
        StringMatch, VirtualService,
        virtual_service::{self as api, HttpMatch, HttpRoute},
    },
    pattern::RouteMatch,
    re2::{Fault, Substitution},
    resources::Object,
    rule::{
        Action, Destination, Destinations, DirectResponse, HeaderOps, PathRewrite, Redirect, RedirectPath,
        RedirectPort, Retries, Rewrite, Rule,
    },
    table::Route,
};

/// Where the routes will be served.
pub(super) struct Binding<'a> {
    /// `namespace/name` of each gateway, or `mesh`.
    pub(super) gateways: &'a [String],
    /// Port of the Gateway server or of the service.
    pub(super) port: u16,
}

/// One `HTTPRoute` under way.
pub(super) struct Entry<'s, 'a> {
    pub(super) object: &'a Object<VirtualService>,
    pub(super) route: &'a HttpRoute,
    /// `spec.http[3]`.
    pub(super) field: String,
    pub(super) binding: &'s Binding<'s>,
}

/// The routes of a VirtualService, up to the first that every request follows.
pub(super) fn compile<'a>(context: &Context<'a>, bound: &Bound<'a>, binding: &Binding<'_>) -> Vec<Route> {
    let source: Arc<str> = format!("{}/{}", bound.object.namespace(), bound.object.name()).into();
    let mut routes = Vec::new();
    for (index, route) in bound.object.spec.http.iter().enumerate() {
        let entry = Entry { object: bound.object, route, field: format!("spec.http[{index}]"), binding };
        if route.matches.is_empty() {
            routes.push(Route { when: RouteMatch::default(), rule: rule(context, &entry, None, &source) });
            break;
        }
        for (number, when) in route.matches.iter().enumerate() {
            if !applies(context, &entry, when) {
                continue;
            }
            match conditions::compile(&context.expressions, when) {
                Ok(compiled) => {
                    let ends = compiled.is_catch_all();
                    routes.push(Route { when: compiled, rule: rule(context, &entry, Some(when), &source) });
                    // As Istio: what comes behind is not emitted, and does not come to life when VirtualServices are merged.
                    if ends {
                        return routes;
                    }
                }
                Err(refused) => {
                    let closes = refused.closes;
                    refuse(context, &entry, number, refused);
                    if closes {
                        routes.push(Route { when: RouteMatch::default(), rule: closed(&source) });
                        return routes;
                    }
                }
            }
        }
    }
    routes
}

/// Whether the parts of a match that do not look at requests hold: `gateways`, else `sourceLabels` and `sourceNamespace`.
fn applies(context: &Context<'_>, entry: &Entry<'_, '_>, when: &HttpMatch) -> bool {
    if !when.gateways.is_empty() {
        let namespace = entry.object.namespace();
        return when.gateways.iter().any(|gateway| entry.binding.gateways.contains(&full_gateway(gateway, namespace)));
    }
    let namespace = when.source_namespace.as_ref().is_none_or(|name| *name == context.proxy.namespace);
    namespace && context.proxy.selected_by(&when.source_labels)
}

fn refuse(context: &Context<'_>, entry: &Entry<'_, '_>, number: usize, refused: Refused) {
    let field = format!("{}.match[{number}].{}", entry.field, refused.field);
    context.report.error(entry.object, refused.code, &field, refused.message);
}

fn rule(context: &Context<'_>, entry: &Entry<'_, '_>, when: Option<&HttpMatch>, source: &Arc<str>) -> Arc<Rule> {
    let route = entry.route;
    let headers = route.headers.as_ref();
    let ops = |ops: Option<&api::HeaderOperations>, which: &str| {
        let field = format!("{}.headers.{which}", entry.field);
        ops.map(|ops| header_ops::compile(context, entry.object, ops, &field)).unwrap_or_default()
    };
    Arc::new(Rule {
        name: name(route, when),
        source: source.clone(),
        action: action(context, entry, when),
        timeout: route.timeout.map(Duration::from).filter(|timeout| !timeout.is_zero()),
        retries: route.retries.as_ref().or(context.proxy.mesh.retries()).map_or_else(Retries::default, retries),
        rewrite: route.rewrite.as_ref().and_then(|rewrite| compile_rewrite(context, entry, rewrite, when)),
        request_headers: ops(headers.and_then(|headers| headers.request.as_ref()), "request"),
        response_headers: ops(headers.and_then(|headers| headers.response.as_ref()), "response"),
    })
}

/// In place of a match that cannot be looked at and of all that follows it: what it should have kept from there is not known.
fn closed(source: &Arc<str>) -> Arc<Rule> {
    let body = "the regular expressions of this configuration are too large, and one that decides here is not read\n";
    let action = Action::Direct(DirectResponse { status: 503, body: body.as_bytes().into() });
    Arc::new(Rule::new("closed", source.clone(), action))
}

/// Istio's route name: the route's own, with the match's behind a dot.
fn name(route: &HttpRoute, when: Option<&HttpMatch>) -> Arc<str> {
    match (&route.name, when.and_then(|when| when.name.as_ref())) {
        (Some(route), Some(when)) => format!("{route}.{when}").into(),
        (Some(route), None) => route.as_str().into(),
        (None, Some(when)) => when.as_str().into(),
        (None, None) => "default".into(),
    }
}

fn action(context: &Context<'_>, entry: &Entry<'_, '_>, when: Option<&HttpMatch>) -> Action {
    let route = entry.route;
    if let Some(redirect) = &route.redirect {
        return match redirect_code(redirect.redirect_code) {
            Some(code) => Action::Redirect(compile_redirect(redirect, code, when)),
            None => {
                let field = format!("{}.redirect.redirectCode", entry.field);
                let message = format!(
                    "redirectCode {} cannot be sent, so these requests get 404; use 301, 302, 303, 307 or 308",
                    redirect.redirect_code
                );
                context.report.error(entry.object, report::UNSUPPORTED, &field, message);
                Action::Direct(DirectResponse { status: 404, body: Arc::default() })
            }
        };
    }
    if let Some(direct) = &route.direct_response {
        return Action::Direct(DirectResponse { status: direct.status, body: body(direct.body.as_ref()) });
    }
    if route.delegate.is_some() {
        return Action::Route(nowhere("delegate"));
    }
    let all = destinations::compile(context, entry);
    if all.is_empty() {
        return Action::Route(nowhere("none"));
    }
    let total = all.iter().map(|destination| destination.weight).fold(0, u32::saturating_add);
    Action::Route(Destinations { all, total })
}

/// A destination that does not exist: 503, flag NC.
fn nowhere(name: &str) -> Destinations {
    let destination = Destination {
        cluster: None,
        cluster_name: name.into(),
        weight: 1,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    Destinations { all: vec![destination], total: 1 }
}

fn redirect_code(code: u16) -> Option<u16> {
    match code {
        0 => Some(301),
        301 | 302 | 303 | 307 | 308 => Some(code),
        _ => None,
    }
}

fn compile_redirect(redirect: &api::HttpRedirect, code: u16, when: Option<&HttpMatch>) -> Redirect {
    let path = match (&redirect.uri, &redirect.prefix_rewrite) {
        (Some(uri), _) => Some(RedirectPath::Full(uri.clone())),
        (None, Some(with)) => {
            Some(RedirectPath::Prefix { matched: matched_prefix(when).unwrap_or(0), with: with.clone() })
        }
        (None, None) => None,
    };
    let port = match (redirect.port, redirect.derive_port) {
        (Some(port), _) if port != 0 => RedirectPort::Fixed(port),
        (_, Some(api::RedirectPort::FromProtocolDefault)) => RedirectPort::Protocol,
        (_, Some(api::RedirectPort::FromRequestPort)) => RedirectPort::Request,
        _ => RedirectPort::Keep,
    };
    Redirect { code, path, authority: redirect.authority.clone(), scheme: redirect.scheme.clone(), port }
}

fn body(body: Option<&api::HttpBody>) -> Arc<[u8]> {
    let text = body.and_then(|body| body.string.as_ref()).map(|text| text.as_bytes());
    let bytes = body.and_then(|body| body.bytes.as_ref()).map(|bytes| bytes.0.as_slice());
    text.or(bytes).unwrap_or_default().into()
}

/// The length of the prefix that the match names; `None` when it names no prefix.
fn matched_prefix(when: Option<&HttpMatch>) -> Option<usize> {
    match when?.uri.as_ref()? {
        StringMatch::Prefix(prefix) => Some(prefix.len()),
        StringMatch::Present | StringMatch::Exact(_) | StringMatch::Regex(_) => None,
    }
}

fn compile_rewrite(
    context: &Context<'_>,
    entry: &Entry<'_, '_>,
    rewrite: &api::HttpRewrite,
    when: Option<&HttpMatch>,
) -> Option<Rewrite> {
    let path = match (&rewrite.uri, &rewrite.uri_regex_rewrite) {
        (Some(uri), _) => Some(match matched_prefix(when) {
            Some(matched) => PathRewrite::Prefix { matched, with: uri.as_str().into() },
            None => PathRewrite::Full(uri.as_str().into()),
        }),
        (None, Some(regex)) => regex_rewrite(context, entry, regex),
        (None, None) => None,
    };
    let authority = rewrite.authority.as_ref().and_then(|name| {
        let value = http::HeaderValue::from_str(name);
        if value.is_err() {
            let field = format!("{}.rewrite.authority", entry.field);
            let message = format!("`{name}` cannot be sent as Host; write a host name, with a port if need be");
            context.report.error(entry.object, report::BAD_VALUE, &field, message);
        }
        value.ok()
    });
    (path.is_some() || authority.is_some()).then_some(Rewrite { path, authority })
}

/// A substitution for a group that the expression does not have leaves every path as it is, in Istio too.
fn regex_rewrite(context: &Context<'_>, entry: &Entry<'_, '_>, regex: &api::RegexRewrite) -> Option<PathRewrite> {
    let field = |name: &str| format!("{}.rewrite.uriRegexRewrite.{name}", entry.field);
    let refuse = |name: &str, fault: Fault| {
        context.report.error(
            entry.object,
            report::BAD_VALUE,
            &field(name),
            format!("{fault}; the path stays as it is"),
        );
    };
    let pattern = context.expressions.part(&regex.pattern).map_err(|fault| refuse("match", fault)).ok()?;
    let with = Substitution::new(&regex.rewrite).map_err(|fault| refuse("rewrite", fault)).ok()?;
    let (asked, there) = (with.highest_group(), pattern.groups());
    if asked > there {
        let message =
            format!("`\\{asked}` stands for a group, and the expression has {there}; the path stays as it is");
        context.report.warning(entry.object, report::BAD_VALUE, &field("rewrite"), message);
    }
    Some(PathRewrite::Regex { pattern, with })
}
