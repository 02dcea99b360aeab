//! The AuthorizationPolicies that hold for one workload, as rules.

pub(super) mod holding;
pub(super) mod kept;
mod rules;
#[cfg(test)]
mod tests;
mod trust;

use std::{collections::BTreeSet, sync::Arc};

use super::{context::Context, report::UNSUPPORTED, selection::Workload};
use crate::{
    api::{AuthorizationPolicy, authorization_policy::Action},
    authorization::{Authorization, Gathered, rule::Rule},
    problem::Severity,
    resources::{DRY_RUN, Kind, Object, Rejection, Resources, truth},
};
use kept::Kept;
use rules::{Subject, Translated};

/// A CUSTOM policy whose provider cannot be asked.
const PROVIDER: &str = "unknown-provider";
/// A policy that gave no object, so that it fails closed.
const FAILS_CLOSED: &str = "fails-closed";

/// The policies that hold for a workload, by namespace and name.
pub(super) fn holding<'a>(
    resources: &'a Resources,
    workload: &Workload<'_>,
) -> Vec<&'a Arc<Object<AuthorizationPolicy>>> {
    let all = resources.authorization_policies.iter();
    let picked = all.filter(|it| workload.is_picked(it.namespace(), it.spec.selector.as_ref(), it.spec.targets()));
    let mut picked: Vec<_> = picked.collect();
    picked.sort_by_key(|object| (object.namespace(), object.name()));
    picked
}

/// Policies that gave no object and would have held for a workload, or may have.
pub(super) fn failing<'a>(resources: &'a Resources, workload: &Workload<'_>) -> Vec<&'a Rejection> {
    let all = resources.rejected().values().filter(|it| it.object.kind == Kind::AuthorizationPolicy.name());
    all.filter(|it| it.closes() && workload.may_be_picked(it)).collect()
}

/// Whether a policy is only tried.
pub(super) fn is_tried(object: &Object<AuthorizationPolicy>) -> bool {
    object.meta.annotations.get(DRY_RUN).and_then(|written| truth(written)).unwrap_or(false)
}

/// `None`: there is no policy for this proxy. `is_known` says which providers can be asked.
pub(super) fn compile(context: &Context<'_>, is_known: impl Fn(&str) -> bool) -> Option<Arc<Authorization>> {
    let workload = Workload::of(context.proxy);
    let policies = holding(context.resources, &workload);
    let failing = failing(context.resources, &workload);
    if policies.is_empty() && failing.is_empty() {
        return None;
    }
    let told = context.report.told();
    let askable = askable(context, &policies, is_known);
    let memory = &context.memory;
    let before = memory.policies_before.as_ref().filter(|_| failing.is_empty());
    let again = before.and_then(|kept| kept.again(&policies, &askable)).filter(|_| context.report.told() == told);
    let made = again.unwrap_or_else(|| Arc::new(make(context, &policies, &failing, &askable)));
    if failing.is_empty() && context.report.told() == told {
        *memory.policies.borrow_mut() = Some(Kept::new(&policies, &askable, &made));
    }
    Some(made)
}

fn make(
    context: &Context<'_>,
    policies: &[&Arc<Object<AuthorizationPolicy>>],
    failing: &[&Rejection],
    askable: &Option<Arc<str>>,
) -> Authorization {
    let domains = context.proxy.mesh.trust_domains(&context.proxy.trust_domain);
    let (mut http, mut bytes) = (Gathered::default(), Gathered::default());
    for object in policies {
        for (gathered, subject) in [(&mut http, Subject::Requests), (&mut bytes, Subject::Bytes)] {
            gather(context, gathered, object, (subject, &domains), askable);
        }
    }
    for rejection in failing {
        close(&mut http, rejection);
        close(&mut bytes, rejection);
        tell(context, rejection);
    }
    Authorization::new(http, bytes)
}

