//! Delegates: the routes of another VirtualService in place of a root's route that names it.

mod merge;

use std::{borrow::Cow, cell::OnceCell, collections::HashMap};

use super::{
    context::Context,
    entry::{Entry, MatchPlace, Root},
    report::BAD_VALUE,
    routes::Binding,
    virtual_services::full_gateway,
};
use crate::{
    api::{
        VirtualService,
        virtual_service::{Delegate, HttpMatch, HttpRoute},
    },
    problem::Severity,
    resources::{Kind, Object},
};

const UNKNOWN_DELEGATE: &str = "unknown-delegate";
const CONFLICT: &str = "delegate-conflict";

/// How many routes name each delegate, by namespace and name; counted when somebody asks.
#[derive(Default)]
pub(super) struct Roots(OnceCell<HashMap<(String, String), usize>>);

impl Roots {
    fn are_several(&self, context: &Context<'_>, delegate: &Object<VirtualService>) -> bool {
        let counts = self.0.get_or_init(|| {
            let mut counts = HashMap::new();
            for root in context.resources.virtual_services.iter().filter(|root| !root.spec.hosts.is_empty()) {
                for delegate in root.spec.http.iter().filter_map(|route| route.delegate.as_ref()) {
                    let namespace = delegate.namespace.as_deref().unwrap_or_else(|| root.namespace());
                    *counts.entry((namespace.to_owned(), delegate.name.clone())).or_default() += 1;
                }
            }
            counts
        });
        counts.get(&(delegate.namespace().to_owned(), delegate.name().to_owned())).is_some_and(|count| *count > 1)
    }
}

/// One route of a delegate, joined with the root's route that names the delegate.
pub(super) struct Joined<'a> {
    root: &'a Object<VirtualService>,
    root_field: String,
    object: &'a Object<VirtualService>,
    field: String,
    written: &'a HttpRoute,
    route: HttpRoute,
    matches: Vec<MatchPlace>,
}

impl<'a> Joined<'a> {
    /// What is to be compiled.
    pub(super) fn entry<'s>(&'s self, binding: &'s Binding<'s>) -> Entry<'s, 'a> {
        let root =
            Root { object: self.root, field: self.root_field.clone(), written: self.written, matches: &self.matches };
        Entry { object: self.object, route: &self.route, field: self.field.clone(), binding, root: Some(root) }
    }
}

/// What a root's route becomes: a route for each of the delegate's whose matches fit into its own. Nothing when there is no
/// such delegate: as in Istio the root's route is not there then.
pub(super) fn expand<'a>(
    context: &Context<'a>,
    root: &'a Object<VirtualService>,
    index: usize,
    delegate: &Delegate,
) -> Vec<Joined<'a>> {
    let Some(object) = find(context, root, index, delegate) else { return Vec::new() };
    let own = qualified(context, &root.spec.http[index], root.namespace());
    let routes = object.spec.http.iter().enumerate();
    let joined = routes.filter(|(_, written)| written.delegate.is_none()).filter_map(|(number, written)| {
        let field = format!("spec.http[{number}]");
        match merge::routes(&own, &qualified(context, written, object.namespace())) {
            Ok((route, matches)) => {
                let root_field = format!("spec.http[{index}]");
                Some(Joined { root, root_field, object, field, written, route, matches })
            }
            Err(conflict) => {
                let message = format!(
                    "{}, so this route is not served for spec.http[{index}] of VirtualService {}/{}; a delegate can only \
                     narrow what its root matches",
                    conflict.why,
                    root.namespace(),
                    root.name()
                );
                // What does not fit below one root may be meant for another.
                let severity = if context.roots.are_several(context, object) { Severity::Warning } else { Severity::Error };
                let field = format!("{field}.match[{}]", conflict.number);
                context.report.add(object, (severity, CONFLICT), &field, message);
                None
            }
        }
    });
    joined.collect()
}

