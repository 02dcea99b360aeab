//! What a sidecar's own workload sends.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{
    Outcome, Question,
    asking::Asking,
    bytes::{self, Bytes},
    course::{Met, Proxy},
    handshake::server_name,
    table::by_table,
    told::{End, Story},
    words::few,
};
use crate::{
    host::bare,
    opaque::{Demand, OpaqueRule, OpaqueTable},
    snapshot::{Outbound, Unclaimed},
};

pub(super) fn outbound(proxy: Proxy<'_>, question: &Question, story: &mut Story) -> Result<(), End> {
    let Some(outbound) = &proxy.snapshot.outbound else {
        return Err(End::closed("listener", "this proxy has no outbound side: it is no sidecar"));
    };
    match demand(outbound, question) {
        Demand::Protocol => request(proxy, outbound, question, story),
        demand => connection(proxy, outbound, (question, demand), story),
    }
}

/// What has to be seen of it before it is known where it goes. Without an address it is a request where a service of HTTP has
/// the host, or where nobody has anything else on the port.
fn demand(outbound: &Outbound, question: &Question) -> Demand {
    let port = question.port;
    if let Some(address) = question.address {
        return outbound.demand(Some(SocketAddr::new(address, port)));
    }
    let table = outbound.by_port.get(&port);
    let http = table.is_some_and(|table| table.host(&question.host).is_some());
    match (http, outbound.opaque.get(&port)) {
        (false, Some(opaque)) if table.is_none() || of_host(opaque, &question.host).next().is_some() => Demand::Name,
        (false, None) if table.is_none() => Demand::Nothing,
        _ => Demand::Protocol,
    }
}

/// Rules of bytes that lead to a service of this name.
fn of_host<'a>(table: &'a OpaqueTable, host: &'a str) -> impl Iterator<Item = &'a Arc<OpaqueRule>> {
    let asked = bare(host).to_ascii_lowercase();
    let is_asked =
        move |rule: &OpaqueRule| {
            rule.to.all.iter().filter_map(|one| one.cluster_name.rsplit('|').next()).any(|host| {
                host == asked || host.strip_prefix(asked.as_str()).is_some_and(|rest| rest.starts_with('.'))
            })
        };
    table.routes().iter().map(|route| &route.rule).filter(move |rule| is_asked(rule))
}

/// The rule of a connection; `Err`: without its address nobody can tell.
fn rule<'a>(
    table: &'a OpaqueTable,
    question: &'a Question,
    demand: Demand,
) -> Result<Option<&'a Arc<OpaqueRule>>, End> {
    let name = if demand == Demand::Name { server_name(&question.host) } else { "" };
    if question.address.is_some() {
        return Ok(table.find(question.address, name).map(|route| &route.rule));
    }
    if let Some(route) = table.find(None, name) {
        return Ok(Some(&route.rule));
    }
    let routes = table.routes();
    match (of_host(table, &question.host).next(), routes) {
        (Some(rule), _) => Ok(Some(rule)),
        (None, [only]) if question.host.is_empty() => Ok(Some(&only.rule)),
        _ => {
            let all = few(routes.iter().flat_map(|route| route.rule.to.all.iter()).map(|one| &one.cluster_name));
            let text = format!(
                "which service of port {} is meant cannot be told: there are {all}; write the address that is connected to \
                 with address=, or one of their hosts",
                question.port
            );
            Err(End::closed("listener", text))
        }
    }
}

fn connection(
    proxy: Proxy<'_>,
    outbound: &Outbound,
    (question, demand): (&Question, Demand),
    story: &mut Story,
) -> Result<(), End> {
    let port = question.port;
    let found = match outbound.opaque.get(&port) {
        Some(table) => rule(table, question, demand)?,
        None => None,
    };
    match (found, outbound.unclaimed, &outbound.fallback_bytes) {
        (Some(rule), ..) => {
            story.passed("listener", format!("services have port {port}, and it is no HTTP"), "");
            bytes::follow(proxy, Bytes { rule: Some(rule), name: "" }, story)
        }
        (None, Unclaimed::Refuse, _) => {
            let text = format!("no service claims it on port {port}, and outboundTrafficPolicy is REGISTRY_ONLY");
            Err(End::closed("host", format!("{text} (BlackHoleCluster)")))
        }
        (None, Unclaimed::Pass, Some(rule)) => {
            story.note("host", format!("no service claims it on port {port}: it goes to the egressProxy"), "");
            bytes::follow(proxy, Bytes { rule: Some(rule), name: "" }, story)
        }
        (None, Unclaimed::Pass, None) => {
            story.note("host", format!("no service claims it on port {port}"), "");
            passthrough(story);
            Ok(())
        }
    }
}

fn passthrough(story: &mut Story) {
    let answer = "Forwarded to where the application meant it to go (PassthroughCluster)";
    story.arrive(Outcome::Forwarded, None, answer);
}

fn request(proxy: Proxy<'_>, outbound: &Outbound, question: &Question, story: &mut Story) -> Result<(), End> {
    let ip = question.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let met = Met::plain(SocketAddr::new(ip, question.port));
    let asking = Asking::new(proxy, question, met, story)?;
    let port = question.port;
    let table = outbound.by_port.get(&port).filter(|table| table.host(&question.host).is_some());
    if let Some(table) = table {
        story.passed("listener", format!("services have port {port}"), "");
        return by_table(&asking, table, story);
    }
    let host = bare(&question.host);
    match (outbound.unclaimed, &outbound.fallback) {
        (Unclaimed::Refuse, _) => {
            let text = format!("no service claims {host} on port {port}, and outboundTrafficPolicy is REGISTRY_ONLY");
            Err(End::refused("host", 502, text))
        }
        (Unclaimed::Pass, Some(egress)) => {
            story.note("host", format!("no service claims {host}: it goes to the egressProxy"), "");
            by_table(&asking, egress, story)
        }
        (Unclaimed::Pass, None) => {
            story.note("host", format!("no service claims {host} on port {port}"), "");
            passthrough(story);
            Ok(())
        }
    }
}
