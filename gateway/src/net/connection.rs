//! A stream with what is known of it.

use std::{rc::Rc, sync::Arc};

use tls::stream::Stream;
use tokio::net::TcpStream;

use super::facts::{Arrival, Facts, TlsFacts};
use crate::live::ClientPolicy;

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The bytes.
    pub(crate) stream: Stream<TcpStream>,
    /// The facts.
    pub(crate) facts: Rc<Facts>,
    /// HTTP/2 was agreed on, or begun.
    pub(crate) h2: bool,
}

impl Connection {
    /// Joins a stream with its facts.
    pub(crate) fn new(stream: Stream<TcpStream>, facts: Facts, h2: bool) -> Self {
        Self { stream, facts: Rc::new(facts), h2 }
    }

    /// Without its box: a future that moves it out by itself keeps the empty box for as long as it lives.
    pub(crate) fn unboxed(self: Box<Self>) -> Self {
        *self
    }
}

/// Facts and TLS facts of a server-side handshake.
/// `details`: what our element of `x-forwarded-client-cert` holds, when somebody says it.
pub(crate) fn server_facts(
    mut facts: Facts,
    stream: &Stream<TcpStream>,
    policy: ClientPolicy,
    details: Option<[bool; 4]>,
) -> Facts {
    let mut found = TlsFacts {
        sni: stream.sni().unwrap_or_default().into(),
        policy,
        certificate: stream.peer.clone(),
        version: stream.version(),
        cipher: stream.cipher(),
        ..TlsFacts::default()
    };
    if let Some(own) = &stream.local {
        found.own = Arc::clone(own);
    }
    if let Some(peer) = &stream.peer {
        let mesh_only = matches!(facts.arrival, Arrival::Inbound { .. });
        // TLS of a workload's port that is not the mesh's: its CAs issue names in any trust domain, which are not identities.
        if let Some(spiffe) = peer.spiffe.as_ref().filter(|_| !mesh_only || stream.local.is_some()) {
            found.peer = Arc::clone(spiffe);
        }
        let include = match (details, facts.arrival) {
            (Some([cert, subject, uri, dns]), _) => tls::xfcc::Include { cert, subject, uri, dns },
            (None, Arrival::Gateway { .. }) => tls::xfcc::Include::GATEWAY,
            (None, _) => tls::xfcc::Include::SIDECAR,
        };
        found.client_certificate = Some(tls::xfcc::element(peer, stream.local.as_deref(), include).into_boxed_str());
    }
    facts.tls = Some(found);
    facts
}
