//! From a rule as it is written to what is compared, for requests and for bytes.

use super::trust;
use crate::{
    api::authorization_policy::{Action, Field, Key, Operation, Rule, Source},
    authorization::{
        attribute::{Address, Attribute},
        pattern::Pattern,
        rule::{Check, Wanted},
    },
};

/// What the rules are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    Requests,
    /// Connections that nobody looks into: what only HTTP has is never found, so an ALLOW rule that asks for it allows
    /// nothing, and other rules go without it.
    Bytes,
}

/// A rule's three parts.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) from: Vec<Vec<Check>>,
    pub(super) to: Vec<Vec<Check>>,
    pub(super) when: Vec<Check>,
}

/// A rule, and what of it cannot be decided here, by field and key.
pub(super) struct Translated {
    /// `None`: it never matches.
    pub(super) parts: Option<Parts>,
    pub(super) unsupported: Vec<(String, String)>,
}

/// That a rule never matches.
struct Never;

struct Translator<'a> {
    namespace: &'a str,
    action: Action,
    subject: Subject,
    domains: &'a [String],
    unsupported: Vec<(String, String)>,
}

/// Translates a rule of a policy of `namespace`.
pub(super) fn translate(
    rule: &Rule,
    namespace: &str,
    (action, subject): (Action, Subject),
    domains: &[String],
) -> Translated {
    let mut translator = Translator { namespace, action, subject, domains, unsupported: Vec::new() };
    let parts = translator.rule(rule).ok();
    Translated { parts, unsupported: translator.unsupported }
}

impl Translator<'_> {
    fn rule(&mut self, rule: &Rule) -> Result<Parts, Never> {
        let mut parts = Parts::default();
        for source in rule.from.iter().flatten().filter_map(|from| from.source.as_ref()) {
            parts.from.push(self.fields(Source::fields(source))?);
        }
        for operation in rule.to.iter().flatten().filter_map(|to| to.operation.as_ref()) {
            parts.to.push(self.fields(Operation::fields(operation))?);
        }
        // Every condition is looked at, so that each that is not supported is told.
        let mut never = false;
        for (number, condition) in rule.when.iter().enumerate() {
            for (negated, values) in [(false, &condition.values), (true, &condition.not_values)] {
                if values.is_empty() {
                    continue;
                }
                let found = match Key::of_condition(&condition.key) {
                    Ok(key) => self.check(key, negated, values),
                    Err(_) => Err(Unfit::Unsupported),
                };
                match found {
                    Ok(Some(check)) => parts.when.push(check),
                    Ok(None) => {}
                    Err(Unfit::Never) => never = true,
                    Err(Unfit::Unsupported) => {
                        let told = (format!("when[{number}].key"), condition.key.clone());
                        if !self.unsupported.contains(&told) {
                            self.unsupported.push(told);
                        }
                        never |= matches!(self.action, Action::Allow | Action::Audit);
                    }
                }
            }
        }
        if never { Err(Never) } else { Ok(parts) }
    }

    fn fields<'f>(&self, fields: impl IntoIterator<Item = (Field<'f>, Field<'f>)>) -> Result<Vec<Check>, Never> {
        let mut checks = Vec::new();
        for ((key, _, values), (_, _, not_values)) in fields {
            for (negated, values) in [(false, values), (true, not_values)] {
                if values.is_empty() {
                    continue;
                }
                match self.check(key, negated, values) {
                    Ok(check) => checks.extend(check),
                    // Fields hold nothing that is not supported: their checks have refused it.
                    Err(_) if self.action == Action::Deny || self.action == Action::Custom => {}
                    Err(_) => return Err(Never),
                }
            }
        }
        Ok(checks)
    }

    /// `None`: it is left out.
    fn check(&self, key: Key<'_>, negated: bool, values: &[String]) -> Result<Option<Check>, Unfit> {
        if self.subject == Subject::Bytes && key.is_http_only() {
            return if self.action == Action::Allow { Err(Unfit::Never) } else { Ok(None) };
        }
        let wanted = self.wanted(key, values).ok_or(Unfit::Unsupported)?;
        Ok(Some(Check::new(negated, wanted)))
    }

    fn wanted(&self, key: Key<'_>, values: &[String]) -> Option<Wanted> {
        let of = |attribute: Attribute, pattern: fn(&str) -> Pattern| {
            Some(Wanted::Texts(attribute, values.iter().map(|value| pattern(value)).collect()))
        };
        match key {
            Key::SourcePrincipal => {
                let names = values.iter().flat_map(|value| trust::principals(value, self.domains));
                Some(Wanted::Texts(Attribute::Principal, names.map(|name| Pattern::of(&name)).collect()))
            }
            Key::SourceTrustDomain => {
                let names = values.iter().flat_map(|value| trust::renamed(value, self.domains));
                Some(Wanted::Texts(Attribute::TrustDomain, names.map(|name| Pattern::of(&name)).collect()))
            }
            Key::SourceServiceAccount => {
                let suffixes = values.iter().map(|value| {
                    let (namespace, account) = value.split_once('/').unwrap_or((self.namespace, value));
                    Pattern::Suffix(format!("/ns/{namespace}/sa/{account}").into())
                });
                Some(Wanted::Texts(Attribute::Principal, suffixes.collect()))
            }
            Key::RequestPrincipal => Some(Wanted::Tokens(values.iter().map(|value| token(value)).collect())),
            Key::SourceIp => blocks(Address::Source, values),
            Key::RemoteIp => blocks(Address::Remote, values),
            Key::DestinationIp => blocks(Address::Destination, values),
            Key::DestinationPort => {
                let ports: Option<Vec<u16>> = values.iter().map(|value| value.parse().ok()).collect();
                ports.map(Wanted::Ports)
            }
            Key::Host => of(Attribute::Host, |value| Pattern::of_header(&value.to_ascii_lowercase())),
            Key::Header(name) => of(Attribute::of_header(name)?, Pattern::of_header),
            Key::Method => of(Attribute::Method, Pattern::of_header),
            Key::Path => of(Attribute::Path, Pattern::of_path),
            Key::SourceNamespace => of(Attribute::Namespace, Pattern::of_namespace),
            Key::Sni => of(Attribute::Sni, Pattern::of),
            Key::Audiences => of(Attribute::Audience, Pattern::of),
            Key::Presenter => of(Attribute::Presenter, Pattern::of),
            Key::Claims(path) => of(claim(path)?, Pattern::of),
            Key::EnvoyMetadata => None,
        }
    }
}

