//! Names of routes in a RateLimit: those that no route has, which would be silent.

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    api::{RateLimit, VirtualService, virtual_service::HttpRoute},
    compile::{context::Context, delegates},
    resources::{Extent, Object},
};

/// A name that no route has.
const UNKNOWN_ROUTE: &str = "unknown-route";
/// A rule that can never apply.
const IDLE: &str = "idle-limit";
/// Names that a message lists.
const LISTED: usize = 8;

type Names = BTreeSet<String>;

/// What routes are called; gathered once in a compilation, when somebody asks.
#[derive(Default)]
pub(in crate::compile) struct RouteNames {
    /// Of all VirtualServices.
    all: OnceCell<Names>,
    /// Of those that a RateLimit names, by namespace and name.
    of: RefCell<HashMap<(String, String), Arc<Names>>>,
}

impl RouteNames {
    fn all(&self, context: &Context<'_>) -> &Names {
        // A delegate's routes are called as those of its root say.
        let roots = || context.resources.virtual_services.iter().filter(|it| !it.spec.hosts.is_empty());
        self.all.get_or_init(|| roots().flat_map(|service| names(context, service)).collect())
    }

    fn of(&self, context: &Context<'_>, service: &Object<VirtualService>) -> Arc<Names> {
        let key = (service.namespace().to_owned(), service.name().to_owned());
        let mut known = self.of.borrow_mut();
        Arc::clone(known.entry(key).or_insert_with(|| Arc::new(names(context, service))))
    }
}

/// Tells of them.
pub(super) fn review(context: &Context<'_>, object: &Object<RateLimit>) {
    let spec = &object.spec;
    for (index, target) in spec.target_refs.iter().enumerate().filter(|(_, it)| it.kind == "VirtualService") {
        let service = context.resources.virtual_services.get(object.namespace(), &target.name);
        let (Some(name), Some(service)) = (&target.section_name, service) else { continue };
        let known = context.route_names.of(context, service);
        if !known.contains(name) {
            let field = format!("spec.targetRefs[{index}].sectionName");
            let place = format!("of VirtualService {}/{}", service.namespace(), service.name());
            context.report.warning(object, UNKNOWN_ROUTE, &field, unknown(name, &place, &[&known]));
        }
    }
    let asked = || spec.rules.iter().flat_map(|rule| &rule.matches).any(|one| !one.routes.is_empty());
    if !asked() {
        return;
    }
    routes(context, object);
    services(context, object);
}

/// A workload's own side has no routes: what comes to it is past them.
fn services(context: &Context<'_>, object: &Object<RateLimit>) {
    let spec = &object.spec;
    let at_workloads = |kind: &str| kind == "Service";
    if spec.target_refs.is_empty() || !spec.target_refs.iter().all(|it| at_workloads(&it.kind)) {
        return;
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        if !rule.matches.is_empty() && rule.matches.iter().all(|one| !one.routes.is_empty()) {
            let message = "what comes to a Service's workloads is past all routes, so this rule limits nothing; choose by paths or \
                           hosts, or name a Gateway or VirtualService in targetRefs";
            context.report.warning(object, IDLE, &format!("spec.rules[{index}].match"), message);
        }
    }
}

fn routes(context: &Context<'_>, object: &Object<RateLimit>) {
    let services = &context.resources.virtual_services;
    let targets = object.spec.target_refs.iter().filter(|it| it.kind == "VirtualService");
    let named: Vec<_> = targets.filter_map(|it| services.get(object.namespace(), &it.name)).collect();
    let alone = !named.is_empty() && named.len() == object.spec.target_refs.len();
    let named: Vec<_> = named.into_iter().map(|service| context.route_names.of(context, service)).collect();
    let known: Vec<&Names> = match alone {
        true => named.iter().map(|names| &**names).collect(),
        false => vec![context.route_names.all(context)],
    };
    // A part of the files says little of what routes there are.
    if known.iter().all(|names| names.is_empty()) && !alone && context.resources.extent() == Extent::Part {
        return;
    }
    let place = if alone { "of the VirtualServices that it names" } else { "of a VirtualService" };
    for (index, rule) in object.spec.rules.iter().enumerate() {
        for (number, one) in rule.matches.iter().enumerate() {
            let is_known = |name: &String| known.iter().any(|names| names.contains(name));
            for (at, name) in one.routes.iter().enumerate().filter(|(_, name)| !is_known(name)) {
                let field = format!("spec.rules[{index}].match[{number}].routes[{at}]");
                context.report.warning(object, UNKNOWN_ROUTE, &field, unknown(name, place, &known));
            }
        }
    }
}

