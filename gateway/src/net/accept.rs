//! From an accepted socket to a connection that can be served: which door, TLS or not, HTTP or not.

use std::{
    cell::Cell,
    fmt::Display,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use routing::{
    opaque::{OpaqueRule, OpaqueTable},
    snapshot::Content,
    unix,
};
use tls::{
    accept::{ClientHello, Refusal, hello},
    stream::Stream,
};
use tokio::{net::TcpStream, time::timeout};
use tracing::{debug, info, warn};

use super::{
    connection::{Connection, server_facts},
    course::Course,
    facts::{Arrival, Facts},
    listen::Door,
    original_dst::original_dst,
    own_ports::OwnPorts,
    plain_http::say_https,
    sniff::{Sniffed, client_hello, sniff},
};
use crate::{
    http::limits::HEAD,
    live::{ClientPolicy, Live, Server},
    telemetry::{
        Telemetry,
        metrics::{Handshake, Metrics},
        refusals::Refusals,
    },
};

/// A TLS handshake is complete within this time.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest wait for the first byte of a connection.
const FIRST_BYTE: Duration = Duration::from_secs(3600);

/// What Istio's proxies offer towards each other, by which PERMISSIVE tells mesh TLS from others.
const MESH_ALPN: [&[u8]; 5] = [b"istio", b"istio-peer-exchange", b"istio-http/1.0", b"istio-http/1.1", b"istio-h2"];
/// A connection whose first bytes are understood.
pub(crate) enum Received {
    /// HTTP/1.1 or HTTP/2.
    Http(Box<Connection>),
    /// Bytes, and where they go.
    Opaque(Box<Connection>, Course),
}

/// What becomes of a ClientHello.
pub(super) enum Choice<'a> {
    /// Our own server answers it, or says why it cannot.
    Ours(&'a Server),
    /// It goes on as it is.
    Passed(Arc<OpaqueRule>),
    /// Nobody here has the name, as the sentence says.
    Unknown(String),
    /// It is none of the mesh's proxies.
    NotMesh,
}

impl Choice<'_> {
    pub(super) fn unknown(name: Option<&str>) -> Self {
        Self::Unknown(format!("no server has the name {}", name.unwrap_or("(none was sent)")))
    }

    fn passed(table: &OpaqueTable, hello: &ClientHello<TcpStream>) -> Self {
        match table.find(None, hello.sni().unwrap_or_default()) {
            Some(route) => Self::Passed(Arc::clone(&route.rule)),
            None => {
                let name = hello.sni().unwrap_or("(none was sent)");
                Self::Unknown(format!("no tls route is for the name {name}, and this port only passes TLS on for it"))
            }
        }
    }
}

/// What a ClientHello became.
pub(super) enum Shaken {
    Ours(Stream<TcpStream>),
    /// The ClientHello is not consumed.
    Passed(Stream<TcpStream>, Option<String>, Arc<OpaqueRule>),
}

pub(super) fn offers_mesh<'a>(mut offered: impl Iterator<Item = &'a [u8]>) -> bool {
    offered.any(|one| MESH_ALPN.contains(&one))
}

/// What is needed to receive connections.
pub(crate) struct Reception {
    /// The configuration.
    pub(crate) live: Arc<Live>,
    /// Counts handshakes.
    pub(crate) metrics: Arc<Metrics>,
    /// Where lines of the access log go.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Sidecar: where the application listens; `None` = where the client meant to go.
    pub(crate) app_address: Option<IpAddr>,
    /// Who was turned away.
    pub(crate) refusals: Rc<Refusals>,
    /// Ports of the sidecar itself.
    pub(crate) own_ports: OwnPorts,
    /// Where balancers may be that say who their clients are.
    pub(crate) balancers: Arc<[IpNet]>,
    /// Whether a client with a certificate of an old version was told of.
    pub(crate) old_clients: Cell<bool>,
}

