//! The objects of one kind, by name and by age.

use std::sync::Arc;

use super::{Object, digest};

/// The objects of one kind: found by namespace and name, walked oldest first.
#[derive(Clone, Debug)]
pub struct Table<T> {
    by_name: Vec<Arc<Object<T>>>,
    oldest_first: Vec<Arc<Object<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_name: Vec::new(), oldest_first: Vec::new() }
    }
}

impl<T> Table<T> {
    /// The object with this namespace and name. For kinds that share a table (Deployment, StatefulSet, DaemonSet)
    /// the first of them.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object<T>>> {
        let key = |object: &Object<T>| (object.namespace(), object.name()) < (namespace, name);
        let at = self.by_name.partition_point(|object| key(object));
        self.by_name.get(at).filter(|object| object.namespace() == namespace && object.name() == name)
    }

    /// The objects of one namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> &[Arc<Object<T>>] {
        let begin = self.by_name.partition_point(|object| object.namespace() < namespace);
        let end = self.by_name.partition_point(|object| object.namespace() <= namespace);
        &self.by_name[begin..end]
    }

    /// Oldest first, then by name, then by namespace: Istio's order wherever one object must win.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Object<T>>> {
        self.oldest_first.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Hash of the order by age.
    pub(super) fn age_order(&self) -> u64 {
        digest::of_names(self.oldest_first.iter().map(|object| (object.namespace(), object.name())))
    }

    pub(super) fn push(&mut self, object: Arc<Object<T>>) {
        self.by_name.push(object);
    }

    /// These and the others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.by_name.extend(others.by_name);
        self.sort();
        self
    }

    /// Must follow the last `push`.
    pub(super) fn sort(&mut self) {
        fn name<T>(object: &Object<T>) -> impl Ord + '_ {
            (object.namespace(), object.name(), object.kind)
        }
        fn age<T>(object: &Object<T>) -> impl Ord + '_ {
            (&object.meta.creation_timestamp, object.name(), object.namespace(), object.kind)
        }
        self.by_name.sort_by(|a, b| name(a).cmp(&name(b)));
        self.oldest_first.clone_from(&self.by_name);
        self.oldest_first.sort_by(|a, b| age(a).cmp(&age(b)));
    }
}

impl<'t, T> IntoIterator for &'t Table<T> {
    type Item = &'t Arc<Object<T>>;
    type IntoIter = std::slice::Iter<'t, Arc<Object<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