/// The provider that this workload's CUSTOM policies ask. `None`: there is none that can be asked, or there are several, as
/// Istio wants one for each workload; what these policies match is denied then.
fn askable(
    context: &Context<'_>,
    policies: &[&Arc<Object<AuthorizationPolicy>>],
    is_known: impl Fn(&str) -> bool,
) -> Option<Arc<str>> {
    let custom = policies.iter().filter(|it| it.spec.action == Action::Custom && !is_tried(it));
    let named: Vec<_> = custom.filter_map(|it| Some((it, it.spec.provider.as_ref()?.name.as_str()))).collect();
    let names: BTreeSet<&str> = named.iter().map(|(_, name)| *name).collect();
    for (object, name) in &named {
        if names.len() > 1 {
            let all: Vec<&str> = names.iter().copied().collect();
            let message = format!(
                "the CUSTOM policies of one workload ask one provider, and here they are {}; what this policy matches is denied",
                all.join(", ")
            );
            context.report.error(object, PROVIDER, "spec.provider.name", message);
        } else if !is_known(name) {
            let message = format!(
                "no provider `{name}` can be asked, so what this policy matches is denied; name one of the mesh \
                 configuration's extensionProviders"
            );
            context.report.error(object, PROVIDER, "spec.provider.name", message);
        }
    }
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(only), None) if is_known(only) => Some(only.into()),
        _ => None,
    }
}

/// Adds the rules of a policy.
fn gather(
    context: &Context<'_>,
    gathered: &mut Gathered,
    object: &Object<AuthorizationPolicy>,
    (subject, domains): (Subject, &[String]),
    askable: &Option<Arc<str>>,
) {
    let spec = &object.spec;
    let tried = is_tried(object);
    let target = match (spec.action, tried) {
        (Action::Allow, false) => gathered.allow.get_or_insert_default(),
        (Action::Allow, true) => gathered.tried_allow.get_or_insert_default(),
        (Action::Deny, false) => &mut gathered.deny,
        (Action::Deny, true) => &mut gathered.tried_deny,
        (Action::Audit, false) => &mut gathered.audit,
        (Action::Custom, false) if askable.is_some() => &mut gathered.custom,
        (Action::Custom, false) => &mut gathered.deny,
        (Action::Audit | Action::Custom, true) => {
            let message =
                "only ALLOW and DENY can be tried, so this policy does nothing; remove istio.io/dry-run to have it";
            return context.report.warning(object, UNSUPPORTED, &format!("metadata.annotations[{DRY_RUN:?}]"), message);
        }
    };
    for (number, rule) in spec.rules.iter().enumerate() {
        let Translated { parts, unsupported } =
            rules::translate(rule, object.namespace(), (spec.action, subject), domains);
        for (field, key) in unsupported {
            let message = format!("nobody here says what `{key}` is, {}", consequence(spec.action));
            context.report.error(object, UNSUPPORTED, &format!("spec.rules[{number}].{field}"), message);
        }
        let Some(parts) = parts else { continue };
        let id = id(object.namespace(), object.name(), &number.to_string());
        let provider = askable.clone().filter(|_| spec.action == Action::Custom);
        target.push(Rule { id, provider, from: parts.from, to: parts.to, when: parts.when });
    }
}

fn consequence(action: Action) -> &'static str {
    match action {
        Action::Allow => "so this rule allows nothing; remove the condition, or say it with another key",
        Action::Audit => "so this rule marks nothing; remove the condition, or say it with another key",
        Action::Deny => "so this rule denies as if the condition were met; say it with another key",
        Action::Custom => "so this rule asks as if the condition were met; say it with another key",
    }
}

fn id(namespace: &str, name: &str, rule: &str) -> Arc<str> {
    format!("ns[{namespace}]-policy[{name}]-rule[{rule}]").into()
}

/// Denies what a policy might have denied; one that would have allowed something allows nothing.
fn close(gathered: &mut Gathered, rejection: &Rejection) {
    let action = rejection.policy.as_ref().and_then(|policy| policy.action);
    if action == Some(Action::Allow) {
        gathered.allow.get_or_insert_default();
    } else {
        let object = &rejection.object;
        gathered.deny.push(Rule::everything(id(&object.namespace, &object.name, "rejected")));
    }
}

fn tell(context: &Context<'_>, rejection: &Rejection) {
    let allow = rejection.policy.as_ref().is_some_and(|policy| policy.action == Some(Action::Allow));
    let effect = if allow { "allows nothing here" } else { "denies everything here" };
    let place =
        rejection.place.as_ref().map(|place| format!(", see {}:{}", place.file, place.line)).unwrap_or_default();
    let message = format!("{} cannot be read, so it {effect} until it can{place}", rejection.object);
    context.report.general(Severity::Error, FAILS_CLOSED, message);
}
