//! What the other side of one connection has told of its workload. It says the same with every request: only what is new is
//! read.

use std::{cell::RefCell, sync::Arc};

use routing::snapshot::Workload;

use super::{Claim, Peers};

/// See the module. Nothing of it is shared: a connection belongs to one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(RefCell<Option<Box<Last>>>);

#[derive(Clone, Debug)]
struct Last {
    value: Box<[u8]>,
    workload: Option<Arc<Workload>>,
}

impl Heard {
    /// Whom a header's value describes, on a connection with this identity. `tell` hears what came of it, when it is new.
    pub(crate) fn header(
        &self,
        peers: &Peers,
        principal: &Arc<str>,
        value: &[u8],
        tell: impl FnOnce(Claim),
    ) -> Option<Arc<Workload>> {
        let mut last = self.0.borrow_mut();
        if let Some(last) = &*last
            && *last.value == *value
        {
            return last.workload.clone();
        }
        let (claim, workload) = peers.of_header(principal, value);
        tell(claim);
        // What was too long to be read is not kept either.
        let value = if claim == Claim::Broken { Box::default() } else { value.into() };
        *last = Some(Box::new(Last { value, workload: workload.clone() }));
        workload
    }

    /// Keeps what was said before the first byte.
    pub(super) fn said(&self, workload: Option<Arc<Workload>>) {
        *self.0.borrow_mut() = Some(Box::new(Last { value: Box::default(), workload }));
    }

    /// Who it is, as it was told last.
    pub(crate) fn workload(&self) -> Option<Arc<Workload>> {
        self.0.borrow().as_ref()?.workload.clone()
    }
}
