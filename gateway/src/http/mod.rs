//! One request: in the order in which it meets the files.
//!
//! ```text
//!  serve --> admit --> forward --------------------------------> record
//!  (loop of   (limits,   |  ^ attempt (which endpoint), retry (again?), mirror (a copy)
//!  requests)   guard,    |  | edit (heads)
//!              route)    |  |
//!              intercept |  |
//!   (faults, preflights) |  |
//!                        v  |
//!                  side: Down <-- flow --> Up        h1, h2: codecs     head: the form of a message
//! ```

pub(crate) mod admit;
pub(crate) mod affinity;
pub(crate) mod attempt;
pub(crate) mod buckets;
mod call;
pub(crate) mod desk;
mod edit;
pub(crate) mod exchange;
pub(crate) mod export;
pub(crate) mod external;
mod failure;
mod flow;
pub(crate) mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod grpc;
mod grpc_messages;
mod guard;
pub(crate) mod h1;
pub(crate) mod h2;
mod handover;
mod head;
mod intercept;
mod lent;
mod limit;
mod limited;
pub(crate) mod limits;
mod linger;
mod mirror;
pub(crate) mod moments;
mod name;
mod origin;
mod outcome;
mod overdue;
mod record;
mod replay;
mod reply;
mod retry;
pub(crate) mod room;
mod secure;
pub(crate) mod serve;
mod side;
mod spans;
mod tokens;
pub(crate) mod told;
mod trace;
mod wire;
