//! What stands before routes: tokens, policies, limits.

use std::net::SocketAddr;

use super::{
    course::Asking,
    told::{End, Story},
    words::few,
};
use crate::{
    authorization::{Access, NO_RULE},
    guard::Guard,
    host::bare,
    limits::{Asked, Place},
    request::RequestView,
    rule::Rule,
    snapshot::Snapshot,
};

/// Tokens, policies: what stands before routes.
pub(super) fn guard(snapshot: &Snapshot, asking: &Asking<'_>, local: SocketAddr, story: &mut Story) -> Result<(), End> {
    let Some(guard) = snapshot.guard.as_deref() else { return Ok(()) };
    tokens(guard, asking, story)?;
    let Some(policies) = &guard.authorization else { return Ok(()) };
    let question = asking.question;
    let access = Access {
        peer: &question.peer,
        source: question.client,
        remote: question.client,
        local,
        sni: bare(&question.host),
        request: Some(RequestView { port: local.port(), ..asking.view() }),
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
        Some(rule) if &*rule == NO_RULE => {
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

/// Limits that count it.
pub(super) fn limits(
    snapshot: &Snapshot,
    asking: &Asking<'_>,
    route: Option<&Rule>,
    inbound: Option<u16>,
    story: &mut Story,
) {
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
