//! Which Gateway servers this proxy serves, port by port, and which of their hosts two of them fight over.

use std::{collections::HashMap, net::IpAddr};

use super::{
    context::Context,
    report::{BAD_VALUE, UNSUPPORTED},
    server_tls,
};
use crate::{
    api::{
        Gateway, Protocol,
        gateway::{Server, ServerTlsMode},
    },
    host::HostPattern,
    problem::{ObjectRef, Severity},
    resources::Object,
    snapshot::ServerTls,
};

/// The servers of one address and port, oldest first.
pub(super) struct ServedPort<'a> {
    pub(super) bind: Option<IpAddr>,
    pub(super) number: u16,
    /// All of its servers begin with a ClientHello, or none does.
    pub(super) tls: bool,
    pub(super) servers: Vec<Served<'a>>,
    /// Hosts of TLS servers that are not opened, with the names of those servers: no wildcard of another one stands for them,
    /// since that would let clients in whom the server that is missing would not have let in.
    pub(super) shut: Vec<(HostPattern, String)>,
    taken: HashMap<HostPattern, Taken>,
}

/// The server that has a host.
struct Taken {
    server: (String, usize),
    /// Of all servers, the oldest first.
    order: usize,
    redirects: bool,
}

/// One server with the hosts that are left to it.
pub(super) struct Served<'a> {
    pub(super) gateway: &'a Object<Gateway>,
    /// `namespace/name`.
    pub(super) gateway_name: String,
    pub(super) server: &'a Server,
    /// Of the server in its Gateway.
    pub(super) index: usize,
    pub(super) tls: Option<ServerTls>,
    pub(super) content: ServedContent,
    pub(super) hosts: Vec<ServerHost>,
}

/// What a server is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ServedContent {
    Http,
    /// What is in TLS that ends here, or all there is.
    Bytes,
    /// `PASSTHROUGH`.
    Passed,
    /// `AUTO_PASSTHROUGH`.
    Mesh,
}

impl Served<'_> {
    /// Whether plain requests are sent to https.
    pub(super) fn redirects(&self) -> bool {
        self.tls.is_none() && self.server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }
}

/// `[namespace/]host` of a server.
pub(super) struct ServerHost {
    pub(super) pattern: HostPattern,
    /// Of the host in its server, as written.
    pub(super) index: usize,
    /// Only VirtualServices of this namespace attach; `None` = of any.
    pub(super) namespace: Option<String>,
}

/// Every port that this proxy serves, in the order its first server appears.
pub(super) fn select<'a>(context: &Context<'a>) -> Vec<ServedPort<'a>> {
    let gateways = context.resources.gateways.iter();
    let own: Vec<_> = gateways.filter(|gateway| context.proxy.selected_by(&gateway.spec.selector)).collect();
    if own.is_empty() {
        let labels: Vec<String> = context.proxy.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let message = format!(
            "no Gateway selects this proxy, so it serves nothing; its labels are {}",
            if labels.is_empty() { "none".to_owned() } else { labels.join(",") }
        );
        context.report.general(Severity::Info, "no-gateway", message);
    }
    let mut ports: Vec<ServedPort<'_>> = Vec::new();
    let mut rejected = Vec::new();
    let mut order = 0;
    for gateway in own {
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            order += 1;
            let place = Place { context, gateway, index, order };
            if let Some((bind, served)) = place.admit(server) {
                place.add(&mut ports, bind, served);
            } else {
                rejected.push((order, gateway, server));
            }
        }
    }
    for (order, gateway, server) in rejected {
        let Some(named) = &server.port else { continue };
        if matches!(named.protocol, Some(Protocol::Https | Protocol::Tls)) {
            let name = format!("{}/{}/{}", gateway.namespace(), gateway.name(), named.name);
            shut(
                &mut ports,
                &Shut { order, name, bind: server.bind.as_deref(), port: named.number, hosts: &server.hosts },
            );
        }
    }
    for rejection in context.resources.rejected().values() {
        let ObjectRef { namespace, name, .. } = &rejection.object;
        for server in rejection.servers.iter().filter(|server| context.proxy.selected_by(&server.selector)) {
            let name = format!("{namespace}/{name}/{}", server.port_name);
            // Nobody knows how old it is, so what another server has by its name stays with that one.
            let (order, bind) = (usize::MAX, server.bind.as_deref());
            shut(&mut ports, &Shut { order, name, bind, port: server.port, hosts: &server.hosts });
        }
    }
    ports.retain(|port| !port.servers.is_empty());
    ports
}

/// A TLS server that is not opened.
struct Shut<'s> {
    order: usize,
    name: String,
    bind: Option<&'s str>,
    port: u16,
    hosts: &'s [String],
}

