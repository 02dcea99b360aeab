//! From a request head to a decision: is it well-formed, which rule does it follow, where does it go.

use std::{rc::Rc, sync::Arc};

use routing::{
    authority,
    cors::Verdict,
    host::{bare, strip_port},
    path::{Form, normalise},
    reach::Reach,
    request::RequestView,
    rule::{Action, Rule},
    snapshot::Unclaimed,
    table::RouteTable,
    upstream::UpstreamProtocol,
};

use super::{
    affinity,
    exchange::{DirectCluster, Exchange, Target},
    failure::Failure,
    grpc_messages::Messages,
    head::Head,
    limit,
    name::Name,
    origin::Origin,
};
use crate::{
    challenges::LiveChallenges,
    live::Installed,
    net::{
        facts::{Arrival, Facts},
        standing::holds,
    },
    upstream::endpoints::NoEndpoint,
};

/// What becomes of an admitted request.
pub(crate) enum Admitted {
    /// It is a CA's check of a host (RFC 8555 section 8.3): this is the answer.
    Challenge(Arc<str>),
    /// It goes to [`Exchange::target`].
    Forward,
    /// Istio `Server.tls.httpsRedirect`: to the same address by https.
    ToHttps,
    /// The rule answers it: a redirect or a direct response.
    Answer(Arc<Rule>),
    /// The rule has something that comes before all that: see [`super::intercept`].
    Intercept(Arc<Rule>),
    /// A service is to be asked whether it is within its limits, before the rule is followed; without one it goes to the workload.
    Ask(Option<Arc<Rule>>),
    /// It asks on behalf of a page whether that may ask (`corsPolicy`); `true`: it may.
    Preflight(Arc<Rule>, bool),
}

/// `https` or `http`, by the connection.
pub(crate) fn scheme(facts: &Facts) -> &'static str {
    if facts.tls.is_some() { "https" } else { "http" }
}

/// What the rules see of a request.
pub(crate) fn view<'a>(request: &'a Head, scheme: &'a str, port: u16) -> RequestView<'a> {
    RequestView {
        method: request.method(),
        scheme,
        authority: request.authority(),
        path: request.path(),
        query: request.query().unwrap_or_default(),
        port,
        headers: request,
        token: None,
    }
}

/// Looks at a request that its codec has found well-formed: its host, its path, and who sent it. The path of the head is in its
/// one form afterwards, so that what policies and routes see, what is logged and what is forwarded is the same string. `Some`: it
/// is a CA's check of a host, and this is the answer.
///
/// # Errors
/// [`Failure`], answered by the proxy.
pub(crate) fn receive(
    exchange: &mut Exchange,
    request: &mut Head,
    live: &LiveChallenges,
) -> Result<Option<Arc<str>>, Failure> {
    authority::check(request.authority())?;
    normalise_path(request, exchange.installed.snapshot.mesh.path_form())?;
    exchange.grpc = request.value(Name::ContentType).is_some_and(|value| value.starts_with(b"application/grpc"));
    // What gRPC-Web sends is framed in another way.
    let framed = |value: &[u8]| matches!(value.get(b"application/grpc".len()), None | Some(b'+' | b';' | b' '));
    if exchange.grpc && request.value(Name::ContentType).is_some_and(framed) {
        exchange.request.messages = Some(Messages::default());
        exchange.response.messages = Some(Messages::default());
    }
    if matches!(exchange.arrival(), Arrival::Gateway { .. }) {
        let proxies = exchange.installed.snapshot.topology.trusted_proxies;
        if proxies > 0 {
            exchange.origin = Some(Origin::behind(proxies, request));
        }
    }
    Ok(challenge(exchange, request, live))
}

