//! A request in its one form, and what stands before its route.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

use super::{
    Question, Side,
    course::{Met, Proxy},
    told::{End, Story},
    words::few,
};
use crate::{
    authority,
    authorization::{Access, NO_RULE},
    forwarded,
    guard::Guard,
    path::normalise,
    request::RequestView,
    token::Token,
    tokens::{TokenRule, Tokens},
};

/// A request in its one form.
pub(super) struct Asking<'a> {
    pub(super) proxy: Proxy<'a>,
    pub(super) question: &'a Question,
    pub(super) met: Met<'a>,
    /// As policies and routes see them.
    pub(super) headers: HeaderMap,
    pub(super) path: String,
    query: &'a str,
    pub(super) scheme: &'static str,
    /// Who the client is.
    pub(super) remote: IpAddr,
    token: Option<&'a Token>,
}

/// The fields in which proxies say who the client is, and what it speaks.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl<'a> Asking<'a> {
    pub(super) fn new(proxy: Proxy<'a>, question: &'a Question, met: Met<'a>, story: &mut Story) -> Result<Self, End> {
        if question.method == "CONNECT" {
            return Err(End::refused("method", 405, "CONNECT is not served"));
        }
        authority::check(&question.host).map_err(|bad| End::refused("host", 400, bad.text()))?;
        let (raw, query) = question.target.split_once('?').unwrap_or((&question.target, ""));
        let path = normalise(raw, proxy.snapshot.mesh.path_form())
            .map_err(|bad| End::refused("path", 400, bad.to_string()))?;
        if path != raw {
            story.note("path", format!("looked at and sent on in its one form: {path}"), "");
        }
        story.told.path = path.clone().into_owned();
        let trusted = match question.side {
            Side::Gateway => proxy.snapshot.topology.trusted_proxies,
            // The gateway that took it, as in Istio.
            Side::Inbound => 1,
            Side::Outbound => 0,
        };
        let said = question.headers.get_all(&FORWARDED_FOR).iter().map(|value| value.as_bytes());
        let remote = forwarded::client(said, trusted);
        if let Some(remote) = remote {
            story.note("client", format!("{remote} is the client, as x-forwarded-for says"), "");
        }
        let proto = question.headers.get(&FORWARDED_PROTO).filter(|_| question.side == Side::Gateway && trusted > 0);
        let scheme = match proto.map(|value| value.as_bytes()) {
            Some(b"https") => "https",
            Some(b"http") => "http",
            _ if met.tls => "https",
            _ => "http",
        };
        Ok(Self {
            proxy,
            question,
            met,
            headers: question.headers.clone(),
            path: path.into_owned(),
            query,
            scheme,
            remote: remote.unwrap_or(question.client).to_canonical(),
            token: None,
        })
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.question.method,
            scheme: self.scheme,
            authority: &self.question.host,
            path: &self.path,
            query: self.query,
            port: self.question.port,
            headers: &self.headers,
            token: self.token,
        }
    }

    pub(super) fn target(&self, path: &str) -> String {
        if self.query.is_empty() { path.to_owned() } else { format!("{path}?{}", self.query) }
    }

    /// Tokens, policies: what stands before routes.
    pub(super) fn guard(mut self, story: &mut Story) -> Result<Self, End> {
        if let Some(tokens) = self.proxy.snapshot.guard.as_ref().and_then(|guard| guard.tokens.as_ref()) {
            self.tokens(tokens, story)?;
        }
        let view = RequestView { port: self.met.local.port(), ..self.view() };
        policies(self.proxy, (self.question, self.met, self.remote), Some(view), story)?;
        Ok(self)
    }

    fn tokens(&mut self, tokens: &Tokens, story: &mut Story) -> Result<(), End> {
        tokens.cleared.iter().for_each(|name| drop(self.headers.remove(name)));
        if self.is_preflight() {
            return Ok(());
        }
        let view = self.view();
        let issuers = few(tokens.rules.iter().map(|rule| &rule.issuer));
        let objects = few(tokens.rules.iter().map(|rule| &rule.object));
        let carried = tokens.rules.iter().any(|rule| !rule.find(&view).is_empty());
        let unread = tokens.closed && (self.question.token.is_some() || !Tokens::usual().find(&view).is_empty());
        let Some(token) = &self.question.token else {
            if unread && !carried {
                return Err(closed());
            }
            let text = match (carried, tokens.rules.is_empty()) {
                (true, _) => format!(
                    "it carries a token, which is not verified here: one of {issuers} has to be good, else it is answered 401"
                ),
                (false, true) => "it carries no token".to_owned(),
                (false, false) => format!("tokens of {issuers} are checked; it is asked about without one"),
            };
            story.note("tokens", text, &objects);
            return Ok(());
        };
        let Some(rule) = tokens.rules.iter().find(|rule| rule.takes(token.issuer())) else {
            let issuer = token.issuer();
            let unknown =
                || End::refused("tokens", 401, format!("tokens of {issuers} are taken, and not of `{issuer}`"));
            return Err(if unread { closed() } else { unknown().by(objects) });
        };
        if !rule.admits(token.audiences()) {
            let wanted = few(rule.audiences.iter());
            let why = format!("the token is for {}, and has to be for {wanted}", few(token.audiences()));
            return Err(End::refused("tokens", 403, why).by(&*rule.object));
        }
        self.take(rule, token);
        let text = format!("taken as good: a token of {}; checked are those of {issuers}", token.issuer());
        story.note("tokens", text, &objects);
        Ok(())
    }

    /// The request as it goes on with a good token.
    fn take(&mut self, rule: &TokenRule, token: &'a Token) {
        for (name, value) in rule.claim_headers(&token.claims) {
            self.headers.append(name, value);
        }
        self.token = Some(token);
    }

    /// Browsers send no tokens with these.
    fn is_preflight(&self) -> bool {
        self.question.method == "OPTIONS"
            && self.headers.get(ORIGIN).is_some_and(|origin| !origin.is_empty())
            && self.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }
}

fn closed() -> End {
    End::refused("tokens", 401, "a RequestAuthentication cannot be read, so that no token is known to be good")
}

/// Authorization policies, of a request or of a connection whose bytes nobody looks at.
pub(super) fn policies(
    proxy: Proxy<'_>,
    (question, met, remote): (&Question, Met<'_>, IpAddr),
    request: Option<RequestView<'_>>,
    story: &mut Story,
) -> Result<(), End> {
    let guard: Option<&Guard> = proxy.snapshot.guard.as_deref();
    let Some(policies) = guard.and_then(|guard| guard.authorization.as_ref()) else { return Ok(()) };
    let source = question.client.to_canonical();
    let access = Access { peer: met.peer, source, remote, local: met.local, sni: met.sni, request };
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
    let refused = |text: String| match request {
        Some(_) => End::refused("policy", 403, text),
        None => End::closed("policy", text),
    };
    match judgement.denied {
        None => {
            story.passed("policy", "the authorization policies allow it", "");
            Ok(())
        }
        Some(rule) if &*rule == NO_RULE => {
            Err(refused("there are ALLOW policies, and none of them allows it".to_owned()))
        }
        Some(rule) => Err(refused(format!("{rule} denies it")).by(object(&rule))),
    }
}

/// `namespace/name` of the policy of a rule's id.
fn object(rule: &str) -> String {
    let part = |from: &str| rule.split_once(from).and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
    match (part("ns["), part("-policy[")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => String::new(),
    }
}