/// The delegate, when there is one that the root may use.
fn find<'a>(
    context: &Context<'a>,
    root: &'a Object<VirtualService>,
    index: usize,
    delegate: &Delegate,
) -> Option<&'a Object<VirtualService>> {
    const LOST: &str = "so this route is not served";
    let namespace = delegate.namespace.as_deref().unwrap_or_else(|| root.namespace());
    let field = format!("spec.http[{index}].delegate.name");
    let Some(object) = context.resources.virtual_services.get(namespace, &delegate.name) else {
        let absence = context.absent(root, UNKNOWN_DELEGATE, Kind::VirtualService, (namespace, &delegate.name));
        context.report.absent(root, &field, absence, &format!(", {LOST}"));
        return None;
    };
    if !object.spec.hosts.is_empty() {
        let message = format!(
            "VirtualService {namespace}/{} has hosts, so it is no delegate, {LOST}; remove its hosts",
            delegate.name
        );
        context.report.error(root, BAD_VALUE, &field, message);
        return None;
    }
    if !may_use(context, root, object) {
        let message = format!(
            "VirtualService {namespace}/{} is not exported to the namespace `{}`, {LOST}; add that to its exportTo",
            delegate.name,
            root.namespace()
        );
        context.report.error(root, BAD_VALUE, &field, message);
        return None;
    }
    context.memory.read(object);
    Some(object)
}

fn may_use(context: &Context<'_>, root: &Object<VirtualService>, delegate: &Object<VirtualService>) -> bool {
    let default = &context.proxy.mesh.config.default_virtual_service_export_to;
    let export_to = if delegate.spec.export_to.is_empty() { default } else { &delegate.spec.export_to };
    is_exported(export_to, delegate.namespace(), root.namespace())
}

/// The routes that a root's route becomes, for who only wants to know them: nothing is told of what is wrong. `None`: there is
/// no such delegate.
pub(super) fn routes_of(
    context: &Context<'_>,
    root: &Object<VirtualService>,
    route: &HttpRoute,
    delegate: &Delegate,
) -> Option<Vec<HttpRoute>> {
    let namespace = delegate.namespace.as_deref().unwrap_or_else(|| root.namespace());
    let object = context.resources.virtual_services.get(namespace, &delegate.name)?;
    if !object.spec.hosts.is_empty() || !may_use(context, root, object) {
        return Some(Vec::new());
    }
    let own = qualified(context, route, root.namespace());
    let leaves = object.spec.http.iter().filter(|leaf| leaf.delegate.is_none());
    let joined = leaves.filter_map(|leaf| merge::routes(&own, &qualified(context, leaf, namespace)).ok());
    Some(joined.map(|(route, _)| route).collect())
}

fn is_exported(export_to: &[String], namespace: &str, to: &str) -> bool {
    export_to.is_empty() || export_to.iter().any(|one| one == "*" || one == to || (one == "." && namespace == to))
}

/// A route with the names in full that mean something else in another namespace and may be handed on.
fn qualified<'r>(context: &Context<'_>, route: &'r HttpRoute, namespace: &str) -> Cow<'r, HttpRoute> {
    let gateways = route.matches.iter().any(|when| !when.gateways.is_empty());
    if !gateways && route.mirror.is_none() && route.mirrors.is_empty() {
        return Cow::Borrowed(route);
    }
    let mut route = route.clone();
    for gateway in route.matches.iter_mut().flat_map(|when: &mut HttpMatch| &mut when.gateways) {
        *gateway = full_gateway(gateway, namespace);
    }
    let mirrors = route.mirrors.iter_mut().filter_map(|mirror| mirror.destination.as_mut());
    for destination in mirrors.chain(&mut route.mirror) {
        destination.host = context.full_host(&destination.host, namespace);
    }
    Cow::Owned(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegate_is_used_from_the_namespaces_that_it_is_exported_to() {
        let exported = |to: &[&str], root: &str| {
            let to: Vec<String> = to.iter().map(|one| (*one).to_owned()).collect();
            is_exported(&to, "team", root)
        };
        assert!(exported(&[], "edge") && exported(&["*"], "edge") && exported(&["edge", "other"], "edge"));
        assert!(exported(&["."], "team"));
        assert!(!exported(&["."], "edge") && !exported(&["other"], "edge") && !exported(&["~"], "edge"));
    }
}
