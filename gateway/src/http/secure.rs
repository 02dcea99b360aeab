//! Which host and port a redirect from plain text to https names.

use std::borrow::Cow;

use routing::authority::by_https;

use crate::{live::Installed, net::facts::Arrival};

/// Where an authority is reached by https: see [`by_https`].
pub(super) fn authority<'a>(installed: &Installed, arrival: Arrival, sent: &'a str) -> Cow<'a, str> {
    match arrival {
        Arrival::Gateway { bind, port } => by_https(&installed.snapshot, &installed.port_map, (bind, port), sent),
        _ => sent.into(),
    }
}
