//! The way of a request through a snapshot, as the data path goes it: door, form, guard, route, destination.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    Outcome, Question, RouteTold, Side,
    destinations::{arrive, destination, headers},
    guarded::{guard, limits},
    told::{End, Story},
    words::{few, when},
};
use crate::{
    cors::Verdict,
    fault::{AbortError, GRPC_CODES},
    host::bare,
    inbound::MtlsMode,
    opaque::OpaqueTable,
    path::normalise,
    request::RequestView,
    rule::{Action, Rule},
    snapshot::{CertificateSource, Content, Listener, Snapshot, Unclaimed},
    table::{RouteTable, VirtualHost},
};

/// Tells the whole way.
pub(super) fn follow(snapshot: &Snapshot, question: &Question, story: &mut Story) -> Result<(), End> {
    match question.side {
        Side::Gateway => gateway(snapshot, question, story),
        Side::Outbound => outbound(snapshot, question, story),
        Side::Inbound => inbound(snapshot, question, story),
    }
}

/// A request in its one form.
pub(super) struct Asking<'a> {
    pub(super) question: &'a Question,
    path: String,
    query: &'a str,
    scheme: &'static str,
}

impl<'a> Asking<'a> {
    fn new(snapshot: &Snapshot, question: &'a Question, scheme: &'static str, story: &mut Story) -> Result<Self, End> {
        if question.host.is_empty() {
            return Err(End::refused("host", 400, "there is no Host header"));
        }
        let (raw, query) = question.target.split_once('?').unwrap_or((&question.target, ""));
        let path =
            normalise(raw, snapshot.mesh.path_form()).map_err(|bad| End::refused("path", 400, bad.to_string()))?;
        if path != raw {
            story.note("path", format!("looked at and sent on in its one form: {path}"), "");
        }
        story.told.path = path.clone().into_owned();
        Ok(Self { question, path: path.into_owned(), query, scheme })
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.question.method,
            scheme: self.scheme,
            authority: &self.question.host,
            path: &self.path,
            query: self.query,
            port: self.question.port,
            headers: &self.question.headers,
            token: self.question.token.as_ref(),
        }
    }

    fn target(&self, path: &str) -> String {
        if self.query.is_empty() { path.to_owned() } else { format!("{path}?{}", self.query) }
    }
}

fn gateway(snapshot: &Snapshot, question: &Question, story: &mut Story) -> Result<(), End> {
    let port = question.port;
    let Some(listener) = snapshot.listeners.iter().find(|it| it.port == port) else {
        let ports = few(snapshot.listeners.iter().map(|it| it.port));
        let there = if ports.is_empty() { "there is none at all".to_owned() } else { format!("there are {ports}") };
        return Err(End::closed("listener", format!("nothing listens on port {port}; {there}")));
    };
    let kind = if listener.tls.is_some() { "TLS" } else { "plain text" };
    story.passed("listener", format!("port {port} takes it, in {kind}"), "");
    if let Some(bytes) = handshake(listener, question, story)? {
        return connection(snapshot, bytes, question, story);
    }
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    let asking = Asking::new(snapshot, question, scheme, story)?;
    let local = SocketAddr::new(listener.bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), listener.bind_port);
    guard(snapshot, &asking, local, story)?;
    by_table(snapshot, &listener.routes, &asking, story)
}

/// What the server of the name does with a ClientHello; `Some`: no HTTP follows that is looked at.
fn handshake<'a>(
    listener: &'a Listener,
    question: &Question,
    story: &mut Story,
) -> Result<Option<&'a OpaqueTable>, End> {
    let Some(tls) = &listener.tls else { return Ok(listener.bytes.as_deref()) };
    let name = bare(&question.host);
    let found = tls.by_sni.get(name).copied().or_else(|| tls.only().filter(|_| name.is_empty()));
    let Some(server) = found.and_then(|found| tls.servers.get(found)) else {
        return Err(End::closed("tls", format!("no server of this port has the name {name}")));
    };
    let refused = |why: &str| Err(End::closed("tls", format!("server {} {why}", server.name)).by(&*server.name));
    match &server.settings.certificate {
        CertificateSource::Missing(secret) => {
            return refused(&format!("has no certificate: Secret {secret} is missing"));
        }
        CertificateSource::Rejected => return refused("is rejected; see the problems"),
        CertificateSource::Pending { placeholder: false, issuer, .. } => {
            return refused(&format!("has no certificate yet: {issuer} is asked for it"));
        }
        _ => {}
    }
    story.passed("tls", format!("server {} answers for {name}", server.name), &server.name);
    match &server.content {
        Content::Http => Ok(None),
        Content::Bytes(table) | Content::Passed(table) | Content::Mesh(table) => Ok(Some(table)),
    }
}

