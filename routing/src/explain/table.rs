//! Hosts, routes, and what a route says to do.

use std::{sync::Arc, time::Duration};

use super::{
    Outcome, RouteTold, Side,
    asking::Asking,
    destinations::{Cut, arrive, destination},
    told::{End, Story},
    words::{few, when},
};
use crate::{
    authority::by_https,
    cors::Verdict,
    fault::{Abort, AbortError, Fault, GRPC_CODES, Share},
    host::bare,
    limits::{Asked, Place},
    request::RequestView,
    rule::{Action, Destination, Redirect, Rule},
    table::{RouteTable, VirtualHost},
};

pub(super) fn by_table(asking: &Asking<'_>, table: &RouteTable, story: &mut Story) -> Result<(), End> {
    let host = bare(&asking.question.host);
    let Some(found) = table.host(&asking.question.host) else {
        let known = few(table.hosts.iter().map(|(_, host)| &host.domain));
        return Err(End::refused("host", 404, format!("no virtual host is for {host}; there are {known}")));
    };
    story.passed("host", format!("virtual host {}", found.domain), "");
    if found.https_redirect && asking.scheme == "http" {
        let location = format!("https://{}{}", secure(asking), asking.target(&asking.path));
        story.passed("host", "the Gateway's server has httpsRedirect", "");
        return elsewhere(301, location, story);
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
    let verdict = rule.cors.as_ref().map_or(Verdict::Pass, |cors| cors.judge(&view));
    // A preflight only asks on behalf of a page, which no limit counts.
    if !matches!(verdict, Verdict::Answer | Verdict::Ignore) {
        limits(asking, Some(rule), story);
    }
    let aborted = rule.fault.as_ref().is_some_and(|fault| aborts(fault, rule, story));
    if aborted || preflight(verdict, rule, story) {
        return Ok(());
    }
    obey(rule, asking, story)
}

/// Where the same host is reached by https.
fn secure<'a>(asking: &'a Asking<'_>) -> std::borrow::Cow<'a, str> {
    let (proxy, question) = (asking.proxy, asking.question);
    match question.side {
        Side::Gateway => by_https(proxy.snapshot, proxy.port_map, (asking.met.bind, question.port), &question.host),
        Side::Inbound | Side::Outbound => question.host.as_str().into(),
    }
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

/// Which limits count it. What a sidecar's own workload sends is its destination's business.
pub(super) fn limits(asking: &Asking<'_>, route: Option<&Rule>, story: &mut Story) {
    let question = asking.question;
    let guard = asking.proxy.snapshot.guard.as_ref().filter(|_| question.side != Side::Outbound);
    let Some(limits) = guard.and_then(|guard| guard.limits.as_ref()) else { return };
    let inbound = (question.side == Side::Inbound).then_some(question.port);
    let asked = Asked { request: asking.view(), client: asking.remote, peer: asking.met.peer, route, inbound };
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

/// Faults on purpose; `true`: every request ends here.
fn aborts(fault: &Fault, rule: &Rule, story: &mut Story) -> bool {
    if let Some(delay) = &fault.delay {
        let text = format!("{} % of the requests wait {:?} on purpose", delay.share.percent(), delay.time);
        story.note("fault", text, &rule.source);
    }
    let Some(Abort { error, share }) = fault.abort else { return false };
    // What is no gRPC is told 200, as by Envoy.
    let (text, status) = match error {
        AbortError::Http(status) => (status.to_string(), status),
        AbortError::Grpc(code) => (GRPC_CODES.get(usize::from(code)).copied().unwrap_or("UNKNOWN").to_owned(), 200),
    };
    if share != Share::ALL {
        let text = format!("{} % of the requests are answered {text} on purpose", share.percent());
        story.note("fault", text, &rule.source);
        return false;
    }
    story.stopped("fault", format!("every request is answered {text} on purpose"), &rule.source);
    story.arrive(Outcome::Answered, Some(status), format!("The proxy answers {text} on purpose (fault)"));
    true
}

/// What pages of other origins may; `true`: the proxy answers it.
fn preflight(verdict: Verdict, rule: &Rule, story: &mut Story) -> bool {
    let text = match verdict {
        Verdict::Pass => return false,
        Verdict::Mark => {
            story.note("cors", "the answer says that the page may read it", &rule.source);
            return false;
        }
        Verdict::Answer => "a preflight of a page that may ask: the proxy answers it",
        Verdict::Ignore => "a preflight of a page that may not ask: the proxy answers it with nothing that allows it",
    };
    story.stopped("cors", text, &rule.source);
    story.arrive(Outcome::Answered, Some(200), format!("The proxy answers 200: {text}"));
    true
}

fn elsewhere(status: u16, location: String, story: &mut Story) -> Result<(), End> {
    if location.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(End::refused("path", 400, "the Location of the redirect would hold a control character"));
    }
    story.arrive(Outcome::Redirected, Some(status), format!("Redirected to {location} ({status})"));
    story.told.location = Some(location);
    Ok(())
}

fn redirect(to: &Redirect, asking: &Asking<'_>) -> String {
    let port = if asking.question.side == Side::Gateway { asking.question.port } else { 80 };
    let sent = RequestView { port, ..asking.view() };
    // To https at the host and port that were asked for.
    let authority = (sent.scheme == "http" && to.scheme.as_deref() == Some("https")).then(|| secure(asking));
    to.location(&RequestView { authority: authority.as_deref().unwrap_or(sent.authority), ..sent })
}

/// What the rule says to do.
fn obey(rule: &Rule, asking: &Asking<'_>, story: &mut Story) -> Result<(), End> {
    let destinations = match &rule.action {
        Action::Redirect(to) => return elsewhere(to.code, redirect(to, asking), story),
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
        let sent = (target.clone(), authority.to_owned());
        story.told.destinations.push(destination(asking.proxy.snapshot, destinations, one, sent));
    }
    for mirror in rule.mirrors.iter().flatten() {
        let text = format!("{} % of the requests are copied to {}", mirror.share.percent(), mirror.cluster_name);
        story.note("mirror", text, &rule.source);
    }
    arrive(Cut::Answered, story)
}

/// Which headers change on the way to a destination.
fn headers(rule: &Rule, to: &Destination, asking: &Asking<'_>, story: &mut Story) {
    let before = &asking.headers;
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
