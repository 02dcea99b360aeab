//! What is known of a policy that gave no object, so that it can fail closed where it would have held.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Kind, Rejection};
use crate::api::{TargetReference, authorization_policy::Action};

/// Istio's annotation for a policy that only counts what it would refuse.
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";

/// A policy that gave no object, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RejectedPolicy {
    /// What it asks for; `None`: nobody knows.
    pub action: Option<Action>,
    /// The labels that it selects; empty: all workloads of its namespace, also when its selector could not be read.
    pub selector: BTreeMap<String, String>,
    /// What it is attached to; empty, as above, also when one of them is nothing that a policy can be attached to.
    pub targets: Vec<TargetReference>,
    /// It would only have counted.
    pub dry_run: bool,
    /// Headers that only it would have set, in lower case: what a client says in one of them is believed by nobody.
    pub headers: BTreeSet<String>,
}

impl RejectedPolicy {
    /// Of a kind that closes something; `object` is null where not even YAML could be read.
    pub(super) fn of(kind: &str, object: &Value) -> Option<Self> {
        let is_authorization = kind == Kind::AuthorizationPolicy.name();
        if !is_authorization && kind != Kind::RequestAuthentication.name() {
            return None;
        }
        let spec = object.get("spec");
        // The other kind has none.
        let action = match spec.filter(|_| is_authorization).map(|spec| spec.get("action")) {
            Some(None | Some(Value::Null)) => Some(Action::Allow),
            Some(Some(Value::String(name))) => {
                let all = [Action::Allow, Action::Deny, Action::Audit, Action::Custom];
                all.into_iter().find(|action| action.name() == name)
            }
            _ => None,
        };
        let field = |name: &str| spec.and_then(|spec| spec.get(name)).filter(|value| !value.is_null());
        let attached: Vec<&Value> = ["targetRef", "targetRefs"].into_iter().filter_map(field).collect();
        let (mut selector, mut targets) = (BTreeMap::new(), Vec::new());
        match field("selector") {
            Some(written) if attached.is_empty() => selector = labels(written).unwrap_or_default(),
            // Nobody knows which of the two was meant.
            Some(_) => {}
            None => targets = references(&attached).unwrap_or_default(),
        }
        let dry_run = object.pointer("/metadata/annotations").and_then(|all| all.get(DRY_RUN)).and_then(Value::as_str);
        let dry_run = is_authorization && dry_run.and_then(truth).unwrap_or(false);
        let headers = spec.filter(|_| !is_authorization).map(outputs).unwrap_or_default();
        Some(Self { action, selector, targets, dry_run, headers })
    }

    /// Whether something is denied for its sake.
    pub fn closes(&self) -> bool {
        !self.dry_run && self.action != Some(Action::Audit)
    }

    /// Holds wherever this one or another one of the same name would have held.
    fn widen(&mut self, other: &Self) {
        if !other.closes() {
            return;
        }
        if !self.closes() {
            return self.clone_from(other);
        }
        self.headers.extend(other.headers.iter().cloned());
        if self.action != other.action {
            self.action = None;
        }
        if (&self.selector, &self.targets) != (&other.selector, &other.targets) {
            (self.selector, self.targets) = (BTreeMap::new(), Vec::new());
        }
    }
}

impl Rejection {
    /// Whether it is a policy for whose sake something is denied. A RequestAuthentication that is still a template asks for nothing.
    pub(crate) fn closes(&self) -> bool {
        let asks = !self.skipped || self.object.kind == Kind::AuthorizationPolicy.name();
        asks && self.policy.as_ref().is_some_and(RejectedPolicy::closes)
    }

    /// Stands for another one, too, which has the same name, or none like this one.
    pub(super) fn join(&mut self, other: Self) {
        match (&mut self.policy, other.policy) {
            (Some(policy), Some(other)) => policy.widen(&other),
            (None, Some(other)) => self.policy = Some(other),
            (_, None) => {}
        }
        self.skipped &= other.skipped;
    }
}

/// Labels that workloads may have. `None`: they cannot be read, or no workload can have them.
fn labels(selector: &Value) -> Option<BTreeMap<String, String>> {
    if selector.as_object()?.keys().any(|key| !matches!(key.as_str(), "matchLabels" | "match_labels")) {
        return None;
    }
    let labels = selector.get("matchLabels").or_else(|| selector.get("match_labels"))?.as_object()?;
    let label = |(key, value): (&String, &Value)| {
        let value = value.as_str()?;
        let plain = !key.is_empty() && !key.contains('*') && !value.contains('*');
        plain.then(|| (key.clone(), value.to_owned()))
    };
    labels.iter().map(label).collect()
}

