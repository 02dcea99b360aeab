//! What a proxy asks of whoever comes to its workload.

use super::{authorization, context::Context};
use crate::guard::Guard;

/// `None`: nothing.
pub(super) fn compile(context: &Context<'_>) -> Option<Box<Guard>> {
    let guard = Guard { authorization: authorization::compile(context, |_| false) };
    (!guard.is_open()).then(|| Box::new(guard))
}
