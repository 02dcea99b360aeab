//! What comes in for a sidecar's own workload: mutual TLS of the mesh, TLS of the port's own, or plain text, as its port is told.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use routing::inbound::{InboundProtocol, MtlsMode};
use socket2::SockRef;
use tls::{accept::ClientHello, stream::Stream};
use tokio::{net::TcpStream, time::timeout};

use super::{
    accept::{Choice, Received, Reception, Shaken, first_bytes, http, http_over_tls, offers_mesh, opaque},
    connection::server_facts,
    course::Course,
    facts::{Arrival, Facts},
    sniff::Sniffed,
};
use crate::{
    live::{ClientPolicy, Installed, Termination},
    peers::exchange,
};

/// On a port of the workload that may be spoken to in mesh TLS and in plain text: a client that is silent for so long waits for
/// the server's first word.
const SERVER_FIRST: Duration = Duration::from_secs(3);

/// The ALPN names of the mesh that say HTTP.
const MESH_HTTP_ALPN: [&[u8]; 3] = [b"istio-http/1.0", b"istio-http/1.1", b"istio-h2"];

/// Who may have the first word.
enum FirstWord {
    Servers,
    Clients,
    /// Either plain text, where the server may begin, or TLS, where the client does.
    Anybodys,
}

impl Reception {
    /// `port`: the one that the socket stands for; `None`: the original destination tells.
    pub(super) async fn inbound(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
        local: SocketAddr,
        port: Option<u16>,
    ) -> Option<Received> {
        let meant = match port {
            Some(port) => SocketAddr::new(local.ip(), port),
            None => self.meant(&tcp, (remote, local))?,
        };
        let installed = self.live.pin();
        let to = installed.snapshot.inbound.as_ref().and_then(|inbound| inbound.ports.get(&meant.port()));
        let application = to.map(|port| port.to).unwrap_or_default().address(meant, self.app_address);
        let arrival = Arrival::Inbound { port: meant.port(), application };
        let facts = Facts::new(remote, local, arrival);
        let mut plain = Stream::new(tcp);
        let limit = installed.snapshot.mesh.detection_timeout();
        let first = match self.first_word(meant.port())? {
            FirstWord::Servers => Sniffed::Opaque,
            FirstWord::Clients => first_bytes(&mut plain, limit).await?,
            FirstWord::Anybodys => {
                timeout(SERVER_FIRST, first_bytes(&mut plain, limit)).await.unwrap_or(Some(Sniffed::Opaque))?
            }
        };
        // Not before: what was waited for may have taken an hour.
        let installed = self.live.pin();
        let inbound = installed.snapshot.inbound.as_ref()?;
        let protocol = inbound.ports.get(&meant.port()).map_or(InboundProtocol::Auto, |port| port.protocol);
        let mode = inbound.mtls(meant.port());
        if installed.own_tls.contains_key(&meant.port()) && first != Sniffed::Closed {
            return self.own_tls(plain, facts, (protocol, first), &installed, application).await;
        }
        match (mode, first) {
            (_, Sniffed::Closed) => None,
            (MtlsMode::Strict, Sniffed::Tls) => self.terminate(plain, facts, protocol, &installed, application).await,
            (MtlsMode::Strict, _) => {
                let why = format_args!("plain text refused: port {} is STRICT", meant.port());
                self.unserved("PlainTextToStrict", (&facts, ""), why);
                let _ = SockRef::from(plain.get_ref()).set_linger(Some(Duration::ZERO));
                None
            }
            (MtlsMode::Permissive, Sniffed::Tls) => {
                let hello = self.first_hello(&mut plain, &facts).await?;
                if offers_mesh(hello.alpn.iter().map(Vec::as_slice)) {
                    return self.terminate(plain, facts, protocol, &installed, application).await;
                }
                // TLS of the application's own.
                let course = Course::inward(installed, meant.port(), application);
                Some(opaque(plain, facts.passing(&hello.sni.unwrap_or_default(), ClientPolicy::PASSED), course))
            }
            (_, first) => {
                let course = Course::inward(installed, meant.port(), application);
                Some(unencrypted(plain, facts, (protocol, first), course))
            }
        }
    }

