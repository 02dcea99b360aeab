//! One `HTTPRoute` on its way to rules: as it is written, or as a root and its delegate make it together.

use super::routes::Binding;
use crate::{
    api::{VirtualService, virtual_service::HttpRoute},
    resources::Object,
};

/// One `HTTPRoute` under way.
pub(super) struct Entry<'s, 'a> {
    /// Whose names its destinations are written in.
    pub(super) object: &'a Object<VirtualService>,
    /// With what it has of its root.
    pub(super) route: &'s HttpRoute,
    /// `spec.http[3]`.
    pub(super) field: String,
    pub(super) binding: &'s Binding<'s>,
    /// `None`: all of it stands in `object`.
    pub(super) root: Option<Root<'s, 'a>>,
}

/// What a delegate's route has its missing fields from.
pub(super) struct Root<'s, 'a> {
    pub(super) object: &'a Object<VirtualService>,
    /// `spec.http[3]`.
    pub(super) field: String,
    /// The delegate's route as it is written.
    pub(super) written: &'a HttpRoute,
    /// Where each match of the route stands.
    pub(super) matches: &'s [MatchPlace],
}

/// Where a match stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MatchPlace {
    /// In the root, which is its only condition.
    Root(usize),
    /// In the delegate.
    Delegate(usize),
}

impl<'a> Entry<'_, 'a> {
    /// The object and the route in which a field stands; `own` says whether a route has it.
    pub(super) fn place(&self, own: impl Fn(&HttpRoute) -> bool) -> (&'a Object<VirtualService>, &str) {
        match &self.root {
            Some(root) if !own(root.written) => (root.object, &root.field),
            _ => (self.object, &self.field),
        }
    }

    /// The object and the field of a match.
    pub(super) fn match_place(&self, number: usize) -> (&'a Object<VirtualService>, String) {
        let (object, field, number) = match &self.root {
            None => (self.object, &self.field, number),
            Some(root) => match root.matches.get(number) {
                Some(MatchPlace::Root(number)) => (root.object, &root.field, *number),
                Some(MatchPlace::Delegate(number)) => (self.object, &self.field, *number),
                None => (self.object, &self.field, number),
            },
        };
        (object, format!("{field}.match[{number}]"))
    }
}
