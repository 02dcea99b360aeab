//! The way of a request through a snapshot, as the data path goes it: door, form, guard, route, destination.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    DestinationTold, Outcome, Question, RouteTold, Side,
    told::{End, Story},
    words::{few, when},
};
use crate::{
    authorization::Access,
    cors::Verdict,
    fault::{AbortError, GRPC_CODES},
    guard::Guard,
    host::bare,
    inbound::MtlsMode,
    limits::{Asked, Place},
    opaque::OpaqueTable,
    path::normalise,
    reach::Reach,
    request::RequestView,
    rule::{Action, Destination, Destinations, Rule},
    snapshot::{CertificateSource, Content, Listener, Snapshot, Unclaimed},
    table::{RouteTable, VirtualHost},
    upstream::Cluster,
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
struct Asking<'a> {
    question: &'a Question,
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

    fn view(&self) -> RequestView<'_> {
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
    guard(snapshot, &asking, story)?;
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

/// Tokens, policies: what stands before routes.
fn guard(snapshot: &Snapshot, asking: &Asking<'_>, story: &mut Story) -> Result<(), End> {
    let Some(guard) = snapshot.guard.as_deref() else { return Ok(()) };
    tokens(guard, asking, story)?;
    let Some(policies) = &guard.authorization else { return Ok(()) };
    let question = asking.question;
    let access = Access {
        peer: &question.peer,
        source: question.client,
        remote: question.client,
        local: SocketAddr::new(question.client, question.port),
        sni: bare(&question.host),
        request: Some(asking.view()),
    };
    if let Some(provider) = policies.asks(&access) {
        story.note("policy", format!("provider {provider} is asked first, and its word is not known here"), "");
    }
    let judgement = policies.judge(&access);
    if let Some(rule) = &judgement.audited {
        story.note("policy", format!("{rule} audits it"), &object(rule));
    }
    for trial in judgement.tried_deny.iter().chain(&judgement.tried_allow) {
        let would = if trial.denied { "would deny it" } else { "would allow it" };
        story.note("policy", format!("{} {would}, if it were not only tried", trial.rule), &object(&trial.rule));
    }
    match judgement.denied {
        None => {
            story.passed("policy", "the authorization policies allow it", "");
            Ok(())
        }
        Some(rule) if &*rule == crate::authorization::NO_RULE => {
            Err(End::refused("policy", 403, "there are ALLOW policies, and none of them allows it"))
        }
        Some(rule) => Err(End::refused("policy", 403, format!("{rule} denies it")).by(object(&rule))),
    }
}

fn tokens(guard: &Guard, asking: &Asking<'_>, story: &mut Story) -> Result<(), End> {
    let Some(tokens) = &guard.tokens else { return Ok(()) };
    if tokens.closed {
        return Err(End::refused(
            "tokens",
            401,
            "a RequestAuthentication cannot be read, so that no token is known to be good",
        ));
    }
    let issuers = few(tokens.rules.iter().map(|rule| &rule.issuer));
    let text = match &asking.question.token {
        Some(token) => format!("taken as good: a token of {}; checked are those of {issuers}", token.issuer()),
        None => format!("tokens of {issuers} are checked; it is asked about without one"),
    };
    let objects = few(tokens.rules.iter().map(|rule| &rule.object));
    story.note("tokens", text, &objects);
    Ok(())
}

/// `namespace/name` of the policy of a rule's id.
fn object(rule: &str) -> String {
    let part = |from: &str| rule.split_once(from).and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
    match (part("ns["), part("-policy[")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => String::new(),
    }
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

fn limits(snapshot: &Snapshot, asking: &Asking<'_>, route: Option<&Rule>, inbound: Option<u16>, story: &mut Story) {
    let Some(limits) = snapshot.guard.as_ref().and_then(|guard| guard.limits.as_ref()) else { return };
    let (client, peer) = (asking.question.client, asking.question.peer.as_str());
    let asked = Asked { request: asking.view(), client, peer, route, inbound };
    for limit in limits.all().iter().filter(|limit| limit.concerns(&asked)) {
        let what = match &limit.place {
            Place::Local(rate) => format!("{} in {:?}", rate.requests, rate.period),
            Place::Global(service) => format!("as {} says", service.cluster_name),
        };
        let dry = if limit.dry_run { ", only tried" } else { "" };
        story.note(
            "limits",
            format!("{} counts it ({what}{dry}); beyond that it answers {}", limit.name, limit.status),
            &limit.name,
        );
    }
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

/// Which headers change on the way to a destination.
fn headers(rule: &Rule, to: &Destination, asking: &Asking<'_>, story: &mut Story) {
    let before = &asking.question.headers;
    let mut after = before.clone();
    rule.edit_request(Some(to), &mut after);
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let set = after.keys().filter(|name| !before.get_all(*name).iter().eq(after.get_all(*name).iter()));
    let set = set.map(|name| format!("{name}: {}", few(after.get_all(name).iter().map(text))));
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("{name} removed"));
    let changes: Vec<String> = set.chain(gone).collect();
    if !changes.is_empty() {
        story.passed("headers", format!("to {}: {}", to.cluster_name, few(changes)), &rule.source);
    }
}

fn destination(
    snapshot: &Snapshot,
    all: &Destinations,
    one: &Destination,
    target: String,
    authority: String,
) -> DestinationTold {
    let cluster = one.cluster.map(|id| &**snapshot.cluster(id));
    DestinationTold {
        cluster: cluster.map_or(&one.cluster_name, |cluster| &cluster.name).to_string(),
        percent: f64::from(one.weight) * 100.0 / f64::from(all.total.max(1)),
        endpoints: cluster.map(|cluster| cluster.endpoints.len()),
        listed: cluster.is_some_and(|cluster| cluster.reach == Reach::Endpoints),
        tls: cluster.map_or("none", tls_of),
        target,
        authority,
    }
}

fn tls_of(cluster: &Cluster) -> &'static str {
    let Some(tls) = &cluster.tls else { return "none" };
    let encrypted = cluster.endpoints.iter().filter(|one| one.tls).count();
    match (encrypted, tls.mesh) {
        (0, _) if !cluster.endpoints.is_empty() => "none",
        (some, _) if some < cluster.endpoints.len() => "mixed",
        (_, true) => "mutual",
        (_, false) => "tls",
    }
}

/// `outbound|8080|v1|reviews.shop.svc.cluster.local` as people say it: `reviews.shop:8080, subset v1`.
fn service(cluster: &str) -> String {
    let mut parts = cluster.split('|');
    let (Some(_), Some(port), Some(subset), Some(host), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return cluster.to_owned();
    };
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    let subset = if subset.is_empty() { String::new() } else { format!(", subset {subset}") };
    format!("{host}:{port}{subset}")
}

/// The end of a way that leads to destinations.
fn arrive(to: &Destinations, story: &mut Story) -> Result<(), End> {
    let told = &story.told.destinations;
    let name = |one: &DestinationTold| match one.percent {
        100.0 => service(&one.cluster),
        share => format!("{} ({share:.0} %)", service(&one.cluster)),
    };
    if let [only] = &told[..] {
        let cluster = only.cluster.clone();
        let first = to.all.first().is_some_and(|one| one.cluster.is_none());
        match only.endpoints {
            None if first => return Err(End::refused("destination", 503, format!("there is no cluster {cluster}"))),
            Some(0) if only.listed => {
                return Err(End::refused("destination", 503, format!("{cluster} has no endpoints")));
            }
            _ => {}
        }
    }
    let (answer, mut texts) = (format!("Forwarded to {}", few(told.iter().map(name))), Vec::new());
    for one in told {
        let tls = match one.tls {
            "mutual" => "over mutual TLS",
            "tls" => "over TLS",
            "mixed" => "some of them over TLS",
            _ => "in plain text",
        };
        let cluster = service(&one.cluster);
        texts.push(match one.endpoints {
            Some(_) if !one.listed => format!("{cluster}: its endpoints are found when a request comes"),
            Some(count) => format!("{cluster}: {count} endpoint(s), {tls}"),
            None => format!("{cluster}: there is no such service or subset, and its share is answered with 503"),
        });
    }
    for text in texts {
        story.passed("destination", text, "");
    }
    story.arrive(Outcome::Forwarded, None, answer);
    Ok(())
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
    guard(snapshot, &asking, story)?;
    limits(snapshot, &asking, None, Some(question.port), story);
    story.arrive(Outcome::Forwarded, None, format!("Given to the application on port {}", question.port));
    Ok(())
}
