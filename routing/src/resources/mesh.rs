//! The mesh configuration: YAML in an entry of a ConfigMap, or a file of its own.

use std::sync::Arc;

use serde_json::Value;

use super::class::Kind;
use super::parse::{Reader, metadata};
use super::template::{self, Skip};
use super::yaml;
use super::{AnyObject, Object, Rejection, Source, digest};
use crate::api::check::{BAD_VALUE, Finding, Findings, mesh_config};
use crate::api::decode::{Reading, decode};
use crate::api::{MeshDocument, MeshNetworks, ObjectMeta};
use crate::problem::{ObjectRef, Severity};

/// Where the ConfigMap holds it.
const ROOT: &str = "data.mesh";
/// Where the same ConfigMap holds networks.
const NETWORKS: &str = "data.meshNetworks";
/// What a file of its own is called: not as Istio's ConfigMap is, which wins over it.
const NAME: [&str; 2] = ["istio-system", "mesh-config-file"];

/// Whether a ConfigMap holds a mesh configuration: `istio`, or `istio-` and a revision.
pub(super) fn is_one(identity: &ObjectRef, object: &Value) -> bool {
    (identity.name == "istio" || identity.name.starts_with("istio-"))
        && object.get("data").and_then(|data| data.get("mesh")).is_some()
}

impl Reader {
    /// The `mesh` entry of a ConfigMap.
    pub(super) fn mesh_config_map(&mut self, identity: ObjectRef, object: &Value, source: &Source) {
        let mut findings = Findings::default();
        let Some(meta) = metadata(Kind::ConfigMap, object, &mut findings) else {
            return self.mesh_is_broken(identity, findings, source);
        };
        let Some(text) = object["data"]["mesh"].as_str() else {
            findings.add(Finding::error(ROOT, BAD_VALUE, "a text is wanted here: YAML in a block, `mesh: |-`"));
            return self.mesh_is_broken(identity, findings, source);
        };
        let source = source.with_inner(ROOT, text);
        match yaml::parse(text) {
            Ok(value) => {
                let networks = networks(object, &mut findings);
                self.mesh((identity, meta), (&value, networks), ROOT, (&source, findings));
            }
            Err(_)
                if !source.file().is_empty()
                    && let Some(line) = template::line_of_template(text) =>
            {
                let place = source.inner_at((line, 1)).or_else(|| source.place(ROOT));
                self.skip_at(identity, place, Skip { field: ROOT.to_owned(), ..Skip::template() });
            }
            Err(fault) => {
                let place = fault.at.and_then(|at| source.inner_at(at)).or_else(|| source.place(ROOT));
                let message = format!("the mesh configuration is not YAML: {}", fault.message);
                self.tell(identity.clone(), &source, Finding::error(ROOT, fault.code, message));
                if let Some(told) = self.parsed.problems.last_mut() {
                    told.place.clone_from(&place);
                }
                self.lose(rejection(identity, place));
            }
        }
    }

    /// A document that is nothing but a mesh configuration.
    pub(super) fn mesh_file(&mut self, object: &Value, source: &Source) {
        let [namespace, name] = NAME.map(str::to_owned);
        let identity = ObjectRef::new(Kind::ConfigMap.name(), &namespace, &name);
        let meta = ObjectMeta { namespace, name, ..ObjectMeta::default() };
        self.mesh((identity, meta), (object, Default::default()), "", (source, Findings::default()));
    }

    fn mesh(
        &mut self,
        (identity, meta): (ObjectRef, ObjectMeta),
        (value, (networks, written)): (&Value, (MeshNetworks, Value)),
        root: &'static str,
        (source, mut findings): (&Source, Findings),
    ) {
        let nothing = Value::Object(serde_json::Map::new());
        let value = if value.is_null() { &nothing } else { value };
        if !value.is_object() {
            findings.add(Finding::error(root, BAD_VALUE, "a mapping is wanted here, as `trustDomain: cluster.local`"));
            return self.mesh_is_broken(identity, findings, source);
        }
        let object = |mesh, value: &Value| {
            let content = digest::of_value("MeshConfig", value) ^ digest::of_value("MeshNetworks", &written);
            let digest = digest::with_meta(&bare(&meta), content);
            let spec = MeshDocument { mesh, root, networks: networks.clone() };
            let (kind, meta, source) = (Kind::ConfigMap, meta.clone(), source.clone());
            AnyObject::Mesh(Arc::new(Object { kind, meta, spec, source, digest }))
        };
        match mesh_config::read(value, root, &mut findings).filter(|_| !findings.has_errors()) {
            Some(mesh) => {
                for finding in findings.into_vec() {
                    self.tell(identity.clone(), source, finding);
                }
                self.parsed.objects.push(object(mesh, value));
            }
            None => {
                if let Some((mesh, rest)) = mesh_config::read_what_is_sound(value, root, &mut findings) {
                    self.parsed.sound.push(object(mesh, &rest));
                }
                self.mesh_is_broken(identity, findings, source);
            }
        }
    }

    fn mesh_is_broken(&mut self, identity: ObjectRef, findings: Findings, source: &Source) {
        let findings = findings.into_vec();
        let place = findings.iter().find(|finding| finding.severity == Severity::Error);
        let place = place.and_then(|finding| source.place(&finding.field));
        for finding in findings {
            self.tell(identity.clone(), source, finding);
        }
        self.lose(rejection(identity, place));
    }
}

fn rejection(object: ObjectRef, place: Option<crate::problem::Place>) -> Rejection {
    Rejection { object, hosts: Vec::new(), servers: Vec::new(), place, skipped: false, policy: None }
}

/// Without labels and annotations, which tools write there: nothing reads them.
fn bare(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta { namespace: meta.namespace.clone(), name: meta.name.clone(), ..ObjectMeta::default() }
}

/// The `meshNetworks` entry of a ConfigMap: what was read of it, and as what.
fn networks(object: &Value, findings: &mut Findings) -> (MeshNetworks, Value) {
    let nothing = (MeshNetworks::default(), Value::Null);
    let Some(written) = object["data"].get("meshNetworks").filter(|written| !written.is_null()) else { return nothing };
    let Some(text) = written.as_str() else {
        findings.add(Finding::error(NETWORKS, BAD_VALUE, "a text is wanted here: YAML in a block, `meshNetworks: |-`"));
        return nothing;
    };
    match yaml::parse(text) {
        Ok(Value::Null) => nothing,
        Ok(value) => {
            let reading = Reading { strict: true, quote_values: true };
            let read: Option<MeshNetworks> = decode(&value, NETWORKS, reading, findings);
            let Some(read) = read else { return nothing };
            findings.at_path(NETWORKS, |findings| read.check(findings));
            (read, value)
        }
        Err(fault) => {
            let message = format!("the networks are not YAML: {}", fault.message);
            findings.add(Finding::error(NETWORKS, fault.code, message));
            nothing
        }
    }
}