/// Bytes that nobody looks at.
fn connection(snapshot: &Snapshot, table: &OpaqueTable, question: &Question, story: &mut Story) -> Result<(), End> {
    let name = bare(&question.host);
    let Some(route) = table.find(None, name).or_else(|| table.routes().first().filter(|_| name.is_empty())) else {
        return Err(End::closed("route", format!("no route is for the name {name}")));
    };
    let source = &route.rule.source;
    story.passed("route", "its bytes go on unread: no HTTP is looked at here", source);
    for one in &route.rule.to.all {
        let told = destination(snapshot, &route.rule.to, one, String::new(), String::new());
        story.told.destinations.push(told);
    }
    arrive(&route.rule.to, story)
}

fn by_table(snapshot: &Snapshot, table: &RouteTable, asking: &Asking<'_>, story: &mut Story) -> Result<(), End> {
    let host = bare(&asking.question.host);
    let Some(found) = table.host(&asking.question.host) else {
        let known = few(table.hosts.iter().map(|(_, host)| &host.domain));
        return Err(End::refused("host", 404, format!("no virtual host is for {host}; there are {known}")));
    };
    story.passed("host", format!("virtual host {}", found.domain), "");
    if found.https_redirect && asking.scheme == "http" {
        let location = format!("https://{host}{}", asking.target(&asking.path));
        story.passed("host", "the Gateway's server has httpsRedirect", "");
        story.arrive(Outcome::Redirected, Some(301), format!("Redirected to {location} (301)"));
        story.told.location = Some(location);
        return Ok(());
    }
    let view = asking.view();
    let Some(rule) = found.route(&view) else {
        let all = few(found.routes.routes().iter().map(|route| when(&route.when)));
        return Err(End::refused("route", 404, format!("no route of {} holds; there are: {all}", found.domain)));
    };
    let mut of_rule = found.routes.routes().iter().filter(|route| Arc::ptr_eq(&route.rule, rule));
    let when = of_rule.find(|route| route.when.matches(&view)).map(|route| when(&route.when)).unwrap_or_default();
    story.passed("route", format!("route {}: {when}", named(&rule.name)), &rule.source);
    story.told.route = Some(route_told(rule, found, when));
    limits(snapshot, asking, Some(rule), None, story);
    intercepted(rule, asking, story);
    obey(snapshot, rule, asking, story)
}

fn named(name: &str) -> &str {
    if name.is_empty() { "without a name" } else { name }
}