impl Reception {
    /// Brings a fresh connection as far as its first request. `None`: it is over, and whoever had to know knows.
    pub(crate) async fn receive(&self, tcp: TcpStream, remote: SocketAddr, door: Door) -> Option<Received> {
        let local = match (tcp.local_addr(), door) {
            (Ok(local), _) => {
                tcp.set_nodelay(true).ok()?;
                local
            }
            // Through a unix socket.
            (Err(_), Door::Egress { .. }) => unix::nobody(),
            (Err(_), _) => return None,
        };
        match door {
            Door::Gateway { bind, port } => {
                let facts = Facts::new(remote, local, Arrival::Gateway { bind, port });
                self.gateway(tcp, facts).await
            }
            Door::Inbound { port } => self.inbound(tcp, remote, local, port).await,
            Door::Outbound => {
                let original = original_dst(&tcp);
                self.outbound(tcp, (remote, local), original).await
            }
            // It stands for a port, and the host tells the rest.
            Door::Egress { port: 0 } => self.outbound(tcp, (remote, local), None).await,
            Door::Egress { port } => {
                let original = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
                self.outbound(tcp, (remote, local), Some(original)).await
            }
        }
    }

    async fn gateway(&self, tcp: TcpStream, facts: Facts) -> Option<Received> {
        let Arrival::Gateway { bind, port } = facts.arrival else { return None };
        let installed = self.live.pin();
        let mut plain = Stream::new(tcp);
        let facts = match installed.snapshot.topology.proxy_protocol {
            true => self.behind_balancer(&mut plain, facts).await?,
            false => facts,
        };
        // Not before: a balancer may have taken its time.
        let installed = self.live.pin();
        let (listener, _) = installed.listener(bind, port)?;
        if let Some(table) = &listener.bytes {
            // There are no names to choose by, and the server may have the first word.
            let course = Course::by(Arc::clone(&installed), table.first());
            return Some(opaque(plain, facts, course));
        }
        if listener.tls.is_none() {
            if !first_byte(&mut plain).await? {
                return None;
            }
            let Ok(sniffed) = timeout(HEAD, sniff(&mut plain)).await else {
                self.turn_away("HeadTimeout", &facts, "no request began within 10 s of the first byte");
                return None;
            };
            return Some(http(plain, facts, sniffed.ok()? == Sniffed::Http2));
        }
        let (mut policy, mut content) = (ClientPolicy::UNMET, &Content::Http);
        let choose = |hello: &ClientHello<TcpStream>| {
            let name = hello.sni().unwrap_or_default();
            let Some((server, termination)) = installed.choose(bind, port, name) else {
                return Choice::unknown(hello.sni());
            };
            (policy, content) = (termination.policy, &server.content);
            match content {
                Content::Http | Content::Bytes(_) => Choice::Ours(&termination.tls),
                Content::Passed(table) => Choice::passed(table, hello),
                Content::Mesh(_) if !offers_mesh(hello.alpn()) => Choice::NotMesh,
                Content::Mesh(table) => Choice::passed(table, hello),
            }
        };
        let (stream, passed) = match self.handshake(plain, &facts, choose).await? {
            Shaken::Ours(stream) => (stream, None),
            Shaken::Passed(stream, name, rule) => (stream, Some((name, rule))),
        };
        match (passed, content) {
            (Some((name, rule)), _) => {
                let facts = facts.passing(&name.unwrap_or_default(), policy);
                Some(opaque(stream, facts, Course::by(Arc::clone(&installed), Some(&rule))))
            }
            (None, Content::Bytes(table)) => {
                let name = stream.sni().unwrap_or_default();
                let own = table.find(None, name).map(|route| &route.rule);
                let course =
                    Course::by(Arc::clone(&installed), own.or_else(|| table.first().filter(|_| name.is_empty())));
                let facts = server_facts(facts, &stream, policy, installed.told_of_clients());
                Some(opaque(stream, facts, course))
            }
            _ => Some(http_over_tls(stream, facts, policy, installed.told_of_clients())),
        }
    }