fn unknown(name: &str, place: &str, known: &[&Names]) -> String {
    // The first of all are among the first of each.
    let first: BTreeSet<&str> =
        known.iter().flat_map(|names| names.iter().take(LISTED + 1)).map(String::as_str).collect();
    let there = match first.len() {
        0 => "its routes have no names".to_owned(),
        several => {
            let listed: Vec<&str> = first.into_iter().take(LISTED).collect();
            let more = if several > LISTED { ", ..." } else { "" };
            format!("there are {}{more}", listed.join(", "))
        }
    };
    format!("no route {place} is called `{name}`, so nothing is limited by it; {there}")
}

/// What the routes of a VirtualService are called, those that its delegates give it among them.
fn names(context: &Context<'_>, service: &Object<VirtualService>) -> Names {
    let mut all = Names::new();
    for route in &service.spec.http {
        match route.delegate.as_ref().map(|delegate| delegates::routes_of(context, service, route, delegate)) {
            // Of a delegate that is not there nobody knows what its routes add to the name.
            None | Some(None) => add(&mut all, route),
            Some(Some(joined)) => joined.iter().for_each(|route| add(&mut all, route)),
        }
    }
    all
}

/// The name of a route, and those with the names of its matches.
fn add(all: &mut Names, route: &HttpRoute) {
    all.extend(route.name.clone());
    let own = route.name.as_deref().unwrap_or_default();
    all.extend(route.matches.iter().filter_map(|when| Some(format!("{own}.{}", when.name.as_ref()?))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile::Proxy, resources::Resources};

    const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: shop}
spec:
  hosts: [a.example]
  http:
  - {name: R, match: [{name: rm, uri: {prefix: /a}}, {uri: {prefix: /b}}], delegate: {name: leaf}}
  - {name: gone, delegate: {name: gone}}
  - {match: [{name: m, uri: {prefix: /c}}], directResponse: {status: 200}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: shop}
spec:
  http:
  - {name: L, match: [{name: lm, uri: {prefix: /a/1}}], directResponse: {status: 200}}
  - {match: [{uri: {prefix: /b/1}}], directResponse: {status: 200}}
  - {name: never, match: [{uri: {prefix: /z}}], directResponse: {status: 200}}
";

    fn limit(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: policy.sluice.dev/v1alpha1\nkind: RateLimit\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
        )
    }

    fn within<T>(text: &str, act: impl FnOnce(&Context<'_>) -> T) -> T {
        let (resources, problems) = Resources::read([("a.yaml", text)]);
        assert!(problems.is_empty(), "{problems:?}");
        act(&Context::new(&resources, &Proxy::default()))
    }

    #[test]
    fn routes_of_delegates_are_called_as_they_are_joined() {
        let all = within(ROUTES, |context| context.route_names.all(context).iter().cloned().collect::<Vec<_>>());
        assert_eq!(all, [".m", "R", "R-L", "R-L.rm-lm", "gone"]);
    }

    #[test]
    fn names_are_gathered_when_one_is_asked_for_and_once() {
        let rules = "rules: [{match: [{routes: [R-L]}], limit: {requests: 1}}]";
        let target = "targetRefs: [{group: networking.istio.io, kind: VirtualService, name: root}]";
        let gathered = |limits: &[String]| {
            within(&format!("{ROUTES}{}", limits.concat()), |context| {
                let before = context.route_names.all.get().map(std::ptr::from_ref);
                context.resources.rate_limits.iter().for_each(|object| review(context, object));
                assert_eq!(before, None);
                let all = context.route_names.all.get().map(std::ptr::from_ref);
                context.resources.rate_limits.iter().for_each(|object| review(context, object));
                assert_eq!(context.route_names.all.get().map(std::ptr::from_ref), all);
                assert_eq!(context.report.told(), 0);
                (all.is_some(), context.route_names.of.borrow().len())
            })
        };
        assert_eq!(gathered(&[limit("a", "rules: [{limit: {requests: 1}}]")]), (false, 0));
        assert_eq!(
            gathered(&[limit("a", &format!("{target}, {rules}")), limit("b", &format!("{target}, {rules}"))]),
            (false, 1)
        );
        assert_eq!(gathered(&[limit("a", rules), limit("b", rules)]), (true, 0));
    }
}