/// Keeps what a TLS server that is not opened wanted to have, as far as no older one has exactly that.
fn shut(ports: &mut [ServedPort<'_>], server: &Shut<'_>) {
    let Ok(bind) = server.bind.map(str::parse::<IpAddr>).transpose() else { return };
    let mut same = ports.iter_mut().filter(|port| port.tls && port.bind == bind && port.number == server.port);
    let Some(port) = same.next() else { return };
    for host in server.hosts {
        let host = host.split_once('/').map_or(host.as_str(), |(_, host)| host);
        if let Ok(pattern) = host.parse::<HostPattern>()
            && port.taken.get(&pattern).is_none_or(|taken| taken.order > server.order)
        {
            port.shut.push((pattern, server.name.clone()));
        }
    }
}

/// One server under way.
struct Place<'s, 'a> {
    context: &'s Context<'a>,
    gateway: &'a Object<Gateway>,
    index: usize,
    order: usize,
}

impl<'a> Place<'_, 'a> {
    fn error(&self, code: &'static str, field: &str, message: impl Into<String>) {
        let field = format!("spec.servers[{}].{field}", self.index);
        self.context.report.error(self.gateway, code, &field, message);
    }

    /// The server, when all it asks for can be given. One that would be less safe than asked for is not opened.
    fn admit(&self, server: &'a Server) -> Option<(Option<IpAddr>, Served<'a>)> {
        let bind = match server.bind.as_deref().map(str::parse::<IpAddr>) {
            None => None,
            Some(Ok(bind)) => Some(bind),
            Some(Err(_)) => {
                let why =
                    "a gateway is what others reach by the network, so a unix socket is not opened; give an IP address";
                self.error(UNSUPPORTED, "bind", why);
                return None;
            }
        };
        let port = server.port.as_ref().filter(|port| port.number != 0)?;
        let (tls, content) = match port.protocol? {
            protocol if protocol.is_plain_http() => (None, ServedContent::Http),
            Protocol::Https => self.tls(server, ServedContent::Http)?,
            Protocol::Tls => self.tls(server, ServedContent::Bytes)?,
            Protocol::Udp => {
                let message = "UDP is not proxied, here as in Istio, so this server is not opened; use TCP or TLS";
                self.error(UNSUPPORTED, "port.protocol", message);
                return None;
            }
            _ => (None, ServedContent::Bytes),
        };
        let hosts = server.hosts.iter().enumerate().filter_map(|(index, host)| self.host(index, host)).collect();
        let gateway_name = format!("{}/{}", self.gateway.namespace(), self.gateway.name());
        Some((bind, Served { gateway: self.gateway, gateway_name, server, index: self.index, tls, content, hosts }))
    }

    /// `content`: what is inside, when TLS ends here.
    fn tls(&self, server: &'a Server, content: ServedContent) -> Option<(Option<ServerTls>, ServedContent)> {
        let Some(tls) = &server.tls else {
            self.error(BAD_VALUE, "tls", "an HTTPS or TLS server needs tls, with a mode");
            return None;
        };
        let (settings, content) = match tls.mode {
            ServerTlsMode::Passthrough => (server_tls::passed(), ServedContent::Passed),
            ServerTlsMode::AutoPassthrough => (server_tls::passed(), ServedContent::Mesh),
            _ => (server_tls::compile(self.context, self.gateway, self.index, tls)?, content),
        };
        Some((Some(settings), content))
    }

    fn host(&self, index: usize, text: &str) -> Option<ServerHost> {
        let (namespace, host) = text.split_once('/').map_or(("*", text), |(namespace, host)| (namespace, host));
        let namespace = match namespace {
            "*" => None,
            "." => Some(self.gateway.namespace().to_owned()),
            name => Some(name.to_owned()),
        };
        match host.parse() {
            Ok(pattern) => Some(ServerHost { pattern, index, namespace }),
            Err(wrong) => {
                self.error(BAD_VALUE, &format!("hosts[{index}]"), format!("`{text}` is no host: {wrong}"));
                None
            }
        }
    }

    /// Put a server to the others of its port. Where two want the same, the older one has it.
    fn add(&self, ports: &mut Vec<ServedPort<'a>>, bind: Option<IpAddr>, mut served: Served<'a>) {
        let number = served.server.port.as_ref().map_or(0, |port| port.number);
        let tls = served.tls.is_some();
        let at = ports.iter().position(|port| port.bind == bind && port.number == number).unwrap_or_else(|| {
            ports.push(ServedPort { bind, number, tls, servers: Vec::new(), shut: Vec::new(), taken: HashMap::new() });
            ports.len() - 1
        });
        let port = &mut ports[at];
        let first = port.servers.first();
        let plain = |content| if content == ServedContent::Bytes { "plain TCP" } else { "plain HTTP" };
        let named = |tls, content| if tls { "TLS" } else { plain(content) };
        let theirs = first.map_or(served.content, |first| first.content);
        let is_shared = port.tls == tls && (tls || (theirs == ServedContent::Http && served.content == theirs));
        if let Some(first) = first.filter(|_| !is_shared) {
            let message = format!(
                "port {number} is {} already (Gateway {}), so this {} server is not opened; use another port",
                named(port.tls, theirs),
                first.gateway_name,
                named(tls, served.content)
            );
            self.error("port-conflict", "port.number", message);
            return;
        }
        self.settle_hosts(port, &mut served);
        if !served.hosts.is_empty() {
            port.servers.push(served);
        }
    }

    /// TLS servers cannot share a host: an SNI leads to one server. Plain ones can, unless only one of them redirects.
    fn settle_hosts(&self, port: &mut ServedPort<'a>, served: &mut Served<'a>) {
        let redirects = served.redirects();
        let own = (served.gateway_name.clone(), self.index);
        let tls = port.tls;
        let mut kept = Vec::with_capacity(served.hosts.len());
        for host in served.hosts.drain(..) {
            let fresh = || Taken { server: own.clone(), order: self.order, redirects };
            let taken = port.taken.entry(host.pattern.clone()).or_insert_with(fresh);
            if taken.server == own || (!tls && taken.redirects == redirects) {
                kept.push(host);
                continue;
            }
            let message = format!(
                "host `{}` on port {} is taken by the older Gateway {} (servers[{}]), so it is not served from here; \
                 remove it from one of them",
                host.pattern, port.number, taken.server.0, taken.server.1
            );
            self.error("duplicate-host", "hosts", message);
        }
        served.hosts = kept;
    }
}
