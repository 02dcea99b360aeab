//! One file: its documents, its objects, and everything that is wrong with them.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::class::{Class, Kind};
use super::document::{self, Document};
use super::source::forget_places;
use super::yaml::{self, Fault};
use super::{AnyObject, Object, Source, digest, position};
use crate::api::check::{BAD_VALUE, Finding, Findings, MISSING_FIELD, UNKNOWN_FIELD};
use crate::api::decode::{Reading, decode};
use crate::api::{
    Deployment, DestinationRule, Gateway, Issuer, ObjectMeta, PeerAuthentication, ServiceEntry, VirtualService,
    WorkloadEntry,
};
use crate::problem::{ObjectRef, Place, Problem, Severity};

/// What a file holds. Cheap to clone, so that a file that did not change need not be read again.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The good objects, in the order of the file.
    pub objects: Vec<AnyObject>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Objects that are named in the file but broken: their last good version should keep serving.
    pub broken: Vec<ObjectRef>,
    /// Something in the file could not even be named: nothing that the file held before may be forgotten.
    pub unreadable: bool,
}

impl Parsed {
    /// A file that could not be opened or is not text; `reason` is a sentence.
    pub fn unreadable(file: &str, reason: &str) -> Self {
        let problem = Problem {
            code: "unreadable-file",
            severity: Severity::Error,
            object: ObjectRef::default(),
            field: String::new(),
            place: Some(Place { file: file.into(), line: 1, column: 1 }),
            message: reason.to_owned(),
        };
        Self { problems: vec![problem], unreadable: true, ..Self::default() }
    }
}

/// Problems of one file that are kept one by one.
const MOST: usize = 1000;

impl Parsed {
    /// Keeps no more problems than somebody could ever read, and counts the rest. Nothing of what serves depends on them.
    fn limit(&mut self, file: &str) {
        self.problems.iter_mut().for_each(Problem::clip);
        let more = self.problems.split_off(self.problems.len().min(MOST));
        let Some(severity) = more.iter().map(|problem| problem.severity).min() else { return };
        self.problems.push(Problem {
            code: "more-problems",
            severity,
            object: ObjectRef::default(),
            field: String::new(),
            place: Some(more[0].place.clone().unwrap_or_else(|| Place { file: file.into(), line: 1, column: 1 })),
            message: format!("and {} more problems from here to the end of this file", more.len()),
        });
    }
}

/// Reads every document of a YAML or JSON file. A broken one is reported and hides no other.
pub fn parse_file(file: &str, text: &str) -> Parsed {
    let mut reader = Reader { file: file.into(), parsed: Parsed::default(), ignored: BTreeSet::new() };
    for document in document::split(text) {
        reader.document(&document);
    }
    reader.parsed.limit(file);
    forget_places();
    reader.parsed
}

/// Reads one object as an API server gives it. Its problems have no place.
pub fn parse_object(object: &Value) -> Parsed {
    let mut reader = Reader { file: Arc::default(), parsed: Parsed::default(), ignored: BTreeSet::new() };
    reader.object(object, &Source::unplaced());
    reader.parsed.problems.iter_mut().for_each(Problem::clip);
    reader.parsed
}

struct Reader {
    file: Arc<str>,
    parsed: Parsed,
    /// Foreign kinds that were already named.
    ignored: BTreeSet<String>,
}

impl Reader {
    fn document(&mut self, document: &Document<'_>) {
        let source = Source::new(Arc::clone(&self.file), document.text.into(), document.first_line);
        match yaml::parse(document.text) {
            Ok(Value::Null) => {}
            Ok(Value::Object(object)) => self.object(&Value::Object(object), &source),
            Ok(_) => {
                let message = "the document is not an object; a mapping with apiVersion, kind and metadata is wanted";
                self.broken(ObjectRef::default(), &source, Finding::error("", "bad-document", message));
            }
            Err(fault) => self.not_yaml(fault, document, &source),
        }
    }

    fn not_yaml(&mut self, fault: Fault, document: &Document<'_>, source: &Source) {
        let (line, column) = fault.at.unwrap_or((source.leading_lines() + 1, 1));
        let mut message = fault.message;
        let mut field = String::new();
        if fault.code == yaml::DUPLICATE_KEY
            && let Some((path, first)) =
                yaml::positions(document.text).and_then(|tree| position::twin(&tree, (line, column)))
        {
            field = path;
            let first = source.at(first.0, first.1);
            message = format!("{message}, the first is in line {} column {}", first.line, first.column);
        }
        let object = document.guess();
        let place = Some(source.at(line, column));
        self.parsed.problems.push(Problem {
            code: fault.code,
            severity: Severity::Error,
            object: object.clone(),
            field,
            place,
            message,
        });
        self.lose(object);
    }

