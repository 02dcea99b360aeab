//! RequestAuthentications, RateLimits and Telemetries that hold for a workload or at a gateway, for those who explain them to people.

use super::{
    context::Context, inbound::own_port, limits::targets, selection::Workload, telemetry, workloads::WorkloadFacts,
};
use crate::{
    api::{RateLimit, RequestAuthentication, Telemetry},
    limits::Target,
    resources::{Kind, Object, Rejection},
};

/// An object that holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HoldingCheck<'a> {
    /// RequestAuthentication, RateLimit or Telemetry.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name; empty where not even that can be read.
    pub name: &'a str,
    /// Whether it picks workloads by their labels, or is attached to something.
    pub narrow: bool,
    /// Of what it asks: issuers, names of limits, or what is told otherwise than usual; `None`: it cannot be read.
    pub asks: Option<Vec<String>>,
}

/// All that hold for what comes to a workload: RequestAuthentications first, then by namespace and name; Telemetries last, the
/// widest first.
pub(super) fn of_workload<'a>(context: &Context<'a>, facts: &WorkloadFacts) -> Vec<HoldingCheck<'a>> {
    let workload = Workload::new(&context.proxy.root_namespace, &facts.namespace, &facts.labels);
    let limits = context.resources.rate_limits.iter().filter(|object| {
        let spec = &object.spec;
        let leads = |name: &str| {
            let host = format!("{name}.{}.svc.{}", object.namespace(), context.proxy.cluster_domain);
            let service = context.services.named(&host);
            service.is_some_and(|it| it.ports.iter().any(|port| own_port(facts, it, port).is_some()))
        };
        match spec.target_refs.is_empty() {
            true => workload.is_picked(object.namespace(), spec.selector.as_ref(), []),
            false => spec.target_refs.iter().any(|it| it.kind == "Service" && leads(&it.name)),
        }
    });
    let near = |it: &Rejection| [&facts.namespace, &context.proxy.root_namespace].contains(&&it.object.namespace);
    let unread = targets::unread(context).filter(|it| near(it)).map(|it| of_unread(it, false));
    let mut all = sorted(tokens(context, &workload), limits.map(|object| of_limit(object)).chain(unread));
    all.extend(telemetry::holding(context, &workload).into_iter().map(of_telemetry));
    all
}

/// All that hold at a gateway for the hosts of a Gateway (`namespace/name`) and the routes of VirtualServices.
pub(super) fn of_gateway<'a>(context: &Context<'a>, gateway: &str, sources: &[&str]) -> Vec<HoldingCheck<'a>> {
    let limits = context.resources.rate_limits.iter().filter(|object| {
        let named =
            object.spec.target_refs.iter().any(|it| {
                it.kind == "Gateway" && gateway.split_once('/') == Some((object.namespace(), it.name.as_str()))
            });
        targets::of(context, object, None).iter().any(|target| match target {
            Target::Proxy => true,
            Target::Gateway(_) => named,
            Target::Routes(source, _) => sources.contains(&&**source),
            Target::Ports(_) => false,
        })
    });
    // Elsewhere it could only have named something of its own namespace.
    let own =
        |it: &Rejection| [&context.proxy.namespace, &context.proxy.root_namespace].contains(&&it.object.namespace);
    let names = std::iter::once(gateway).chain(sources.iter().copied());
    let served = |it: &Rejection| {
        names.clone().any(|name| name.split_once('/').is_some_and(|(namespace, _)| namespace == it.object.namespace))
    };
    let unread = targets::unread(context).filter(|it| own(it) || served(it)).map(|it| of_unread(it, !own(it)));
    let workload = Workload::of(context.proxy);
    let mut all = sorted(tokens(context, &workload), limits.map(|object| of_limit(object)).chain(unread));
    all.extend(telemetry::holding(context, &workload).into_iter().map(of_telemetry));
    all
}

fn tokens<'a>(context: &Context<'a>, workload: &Workload<'_>) -> Vec<HoldingCheck<'a>> {
    let all = context.resources.request_authentications.iter();
    let read = all.filter(|it| workload.is_picked(it.namespace(), it.spec.selector.as_ref(), it.spec.targets()));
    let kind = Kind::RequestAuthentication.name();
    let rejected = context.resources.rejected().values().filter(|it| it.object.kind == kind);
    let rejected = rejected.filter(|it| it.closes() && workload.may_be_picked(it)).map(|it| HoldingCheck {
        kind,
        namespace: &it.object.namespace,
        name: &it.object.name,
        narrow: it.policy.as_ref().is_some_and(|policy| !policy.selector.is_empty() || !policy.targets.is_empty()),
        asks: None,
    });
    read.map(|object| of_tokens(object)).chain(rejected).collect()
}

fn of_tokens(object: &Object<RequestAuthentication>) -> HoldingCheck<'_> {
    let spec = &object.spec;
    let labelled = spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    HoldingCheck {
        kind: Kind::RequestAuthentication.name(),
        namespace: object.namespace(),
        name: object.name(),
        narrow: labelled || spec.targets().next().is_some(),
        asks: Some(spec.jwt_rules.iter().map(|rule| rule.issuer.clone()).collect()),
    }
}

fn of_telemetry(object: &Object<Telemetry>) -> HoldingCheck<'_> {
    let spec = &object.spec;
    let signals = [
        ("metrics", spec.metrics.is_empty()),
        ("traces", spec.tracing.is_empty()),
        ("access logs", spec.access_logging.is_empty()),
    ];
    HoldingCheck {
        kind: Kind::Telemetry.name(),
        namespace: object.namespace(),
        name: object.name(),
        narrow: !spec.is_wide(),
        asks: Some(signals.iter().filter(|(_, none)| !none).map(|(name, _)| (*name).to_owned()).collect()),
    }
}

fn of_limit(object: &Object<RateLimit>) -> HoldingCheck<'_> {
    let spec = &object.spec;
    let labelled = spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    let name = |(number, given): (usize, &Option<String>)| given.clone().unwrap_or_else(|| number.to_string());
    HoldingCheck {
        kind: Kind::RateLimit.name(),
        namespace: object.namespace(),
        name: object.name(),
        narrow: labelled || !spec.target_refs.is_empty(),
        asks: Some(spec.rules.iter().map(|rule| &rule.name).enumerate().map(name).collect()),
    }
}

/// One that would have limited something, perhaps here.
fn of_unread(rejection: &Rejection, narrow: bool) -> HoldingCheck<'_> {
    let object = &rejection.object;
    HoldingCheck { kind: Kind::RateLimit.name(), namespace: &object.namespace, name: &object.name, narrow, asks: None }
}

fn sorted<'a>(
    mut tokens: Vec<HoldingCheck<'a>>,
    limits: impl Iterator<Item = HoldingCheck<'a>>,
) -> Vec<HoldingCheck<'a>> {
    let mut limits: Vec<_> = limits.collect();
    for all in [&mut tokens, &mut limits] {
        all.sort_by_key(|it| (it.namespace, it.name));
    }
    tokens.extend(limits);
    tokens
}
