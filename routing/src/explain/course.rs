//! The way of a request through a snapshot, as the data path goes it, from the door of a gateway.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{
    Question, Side,
    asking::Asking,
    bytes::{self, Bytes},
    handshake::shake,
    inbound::inbound,
    outbound::outbound,
    table::by_table,
    told::{End, Story},
    words::few,
};
use crate::snapshot::{Content, Listener, Snapshot};

/// The proxy that is asked.
#[derive(Clone, Copy)]
pub(super) struct Proxy<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Port a Gateway names -> port that clients see, where the two differ.
    pub(super) port_map: &'a BTreeMap<u16, u16>,
}

/// What is known of the connection that a request comes on.
#[derive(Clone, Copy)]
pub(super) struct Met<'a> {
    /// SPIFFE id that the client has proven; empty = none.
    pub(super) peer: &'a str,
    /// The server name of the handshake; empty = none.
    pub(super) sni: &'a str,
    /// It is encrypted.
    pub(super) tls: bool,
    /// Where it was received.
    pub(super) local: SocketAddr,
    /// The listener of a gateway that took it.
    pub(super) bind: Option<IpAddr>,
}

impl<'a> Met<'a> {
    /// In plain text.
    pub(super) fn plain(local: SocketAddr) -> Self {
        Self { peer: "", sni: "", tls: false, local, bind: None }
    }

    /// Encrypted, by a client who proves to be this one.
    pub(super) fn encrypted(self, peer: &'a str, sni: &'a str) -> Self {
        // Names of other kinds are in certificates, too, and are no identities.
        let peer = if peer.starts_with("spiffe://") { peer } else { "" };
        Self { peer, sni, tls: true, ..self }
    }
}

/// Tells the whole way.
pub(super) fn follow(proxy: Proxy<'_>, question: &Question, story: &mut Story) -> Result<(), End> {
    match question.side {
        Side::Gateway => gateway(proxy, question, story),
        Side::Outbound => outbound(proxy, question, story),
        Side::Inbound => inbound(proxy, question, story),
    }
}

fn gateway(proxy: Proxy<'_>, question: &Question, story: &mut Story) -> Result<(), End> {
    let listener = listener(proxy.snapshot, question, story)?;
    let bound = proxy.port_map.get(&listener.port).copied().unwrap_or(listener.bind_port);
    let ip = question.address.or(listener.bind).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let plain = Met { bind: listener.bind, ..Met::plain(SocketAddr::new(ip, bound)) };
    if let Some(table) = &listener.bytes {
        // There are no names to choose by.
        return bytes::pass(proxy, Bytes { rule: table.first(), name: "" }, (question, plain), story);
    }
    let Some(tls) = &listener.tls else {
        let asking = Asking::new(proxy, question, plain, story)?.guard(story)?;
        return by_table(&asking, &listener.routes, story);
    };
    let (server, met) = shake(tls, question, plain, story)?;
    match &server.content {
        Content::Http => {
            let asking = Asking::new(proxy, question, met, story)?.guard(story)?;
            by_table(&asking, &listener.routes, story)
        }
        Content::Bytes(table) => {
            let own = table.find(None, met.sni).map(|route| &route.rule);
            let rule = own.or_else(|| table.first().filter(|_| met.sni.is_empty()));
            bytes::pass(proxy, Bytes { rule, name: met.sni }, (question, met), story)
        }
        Content::Passed(table) | Content::Mesh(table) => {
            let Some(route) = table.find(None, met.sni) else {
                return Err(End::closed("route", format!("no route is for the name {}", met.sni)));
            };
            bytes::pass(proxy, Bytes { rule: Some(&route.rule), name: met.sni }, (question, met), story)
        }
    }
}

/// Who takes the connection: a listener of the very address before one of all addresses.
fn listener<'a>(snapshot: &'a Snapshot, question: &Question, story: &mut Story) -> Result<&'a Listener, End> {
    let port = question.port;
    let of_port = || snapshot.listeners.iter().filter(move |it| it.port == port);
    let of_bind = |bind: Option<IpAddr>| of_port().find(|it| it.bind == bind);
    let found = match question.address {
        Some(address) => of_bind(Some(address)).or_else(|| of_bind(None)),
        None => of_bind(None).or_else(|| of_port().next()),
    };
    let Some(found) = found else {
        let binds = few(of_port().filter_map(|it| it.bind));
        let ports = few(snapshot.listeners.iter().map(|it| it.port));
        let why = match (binds.is_empty(), ports.is_empty()) {
            (false, _) => format!("port {port} is taken at {binds} only"),
            (true, false) => format!("nothing listens on port {port}; there are {ports}"),
            (true, true) => format!("nothing listens on port {port}; there is none at all"),
        };
        return Err(End::closed("listener", why));
    };
    let kind = if found.tls.is_some() { "TLS" } else { "plain text" };
    story.passed("listener", format!("port {port} takes it, in {kind}"), "");
    let others = few(of_port().filter(|it| it.bind != found.bind).filter_map(|it| it.bind));
    if question.address.is_none() && !others.is_empty() {
        story.note("listener", format!("at {others} another one takes it: say which with address="), "");
    }
    Ok(found)
}