/// Why a comparison cannot be made.
enum Unfit {
    /// Its rule never matches.
    Never,
    /// Nobody here knows what it is about.
    Unsupported,
}

fn blocks(address: Address, values: &[String]) -> Option<Wanted> {
    let blocks: Option<Vec<_>> = values.iter().map(|value| value.parse().ok()).collect();
    Some(Wanted::Blocks(address, blocks?))
}

/// `[a][b]`.
fn claim(path: &str) -> Option<Attribute> {
    let inner = path.strip_prefix('[')?.strip_suffix(']')?;
    Some(Attribute::Claim(inner.split("][").map(Box::from).collect()))
}

/// Issuer and subject of `ISSUER/SUBJECT`, which the last slash parts as issuers are URLs; a `*` counts at one end of it all.
fn token(value: &str) -> (Pattern, Pattern) {
    let parts = value.rsplit_once('/');
    let exact = |text: &str| Pattern::Exact(text.into());
    if value == "*" {
        (Pattern::Present, Pattern::Present)
    } else if let Some(rest) = value.strip_prefix('*') {
        match parts {
            Some((issuer, subject)) => (Pattern::of(issuer), exact(subject)),
            None => (Pattern::Present, Pattern::Suffix(rest.into())),
        }
    } else if let Some(rest) = value.strip_suffix('*') {
        match parts {
            Some((issuer, "*")) => (exact(issuer), Pattern::Present),
            Some((issuer, subject)) => (exact(issuer), Pattern::Prefix(subject.trim_end_matches('*').into())),
            None => (Pattern::Prefix(rest.into()), Pattern::Present),
        }
    } else {
        let (issuer, subject) = parts.unwrap_or((value, ""));
        (exact(issuer), exact(subject))
    }
}