    /// TLS with the server that the SNI chooses.
    pub(super) async fn handshake<'a>(
        &self,
        mut plain: Stream<TcpStream>,
        facts: &Facts,
        choose: impl FnOnce(&ClientHello<TcpStream>) -> Choice<'a>,
    ) -> Option<Shaken> {
        let work = async {
            if let Ok(first @ (Sniffed::Http1 | Sniffed::Http2)) = sniff(&mut plain).await {
                self.unchosen("PlainHttp", (facts, ""), "plain HTTP was sent to a port that speaks TLS");
                return say_https(plain, first == Sniffed::Http2).await.map(|()| Err("PlainHttp"));
            }
            let hello = hello(plain).await?;
            let choice = choose(&hello);
            // One that is not ours may be meant for whoever the bytes go to.
            if hello.is_challenge() && (!matches!(choice, Choice::Passed(_)) || self.is_challenged(&hello)) {
                return self.answer_challenge(hello).await.map(|()| Err("Challenge"));
            }
            match choice {
                Choice::Ours(Ok(server)) => hello.accept(server).await.map(Shaken::Ours).map(Ok),
                Choice::Passed(rule) => {
                    let name = hello.sni().map(str::to_owned);
                    Ok(Ok(Shaken::Passed(hello.into_inner(), name, rule)))
                }
                Choice::Ours(Err(why)) => {
                    self.tell("NoCertificate", facts, &format!("for {}: {why}", hello.sni().unwrap_or("no name")));
                    hello.refuse(Refusal::NoCertificate).await.map(|()| Err("NoCertificate"))
                }
                Choice::Unknown(why) => {
                    self.unchosen("UnrecognizedName", (facts, hello.sni().unwrap_or_default()), &why);
                    hello.refuse(Refusal::UnrecognizedName).await.map(|()| Err("UnrecognizedName"))
                }
                Choice::NotMesh => {
                    let why = "none of the mesh's protocols is offered (ALPN), and this port is for the mesh's proxies";
                    self.unchosen("NotMesh", (facts, hello.sni().unwrap_or_default()), why);
                    hello.refuse(Refusal::NoProtocol).await.map(|()| Err("NotMesh"))
                }
            }
        };
        let (result, reason) = match timeout(HANDSHAKE, work).await {
            Ok(Ok(Ok(shaken))) => {
                if let Shaken::Ours(stream) = &shaken {
                    self.metrics.handshake(Handshake::Ok);
                    self.warn_of_old(stream, facts);
                }
                return Some(shaken);
            }
            Ok(Ok(Err(reason))) => (Handshake::Refused, reason),
            Ok(Err(error)) => {
                self.tell(error.reason(), facts, &error.to_string());
                (Handshake::Failed, error.reason())
            }
            Err(_) => {
                self.tell("Timeout", facts, "not complete within 10 s");
                (Handshake::TimedOut, "Timeout")
            }
        };
        self.metrics.handshake(result);
        if reason != "Challenge" {
            self.metrics.handshake_failed(reason);
        }
        None
    }

    /// One line per worker: a CA that writes such certificates writes many of them.
    fn warn_of_old(&self, stream: &Stream<TcpStream>, facts: &Facts) {
        if let Some(peer) = stream.peer.as_ref().filter(|peer| peer.old)
            && !self.old_clients.replace(true)
        {
            warn!(
                remote = %facts.remote,
                subject = %peer.subject,
                "a client's certificate is of X.509 version 1 and was accepted, as others will be: it cannot say that it is for \
                 clients only and no CA; sign them with an extension file (`openssl x509 -req -extfile`)"
            );
        }
    }

    /// No server takes it.
    fn unchosen(&self, reason: &'static str, who: (&Facts, &str), why: &str) {
        self.unserved(reason, who, format_args!("TLS handshake failed: {why}"));
    }

    fn tell(&self, reason: &'static str, facts: &Facts, why: &str) {
        self.turn_away(reason, facts, format_args!("TLS handshake failed: {why}"));
    }

    pub(super) fn turn_away(&self, reason: &'static str, facts: &Facts, why: impl Display) {
        self.refusals.tell(reason, facts.remote, facts.local, why);
    }

    fn is_challenged(&self, hello: &ClientHello<TcpStream>) -> bool {
        hello.sni().is_some_and(|sni| self.live.challenges.tls(sni).is_some())
    }

    /// A CA's check: the certificate of a live challenge, and nothing of what this port serves otherwise.
    async fn answer_challenge(&self, hello: ClientHello<TcpStream>) -> Result<(), tls::Error> {
        match hello.sni().and_then(|sni| self.live.challenges.tls(sni)) {
            Some(challenge) => {
                info!(sni = hello.sni(), "tls-alpn-01 challenge answered");
                hello.answer_challenge(&challenge).await
            }
            None => {
                debug!(sni = hello.sni(), "handshake refused: no tls-alpn-01 challenge is live for this name");
                hello.refuse(Refusal::UnrecognizedName).await
            }
        }
    }

    /// A whole ClientHello; `None`: whoever sent something else, or not all of it, was told of.
    pub(super) async fn first_hello(
        &self,
        plain: &mut Stream<TcpStream>,
        facts: &Facts,
    ) -> Option<tls::client_hello::Hello> {
        match timeout(HANDSHAKE, client_hello(plain)).await {
            Ok(Ok(Some(hello))) => return Some(hello),
            Ok(Ok(None)) => self.tell("NotTls", facts, "the first record holds no ClientHello"),
            Ok(Err(error)) => self.tell("Io", facts, &error.to_string()),
            Err(_) => self.tell("Timeout", facts, "the ClientHello was not complete within 10 s"),
        }
        None
    }
}