    fn object(&mut self, object: &Value, source: &Source) {
        let identity = identity(object);
        let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if identity.kind.is_empty() {
            let message = "`kind` is missing; write for example `kind: VirtualService`";
            return self.broken(identity, source, Finding::error("kind", MISSING_FIELD, message));
        }
        if api_version.is_empty() && identity.kind != "List" {
            let wanted = Class::api_version_of(&identity.kind).unwrap_or_else(|| "v1".to_owned());
            let message = format!("`apiVersion` is missing; write `apiVersion: {wanted}`");
            return self.broken(identity, source, Finding::error("apiVersion", MISSING_FIELD, message));
        }
        match Class::of(api_version, &identity.kind) {
            Class::Quiet => {}
            Class::List => self.list(object, source),
            Class::Ours(kind) => self.ours(kind, identity, object, source),
            Class::WrongVersion(wanted) => {
                let message = format!("there is no {} in `{api_version}`; write `apiVersion: {wanted}`", identity.kind);
                self.broken(identity, source, Finding::error("apiVersion", BAD_VALUE, message));
            }
            class @ (Class::Unenforced | Class::Foreign) => self.ignore(class, api_version, identity, source),
        }
    }

    fn list(&mut self, list: &Value, source: &Source) {
        let Some(Value::Array(items)) = list.get("items") else {
            let message = "a List needs `items`, a list of objects";
            return self.broken(
                ObjectRef::new("List", "", ""),
                source,
                Finding::error("items", MISSING_FIELD, message),
            );
        };
        for (index, item) in items.iter().enumerate() {
            let source = source.item(index);
            if item.is_object() {
                self.object(item, &source);
            } else {
                let message = "the item is not an object; a mapping with apiVersion, kind and metadata is wanted";
                self.broken(ObjectRef::default(), &source, Finding::error("", "bad-document", message));
            }
        }
    }

    fn ignore(&mut self, class: Class, api_version: &str, object: ObjectRef, source: &Source) {
        let group = api_version.rsplit_once('/').map_or("the core group", |(group, _)| group);
        if !self.ignored.insert(format!("{group}/{}", object.kind)) {
            return;
        }
        let (severity, message) = match class {
            Class::Unenforced => {
                let text = format!("{} of {group} is not enforced: requests pass as if it were not there", object.kind);
                (Severity::Warning, text)
            }
            _ => (Severity::Info, format!("{} of {group} is ignored, it has no part in routing", object.kind)),
        };
        self.tell(object, source, Finding { field: "kind".to_owned(), code: "ignored-kind", severity, message });
    }

    fn ours(&mut self, kind: Kind, identity: ObjectRef, object: &Value, source: &Source) {
        let mut findings = Findings::default();
        let meta = metadata(kind, object, &mut findings);
        let spec = if kind.is_strict() { strict_spec(object, &mut findings) } else { None };
        let read = Input { kind, object, spec, source };
        let typed = read.typed(meta, &mut findings);
        let rejected = findings.has_errors();
        for finding in findings.into_vec() {
            self.tell(identity.clone(), source, finding);
        }
        match typed {
            Some(typed) if !rejected => self.parsed.objects.push(typed),
            _ => self.lose(identity),
        }
    }

    fn broken(&mut self, object: ObjectRef, source: &Source, finding: Finding) {
        self.tell(object.clone(), source, finding);
        self.lose(object);
    }

    fn tell(&mut self, object: ObjectRef, source: &Source, finding: Finding) {
        let Finding { field, code, severity, message } = finding;
        // Nobody will read those behind the first thousand, and a place costs as much as a document.
        let place = source.place(if self.parsed.problems.len() < MOST { &field } else { "" });
        self.parsed.problems.push(Problem { code, severity, object, field, place, message });
    }

    fn lose(&mut self, object: ObjectRef) {
        if object.is_complete() {
            self.parsed.broken.push(object);
        } else {
            self.parsed.unreadable = true;
        }
    }
}

/// Kind, namespace and name as far as they are there, whatever else is wrong.
fn identity(object: &Value) -> ObjectRef {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = object.get("metadata");
    let name = text(metadata.and_then(|metadata| metadata.get("name")));
    let mut namespace = text(metadata.and_then(|metadata| metadata.get("namespace")));
    if namespace.is_empty() && !name.is_empty() {
        DEFAULT_NAMESPACE.clone_into(&mut namespace);
    }
    ObjectRef { kind: text(object.get("kind")), namespace, name }
}

const DEFAULT_NAMESPACE: &str = "default";

fn metadata(kind: Kind, object: &Value, findings: &mut Findings) -> Option<ObjectMeta> {
    let empty = Value::Object(Map::new());
    let metadata = object.get("metadata").unwrap_or(&empty);
    let reading = Reading { strict: false, quote_values: kind != Kind::Secret };
    let mut meta: ObjectMeta = decode(metadata, "metadata", reading, findings)?;
    if meta.namespace.is_empty() {
        DEFAULT_NAMESPACE.clone_into(&mut meta.namespace);
    }
    meta.check(kind == Kind::Gateway, findings);
    keep_what_is_read(kind, &mut meta);
    Some(meta)
}

