//! Rules for AuthorizationPolicy.

mod values;

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, target_reference};
use crate::api::{
    AuthorizationPolicy,
    authorization_policy::{Action, Condition, Field, Key, Operation, Rule, Source},
};

/// A rule that means more for bytes than for requests.
const DENIES_BYTES: &str = "denies-bytes";

impl AuthorizationPolicy {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        let selector = self.selector.as_ref();
        target_reference::attachment(findings, selector, self.target_ref.as_ref(), &self.target_refs);
        self.action(findings);
        findings.each("rules", &self.rules, |findings, _, rule| rule.check(findings, self.action));
        self.bytes(findings);
    }

    /// Told once, however many rules it is so with: a policy is written for HTTP as a whole, or is not.
    fn bytes(&self, findings: &mut Findings) {
        let denies = |rule: &Rule| !rule.is_empty() && !rule.looks_at_connections();
        let numbered = self.rules.iter().enumerate().filter(|(_, rule)| denies(rule));
        let numbers: Vec<String> = numbered.map(|(number, _)| number.to_string()).collect();
        let which = match &numbers[..] {
            _ if self.action != Action::Deny => return,
            [] => return,
            [one] => format!("rule {one}"),
            several if several.len() == self.rules.len() => "every rule".to_owned(),
            several => format!("rules {}", several.join(", ")),
        };
        let message = format!(
            "of {which} nothing is left where bytes are not HTTP, so all of them are denied; name the ports that it is for in \
             `to.operation.ports`"
        );
        findings.warn_at("rules", DENIES_BYTES, message);
    }

    fn action(&self, findings: &mut Findings) {
        let provider = self.provider.as_ref().map(|provider| provider.name.as_str());
        match (self.action, provider) {
            (Action::Custom, None | Some("")) => {
                let message =
                    "CUSTOM asks somebody; name one of the mesh configuration's extensionProviders in provider.name";
                findings.error_at("provider", MISSING_FIELD, message);
            }
            (Action::Custom, Some(name)) if !super::names::is_dns_label(name) => {
                let message = format!(
                    "`{name}` is not the name of a provider; small letters, digits and `-` are wanted, at most 63"
                );
                findings.within("provider", |findings| findings.error_at("name", BAD_VALUE, message));
            }
            (Action::Custom, Some(_)) | (_, None) => {}
            (action, Some(_)) => {
                let message =
                    format!("only CUSTOM asks a provider; remove it, or write `action: CUSTOM` for {}", action.name());
                findings.error_at("provider", CONFLICT, message);
            }
        }
        if self.rules.is_empty() && matches!(self.action, Action::Deny | Action::Custom) {
            let message = format!(
                "{} without rules matches nothing; write `rules: [{{}}]` for everything, or say what it is for",
                self.action.name()
            );
            findings.error_at("rules", MISSING_FIELD, message);
        }
    }
}

impl Rule {
    fn check(&self, findings: &mut Findings, action: Action) {
        if let Some(from) = &self.from {
            not_empty(findings, "from", from.len());
            findings.each("from", from, |findings, _, from| match &from.source {
                None => findings.error_at("source", MISSING_FIELD, "source is missing; say who, or remove `from`"),
                Some(source) => findings.within("source", |findings| source.check(findings, action)),
            });
        }
        if let Some(to) = &self.to {
            not_empty(findings, "to", to.len());
            findings.each("to", to, |findings, _, to| match &to.operation {
                None => findings.error_at("operation", MISSING_FIELD, "operation is missing; say what, or remove `to`"),
                Some(operation) => findings.within("operation", |findings| operation.check(findings)),
            });
        }
        findings.each("when", &self.when, |findings, _, condition| condition.check(findings, action));
    }

    fn is_empty(&self) -> bool {
        self.from.is_none() && self.to.is_none() && self.when.is_empty()
    }

    /// Whether it asks for something that bytes have, too.
    fn looks_at_connections(&self) -> bool {
        let asks = |(key, _, values): Field<'_>| !values.is_empty() && !key.is_http_only();
        let sources = self.from.iter().flatten().filter_map(|from| from.source.as_ref());
        let operations = self.to.iter().flatten().filter_map(|to| to.operation.as_ref());
        sources.flat_map(Source::fields).any(|(field, not)| asks(field) || asks(not))
            || operations.flat_map(Operation::fields).any(|(field, not)| asks(field) || asks(not))
            || self.when.iter().any(|it| Key::of_condition(&it.key).is_ok_and(|key| !key.is_http_only()))
    }
}

fn not_empty(findings: &mut Findings, field: &'static str, length: usize) {
    if length == 0 {
        findings.error_at(field, MISSING_FIELD, format!("`{field}` is empty; remove it, or say what it is for"));
    }
}

impl Source {
    fn check(&self, findings: &mut Findings, action: Action) {
        let fields = self.fields();
        any_given(findings, &fields, "source");
        for (key, field, values) in fields.into_iter().flat_map(|(field, not)| [field, not]) {
            values::check(findings, field, key, values);
            if action == Action::Custom && key.is_of_identity() && !values.is_empty() {
                let message =
                    format!("CUSTOM asks before identities are looked at, so it cannot depend on {field}; remove it");
                findings.error_at(field, CONFLICT, message);
            }
        }
        let accounts =
            [("serviceAccounts", &self.service_accounts), ("notServiceAccounts", &self.not_service_accounts)];
        let others = [&self.principals, &self.not_principals, &self.namespaces, &self.not_namespaces];
        for (field, _) in accounts.into_iter().filter(|(_, values)| !values.is_empty()) {
            if others.iter().any(|values| !values.is_empty()) {
                let message =
                    format!("{field} says the whole identity, so principals and namespaces cannot stand beside it");
                findings.error_at(field, CONFLICT, message);
            }
        }
    }
}

impl Operation {
    fn check(&self, findings: &mut Findings) {
        let fields = self.fields();
        any_given(findings, &fields, "operation");
        for (key, field, values) in fields.into_iter().flat_map(|(field, not)| [field, not]) {
            values::check(findings, field, key, values);
        }
    }
}

impl Condition {
    fn check(&self, findings: &mut Findings, action: Action) {
        let key = match Key::of_condition(&self.key) {
            Ok(key) => key,
            Err(fault) => {
                let code = if self.key.is_empty() { MISSING_FIELD } else { BAD_VALUE };
                return findings.error_at("key", code, fault);
            }
        };
        if let Key::Header(name) = key
            && let Some(fault) = super::names::header_name_fault(name)
        {
            findings.error_at("key", BAD_VALUE, fault);
        }
        if action == Action::Custom && key.is_of_identity() {
            let message = format!("CUSTOM asks before identities are looked at, so it cannot depend on `{}`", self.key);
            findings.error_at("key", CONFLICT, message);
        }
        if self.values.is_empty() && self.not_values.is_empty() {
            let message = format!("`{}` is compared with nothing; give values, notValues or both", self.key);
            findings.error_at("values", MISSING_FIELD, message);
        }
        values::check(findings, "values", key, &self.values);
        values::check(findings, "notValues", key, &self.not_values);
    }
}

fn any_given(findings: &mut Findings, fields: &[(Field<'_>, Field<'_>)], what: &str) {
    if fields.iter().all(|((.., values), (.., not_values))| values.is_empty() && not_values.is_empty()) {
        findings.error(MISSING_FIELD, format!("the {what} says nothing; give at least one field, or remove the entry"));
    }
}

#[cfg(test)]
mod tests;
