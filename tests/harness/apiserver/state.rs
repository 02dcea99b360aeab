//! Everything the server knows: kinds, objects, tokens.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    kinds::Kind,
    rbac::Access,
    refusal::Refusal,
    store::{Change, Key, Objects, Stored, Table},
};

/// What a request for `sendInitialEvents=true` gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamingLists {
    /// The initial events, then a bookmark with `k8s.io/initial-events-end`.
    Served,
    /// 422: the feature is off.
    Refused,
    /// 200, and then an ERROR event in the stream: the API server is new, its etcd is not.
    OldEtcd,
}

/// What the locks of the server protect.
#[derive(Debug)]
pub(crate) struct State {
    /// Served resources.
    pub(crate) kinds: Vec<Arc<Kind>>,
    /// The last revision.
    pub(crate) revision: u64,
    /// Revisions below this one are gone.
    pub(crate) compacted: u64,
    /// Objects by [`Kind::storage`].
    pub(crate) tables: BTreeMap<String, Table>,
    /// Tokens and RBAC.
    pub(crate) access: Access,
    /// How streaming lists are answered.
    pub(crate) streaming_lists: StreamingLists,
    /// `minor` of `/version`.
    pub(crate) minor: u32,
    /// Time between two bookmarks.
    pub(crate) bookmarks: Duration,
    /// Grows when all open watches have to end.
    pub(crate) drops: u64,
    /// The last cluster IP that was given away.
    pub(crate) last_cluster_ip: u32,
}

impl State {
    pub(crate) fn new(kinds: Vec<Arc<Kind>>) -> Self {
        let mut state = Self {
            kinds,
            revision: 1,
            compacted: 0,
            tables: BTreeMap::new(),
            access: Access::default(),
            streaming_lists: StreamingLists::Served,
            minor: 34,
            bookmarks: Duration::from_secs(5),
            drops: 0,
            last_cluster_ip: 0,
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            state.make_namespace(name);
        }
        state
    }

    /// The served kind of this path.
    pub(crate) fn kind(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let is = |kind: &&Arc<Kind>| {
            kind.plural == plural && kind.group == group && kind.versions.iter().any(|it| it == version) && !kind.hidden
        };
        self.kinds.iter().find(is).cloned()
    }

    /// The kind with this name, plural, or one of both with `.group`.
    pub(crate) fn called(&self, name: &str) -> Option<Arc<Kind>> {
        self.kinds.iter().find(|kind| kind.is_called(name)).cloned()
    }

    /// The kind of an object.
    pub(crate) fn kind_of(&self, object: &Value) -> Option<(Arc<Kind>, String)> {
        let api_version = object["apiVersion"].as_str()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let plural = self.kinds.iter().find(|kind| object["kind"] == kind.kind.as_str() && kind.group == group)?;
        Some((self.kind(group, version, &plural.plural)?, version.to_owned()))
    }

    /// The objects of a kind.
    pub(crate) fn objects(&self, kind: &Kind) -> &Objects {
        static NONE: Objects = Objects::new();
        self.tables.get(&kind.storage).map_or(&NONE, |table| &table.objects)
    }

    /// The objects of a kind at a revision.
    pub(crate) fn objects_at(&self, kind: &Kind, revision: u64) -> Result<Objects, Refusal> {
        if revision < self.compacted {
            return Err(Refusal::expired(revision, self.compacted));
        }
        Ok(self.tables.get(&kind.storage).map(|table| table.at(revision)).unwrap_or_default())
    }

    /// One object.
    pub(crate) fn find(&self, kind: &Kind, key: &Key) -> Option<Arc<Stored>> {
        self.objects(kind).get(key).cloned()
    }

    /// Makes this value the object's new state.
    pub(crate) fn put(&mut self, kind: &Kind, key: Key, mut value: Value) -> Arc<Stored> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let after = Arc::new(Stored::new(value, self.revision));
        let table = self.tables.entry(kind.storage.clone()).or_default();
        let before = table.objects.insert(key.clone(), Arc::clone(&after));
        let change = Change { revision: self.revision, key, before, after: Arc::clone(&after), deleted: false };
        table.changes.push_back(change);
        after
    }

    /// Takes the object away; gives its last state.
    pub(crate) fn take(&mut self, kind: &Kind, key: &Key) -> Option<Arc<Stored>> {
        let table = self.tables.get_mut(&kind.storage)?;
        let before = table.objects.remove(key)?;
        self.revision += 1;
        let mut value = before.value.clone();
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let after = Arc::new(Stored::new(value, self.revision));
        let (key, revision) = (key.clone(), self.revision);
        table.changes.push_back(Change {
            revision,
            key,
            before: Some(before),
            after: Arc::clone(&after),
            deleted: true,
        });
        Some(after)
    }

    /// Forgets history: every older resource version gives 410 from now on.
    pub(crate) fn compact(&mut self) {
        // One more revision, so that every resource version that a client can know is too old.
        self.revision += 1;
        self.compacted = self.revision;
        self.tables.values_mut().for_each(|table| table.changes = VecDeque::new());
    }

    /// True when the namespace is there, or the kind needs none.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        let key = (String::new(), namespace.to_owned());
        self.called("Namespace").is_some_and(|kind| self.objects(&kind).contains_key(&key))
    }

    /// Makes a namespace when it is missing.
    pub(crate) fn make_namespace(&mut self, name: &str) {
        let Some(kind) = self.called("Namespace") else { return };
        if name.is_empty() || self.has_namespace(name) {
            return;
        }
        let write = super::write::Write::by(&kind, ("", name), "apiserver");
        // A new namespace with nothing but a name breaks no rule.
        self.create(&write, json!({"metadata": {"name": name}})).ok();
    }

    /// The served kinds follow the stored definitions.
    pub(crate) fn serve_definition(&mut self, definition: &Value) {
        let Some(kind) = Kind::of_definition(definition) else { return };
        match self.kinds.iter_mut().find(|other| other.storage == kind.storage) {
            Some(other) => *other = Arc::new(kind),
            None => self.kinds.push(Arc::new(kind)),
        }
    }

    /// Its kind is not served any more, and its objects are gone.
    pub(crate) fn end_definition(&mut self, definition: &Value) {
        let Some(kind) = Kind::of_definition(definition) else { return };
        let keys: Vec<Key> = self.objects(&kind).keys().cloned().collect();
        for key in keys {
            self.take(&kind, &key);
        }
        self.kinds.retain(|other| other.storage != kind.storage);
        self.drops += 1;
    }
}
