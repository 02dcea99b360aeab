//! The policies of the last compilation, for the next one: they depend on their objects, the proxy, and whom they may ask, and an
//! endpoint that comes or goes is none of these.

use std::sync::Arc;

use crate::{api::AuthorizationPolicy, authorization::Authorization, resources::Object};

/// What was compiled, and of what. For another proxy all of it is forgotten.
pub(in crate::compile) struct Kept {
    objects: Vec<Arc<Object<AuthorizationPolicy>>>,
    askable: Option<Arc<str>>,
    made: Arc<Authorization>,
}

impl Kept {
    /// Of these policies, where nothing was wrong with them.
    pub(super) fn new(
        objects: &[&Arc<Object<AuthorizationPolicy>>],
        askable: &Option<Arc<str>>,
        made: &Arc<Authorization>,
    ) -> Self {
        let objects = objects.iter().map(|object| Arc::clone(object)).collect();
        Self { objects, askable: askable.clone(), made: Arc::clone(made) }
    }

    /// The same again, where these are the very objects that it was made of.
    pub(super) fn again(
        &self,
        objects: &[&Arc<Object<AuthorizationPolicy>>],
        askable: &Option<Arc<str>>,
    ) -> Option<Arc<Authorization>> {
        let same = self.objects.len() == objects.len()
            && self.objects.iter().zip(objects).all(|(kept, now)| Arc::ptr_eq(kept, now));
        (same && self.askable == *askable).then(|| Arc::clone(&self.made))
    }
}
