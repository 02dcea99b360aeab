//! Objects, their revisions, and what happened since the last compaction.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{kinds::Kind, refusal::Refusal, selector::Selector};

/// Namespace (empty = cluster scoped) and name.
pub(crate) type Key = (String, String);

/// All objects of one resource by their keys.
pub(crate) type Objects = BTreeMap<Key, Arc<Stored>>;

/// One revision of an object, without `apiVersion` and `kind`.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The object; always with `metadata`.
    pub(crate) value: Value,
    /// Its resource version.
    pub(crate) revision: u64,
    /// JSON after `apiVersion` and `kind`: serialised once, good for every version it is read in.
    tail: OnceLock<Bytes>,
}

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of it.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
}

/// What a reader asked for: objects of this kind, in this version and form.
pub(crate) struct View<'a> {
    /// The kind.
    pub(crate) kind: &'a Kind,
    /// One of its versions.
    pub(crate) version: &'a str,
    /// All or metadata only.
    pub(crate) form: Form,
}

impl Stored {
    pub(crate) fn new(value: Value, revision: u64) -> Self {
        Self { value, revision, tail: OnceLock::new() }
    }

    /// With `apiVersion` and `kind`.
    pub(crate) fn object(&self, kind: &Kind, version: &str) -> Value {
        let mut value = if kind.is_new_event() { to_new_event(&self.value) } else { self.value.clone() };
        value["apiVersion"] = kind.api_version(version).into();
        value["kind"] = kind.kind.clone().into();
        value
    }

    /// Appends its JSON; `typed` = with `apiVersion` and `kind`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, view: &View<'_>, typed: bool) {
        let View { kind, version, form } = *view;
        if form == Form::Metadata {
            let partial = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self.value["metadata"],
            });
            return out.extend_from_slice(partial.to_string().as_bytes());
        }
        if kind.is_new_event() {
            return out.extend_from_slice(self.object(kind, version).to_string().as_bytes());
        }
        out.push(b'{');
        if typed {
            let head = format!("\"kind\":\"{}\",\"apiVersion\":\"{}\",", kind.kind, kind.api_version(version));
            out.extend_from_slice(head.as_bytes());
        }
        out.extend_from_slice(self.tail.get_or_init(|| Bytes::from(self.value.to_string()).slice(1..)));
    }
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// When.
    pub(crate) revision: u64,
    /// Which object.
    pub(crate) key: Key,
    /// What it was; `None` = it was created.
    pub(crate) before: Option<Arc<Stored>>,
    /// What it is; a deleted one in its last state with the deletion's resource version.
    pub(crate) after: Arc<Stored>,
    /// True = deleted.
    pub(crate) deleted: bool,
}

/// The objects of one resource.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// As they are now.
    pub(crate) objects: Objects,
    /// In order of revision; what was compacted is gone.
    pub(crate) changes: VecDeque<Change>,
    /// Grows when open watches have to end with 410.
    pub(crate) expirations: u64,
}

impl Table {
    /// The changes after this revision.
    pub(crate) fn since(&self, revision: u64) -> impl Iterator<Item = &Change> {
        let first = self.changes.partition_point(|change| change.revision <= revision);
        self.changes.range(first..)
    }

    /// The objects as they were at a revision that is not compacted.
    pub(crate) fn at(&self, revision: u64) -> Objects {
        let mut objects = self.objects.clone();
        for change in self.changes.iter().rev().take_while(|change| change.revision > revision) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        objects
    }
}

/// What a page of a list is taken from.
pub(crate) struct Page<'a> {
    /// Empty = all namespaces.
    pub(crate) namespace: &'a str,
    /// Which objects.
    pub(crate) selector: &'a Selector,
    /// Most objects of the page; 0 = all.
    pub(crate) limit: usize,
    /// The last key of the page before.
    pub(crate) after: Option<Key>,
}

impl Page<'_> {
    /// The selected objects, and how many are left when there are more (0 = not known, since it is a selection).
    pub(crate) fn take(&self, objects: &Objects) -> (Vec<Arc<Stored>>, Option<usize>) {
        let start = match &self.after {
            Some(key) => Bound::Excluded(key.clone()),
            None => Bound::Included((self.namespace.to_owned(), String::new())),
        };
        let here = |key: &Key| self.namespace.is_empty() || key.0 == self.namespace;
        let mut rest =
            objects.range((start, Bound::Unbounded)).take_while(|(key, _)| here(key)).map(|(_, object)| object);
        let mut found = Vec::new();
        for object in rest.by_ref().filter(|object| self.selector.selects(&object.value)) {
            if self.limit > 0 && found.len() == self.limit {
                let left = if self.selector.is_empty() { rest.count() + 1 } else { 0 };
                return (found, Some(left));
            }
            found.push(Arc::clone(object));
        }
        (found, None)
    }
}

/// The last namespace, name and the revision of a page, opaque to clients.
pub(crate) fn continue_token(revision: u64, key: &Key) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.encode(json!([revision, key.0, key.1]).to_string())
}

/// What [`continue_token`] made.
pub(crate) fn read_continue(token: &str) -> Result<(u64, Key), Refusal> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let wrong = || Refusal::bad_request("continue key is not valid: it has to come from the page before");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    let parts: (u64, String, String) = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    Ok((parts.0, (parts.1, parts.2)))
}

/// Name in events.k8s.io, name in core.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn to_new_event(core: &Value) -> Value {
    rename(core, |(new, old)| (old, new))
}

/// An event of events.k8s.io as a core event.
pub(crate) fn to_core_event(event: &Value) -> Value {
    rename(event, |names| names)
}

fn rename(event: &Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Value {
    let mut renamed = event.clone();
    let Some(fields) = renamed.as_object_mut() else { return renamed };
    for names in EVENT_FIELDS {
        let (from, to) = direction(names);
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
    renamed
}
