//! Create, update, patch and delete, with the rules of the real server about metadata, status and generation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    defaults::{now, set_defaults, uid},
    kinds::Kind,
    ownership, patch,
    refusal::Refusal,
    state::State,
    store::{Key, Stored, to_core_event},
};

/// One write: to what, how, and by whom.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// The resource.
    pub(crate) kind: Arc<Kind>,
    /// Namespace and name; an empty name = from the object.
    pub(crate) key: Key,
    /// True = through the subresource `status`.
    pub(crate) status: bool,
    /// True = `dryRun=All`.
    pub(crate) dry: bool,
    /// The field manager.
    pub(crate) manager: String,
}

/// How a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/json-patch+json`.
    Json,
    /// `application/apply-patch+yaml`; true = `force`.
    Apply(bool),
}

impl Write {
    /// To the main resource.
    pub(crate) fn by(kind: &Arc<Kind>, (namespace, name): (&str, &str), manager: &str) -> Self {
        let namespace = if kind.namespaced { namespace.to_owned() } else { String::new() };
        let key = (namespace, name.to_owned());
        Self { kind: Arc::clone(kind), key, status: false, dry: false, manager: manager.to_owned() }
    }
}

impl State {
    /// A new object.
    pub(crate) fn create(&mut self, write: &Write, value: Value) -> Result<Arc<Stored>, Refusal> {
        let (write, mut value) = addressed(write, value, true)?;
        let kind = &write.kind;
        if self.objects(kind).contains_key(&write.key) {
            return Err(Refusal::already_exists(kind, &write.key.1));
        }
        if kind.namespaced && !self.has_namespace(&write.key.0) {
            let message = format!("namespaces \"{}\" not found", write.key.0);
            return Err(Refusal::new(404, "NotFound", message));
        }
        if value["metadata"]["resourceVersion"].as_str().is_some_and(|it| !it.is_empty()) {
            return Err(Refusal::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if kind.status
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("status");
        }
        let applied = value["metadata"]["managedFields"].take();
        let metadata = &mut value["metadata"];
        metadata["uid"] = uid().into();
        metadata["creationTimestamp"] = now().into();
        if kind.generation {
            metadata["generation"] = 1.into();
        }
        set_defaults(self, kind, &mut value);
        value["metadata"]["managedFields"] = applied;
        if value["metadata"]["managedFields"].is_null() {
            ownership::updated(&write, &Value::Null, &mut value);
        }
        self.commit(&write, value)
    }

    /// Replaces an object, or makes it.
    pub(crate) fn replace(&mut self, write: &Write, mut value: Value) -> Result<Arc<Stored>, Refusal> {
        let (addressed, _) = addressed(write, value.clone(), false)?;
        if self.find(&addressed.kind, &addressed.key).is_none() {
            return self.create(write, value);
        }
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        self.update(write, value)
    }

    /// PUT.
    pub(crate) fn update(&mut self, write: &Write, value: Value) -> Result<Arc<Stored>, Refusal> {
        let (write, mut value) = addressed(write, value, false)?;
        let old = self.existing(&write)?;
        let given = value["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if given.is_empty() && write.kind.plural == "leases" {
            return Err(Refusal::invalid(
                &write.kind,
                &write.key.1,
                "metadata.resourceVersion: must be specified for an update",
            ));
        }
        if !given.is_empty() && given != old.revision.to_string() {
            return Err(modified(&write));
        }
        keep_uid(&write, &old, &value)?;
        self.settle(&write, &old, &mut value)?;
        ownership::updated(&write, &old.value, &mut value);
        self.finish(&write, &old, value)
    }

    /// PATCH.
    pub(crate) fn patch(&mut self, write: &Write, how: PatchKind, body: &Value) -> Result<Arc<Stored>, Refusal> {
        let kind = &write.kind;
        if how == PatchKind::Strategic && kind.custom {
            return Err(unsupported("application/strategic-merge-patch+json"));
        }
        if let PatchKind::Apply(force) = how {
            return self.apply(write, body, force);
        }
        let old = self.existing(write)?;
        let mut value = old.value.clone();
        match how {
            PatchKind::Json => patch::json_patch(&mut value, body)?,
            PatchKind::Strategic => patch::strategic(kind, &mut Vec::new(), &mut value, body),
            PatchKind::Merge | PatchKind::Apply(_) => patch::merge(&mut value, body),
        }
        let (_, mut value) = addressed(write, value, false)?;
        let wanted = &value["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != old.value["metadata"]["resourceVersion"] {
            return Err(modified(write));
        }
        keep_uid(write, &old, &value)?;
        self.settle(write, &old, &mut value)?;
        ownership::updated(write, &old.value, &mut value);
        self.finish(write, &old, value)
    }

    fn apply(&mut self, write: &Write, body: &Value, force: bool) -> Result<Arc<Stored>, Refusal> {
        let (write, mut applied) = addressed(write, body.clone(), false)?;
        if !applied["metadata"]["managedFields"].is_null() {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        patch::without_nulls(&mut applied);
        let own = |key: &str| !write.kind.status || (key == "status") == write.status || key == "metadata";
        if let Some(fields) = applied.as_object_mut() {
            fields.retain(|key, _| own(key));
        }
        let old = self.find(&write.kind, &write.key);
        if old.is_none() && write.status {
            return Err(Refusal::not_found(&write.kind, &write.key.1));
        }
        let given = applied["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if old.as_ref().is_some_and(|old| !given.is_empty() && given != old.revision.to_string()) {
            return Err(modified(&write));
        }
        let live = old.as_ref().map_or(json!({"metadata": {}}), |old| old.value.clone());
        let mut value = ownership::applied(&write, &live, &applied, force)?;
        match old {
            None => self.create(&write, value),
            Some(old) => {
                keep_uid(&write, &old, &value)?;
                self.settle(&write, &old, &mut value)?;
                self.finish(&write, &old, value)
            }
        }
    }

    /// DELETE; gives the last state, and whether it is gone (finalizers keep it).
    pub(crate) fn delete(&mut self, write: &Write, options: &Value) -> Result<(Arc<Stored>, bool), Refusal> {
        let old = self.existing(write)?;
        let wanted = &options["preconditions"];
        for field in ["uid", "resourceVersion"] {
            let (wanted, has) = (&wanted[field], &old.value["metadata"][field]);
            if !wanted.is_null() && wanted != has {
                let why =
                    format!("Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {has}");
                return Err(Refusal::conflict(&write.kind, &write.key.1, &why));
            }
        }
        if write.dry {
            return Ok((old, true));
        }
        if old.value["metadata"]["finalizers"].as_array().is_some_and(|it| !it.is_empty()) {
            if !old.value["metadata"]["deletionTimestamp"].is_null() {
                return Ok((old, false));
            }
            let mut value = old.value.clone();
            value["metadata"]["deletionTimestamp"] = now().into();
            value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            return Ok((self.put(&write.kind, write.key.clone(), value), false));
        }
        Ok((self.remove(&write.kind, &write.key).unwrap_or(old), true))
    }

    fn remove(&mut self, kind: &Kind, key: &Key) -> Option<Arc<Stored>> {
        let gone = self.take(kind, key)?;
        match kind.qualified().as_str() {
            "namespaces" => self.empty_namespace(&key.1),
            "customresourcedefinitions.apiextensions.k8s.io" => self.end_definition(&gone.value),
            _ => {}
        }
        Some(gone)
    }

    /// What the namespace controller does in a cluster.
    fn empty_namespace(&mut self, namespace: &str) {
        for kind in self.kinds.clone().iter().filter(|kind| kind.namespaced) {
            let keys: Vec<Key> = self.objects(kind).keys().filter(|key| key.0 == namespace).cloned().collect();
            for key in keys {
                self.take(kind, &key);
            }
        }
    }

    fn existing(&self, write: &Write) -> Result<Arc<Stored>, Refusal> {
        self.find(&write.kind, &write.key).ok_or_else(|| Refusal::not_found(&write.kind, &write.key.1))
    }

    /// What a write may not change stays, and the generation counts.
    fn settle(&mut self, write: &Write, old: &Stored, value: &mut Value) -> Result<(), Refusal> {
        let kind = &write.kind;
        if write.status {
            let status = value["status"].take();
            let managed = value["metadata"]["managedFields"].take();
            *value = old.value.clone();
            set_or_remove(value, "status", status);
            value["metadata"]["managedFields"] = managed;
        } else if kind.status {
            set_or_remove(value, "status", old.value["status"].clone());
        }
        for field in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            let kept = old.value["metadata"][field].clone();
            set_or_remove(&mut value["metadata"], field, kept);
        }
        if !write.status {
            set_defaults(self, kind, value);
        }
        if kind.plural == "secrets" && old.value["immutable"] == true && old.value["data"] != value["data"] {
            return Err(Refusal::invalid(
                kind,
                &write.key.1,
                "data: Forbidden: field is immutable when `immutable` is set",
            ));
        }
        if kind.generation && spec_differs(&old.value, value, kind.status) {
            value["metadata"]["generation"] = (old.value["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
        }
        Ok(())
    }

    /// Stores the new state unless it is the old one; an object that only waited for its finalizers goes.
    fn finish(&mut self, write: &Write, old: &Arc<Stored>, mut value: Value) -> Result<Arc<Stored>, Refusal> {
        value["metadata"]["resourceVersion"] = old.revision.to_string().into();
        if ownership::same_but_for_times(&value, &old.value) {
            return Ok(Arc::clone(old));
        }
        let waited = !value["metadata"]["deletionTimestamp"].is_null();
        let freed = value["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        let stored = self.commit(write, value)?;
        if waited && freed && !write.dry {
            return Ok(self.remove(&write.kind, &write.key).unwrap_or(stored));
        }
        Ok(stored)
    }

    fn commit(&mut self, write: &Write, value: Value) -> Result<Arc<Stored>, Refusal> {
        if write.dry {
            return Ok(Arc::new(Stored::new(value, self.revision)));
        }
        if write.kind.plural == "customresourcedefinitions" {
            if Kind::of_definition(&value).is_none() {
                let why = "spec: names, group, versions, and one version with storage: true are required";
                return Err(Refusal::invalid(&write.kind, &write.key.1, why));
            }
            self.serve_definition(&value);
        }
        Ok(self.put(&write.kind, write.key.clone(), value))
    }
}

/// Completes name and namespace of object and write from each other, and takes `apiVersion` and `kind` off.
fn addressed(write: &Write, value: Value, generate: bool) -> Result<(Write, Value), Refusal> {
    let mut write = write.clone();
    let mut value = if write.kind.is_new_event() { to_core_event(&value) } else { value };
    let Some(fields) = value.as_object_mut() else {
        return Err(Refusal::bad_request("the body must be an object"));
    };
    if fields.remove("kind").is_some_and(|kind| kind != write.kind.kind.as_str()) {
        return Err(Refusal::bad_request(format!("the object in the body is not a {}", write.kind.kind)));
    }
    fields.remove("apiVersion");
    for field in ["spec", "status", "data", "roleRef"] {
        if fields.get(field).is_some_and(|value| !value.is_object() && !value.is_null()) {
            return Err(Refusal::bad_request(format!("{field} must be an object")));
        }
    }
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut name, namespace) = (text(&metadata["name"]), text(&metadata["namespace"]));
    if name.is_empty() && generate && !text(&metadata["generateName"]).is_empty() {
        name = format!("{}{}", text(&metadata["generateName"]), &uid()[..5]);
    }
    if write.key.1.is_empty() {
        write.key.1 = name.clone();
    }
    if write.key.1.is_empty() {
        return Err(Refusal::invalid(
            &write.kind,
            "",
            "metadata.name: Required value: name or generateName is required",
        ));
    }
    if !name.is_empty() && name != write.key.1 {
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", write.key.1);
        return Err(Refusal::bad_request(message));
    }
    if write.kind.namespaced {
        if write.key.0.is_empty() {
            write.key.0 = if namespace.is_empty() { "default".to_owned() } else { namespace.clone() };
        }
        if !namespace.is_empty() && namespace != write.key.0 {
            let message = format!(
                "the namespace of the object ({namespace}) does not match the namespace on the URL ({})",
                write.key.0
            );
            return Err(Refusal::bad_request(message));
        }
        metadata["namespace"] = write.key.0.clone().into();
    }
    metadata["name"] = write.key.1.clone().into();
    Ok((write, value))
}

fn keep_uid(write: &Write, old: &Stored, value: &Value) -> Result<(), Refusal> {
    let (given, has) = (&value["metadata"]["uid"], &old.value["metadata"]["uid"]);
    if given.is_null() || given == "" || given == has {
        return Ok(());
    }
    let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {has}");
    Err(Refusal::conflict(&write.kind, &write.key.1, &why))
}

fn modified(write: &Write) -> Refusal {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Refusal::conflict(&write.kind, &write.key.1, why)
}

/// 415.
pub(crate) fn unsupported(media: &str) -> Refusal {
    let message = format!("the body of the request was in an unknown format - {media} is not accepted here");
    Refusal::new(415, "UnsupportedMediaType", message)
}

fn set_or_remove(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        if value.is_null() {
            fields.remove(field);
        } else {
            fields.insert(field.to_owned(), value);
        }
    }
}

/// True when anything but metadata (and status, where it has a subresource) differs.
fn spec_differs(old: &Value, new: &Value, has_status: bool) -> bool {
    let ignored = |key: &str| key == "metadata" || (has_status && key == "status");
    let part = |value: &Value| {
        let fields = value.as_object().into_iter().flatten().filter(|(key, _)| !ignored(key));
        fields.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
    };
    part(old) != part(new)
}
