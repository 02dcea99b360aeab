//! What a rule changes about headers.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::template::Template;

/// Header operations in Istio's order: `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default)]
pub struct HeaderOps {
    /// Removed first.
    pub remove: Vec<HeaderName>,
    /// Overwritten, in alphabetical order.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appended, in alphabetical order.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// `set` of `host` or `:authority`.
    pub authority: Option<HeaderValue>,
    /// Those whose values depend on the request; `None` = none does.
    pub computed: Option<Box<Computed>>,
}

/// Operations whose values hold commands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Computed {
    /// Overwritten.
    pub set: Vec<(HeaderName, Template)>,
    /// Appended.
    pub add: Vec<(HeaderName, Template)>,
}

/// Values of one set of [`Computed`], in its order; those that are empty are left out, as in Envoy.
#[derive(Default)]
struct Values {
    set: Vec<Option<HeaderValue>>,
    add: Vec<Option<HeaderValue>>,
}

impl HeaderOps {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.set.is_empty()
            && self.add.is_empty()
            && self.authority.is_none()
            && self.computed.is_none()
    }

    /// `None` when there is nothing to do, which takes no room.
    pub fn boxed(self) -> Option<Box<Self>> {
        (!self.is_empty()).then(|| Box::new(self))
    }

    /// Change headers; [`Self::authority`] is no header and left to the caller.
    pub fn apply(&self, headers: &mut impl EditHeaders) {
        apply([self], headers);
    }
}

/// Does operations that Envoy does at once: each step of all of them before the next one, values from what the first step has
/// left.
pub(super) fn apply<const N: usize>(all: [&HeaderOps; N], headers: &mut impl EditHeaders) {
    for name in all.iter().flat_map(|ops| &ops.remove) {
        headers.remove_all(name);
    }
    let values = all.map(|ops| ops.computed.as_ref().map(|computed| computed.values(headers)).unwrap_or_default());
    for (ops, values) in all.iter().zip(&values) {
        for (name, value) in &ops.set {
            headers.set(name, value.clone());
        }
        for ((name, _), value) in ops.computed.iter().flat_map(|computed| &computed.set).zip(&values.set) {
            value.iter().for_each(|value| headers.set(name, value.clone()));
        }
    }
    for (ops, values) in all.iter().zip(&values) {
        for (name, value) in &ops.add {
            headers.add(name, value.clone());
        }
        for ((name, _), value) in ops.computed.iter().flat_map(|computed| &computed.add).zip(&values.add) {
            value.iter().for_each(|value| headers.add(name, value.clone()));
        }
    }
}

impl Computed {
    fn values(&self, headers: &impl EditHeaders) -> Values {
        let all = |list: &[(HeaderName, Template)]| {
            let values = list.iter().map(|(_, template)| headers.compute(template).filter(|value| !value.is_empty()));
            values.collect()
        };
        Values { set: all(&self.set), add: all(&self.add) }
    }
}

/// Headers that operations can change: a plain map, or whatever the data path keeps beside its map.
pub trait EditHeaders {
    /// Remove every value of a name.
    fn remove_all(&mut self, name: &HeaderName);
    /// Replace every value of a name by one.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Add a value.
    fn add(&mut self, name: &HeaderName, value: HeaderValue);
    /// A value with its commands filled in; `None` when it cannot be sent. Of itself a map knows nothing of the request.
    fn compute(&self, template: &Template) -> Option<HeaderValue> {
        HeaderValue::from_str(template.as_plain()?).ok()
    }
}

impl EditHeaders for HeaderMap {
    fn remove_all(&mut self, name: &HeaderName) {
        self.remove(name);
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        self.append(name, value);
    }
}