fn normalise_path(request: &mut Head, form: Form) -> Result<(), Failure> {
    let changed = match normalise(request.path(), form).map_err(|_| Failure::BadPath)? {
        std::borrow::Cow::Borrowed(path) if path.len() == request.path().len() => return Ok(()),
        // A fragment may have been cut off.
        changed => changed.into_owned(),
    };
    let target = match request.query() {
        Some(query) => format!("{changed}?{query}"),
        None => changed,
    };
    request.set_target(target.as_bytes());
    Ok(())
}

/// The answer to a CA's check, which comes before redirects and routes: a plain GET of a live token at a gateway, at the
/// token's own host.
fn challenge(exchange: &Exchange, request: &Head, live: &LiveChallenges) -> Option<Arc<str>> {
    let path = request.path();
    if !path.starts_with("/.well-known/") || request.query().is_some() || request.method() != "GET" {
        return None;
    }
    let plain_gateway = matches!(exchange.arrival(), Arrival::Gateway { .. }) && exchange.facts.tls.is_none();
    if plain_gateway { live.http(bare(request.authority()), path) } else { None }
}

/// Finds where a request goes that may go on.
///
/// # Errors
/// [`Failure`], answered by the proxy.
pub(crate) fn route(exchange: &mut Exchange, request: &Head, h2: bool) -> Result<Admitted, Failure> {
    let facts = Rc::clone(&exchange.facts);
    match facts.arrival {
        Arrival::Gateway { bind, port } => {
            let installed = Arc::clone(&exchange.installed);
            let (listener, front) = installed.listener(bind, port).ok_or(Failure::NoRoute)?;
            let (met, host) = (facts.tls.as_ref().map(|tls| tls.policy), bare(request.authority()));
            if !Installed::may_carry(listener, front, host, met) {
                return Err(if holds(&installed, &facts) { Failure::Misdirected } else { Failure::Outdated });
            }
            let admitted = by_table(exchange, request, &listener.routes, port);
            match (&admitted, met) {
                (Err(Failure::NoRoute), Some(met))
                    if listener.routes.host(host).is_none() && installed.is_elsewhere(host, met) =>
                {
                    Err(Failure::Misdirected)
                }
                _ => admitted,
            }
        }
        Arrival::Outbound { original } => outbound(exchange, request, original, h2),
        Arrival::Inbound { port, application } => {
            if !holds(&exchange.installed, &facts) {
                return Err(Failure::Outdated);
            }
            limit::take(exchange, request)?;
            let found = exchange.installed.snapshot.inbound.as_ref().and_then(|inbound| inbound.ports.get(&port));
            let h2 = found.map_or(h2, |port| speaks_h2(port.application, h2));
            let pool = exchange.installed.pools.get(&port).cloned();
            let (cluster, port) = (DirectCluster::Inbound(port), found.cloned());
            exchange.target = Some(Target::Direct { address: application, h2, cluster, port, pool });
            Ok(if limit::asks(exchange) { Admitted::Ask(None) } else { Admitted::Forward })
        }
        Arrival::Upstream => Err(Failure::Internal("a request from upstream")),
    }
}

/// Whether an endpoint of this protocol is spoken to by HTTP/2.
pub(crate) fn speaks_h2(protocol: UpstreamProtocol, downstream: bool) -> bool {
    match protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::Opaque => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Downstream => downstream,
    }
}

fn outbound(
    exchange: &mut Exchange,
    request: &Head,
    original: Option<std::net::SocketAddr>,
    h2: bool,
) -> Result<Admitted, Failure> {
    let host = request.authority();
    let named = host[strip_port(host).len()..].strip_prefix(':').and_then(|port| port.parse().ok());
    let port = original.map(|original| original.port()).or(named).unwrap_or(80);
    let installed = Arc::clone(&exchange.installed);
    let table = installed.snapshot.outbound.as_ref().and_then(|outbound| outbound.by_port.get(&port));
    if let Some(table) = table
        && table.host(host).is_some()
    {
        return by_table(exchange, request, table, port);
    }
    if let Some(outbound) = &installed.snapshot.outbound {
        match (outbound.unclaimed, &outbound.fallback) {
            (Unclaimed::Refuse, _) => return Err(Failure::Blocked),
            (Unclaimed::Pass, Some(proxy)) => return by_table(exchange, request, proxy, port),
            (Unclaimed::Pass, None) => {}
        }
    }
    let address = original.filter(|address| !address.ip().is_unspecified()).ok_or(Failure::UnknownHost)?;
    exchange.target = Some(Target::Direct { address, h2, cluster: DirectCluster::Passthrough, port: None, pool: None });
    Ok(Admitted::Forward)
}

