//! What a proxy asks of whoever comes to its workload.

use super::{authorization, context::Context, external, limits, tokens, workloads::WorkloadFacts};
use crate::guard::Guard;

/// `None`: nothing.
pub(super) fn compile(context: &Context<'_>, workload: Option<&WorkloadFacts>) -> Option<Box<Guard>> {
    let mut guard = Guard {
        authorization: authorization::compile(context, |provider| external::is_defined(context, provider)),
        external: None,
        limits: limits::compile(context, workload),
        tokens: tokens::compile(context),
    };
    guard.external = guard.authorization.as_ref().and_then(|all| external::compile(context, &all.providers()));
    (!guard.is_open()).then(|| Box::new(guard))
}
