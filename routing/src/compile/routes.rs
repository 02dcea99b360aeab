//! One VirtualService to routes: a rule for each match entry, in order.

use std::{cell::RefCell, collections::HashSet, sync::Arc, time::Duration};

use super::{
    conditions::{self, Refused},
    context::Context,
    cors, delegates, destinations,
    entry::Entry,
    faults,
    header_ops::{self, Way},
    mirrors, report,
    retries::retries,
    virtual_services::{Bound, full_gateway},
};
use crate::{
    api::{
        StringMatch,
        virtual_service::{self as api, HttpMatch, HttpRoute},
    },
    pattern::RouteMatch,
    re2::{Fault, Substitution},
    retries::Retries,
    rule::{
        Action, Destination, Destinations, DirectResponse, PathRewrite, Redirect, RedirectPath, RedirectPort, Rewrite,
        Rule,
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

/// The routes of a VirtualService, up to the first that every request follows.
pub(super) fn compile<'a>(context: &Context<'a>, bound: &Bound<'a>, binding: &Binding<'_>) -> Vec<Route> {
    let object = bound.object;
    let source: Arc<str> = format!("{}/{}", object.namespace(), object.name()).into();
    let mut routes = Vec::new();
    for (index, route) in object.spec.http.iter().enumerate() {
        let ended = match &route.delegate {
            Some(delegate) => {
                let joined = delegates::expand(context, object, index, delegate);
                joined.iter().any(|joined| add(context, &joined.entry(binding), &source, &mut routes))
            }
            None => {
                let entry = Entry { object, route, field: format!("spec.http[{index}]"), binding, root: None };
                add(context, &entry, &source, &mut routes)
            }
        };
        // As Istio: what comes behind is not emitted, and does not come to life when VirtualServices are merged.
        if ended {
            break;
        }
    }
    routes
}

/// Adds the routes of one entry. `true`: every request follows the last of them.
fn add(context: &Context<'_>, entry: &Entry<'_, '_>, source: &Arc<str>, routes: &mut Vec<Route>) -> bool {
    if entry.route.matches.is_empty() {
        routes.push(Route { when: RouteMatch::default(), rule: rule(context, entry, None, source) });
        return true;
    }
    for (number, when) in entry.route.matches.iter().enumerate() {
        if !applies(context, entry, when) {
            continue;
        }
        match conditions::compile(&context.expressions, when) {
            Ok(compiled) => {
                let ends = compiled.is_catch_all();
                routes.push(Route { when: compiled, rule: rule(context, entry, Some(when), source) });
                if ends {
                    return true;
                }
            }
            Err(refused) => {
                let closes = refused.closes;
                refuse(context, entry, number, refused);
                if closes {
                    routes.push(Route { when: RouteMatch::default(), rule: closed(source) });
                    return true;
                }
            }
        }
    }
    false
}

/// Whether the parts of a match that do not look at requests hold: `port`, and `gateways`, else `sourceLabels` and
/// `sourceNamespace`.
fn applies(context: &Context<'_>, entry: &Entry<'_, '_>, when: &HttpMatch) -> bool {
    if when.port.is_some_and(|port| port != 0 && port != entry.binding.port) {
        return false;
    }
    if !when.gateways.is_empty() {
        let namespace = entry.object.namespace();
        return when.gateways.iter().any(|gateway| entry.binding.gateways.contains(&full_gateway(gateway, namespace)));
    }
    let namespace = when.source_namespace.as_ref().is_none_or(|name| *name == context.proxy.namespace);
    namespace && context.proxy.selected_by(&when.source_labels)
}

fn refuse(context: &Context<'_>, entry: &Entry<'_, '_>, number: usize, refused: Refused) {
    let (object, field) = entry.match_place(number);
    context.report.error(object, refused.code, &format!("{field}.{}", refused.field), refused.message);
}

fn rule(context: &Context<'_>, entry: &Entry<'_, '_>, when: Option<&HttpMatch>, source: &Arc<str>) -> Arc<Rule> {
    let route = entry.route;
    let headers = route.headers.as_ref();
    let ops = |ops: Option<&api::HeaderOperations>, way: Way| {
        let (object, field) = entry.place(|route| route.headers.is_some());
        header_ops::compile(context, object, ops?, way, &format!("{field}.headers.{}", way.name())).boxed()
    };
    let action = action(context, entry, when);
    let cors = route.cors_policy.as_ref().filter(|_| matches!(action, Action::Route(_)));
    Arc::new(Rule {
        name: name(route, when),
        own_name: route.name.as_ref().map_or(0, String::len),
        source: source.clone(),
        action,
        timeout: route.timeout.map(Duration::from).filter(|timeout| !timeout.is_zero()),
        retries: route.retries.as_ref().or(context.proxy.mesh.retries()).map(retries).and_then(Retries::boxed),
        mirrors: mirrors::compile(context, entry),
        rewrite: route
            .rewrite
            .as_ref()
            .and_then(|rewrite| compile_rewrite(context, entry, rewrite, when))
            .map(Box::new),
        fault: route.fault.as_ref().and_then(faults::fault),
        cors: cors.map(|policy| cors::compile(context, entry, policy)),
        request_headers: ops(headers.and_then(|headers| headers.request.as_ref()), Way::Request),
        response_headers: ops(headers.and_then(|headers| headers.response.as_ref()), Way::Response),
        tally: Arc::default(),
    })
}

/// In place of a match that cannot be looked at and of all that follows it: what it should have kept from there is not known.
fn closed(source: &Arc<str>) -> Arc<Rule> {
    let body = "the regular expressions of this configuration are too large, and one that decides here is not read\n";
    let action = Action::Direct(DirectResponse { status: 503, body: body.as_bytes().into() });
    Arc::new(Rule::new("closed", source.clone(), action))
}

/// Istio's route name: the route's own, with the match's behind a dot; empty when neither has one.
fn name(route: &HttpRoute, when: Option<&HttpMatch>) -> Arc<str> {
    match (&route.name, when.and_then(|when| when.name.as_ref())) {
        (Some(route), Some(when)) => format!("{route}.{when}").into(),
        (Some(route), None) => route.as_str().into(),
        (None, Some(when)) => format!(".{when}").into(),
        (None, None) => Arc::default(),
    }
}

fn action(context: &Context<'_>, entry: &Entry<'_, '_>, when: Option<&HttpMatch>) -> Action {
    let route = entry.route;
    if let Some(redirect) = &route.redirect {
        return match redirect_code(redirect.redirect_code) {
            Some(code) => Action::Redirect(Box::new(compile_redirect(redirect, code, when))),
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
        let body = context.bodies.share(body(direct.body.as_ref()));
        return Action::Direct(DirectResponse { status: direct.status, body });
    }
    let all = destinations::compile(context, entry);
    if all.is_empty() {
        return Action::Route(nowhere("none"));
    }
    let total = all.iter().map(|destination| destination.weight).fold(0, u32::saturating_add);
    Action::Route(Destinations { all: all.into(), total })
}

/// A destination that does not exist: 503, flag NC.
fn nowhere(name: &str) -> Destinations {
    Destinations::one(Destination::new(None, name.into()))
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

fn body(body: Option<&api::HttpBody>) -> &[u8] {
    let text = body.and_then(|body| body.string.as_ref()).map(|text| text.as_bytes());
    let bytes = body.and_then(|body| body.bytes.as_ref()).map(|bytes| bytes.0.as_slice());
    text.or(bytes).unwrap_or_default()
}

/// The bodies of direct responses: a delegate's are served for each of its roots, a match's for each of its route.
#[derive(Default)]
pub(super) struct Bodies(RefCell<HashSet<Arc<[u8]>>>);

impl Bodies {
    fn share(&self, body: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.0.borrow().get(body) {
            return known.clone();
        }
        let body: Arc<[u8]> = body.into();
        self.0.borrow_mut().insert(body.clone());
        body
    }
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
            let (object, field) = entry.place(|route| route.rewrite.is_some());
            let message = format!("`{name}` cannot be sent as Host; write a host name, with a port if need be");
            context.report.error(object, report::BAD_VALUE, &format!("{field}.rewrite.authority"), message);
        }
        value.ok()
    });
    (path.is_some() || authority.is_some()).then_some(Rewrite { path, authority })
}

/// A substitution for a group that the expression does not have leaves every path as it is, in Istio too.
fn regex_rewrite(context: &Context<'_>, entry: &Entry<'_, '_>, regex: &api::RegexRewrite) -> Option<PathRewrite> {
    let (object, route) = entry.place(|route| route.rewrite.is_some());
    let field = |name: &str| format!("{route}.rewrite.uriRegexRewrite.{name}");
    let refuse = |name: &str, fault: Fault| {
        let message = format!("{fault}; the path stays as it is");
        context.report.error(object, report::BAD_VALUE, &field(name), message);
    };
    let pattern = context.expressions.part(&regex.pattern).map_err(|fault| refuse("match", fault)).ok()?;
    let with = Substitution::new(&regex.rewrite).map_err(|fault| refuse("rewrite", fault)).ok()?;
    let (asked, there) = (with.highest_group(), pattern.groups());
    if asked > there {
        let message =
            format!("`\\{asked}` stands for a group, and the expression has {there}; the path stays as it is");
        context.report.warning(object, report::BAD_VALUE, &field("rewrite"), message);
    }
    Some(PathRewrite::Regex { pattern, with })
}