/// Forgets what nobody reads: annotations that hold the whole object again, and, of kinds that come by the thousand,
/// the uid and all annotations that are neither Istio's nor ours (an EndpointSlice carries the time of its last change there).
fn keep_what_is_read(kind: Kind, meta: &mut ObjectMeta) {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let many = matches!(kind, Kind::Pod | Kind::EndpointSlice);
    meta.uid = meta.uid.take().filter(|_| !many);
    meta.annotations.retain(|key, _| match many {
        true => key.contains("istio.io/") || key.contains("sluice.dev/"),
        false => key != LAST_APPLIED,
    });
}

/// The `spec` of one of Istio's kinds or of ours; beside it only the usual four fields may stand.
fn strict_spec<'v>(object: &'v Value, findings: &mut Findings) -> Option<&'v Value> {
    const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    for key in object.as_object()?.keys().filter(|key| !FIELDS.contains(&key.as_str())) {
        let message = format!("there is no field `{key}` here; what the object asks for stands below `spec`");
        findings.add(Finding::error(key, UNKNOWN_FIELD, message));
    }
    object.get("spec").filter(|spec| !spec.is_null())
}

struct Input<'v> {
    kind: Kind,
    object: &'v Value,
    spec: Option<&'v Value>,
    source: &'v Source,
}

impl Input<'_> {
    fn typed(&self, meta: Option<ObjectMeta>, findings: &mut Findings) -> Option<AnyObject> {
        Some(match self.kind {
            Kind::Gateway => AnyObject::Gateway(self.strict(meta, findings, Gateway::check)?),
            Kind::VirtualService => AnyObject::VirtualService(self.strict(meta, findings, VirtualService::check)?),
            Kind::DestinationRule => AnyObject::DestinationRule(self.strict(meta, findings, DestinationRule::check)?),
            Kind::ServiceEntry => AnyObject::ServiceEntry(self.strict(meta, findings, ServiceEntry::check)?),
            Kind::WorkloadEntry => AnyObject::WorkloadEntry(self.strict(meta, findings, WorkloadEntry::check)?),
            Kind::PeerAuthentication => {
                AnyObject::PeerAuthentication(self.strict(meta, findings, PeerAuthentication::check)?)
            }
            Kind::Issuer => {
                let name = meta.as_ref().map_or(String::new(), |meta| meta.name.clone());
                let check = |issuer: &Issuer, findings: &mut Findings| issuer.check(&name, findings);
                AnyObject::Issuer(self.strict(meta, findings, check)?)
            }
            Kind::Secret => AnyObject::Secret(self.kubernetes(meta, findings)?),
            Kind::Service => AnyObject::Service(self.kubernetes(meta, findings)?),
            Kind::EndpointSlice => AnyObject::EndpointSlice(self.kubernetes(meta, findings)?),
            Kind::Pod => AnyObject::Pod(self.kubernetes(meta, findings)?),
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet => {
                AnyObject::Deployment(self.kubernetes::<Deployment>(meta, findings)?)
            }
        })
    }

    fn strict<T: DeserializeOwned>(
        &self,
        meta: Option<ObjectMeta>,
        findings: &mut Findings,
        check: impl Fn(&T, &mut Findings),
    ) -> Option<Arc<Object<T>>> {
        // A missing spec is an empty one: the checks name what must be there.
        let empty = Value::Object(Map::new());
        let reading = Reading { strict: true, quote_values: true };
        let spec: T = decode(self.spec.unwrap_or(&empty), "spec", reading, findings)?;
        // What an unknown field was meant to be is missing elsewhere, which would be told twice.
        if !findings.has(UNKNOWN_FIELD) {
            findings.within("spec", |findings| check(&spec, findings));
        }
        let digest = digest::of_spec(self.kind.name(), self.object);
        Some(self.assemble(meta?, spec, digest))
    }

    fn kubernetes<T: DeserializeOwned + Hash>(
        &self,
        meta: Option<ObjectMeta>,
        findings: &mut Findings,
    ) -> Option<Arc<Object<T>>> {
        let reading = Reading { strict: false, quote_values: self.kind != Kind::Secret };
        let spec = decode(self.object, "", reading, findings)?;
        let digest = digest::of_kubernetes(self.kind.name(), &spec);
        Some(self.assemble(meta?, spec, digest))
    }

    fn assemble<T>(&self, meta: ObjectMeta, spec: T, content: u64) -> Arc<Object<T>> {
        let digest = digest::with_meta(&meta, content);
        Arc::new(Object { kind: self.kind, meta, spec, source: self.source.clone(), digest })
    }
}
