//! One file: its documents, its objects, and everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::class::{Class, Kind};
use super::document::{self, Document};
use super::foreign::Foreign;
use super::legacy;
use super::parsed::{MOST, Parsed, SKIPPED};
use super::rejected_policy::{DRY_RUN, truth};
use super::shares;
use super::source::forget_places;
use super::template::{self, Skip};
use super::yaml::{self, Fault};
use super::{AnyObject, Object, RejectedPolicy, RejectedServer, Rejection, Source, digest, position};
use crate::api::check::{BAD_VALUE, Finding, Findings, MISSING_FIELD, UNKNOWN_FIELD, mesh_config};
use crate::api::decode::{Reading, decode};
use crate::api::{
    AuthorizationPolicy, Deployment, DestinationRule, Gateway, Issuer, ObjectMeta, PeerAuthentication, ProxyConfig,
    RateLimit, RequestAuthentication, ServiceEntry, Sidecar, Telemetry, VirtualService, WorkloadEntry, WorkloadGroup,
};
use crate::locality::{REGION, SUBZONE, ZONE};
use crate::problem::{ObjectRef, Place, Problem, Severity};

/// Reads every document of a YAML or JSON file. A broken one is reported and hides no other. Threads share what is large.
pub fn parse_file(file: &str, text: &str) -> Parsed {
    let name: Arc<str> = file.into();
    let read = |documents: &[Document<'_>]| {
        let mut reader = Reader { file: Arc::clone(&name), parsed: Parsed::default(), ignored: BTreeSet::new() };
        documents.iter().for_each(|document| reader.document(document));
        forget_places();
        reader.parsed
    };
    let mut parts = shares::work(&document::split(text), |document| document.text.len(), read).into_iter();
    let mut parsed = parts.next().unwrap_or_default();
    parts.for_each(|part| parsed.append(part));
    parsed.limit(file);
    parsed
}

/// As [`parse_file`] for several of them, as (name, text). Threads share what is much.
pub fn parse_files(files: &[(String, String)]) -> Vec<Parsed> {
    let read = |files: &[(String, String)]| -> Vec<Parsed> {
        files.iter().map(|(file, text)| parse_file(file, text)).collect()
    };
    shares::work(files, |(_, text)| text.len(), read).concat()
}

/// Reads one object as an API server gives it. Its problems have no place.
pub fn parse_object(object: &Value) -> Parsed {
    let mut reader = Reader { file: Arc::default(), parsed: Parsed::default(), ignored: BTreeSet::new() };
    reader.object(object, &Source::unplaced());
    reader.parsed.problems.iter_mut().for_each(Problem::clip);
    reader.parsed
}

pub(super) struct Reader {
    file: Arc<str>,
    pub(super) parsed: Parsed,
    /// Foreign kinds that were already named.
    ignored: BTreeSet<String>,
}

impl Reader {
    fn document(&mut self, document: &Document<'_>) {
        let source = Source::new(Arc::clone(&self.file), document.text.into(), document.first_line);
        match yaml::parse(document.text) {
            Ok(Value::Null) => {}
            Ok(Value::Object(object)) => self.object(&Value::Object(object), &source),
            Ok(Value::Array(items)) if let Some(skip) = template::of_list(&items) => {
                self.note(&source, skip);
            }
            Ok(_) => {
                let message = "the document is not an object; a mapping with apiVersion, kind and metadata is wanted";
                self.broken(ObjectRef::default(), &Value::Null, &source, Finding::error("", "bad-document", message));
            }
            Err(fault) => self.not_yaml(fault, document, &source),
        }
    }