/// Waits for the first byte. `false`: none will come. `None`: none came in time, or the socket is broken.
async fn first_byte(plain: &mut Stream<TcpStream>) -> Option<bool> {
    timeout(FIRST_BYTE, poll_fn(|cx| plain.poll_readable(cx))).await.ok()?.ok()
}

/// What a connection within the mesh speaks. One that does not tell in time speaks something that we do not know, in which
/// the other side may have the next word: it is no reason to end it (Istio's protocol detection).
/// `limit`: Istio's `protocolDetectionTimeout`, from the beginning of the connection.
pub(super) async fn first_bytes(plain: &mut Stream<TcpStream>, limit: Option<Duration>) -> Option<Sniffed> {
    match limit {
        Some(limit) => timeout(limit, detect(plain)).await.unwrap_or(Some(Sniffed::Opaque)),
        None => detect(plain).await,
    }
}

async fn detect(plain: &mut Stream<TcpStream>) -> Option<Sniffed> {
    if !first_byte(plain).await? {
        return Some(Sniffed::Closed);
    }
    timeout(HEAD, sniff(plain)).await.unwrap_or(Ok(Sniffed::Opaque)).ok()
}

pub(super) fn http(plain: Stream<TcpStream>, facts: Facts, h2: bool) -> Received {
    Received::Http(Box::new(Connection::new(plain, facts, h2)))
}

pub(super) fn http_over_tls(
    stream: Stream<TcpStream>,
    facts: Facts,
    policy: ClientPolicy,
    details: Option<[bool; 4]>,
) -> Received {
    let h2 = stream.alpn() == Some(b"h2".as_slice());
    let facts = server_facts(facts, &stream, policy, details);
    Received::Http(Box::new(Connection::new(stream, facts, h2)))
}

pub(super) fn opaque(stream: Stream<TcpStream>, facts: Facts, course: Course) -> Received {
    Received::Opaque(Box::new(Connection::new(stream, facts, false)), course)
}
