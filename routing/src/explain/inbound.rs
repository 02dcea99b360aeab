//! What comes to the workload of a sidecar.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, SocketAddr},
};

use super::{
    Outcome, Question,
    asking::{Asking, policies},
    course::{Met, Proxy},
    handshake::{server_name, settle, trusted},
    table::limits,
    told::{End, Story},
};
use crate::{
    inbound::{Inbound, InboundPort, InboundProtocol, MtlsMode, OwnTls},
    opaque::service_name,
};

pub(super) fn inbound(proxy: Proxy<'_>, question: &Question, story: &mut Story) -> Result<(), End> {
    let Some(inbound) = &proxy.snapshot.inbound else {
        return Err(End::closed("listener", "this proxy has no inbound side: it is no sidecar"));
    };
    let port = inbound.ports.get(&question.port);
    match port {
        Some(port) if !port.service_host.is_empty() => {
            story.passed("listener", format!("port {} belongs to {}", question.port, port.service_host), "");
        }
        _ => story.note("listener", format!("no service has port {}", question.port), ""),
    }
    let ip = question.address.or(inbound.addresses.first().copied()).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let plain = Met::plain(SocketAddr::new(ip, question.port));
    let name = mesh_name(port);
    let (met, is_passed) = match port.and_then(|port| port.tls.as_deref()) {
        Some(own) => (own_tls(own, question, plain, story)?, false),
        None => mesh_tls(inbound, question, (plain, &name), story)?,
    };
    let is_bytes = is_passed || port.is_some_and(|port| port.protocol == InboundProtocol::Tcp);
    if is_bytes {
        policies(proxy, (question, met, question.client.to_canonical()), None, story)?;
        let answer = format!("Given to the application on port {}, its bytes unread", question.port);
        story.arrive(Outcome::Forwarded, None, answer);
        return Ok(());
    }
    let asking = Asking::new(proxy, question, met, story)?.guard(story)?;
    limits(&asking, None, story);
    story.arrive(Outcome::Forwarded, None, format!("Given to the application on port {}", question.port));
    Ok(())
}

/// The server name that proxies of the mesh send, as far as it is known.
fn mesh_name(port: Option<&InboundPort>) -> Cow<'static, str> {
    let Some(port) = port.filter(|port| !port.service_host.is_empty()) else { return Cow::Borrowed("") };
    service_name(port.service_port, "", &port.service_host).into()
}

/// TLS of the port's own. Names in it are no identities.
fn own_tls<'a>(own: &OwnTls, question: &'a Question, plain: Met<'a>, story: &mut Story) -> Result<Met<'a>, End> {
    let peer = settle(&own.name, &own.settings, &question.peer)?;
    let proven = if peer.is_empty() { String::new() } else { format!(", and takes the certificate of {peer}") };
    story.passed("tls", format!("{} ends TLS of the port's own (Sidecar){proven}", own.name), &own.name);
    Ok(plain.encrypted("", server_name(&question.host)))
}

/// TLS of the mesh, or none, as PeerAuthentication says; `true`: it goes to the application as it is.
fn mesh_tls<'a>(
    inbound: &Inbound,
    question: &'a Question,
    (plain, name): (Met<'a>, &'a str),
    story: &mut Story,
) -> Result<(Met<'a>, bool), End> {
    let mode = inbound.mtls(question.port);
    let told = format!("PeerAuthentication is {}", format!("{mode:?}").to_uppercase());
    match (mode, question.peer.is_empty()) {
        (MtlsMode::Strict, true) => {
            Err(End::closed("tls", format!("{told}, and the client proves no identity of the mesh")))
        }
        (_, true) => {
            story.passed("tls", told, "");
            Ok((plain, false))
        }
        (MtlsMode::Disable, false) => {
            story.note("tls", format!("{told}: TLS goes on to the application, which nobody has asked who it is"), "");
            Ok((plain, true))
        }
        (_, false) => {
            trusted(&inbound.trust_domains, &question.peer)
                .map_err(|why| End::closed("tls", format!("the sidecar {why}")))?;
            story.passed("tls", told, "");
            Ok((plain.encrypted(&question.peer, name), false))
        }
    }
}