    fn not_yaml(&mut self, fault: Fault, document: &Document<'_>, source: &Source) {
        if let Some(line) = template::line_of_template(document.text) {
            return self.skip_at(document.guess(), Some(source.at(line, 1)), Skip::template());
        }
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
            place: place.clone(),
            message,
        });
        let policy = RejectedPolicy::of(&object.kind, &Value::Null);
        self.lose(Rejection { object, hosts: Vec::new(), servers: Vec::new(), place, skipped: false, policy });
    }

    fn object(&mut self, object: &Value, source: &Source) {
        let identity = identity(object);
        let skip = object.as_object().and_then(|fields| template::of_no_object(fields, &self.file));
        if let Some(skip) = skip {
            return self.note(source, skip);
        }
        let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if identity.kind.is_empty() {
            return self.without_kind(identity, object, source);
        }
        if api_version.is_empty() && identity.kind != "List" {
            let wanted = Class::api_version_of(&identity.kind).unwrap_or_else(|| "v1".to_owned());
            let message = format!("`apiVersion` is missing; write `apiVersion: {wanted}`");
            return self.broken(identity, object, source, Finding::error("apiVersion", MISSING_FIELD, message));
        }
        match Class::of(api_version, &identity.kind) {
            Class::Quiet => {}
            Class::List(kind) => self.list(object, kind.as_deref(), source),
            Class::Ours(Kind::ConfigMap) => {
                if super::mesh::is_one(&identity, object) {
                    self.mesh_config_map(identity, object, source);
                }
            }
            // What an API server holds was made already, and comes by the thousand.
            Class::Ours(kind) if self.file.is_empty() => self.ours(kind, identity, object, source),
            Class::Ours(kind) => match template::of_object(object) {
                Some(skip) => self.skip(identity, source, skip),
                None => self.ours(kind, identity, object, source),
            },
            Class::Misspelt(meant) => {
                // Under the name that is meant: a good version of it keeps serving.
                let identity = ObjectRef { kind: meant.kind.to_owned(), ..identity };
                self.broken(identity, object, source, Finding::error(meant.field, BAD_VALUE, meant.message));
            }
            Class::Foreign(known) => {
                let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
                let advice = legacy::advice(&identity, group, object);
                self.ignore(known, (group, advice), identity, source);
            }
        }
    }

    fn without_kind(&mut self, identity: ObjectRef, object: &Value, source: &Source) {
        if ["apiVersion", "metadata", "spec"].iter().all(|key| object.get(key).is_none()) {
            if object.as_object().is_some_and(mesh_config::is_one) {
                return self.mesh_file(object, source);
            }
            let message = "this is no Kubernetes object, without apiVersion, kind and metadata, so it is not read";
            let field = String::new();
            self.parsed.unreadable = true;
            let finding = Finding { field, code: SKIPPED, severity: Severity::Warning, message: message.to_owned() };
            return self.tell(identity, source, finding);
        }
        let message = "`kind` is missing; write for example `kind: VirtualService`";
        self.broken(identity, object, source, Finding::error("kind", MISSING_FIELD, message));
    }

    /// The API server leaves `kind` and `apiVersion` out of the items where the list's kind tells them.
    fn list(&mut self, list: &Value, kind: Option<&str>, source: &Source) {
        let items = match list.get("items") {
            Some(Value::Array(items)) => items.as_slice(),
            Some(Value::Null) => &[],
            _ => {
                let message = "a List needs `items`, a list of objects";
                let identity = ObjectRef::new("List", "", "");
                return self.broken(identity, list, source, Finding::error("items", MISSING_FIELD, message));
            }
        };
        for (index, item) in items.iter().enumerate() {
            let source = source.item(index);
            match (item, kind) {
                (Value::Object(fields), Some(kind)) if !fields.contains_key("kind") => {
                    let mut fields = fields.clone();
                    fields.insert("kind".to_owned(), kind.into());
                    let version = list.get("apiVersion").cloned().unwrap_or_default();
                    fields.entry("apiVersion").or_insert(version);
                    self.object(&Value::Object(fields), &source);
                }
                (Value::Object(_), _) => self.object(item, &source),
                _ => {
                    let message = "the item is not an object; a mapping with apiVersion, kind and metadata is wanted";
                    self.broken(ObjectRef::default(), item, &source, Finding::error("", "bad-document", message));
                }
            }
        }
    }

    /// Each kind is told of once, but each object for which there is advice.
    fn ignore(&mut self, known: Foreign, (group, advice): (&str, Option<String>), object: ObjectRef, source: &Source) {
        if advice.is_none() && !self.ignored.insert(format!("{group}/{}", object.kind)) {
            return;
        }
        let (severity, mut message) = known.verdict(&object.kind, group);
        if let Some(advice) = advice {
            message.push_str("; ");
            message.push_str(&advice);
        }
        self.tell(object, source, Finding { field: "kind".to_owned(), code: "ignored-kind", severity, message });
    }

    /// What was never meant to be an object.
    fn note(&mut self, source: &Source, skip: Skip) {
        let Skip { field, message } = skip;
        self.tell(ObjectRef::default(), source, Finding { field, code: SKIPPED, severity: Severity::Info, message });
    }

    fn skip(&mut self, object: ObjectRef, source: &Source, skip: Skip) {
        let place = source.place(&skip.field);
        self.skip_at(object, place, skip);
    }

    /// What another program is to work on first is no mistake, but what was read of it before stays.
    pub(super) fn skip_at(&mut self, object: ObjectRef, place: Option<Place>, skip: Skip) {
        let Skip { field, message } = skip;
        let object = template::plain(object);
        // Without one of these, more may be open than was meant.
        let closes = ["Gateway", "PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication"];
        let severity = if closes.contains(&object.kind.as_str()) { Severity::Warning } else { Severity::Info };
        let code = SKIPPED;
        let problem = Problem { code, severity, object: object.clone(), field, place: place.clone(), message };
        self.parsed.problems.push(problem);
        let policy = RejectedPolicy::of(&object.kind, &Value::Null);
        self.lose(Rejection { object, hosts: Vec::new(), servers: Vec::new(), place, skipped: true, policy });
    }

    fn ours(&mut self, kind: Kind, identity: ObjectRef, object: &Value, source: &Source) {
        let mut findings = Findings::default();
        let meta = metadata(kind, object, &mut findings);
        let spec = if kind.is_strict() { strict_spec(object, &mut findings) } else { None };
        let read = Input { kind, object, spec, source };
        let typed = read.typed(meta, &mut findings);
        let rejected = findings.has_errors();
        let findings = findings.into_vec();
        let place = findings.iter().find(|finding| finding.severity == Severity::Error);
        let place = place.and_then(|finding| source.place(&finding.field));
        for finding in findings {
            self.tell(identity.clone(), source, finding);
        }
        match typed {
            Some(typed) if !rejected => self.parsed.objects.push(typed),
            _ => self.lose(Rejection {
                object: identity,
                hosts: hosts(object),
                servers: servers(object),
                place,
                skipped: false,
                policy: RejectedPolicy::of(kind.name(), object),
            }),
        }
    }

    fn broken(&mut self, identity: ObjectRef, object: &Value, source: &Source, finding: Finding) {
        let place = source.place(&finding.field);
        self.tell(identity.clone(), source, finding);
        self.lose(Rejection {
            policy: RejectedPolicy::of(&identity.kind, object),
            object: identity,
            hosts: hosts(object),
            servers: servers(object),
            place,
            skipped: false,
        });
    }

    pub(super) fn tell(&mut self, object: ObjectRef, source: &Source, finding: Finding) {
        let Finding { field, code, severity, message } = finding;
        // Nobody will read those behind the first thousand, and a place costs as much as a document.
        let place = source.place(if self.parsed.problems.len() < MOST { &field } else { "" });
        self.parsed.problems.push(Problem { code, severity, object, field, place, message });
    }

    pub(super) fn lose(&mut self, rejection: Rejection) {
        if rejection.object.is_complete() {
            self.parsed.rejected.push(rejection);
        } else {
            self.parsed.unreadable = true;
            // Whatever its name is, it closes something.
            if rejection.policy.is_some() {
                self.parsed.rejected.push(rejection);
            }
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

/// The hosts that a broken object would have had, as far as they are there.
fn hosts(object: &Value) -> Vec<String> {
    let Some(spec) = object.get("spec") else { return Vec::new() };
    let several = spec.get("hosts").and_then(Value::as_array).into_iter().flatten();
    several.chain(spec.get("host")).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The TLS servers that a broken Gateway would have had, as far as they are there.
fn servers(object: &Value) -> Vec<RejectedServer> {
    let Some(spec) = object.get("spec").filter(|_| object.get("kind").is_some_and(|kind| kind == "Gateway")) else {
        return Vec::new();
    };
    let selector = spec.get("selector").and_then(Value::as_object).into_iter().flatten();
    let selector: BTreeMap<String, String> =
        selector.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let server = |server: &Value| {
        let port = server.get("port")?;
        let protocol = port.get("protocol")?.as_str()?;
        if !["HTTPS", "TLS"].iter().any(|tls| protocol.eq_ignore_ascii_case(tls)) {
            return None;
        }
        let number = port.get("number")?;
        let number = number.as_u64().or_else(|| number.as_str()?.parse().ok())?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(RejectedServer {
            selector: selector.clone(),
            bind: server.get("bind").and_then(text),
            port: u16::try_from(number).ok()?,
            port_name: port.get("name").and_then(text).unwrap_or_default(),
            hosts: server.get("hosts").and_then(Value::as_array).into_iter().flatten().filter_map(text).collect(),
        })
    };
    spec.get("servers").and_then(Value::as_array).into_iter().flatten().filter_map(server).collect()
}

pub(super) fn metadata(kind: Kind, object: &Value, findings: &mut Findings) -> Option<ObjectMeta> {
    let empty = Value::Object(Map::new());
    let metadata = object.get("metadata").unwrap_or(&empty);
    let reading = Reading { strict: false, quote_values: kind != Kind::Secret };
    let mut meta: ObjectMeta = decode(metadata, "metadata", reading, findings)?;
    if meta.namespace.is_empty() {
        DEFAULT_NAMESPACE.clone_into(&mut meta.namespace);
    }
    meta.check(kind == Kind::Gateway, findings);
    if let Some(fault) = meta.annotations.get(DRY_RUN).and_then(|written| dry_run_fault(kind, written)) {
        findings.add(Finding::error(&format!("metadata.annotations[{DRY_RUN:?}]"), BAD_VALUE, fault));
    }
    keep_what_is_read(kind, &mut meta);
    Some(meta)
}

/// Only an AuthorizationPolicy can be tried.
fn dry_run_fault(kind: Kind, written: &str) -> Option<&'static str> {
    match kind {
        Kind::AuthorizationPolicy if truth(written).is_some() => None,
        Kind::AuthorizationPolicy => Some("this is neither `true` nor `false`; write one of them, in quotes"),
        _ if kind.is_strict() => {
            Some("only an AuthorizationPolicy can be tried like this, so Istio refuses it here; remove the annotation")
        }
        _ => None,
    }
}

/// Forgets what nobody reads: annotations that hold the whole object again, and, of kinds that come by the thousand,
/// the uid and all annotations that are neither Istio's nor ours (an EndpointSlice carries the time of its last change there).
fn keep_what_is_read(kind: Kind, meta: &mut ObjectMeta) {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let many = matches!(kind, Kind::Pod | Kind::EndpointSlice | Kind::Node);
    if kind == Kind::Node {
        meta.labels.retain(|key, _| [REGION, ZONE, SUBZONE].contains(&key.as_str()));
    }
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
        let own = identity(self.object);
        Some(match self.kind {
            Kind::Gateway => AnyObject::Gateway(self.strict(meta, findings, Gateway::check)?),
            Kind::VirtualService => {
                let check = |spec: &VirtualService, findings: &mut Findings| spec.check(&own.namespace, findings);
                AnyObject::VirtualService(self.strict(meta, findings, check)?)
            }
            Kind::DestinationRule => {
                let check = |spec: &DestinationRule, findings: &mut Findings| spec.check(&own.namespace, findings);
                AnyObject::DestinationRule(self.strict(meta, findings, check)?)
            }
            Kind::ServiceEntry => {
                let check = |spec: &ServiceEntry, findings: &mut Findings| spec.check(&own.namespace, findings);
                AnyObject::ServiceEntry(self.strict(meta, findings, check)?)
            }
            Kind::WorkloadEntry => AnyObject::WorkloadEntry(self.strict(meta, findings, WorkloadEntry::check)?),
            Kind::PeerAuthentication => {
                AnyObject::PeerAuthentication(self.strict(meta, findings, PeerAuthentication::check)?)
            }
            Kind::AuthorizationPolicy => {
                AnyObject::AuthorizationPolicy(self.strict(meta, findings, AuthorizationPolicy::check)?)
            }
            Kind::RequestAuthentication => {
                AnyObject::RequestAuthentication(self.strict(meta, findings, RequestAuthentication::check)?)
            }
            Kind::Telemetry => AnyObject::Telemetry(self.strict(meta, findings, Telemetry::check)?),
            Kind::Issuer => {
                let check = |issuer: &Issuer, findings: &mut Findings| issuer.check(&own.name, findings);
                AnyObject::Issuer(self.strict(meta, findings, check)?)
            }
            Kind::RateLimit => AnyObject::RateLimit(self.strict(meta, findings, RateLimit::check)?),
            Kind::Secret => AnyObject::Secret(self.kubernetes(meta, findings)?),
            Kind::Service => AnyObject::Service(self.kubernetes(meta, findings)?),
            Kind::EndpointSlice => AnyObject::EndpointSlice(self.kubernetes(meta, findings)?),
            Kind::Pod => AnyObject::Pod(self.kubernetes(meta, findings)?),
            Kind::Sidecar => AnyObject::Sidecar(self.strict(meta, findings, Sidecar::check)?),
            Kind::WorkloadGroup => AnyObject::WorkloadGroup(self.strict(meta, findings, WorkloadGroup::check)?),
            Kind::ProxyConfig => AnyObject::ProxyConfig(self.strict(meta, findings, ProxyConfig::check)?),
            Kind::Node => AnyObject::Node(self.kubernetes(meta, findings)?),
            // Read apart: see `super::mesh`.
            Kind::ConfigMap => return None,
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