fn route_told(rule: &Rule, host: &VirtualHost, when: String) -> RouteTold {
    RouteTold {
        name: rule.name.to_string(),
        source: rule.source.to_string(),
        when,
        host: host.domain.to_string(),
        timeout_ms: rule.timeout.map(millis),
        retries: rule.retries().attempts,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Faults and preflights.
fn intercepted(rule: &Rule, asking: &Asking<'_>, story: &mut Story) {
    if let Some(fault) = &rule.fault {
        if let Some(delay) = &fault.delay {
            let text = format!("{} % of the requests wait {:?} on purpose", delay.share.percent(), delay.time);
            story.note("fault", text, &rule.source);
        }
        if let Some(abort) = &fault.abort {
            let error = match abort.error {
                AbortError::Http(status) => status.to_string(),
                AbortError::Grpc(code) => GRPC_CODES.get(usize::from(code)).copied().unwrap_or("UNKNOWN").to_owned(),
            };
            story.note(
                "fault",
                format!("{} % of the requests are answered {error} on purpose", abort.share.percent()),
                &rule.source,
            );
        }
    }
    if let Some(cors) = &rule.cors {
        match cors.judge(&asking.view()) {
            Verdict::Pass => {}
            Verdict::Mark => story.note("cors", "the answer says that the page may read it", &rule.source),
            Verdict::Answer => {
                story.note("cors", "a preflight of a page that may ask: the proxy answers it", &rule.source)
            }
            Verdict::Ignore => story.note("cors", "a preflight of a page that may not ask", &rule.source),
        }
    }
}

/// What the rule says to do.
fn obey(snapshot: &Snapshot, rule: &Rule, asking: &Asking<'_>, story: &mut Story) -> Result<(), End> {
    let destinations = match &rule.action {
        Action::Redirect(redirect) => {
            let location = redirect.location(&asking.view());
            story.arrive(
                Outcome::Redirected,
                Some(redirect.code),
                format!("Redirected to {location} ({})", redirect.code),
            );
            story.told.location = Some(location);
            return Ok(());
        }
        Action::Direct(response) => {
            let answer = format!("The route itself answers {} ({} bytes)", response.status, response.body.len());
            story.arrive(Outcome::Answered, Some(response.status), answer);
            return Ok(());
        }
        Action::Route(destinations) => destinations,
    };
    let path = rule.rewrite.as_ref().and_then(|rewrite| rewrite.path(&asking.path));
    if let Some(path) = &path {
        story.passed("rewrite", format!("the path becomes {path}"), &rule.source);
    }
    let target = asking.target(path.as_deref().unwrap_or(&asking.path));
    for one in &destinations.all {
        let authority = rule.authority(one).and_then(|value| value.to_str().ok()).unwrap_or(&asking.question.host);
        headers(rule, one, asking, story);
        let told = destination(snapshot, destinations, one, target.clone(), authority.to_owned());
        story.told.destinations.push(told);
    }
    for mirror in rule.mirrors.iter().flatten() {
        let text = format!("{} % of the requests are copied to {}", mirror.share.percent(), mirror.cluster_name);
        story.note("mirror", text, &rule.source);
    }
    arrive(destinations, story)
}

fn outbound(snapshot: &Snapshot, question: &Question, story: &mut Story) -> Result<(), End> {
    let Some(outbound) = &snapshot.outbound else {
        return Err(End::closed("listener", "this proxy has no outbound side: it is no sidecar"));
    };
    let asking = Asking::new(snapshot, question, "http", story)?;
    let table = outbound.by_port.get(&question.port).filter(|table| table.host(&question.host).is_some());
    if let Some(table) = table {
        story.passed("listener", format!("services have port {}", question.port), "");
        return by_table(snapshot, table, &asking, story);
    }
    let host = bare(&question.host);
    match (outbound.unclaimed, &outbound.fallback) {
        (Unclaimed::Refuse, _) => {
            let text = format!(
                "no service claims {host} on port {}, and outboundTrafficPolicy is REGISTRY_ONLY",
                question.port
            );
            Err(End::refused("host", 502, text))
        }
        (Unclaimed::Pass, Some(proxy)) => {
            story.note("host", format!("no service claims {host}: it goes to the egressProxy"), "");
            by_table(snapshot, proxy, &asking, story)
        }
        (Unclaimed::Pass, None) => {
            story.note("host", format!("no service claims {host} on port {}", question.port), "");
            story.arrive(
                Outcome::Forwarded,
                None,
                "Forwarded to where the application meant it to go (PassthroughCluster)",
            );
            Ok(())
        }
    }
}

fn inbound(snapshot: &Snapshot, question: &Question, story: &mut Story) -> Result<(), End> {
    let Some(inbound) = &snapshot.inbound else {
        return Err(End::closed("listener", "this proxy has no inbound side: it is no sidecar"));
    };
    let (mode, proven) = (inbound.mtls(question.port), !question.peer.is_empty());
    let port = inbound.ports.get(&question.port);
    match port {
        Some(port) if !port.service_host.is_empty() => {
            story.passed("listener", format!("port {} belongs to {}", question.port, port.service_host), "");
        }
        _ => story.note("listener", format!("no service has port {}", question.port), ""),
    }
    let told = format!("PeerAuthentication is {}", format!("{mode:?}").to_uppercase());
    match (mode, proven) {
        (MtlsMode::Strict, false) => {
            return Err(End::closed("tls", format!("{told}, and the client proves no identity of the mesh")));
        }
        (MtlsMode::Disable, true) => {
            return Err(End::closed("tls", format!("{told}: mutual TLS of the mesh is not taken here")));
        }
        _ => story.passed("tls", told, ""),
    }
    let asking = Asking::new(snapshot, question, if proven { "https" } else { "http" }, story)?;
    let own = inbound.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    guard(snapshot, &asking, SocketAddr::new(own, question.port), story)?;
    limits(snapshot, &asking, None, Some(question.port), story);
    story.arrive(Outcome::Forwarded, None, format!("Given to the application on port {}", question.port));
    Ok(())
}
