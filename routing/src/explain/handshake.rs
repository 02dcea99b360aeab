//! TLS: which server answers a ClientHello, and whether it takes the client.

use std::net::IpAddr;

use super::{
    Question,
    course::Met,
    told::{End, Story},
};
use crate::{
    host::bare,
    snapshot::{CertificateSource, ClientAuth, ClientCa, Content, RootsSource, ServerTls, TlsServer, TlsServers},
};

/// The server name that a client sends who wants this host: addresses are no names (RFC 6066).
pub(super) fn server_name(host: &str) -> &str {
    let name = bare(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    if address.parse::<IpAddr>().is_ok() { "" } else { name }
}

/// A handshake with the server of the name; TLS that ends elsewhere is not looked into.
pub(super) fn shake<'a>(
    tls: &'a TlsServers,
    question: &'a Question,
    plain: Met<'a>,
    story: &mut Story,
) -> Result<(&'a TlsServer, Met<'a>), End> {
    let name = server_name(&question.host);
    let found = tls.by_sni.get(name).copied().or_else(|| tls.only().filter(|_| name.is_empty()));
    let Some(server) = found.and_then(|found| tls.servers.get(found)) else {
        let name = if name.is_empty() { "(none is sent with an address)" } else { name };
        return Err(End::closed("tls", format!("no server of this port has the name {name}")));
    };
    if server.content.is_passed() {
        if matches!(server.content, Content::Mesh(_)) && question.peer.is_empty() {
            let why = format!("server {} is for proxies of the mesh: say which with peer=", server.name);
            return Err(End::closed("tls", why).by(&*server.name));
        }
        story.passed("tls", format!("server {} passes the TLS for {name} on", server.name), &server.name);
        return Ok((server, Met { sni: name, ..plain }));
    }
    let peer = settle(&server.name, &server.settings, &question.peer)?;
    let proven = if peer.is_empty() { String::new() } else { format!(", and takes the certificate of {peer}") };
    story.passed("tls", format!("server {} answers for {name}{proven}", server.name), &server.name);
    if peer.is_empty() && !question.peer.is_empty() {
        story.note("tls", "it looks at no certificate of the client: peer= proves nothing here", &server.name);
    }
    Ok((server, plain.encrypted(peer, name)))
}

/// Whether a server shakes hands with a client; the name that this one has proven then, empty = none.
pub(super) fn settle<'q>(name: &str, settings: &ServerTls, peer: &'q str) -> Result<&'q str, End> {
    let refused = |why: &str| Err(End::closed("tls", format!("server {name} {why}")).by(name));
    match &settings.certificate {
        CertificateSource::Missing(secret) => {
            return refused(&format!("has no certificate: Secret {secret} is missing"));
        }
        CertificateSource::Rejected => return refused("is rejected; see the problems"),
        CertificateSource::Pending { placeholder: false, issuer, .. } => {
            return refused(&format!("has no certificate yet: {issuer} is asked for it"));
        }
        _ => {}
    }
    client(&settings.client, peer).or_else(|why| refused(&why))
}

/// What a server makes of who a client says to be.
fn client<'q>(demanded: &ClientAuth, peer: &'q str) -> Result<&'q str, String> {
    let nobody = |what: &str| Err(format!("{what}, and the client has none: say whose with peer="));
    match demanded {
        ClientAuth::None | ClientAuth::Unverified { required: false } => Ok(""),
        ClientAuth::Unverified { required: true } if peer.is_empty() => nobody("asks for a certificate, any"),
        ClientAuth::Unverified { .. } => Ok(""),
        ClientAuth::Required(ca) | ClientAuth::Optional(ca) if matches!(ca.roots, RootsSource::Missing(_)) => {
            missing(ca)
        }
        ClientAuth::Optional(_) if peer.is_empty() => Ok(""),
        ClientAuth::Required(_) if peer.is_empty() => nobody("asks for a client's certificate (MUTUAL)"),
        ClientAuth::Required(ca) | ClientAuth::Optional(ca) => one_of(&ca.sans, peer),
        ClientAuth::Mesh { .. } if peer.is_empty() => nobody("asks for an identity of the mesh (ISTIO_MUTUAL)"),
        ClientAuth::Mesh { trust_domains, sans } => {
            trusted(trust_domains, peer)?;
            one_of(sans, peer)
        }
    }
}

fn missing<'q>(ca: &ClientCa) -> Result<&'q str, String> {
    match &ca.roots {
        RootsSource::Missing(secret) => Err(format!("has no CA for clients: Secret {secret} has none")),
        _ => Ok(""),
    }
}

fn one_of<'q>(sans: &[String], peer: &'q str) -> Result<&'q str, String> {
    if sans.is_empty() || sans.iter().any(|san| san == peer) {
        return Ok(peer);
    }
    Err(format!("takes certificates of {} alone, and not of {peer}", sans.join(", ")))
}

/// Whether an identity is of one of these trust domains; empty = any.
pub(super) fn trusted(trust_domains: &[String], peer: &str) -> Result<(), String> {
    let domain = peer.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
    match domain {
        None => Err(format!("takes identities of the mesh, as spiffe://cluster.local/ns/shop/sa/web, and not {peer}")),
        Some(domain) if trust_domains.is_empty() || trust_domains.iter().any(|one| one == domain) => Ok(()),
        Some(_) => Err(format!("takes identities of {}, and {peer} is of none of them", trust_domains.join(", "))),
    }
}
