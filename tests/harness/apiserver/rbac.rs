//! Who asks, and whether the stored roles let them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::state::State;

/// Tokens, and whether roles are looked at.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// Users by token.
    pub(crate) tokens: BTreeMap<String, User>,
    /// Tokens that are for these audiences only.
    pub(crate) audiences: BTreeMap<String, Vec<String>>,
    /// True = roles decide; false = everybody may do everything.
    pub(crate) rbac: bool,
}

impl Access {
    /// A new token of this user.
    pub(crate) fn issue(&mut self, user: User) -> String {
        let token = format!("token-{:032x}", fastrand::u128(..));
        self.tokens.insert(token.clone(), user);
        token
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// `system:serviceaccount:NAMESPACE:NAME`, for instance.
    pub(crate) name: String,
    /// Groups.
    pub(crate) groups: Vec<String>,
}

/// What is asked for, as roles name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// `list`, for instance.
    pub(crate) verb: String,
    /// API group.
    pub(crate) group: String,
    /// Plural, with `/status` where it is about the subresource.
    pub(crate) resource: String,
    /// Empty = all namespaces, or cluster scoped.
    pub(crate) namespace: String,
    /// Empty = no certain one.
    pub(crate) name: String,
}

impl User {
    /// One with the groups that every user of this name is in.
    pub(crate) fn named(name: &str) -> Self {
        let mut groups = vec!["system:authenticated".to_owned()];
        if let Some((namespace, _)) = name.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':')) {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        Self { name: name.to_owned(), groups }
    }

    /// One of system:masters, who may do everything.
    pub(crate) fn admin() -> Self {
        let groups = vec!["system:authenticated".to_owned(), "system:masters".to_owned()];
        Self { name: "admin".to_owned(), groups }
    }

    /// Who sent no token.
    pub(crate) fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    /// As in the status of a TokenReview.
    pub(crate) fn described(&self) -> Value {
        json!({"username": self.name, "uid": self.name, "groups": self.groups})
    }

    fn is_subject(&self, subject: &Value, own_namespace: &str) -> bool {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => self.name == name,
            Some("Group") => self.groups.iter().any(|group| group == name),
            Some("ServiceAccount") => {
                let namespace = subject["namespace"].as_str().unwrap_or(own_namespace);
                self.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    }
}

impl State {
    /// True when the user may do this.
    pub(crate) fn allows(&self, user: &User, asked: &Attributes) -> bool {
        if !self.access.rbac || user.groups.iter().any(|group| group == "system:masters") {
            return true;
        }
        let own_review = asked.verb == "create" && asked.resource.starts_with("self");
        if own_review && user.groups.iter().any(|group| group == "system:authenticated") {
            return true;
        }
        let cluster = self.bound("ClusterRoleBinding", user, "");
        let local =
            if asked.namespace.is_empty() { Vec::new() } else { self.bound("RoleBinding", user, &asked.namespace) };
        cluster.into_iter().chain(local).any(|rule| permits(&rule, asked))
    }

    /// The rules that bindings of this kind give the user.
    fn bound(&self, binding: &str, user: &User, namespace: &str) -> Vec<Value> {
        let Some(kind) = self.called(binding) else { return Vec::new() };
        let mut rules = Vec::new();
        for (key, object) in self.objects(&kind).iter().filter(|(key, _)| key.0 == namespace) {
            let subjects = object.value["subjects"].as_array().into_iter().flatten();
            if !subjects.into_iter().any(|subject| user.is_subject(subject, &key.0)) {
                continue;
            }
            let role = &object.value["roleRef"];
            let Some(kind) = role["kind"].as_str().and_then(|name| self.called(name)) else { continue };
            let space = if kind.namespaced { namespace.to_owned() } else { String::new() };
            let key = (space, role["name"].as_str().unwrap_or_default().to_owned());
            if let Some(role) = self.find(&kind, &key) {
                rules.extend(role.value["rules"].as_array().into_iter().flatten().cloned());
            }
        }
        rules
    }
}

fn permits(rule: &Value, asked: &Attributes) -> bool {
    let lists = |field: &str, value: &str| {
        rule[field].as_array().into_iter().flatten().any(|item| item == value || item == "*")
    };
    let any_status = asked.resource.split_once('/').is_some_and(|(_, sub)| lists("resources", &format!("*/{sub}")));
    let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
    let named =
        names.is_none_or(|names| !asked.name.is_empty() && names.iter().any(|name| *name == asked.name.as_str()));
    named
        && lists("verbs", &asked.verb)
        && lists("apiGroups", &asked.group)
        && (any_status || lists("resources", &asked.resource))
}
