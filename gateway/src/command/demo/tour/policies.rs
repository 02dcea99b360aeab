//! What policies let one workload ask of another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderMap;
use routing::{authorization::Access, request::RequestView, snapshot::Snapshot};

/// The first of a few methods by which this client may ask for `/`; `None` = by none of them.
pub(super) fn method(snapshot: &Snapshot, peer: &str, authority: &str, port: u16) -> Option<&'static str> {
    let allows_it = |method: &&'static str| {
        let request = RequestView {
            method,
            scheme: "http",
            authority,
            path: "/",
            query: "",
            port,
            headers: &HeaderMap::new(),
            token: None,
        };
        allows(snapshot, peer, request)
    };
    ["GET", "POST", "PUT"].into_iter().find(allows_it)
}

/// Whether policies let this client (empty = nobody in particular) ask so.
pub(super) fn allows(snapshot: &Snapshot, peer: &str, request: RequestView<'_>) -> bool {
    let guard = snapshot.guard.as_ref().and_then(|guard| guard.authorization.as_ref());
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let local = SocketAddr::new(here, request.port);
    let access = Access { peer, source: here, remote: here, local, sni: "", request: Some(request) };
    guard.is_none_or(|authorization| authorization.judge(&access).denied.is_none())
}
