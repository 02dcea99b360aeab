//! A request's line and headers as what is asked for.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, Method, header, request::Parts};

use super::{
    kinds::Kind,
    rbac::Attributes,
    refusal::Refusal,
    selector::Selector,
    state::State,
    store::{Form, View},
};

/// What is asked of which resource.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub(crate) verb: &'static str,
    /// The resource.
    pub(crate) kind: Arc<Kind>,
    /// The version of the path.
    pub(crate) version: String,
    /// Empty = all namespaces, or cluster scoped.
    pub(crate) namespace: String,
    /// Empty = all.
    pub(crate) name: String,
    /// `status`, `token`; empty = the main resource.
    pub(crate) sub: String,
    /// Query parameters.
    pub(crate) query: Query,
    /// How objects are to be shown.
    pub(crate) form: Form,
}

/// Query parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// Decodes a query string.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs =
            text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    /// A parameter; empty when it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// True for `true` and `1`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), "true" | "1")
    }

    /// A number; `None` when it is not there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |_| Refusal::bad_request(format!("Invalid value: \"{text}\": {name} must be a number"));
        text.parse().map(Some).map_err(wrong)
    }
}

impl Call {
    /// From a request's head; refuses paths that nothing is served at.
    pub(crate) fn parse(state: &State, head: &Parts) -> Result<Self, Refusal> {
        let path = decode(head.uri.path());
        let mut steps = path.trim_matches('/').split('/');
        let (group, version) = match steps.next() {
            Some("api") => ("", steps.next().unwrap_or_default()),
            Some("apis") => (steps.next().unwrap_or_default(), steps.next().unwrap_or_default()),
            _ => return Err(Refusal::no_such_path()),
        };
        let steps: Vec<&str> = steps.collect();
        let (namespace, plural, rest) = match steps.as_slice() {
            ["namespaces", namespace, plural, rest @ ..] if !matches!(*plural, "status" | "finalize") => {
                (*namespace, *plural, rest)
            }
            [plural, rest @ ..] => ("", *plural, rest),
            [] => return Err(Refusal::no_such_path()),
        };
        let kind = state.kind(group, version, plural).ok_or_else(Refusal::no_such_path)?;
        let (name, sub) = match rest {
            [] => ("", ""),
            [name] => (*name, ""),
            [name, sub] => (*name, *sub),
            _ => return Err(Refusal::no_such_path()),
        };
        let served = match sub {
            "" => true,
            "status" => kind.status,
            "token" => kind.plural == "serviceaccounts",
            _ => false,
        };
        if !served
            || (kind.namespaced && namespace.is_empty() && !name.is_empty())
            || (!kind.namespaced && !namespace.is_empty())
        {
            return Err(Refusal::no_such_path());
        }
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let verb =
            verb(&head.method, name, &query).filter(|verb| !kind.review || *verb == "create").ok_or_else(|| {
                Refusal::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            })?;
        Ok(Self {
            verb,
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sub: sub.to_owned(),
            query,
            form: form(&head.headers),
            kind,
        })
    }

    /// Plural, with `/status` where it is about the subresource.
    pub(crate) fn resource(&self) -> String {
        if self.sub.is_empty() { self.kind.plural.clone() } else { format!("{}/{}", self.kind.plural, self.sub) }
    }

    /// How objects are to be shown.
    pub(crate) fn view(&self) -> View<'_> {
        View { kind: &self.kind, version: &self.version, form: self.form }
    }

    /// The selectors.
    pub(crate) fn selector(&self) -> Result<Selector, Refusal> {
        Selector::parse(&self.kind, self.query.text("labelSelector"), self.query.text("fieldSelector"))
    }

    /// What roles have to permit.
    pub(crate) fn attributes(&self) -> Attributes {
        let selected = self.selector().ok().and_then(|selector| selector.name().map(str::to_owned));
        let is_namespace = self.kind.group.is_empty() && self.kind.plural == "namespaces";
        Attributes {
            verb: self.verb.to_owned(),
            group: self.kind.group.clone(),
            resource: self.resource(),
            namespace: if is_namespace { self.name.clone() } else { self.namespace.clone() },
            name: if self.name.is_empty() { selected.unwrap_or_default() } else { self.name.clone() },
        }
    }
}

fn verb(method: &Method, name: &str, query: &Query) -> Option<&'static str> {
    let one = !name.is_empty();
    match *method {
        Method::GET if query.flag("watch") && !one => Some("watch"),
        Method::GET if one => Some("get"),
        Method::GET => Some("list"),
        Method::POST => Some("create"),
        Method::PUT if one => Some("update"),
        Method::PATCH if one => Some("patch"),
        Method::DELETE if one => Some("delete"),
        Method::DELETE => Some("deletecollection"),
        _ => None,
    }
}

/// The first clause of Accept that this server has; tables are not among them, and clients then take plain objects.
fn form(headers: &HeaderMap) -> Form {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for clause in accepted.split(',').map(str::trim) {
        let kind = clause.split(';').find_map(|part| part.trim().strip_prefix("as="));
        match kind {
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Form::Metadata,
            Some(_) => {}
            None => return Form::Whole,
        }
    }
    Form::Whole
}

/// Percent and plus decoding.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, digits) {
            (b'%', Some(value)) => {
                plain.push(value);
                at += 2;
            }
            (b'+', _) => plain.push(b' '),
            _ => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}