/// What a policy can be attached to. `None`: one of them cannot be read, or is nothing of that.
fn references(written: &[&Value]) -> Option<Vec<TargetReference>> {
    let all = written.iter().flat_map(|written| match written {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(*one),
    });
    let reference = |written: &Value| {
        let text = |name: &str| Some(written.get(name).map_or(Some(""), Value::as_str)?.to_owned());
        let found =
            TargetReference { group: text("group")?, kind: text("kind")?, name: text("name")?, namespace: None };
        let own = written.get("namespace").is_none_or(Value::is_null);
        (own && found.is_attachable() && !found.name.is_empty()).then_some(found)
    };
    all.map(reference).collect()
}

/// A truth value in any of the spellings that Istio takes.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The headers that the rules of a RequestAuthentication set, as far as they can be read.
fn outputs(spec: &Value) -> BTreeSet<String> {
    let rules = spec.get("jwtRules").and_then(Value::as_array).into_iter().flatten();
    let names = rules.flat_map(|rule| {
        let claims = rule.get("outputClaimToHeaders").and_then(Value::as_array).into_iter().flatten();
        rule.get("outputPayloadToHeader").into_iter().chain(claims.filter_map(|claim| claim.get("header")))
    });
    names.filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: Value) -> RejectedPolicy {
        RejectedPolicy::of("AuthorizationPolicy", &json!({"metadata": {"name": "a"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_cannot_be_read_widens_it() {
        let picked = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let sound = read(json!({"selector": {"matchLabels": {"app": "web"}}, "action": "DENY", "rules": 3}));
        assert_eq!((sound.action, &sound.selector, sound.closes()), (Some(Action::Deny), &picked, true));
        for selector in [
            json!("app"),
            json!({"matchLabels": {"app": 1}}),
            json!({"matchLabels": {"app": "*"}}),
            json!({"matchLabel": {"app": "web"}}),
            json!({"matchLabels": {"app": "web"}, "matchExpressions": []}),
        ] {
            assert_eq!(read(json!({"selector": selector})).selector, BTreeMap::new(), "{selector}");
        }
        assert_eq!(read(json!({"action": "ALOW"})).action, None);
        assert_eq!(read(json!({})).action, Some(Action::Allow));
        assert_eq!(RejectedPolicy::of("AuthorizationPolicy", &Value::Null), Some(RejectedPolicy::default()));
        assert_eq!(RejectedPolicy::of("Gateway", &Value::Null), None);
    }

    #[test]
    fn what_only_counts_closes_nothing() {
        assert!(!read(json!({"action": "AUDIT"})).closes());
        let tried = json!({"metadata": {"annotations": {DRY_RUN: "true"}}, "spec": {"action": "DENY", "rules": 1}});
        assert!(!RejectedPolicy::of("AuthorizationPolicy", &tried).unwrap().closes());
        assert!(RejectedPolicy::default().closes());
        assert!(RejectedPolicy::of("RequestAuthentication", &tried).unwrap().closes());
    }

    #[test]
    fn targets_are_read_in_either_spelling() {
        let one = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"});
        assert_eq!(read(json!({"targetRef": one})).targets, read(json!({"targetRefs": [one]})).targets);
        assert!(read(json!({"targetRefs": [one]})).targets[0].is_gateway());
        assert!(read(json!({"targetRefs": [one, {"kind": "Gateway"}]})).targets.is_empty());
        let other = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "other"});
        assert_eq!(read(json!({"targetRef": one, "targetRefs": [other]})).targets.len(), 2);
    }

    #[test]
    fn what_nothing_can_be_attached_to_widens_it() {
        let good = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"});
        for wrong in [
            json!({"kind": "Gateway", "name": "edge"}),
            json!({"group": "gateway.networking.k8s.io", "kind": "Gatway", "name": "edge"}),
            json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "elsewhere"}),
        ] {
            assert!(read(json!({"targetRefs": [good, wrong]})).targets.is_empty(), "{wrong}");
            assert!(read(json!({"targetRef": wrong, "targetRefs": [good]})).targets.is_empty(), "{wrong}");
        }
        let both = read(json!({"selector": {"matchLabels": {"app": "web"}}, "targetRefs": [good]}));
        assert!(both.targets.is_empty() && both.selector.is_empty());
    }

    #[test]
    fn of_two_the_one_that_closes_more_counts() {
        let [web, shop, tried] = ["web", "shop", "web"]
            .map(|app| read(json!({"action": "DENY", "selector": {"matchLabels": {"app": app}}})));
        let tried = RejectedPolicy { dry_run: true, ..tried };
        let allow = RejectedPolicy { action: Some(Action::Allow), ..web.clone() };
        let joined = |one: &RejectedPolicy, other: &RejectedPolicy| {
            let mut one = one.clone();
            one.widen(other);
            one
        };
        assert_eq!(
            [joined(&web, &web), joined(&tried, &web), joined(&web, &tried)],
            [web.clone(), web.clone(), web.clone()]
        );
        assert_eq!(joined(&web, &shop), RejectedPolicy { selector: BTreeMap::new(), ..web.clone() });
        assert_eq!(joined(&web, &allow), RejectedPolicy { action: None, ..web });
    }
}