fn by_table(exchange: &mut Exchange, request: &Head, table: &RouteTable, port: u16) -> Result<Admitted, Failure> {
    let host = table.host(request.authority()).ok_or(Failure::NoRoute)?;
    if host.https_redirect && exchange.scheme() == "http" {
        return Ok(Admitted::ToHttps);
    }
    let seen = exchange.routed.as_deref().unwrap_or(request);
    let view = RequestView { token: exchange.token.as_deref(), ..view(seen, exchange.scheme(), port) };
    let rule = host.route(&view).ok_or(Failure::NoRoute)?;
    exchange.rule = Some(Arc::clone(rule));
    if limit::limits(exchange).is_some() && is_preflight(exchange, request, rule) {
        return Ok(Admitted::Intercept(Arc::clone(rule)));
    }
    limit::take(exchange, request)?;
    if limit::asks(exchange) {
        return Ok(Admitted::Ask(Some(Arc::clone(rule))));
    }
    if rule.intercepts() { Ok(Admitted::Intercept(Arc::clone(rule))) } else { follow(exchange, request, rule) }
}

/// Whether a request only asks on behalf of a page whether that may ask, which no limit counts. Where the page itself asks, it may
/// read that it was turned away.
fn is_preflight(exchange: &mut Exchange, request: &Head, rule: &Rule) -> bool {
    let Some(cors) = &rule.cors else { return false };
    let verdict = cors.judge(&view(request, exchange.scheme(), 0));
    exchange.cross_origin = verdict == Verdict::Mark;
    matches!(verdict, Verdict::Answer | Verdict::Ignore)
}

/// Does what a rule says with a request: chooses its destination and an endpoint there, if it goes anywhere.
///
/// # Errors
/// [`Failure`] when there is none.
pub(super) fn follow(exchange: &mut Exchange, request: &Head, rule: &Arc<Rule>) -> Result<Admitted, Failure> {
    let Action::Route(destinations) = &rule.action else { return Ok(Admitted::Answer(Arc::clone(rule))) };
    let chosen = destinations.pick(fastrand::u32(..));
    let destination = destinations.all.iter().position(|one| std::ptr::eq(one, chosen)).unwrap_or_default();
    let cluster = chosen.cluster.ok_or(Failure::NoCluster)?;
    let upstream = Arc::clone(exchange.installed.upstream(cluster));
    if upstream.cluster.reach != Reach::Endpoints {
        exchange.target = Some(Target::Cluster { upstream, destination, picked: None });
        return Ok(Admitted::Forward);
    }
    let key = affinity::find(exchange, request, &upstream);
    let picked = upstream.pick_by(key, &[], || fastrand::u32(..)).map_err(|none| match none {
        NoEndpoint::Unhealthy => Failure::NoHealthyEndpoint,
    });
    let (picked, failed) = match picked {
        Ok(picked) => (Some(picked), None),
        Err(failure) => (None, Some(failure)),
    };
    exchange.target = Some(Target::Cluster { upstream, destination, picked });
    failed.map_or(Ok(Admitted::Forward), Err)
}

/// Whether the next hop of a request speaks HTTP/2.
pub(crate) fn target_h2(target: &Target, downstream: bool) -> bool {
    match target {
        Target::Cluster { upstream, .. } => speaks_h2(upstream.cluster.protocol, downstream),
        Target::Direct { h2, .. } => *h2,
    }
}