    /// Mutual TLS of the mesh, then HTTP or bytes, as declared or as ALPN says.
    #[expect(clippy::too_many_arguments, reason = "a private step of `inbound` with what that has found out")]
    async fn terminate(
        &self,
        mut plain: Stream<TcpStream>,
        facts: Facts,
        protocol: InboundProtocol,
        installed: &Arc<Installed>,
        application: SocketAddr,
    ) -> Option<Received> {
        let http = match protocol {
            InboundProtocol::Http => true,
            InboundProtocol::Tcp => false,
            InboundProtocol::Auto => {
                let hello = self.first_hello(&mut plain, &facts).await?;
                hello.alpn.iter().any(|offered| MESH_HTTP_ALPN.contains(&offered.as_slice()))
            }
        };
        let Arrival::Inbound { port, .. } = facts.arrival else { return None };
        let own = if http { &installed.inbound_tls } else { &installed.inbound_bytes }.as_ref();
        self.ended(plain, facts, http, installed, (own, port, application)).await
    }

    /// TLS of a port of the workload that has its own, then HTTP or bytes, as declared.
    #[expect(clippy::too_many_arguments, reason = "a private step of `inbound` with what that has found out")]
    async fn own_tls(
        &self,
        plain: Stream<TcpStream>,
        facts: Facts,
        (protocol, first): (InboundProtocol, Sniffed),
        installed: &Arc<Installed>,
        application: SocketAddr,
    ) -> Option<Received> {
        let Arrival::Inbound { port, .. } = facts.arrival else { return None };
        if first != Sniffed::Tls {
            let why = format_args!("plain text refused: port {port} speaks TLS (Sidecar)");
            self.unserved("PlainTextToTls", (&facts, ""), why);
            let _ = SockRef::from(plain.get_ref()).set_linger(Some(Duration::ZERO));
            return None;
        }
        let own = installed.own_tls.get(&port);
        self.ended(plain, facts, protocol != InboundProtocol::Tcp, installed, (own, port, application)).await
    }

    /// A handshake with our own server, and what comes then.
    #[expect(clippy::too_many_arguments, reason = "a private step of `inbound` with what that has found out")]
    async fn ended(
        &self,
        plain: Stream<TcpStream>,
        facts: Facts,
        http: bool,
        installed: &Arc<Installed>,
        (own, port, application): (Option<&Termination>, u16, SocketAddr),
    ) -> Option<Received> {
        let policy = own.map_or(ClientPolicy::UNMET, |own| own.policy);
        let choose = |hello: &ClientHello<TcpStream>| match own {
            Some(own) => Choice::Ours(&own.tls),
            None => Choice::unknown(hello.sni()),
        };
        let Shaken::Ours(mut stream) = self.handshake(plain, &facts, choose).await? else { return None };
        if http {
            return Some(http_over_tls(stream, facts, policy, installed.told_of_clients()));
        }
        let facts = server_facts(facts, &stream, policy, installed.told_of_clients());
        if exchange::is_agreed(&stream) {
            Box::pin(self.exchange(&mut stream, &facts, installed)).await?;
        }
        Some(opaque(stream, facts, Course::inward(Arc::clone(installed), port, application)))
    }

    /// Who may have the first word on a port of the workload.
    fn first_word(&self, port: u16) -> Option<FirstWord> {
        let installed = self.live.pin();
        let inbound = installed.snapshot.inbound.as_ref()?;
        let declared = inbound.ports.get(&port).map(|port| port.protocol);
        if installed.own_tls.contains_key(&port) {
            return Some(FirstWord::Clients);
        }
        Some(match (declared, inbound.mtls(port)) {
            (Some(InboundProtocol::Tcp), MtlsMode::Disable) => FirstWord::Servers,
            (Some(InboundProtocol::Tcp), MtlsMode::Permissive) => FirstWord::Anybodys,
            // TLS begins with the client.
            _ => FirstWord::Clients,
        })
    }
}

fn unencrypted(plain: Stream<TcpStream>, facts: Facts, told: (InboundProtocol, Sniffed), course: Course) -> Received {
    match told {
        (InboundProtocol::Tcp, _) | (_, Sniffed::Tls) | (InboundProtocol::Auto, Sniffed::Opaque) => {
            opaque(plain, facts, course)
        }
        (_, first) => http(plain, facts, first == Sniffed::Http2),
    }
}
