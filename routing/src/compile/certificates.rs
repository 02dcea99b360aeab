//! Certificates that the Gateways of this proxy order: which Secrets, for which hosts, from whom.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use super::{
    context::Context,
    gateways::{Served, ServedPort, ServerHost},
    issuers,
    report::{BAD_VALUE, MISSING_SECRET},
    secrets::{self, Held},
};
use crate::{
    acme::{Challenge, Current, ISSUER, Issuer, Ordered, PLACEHOLDER, Reach, TERMS_AGREED},
    api::{
        Gateway, Protocol,
        gateway::{Server, ServerTls, ServerTlsMode},
    },
    host::HostPattern,
    resources::Object,
    snapshot::CertificateSource,
};

/// A certificate that is asked for and cannot be ordered, or not for this host.
const NOT_ORDERED: &str = "not-ordered";
/// Two Gateways order one certificate from different issuers.
const ISSUER_CONFLICT: &str = "issuer-conflict";
/// An ordered certificate is not there yet.
const PENDING: &str = "certificate-pending";
/// A certificate that no issuer made is where an ordered one belongs.
const FOREIGN: &str = "foreign-certificate";
/// Something that is written and means nothing.
const NO_EFFECT: &str = "no-effect";
/// What the names of the gateway's own Secrets begin with.
const RESERVED: [&str; 2] = ["acme-order-", "acme-account-"];
/// Longest `credentialName` of an ordered certificate: the name of its record is longer, and has a limit.
const LONGEST_NAME: usize = 238;
/// What our annotations begin with.
const PREFIX: &str = "acme.sluice.dev/";

/// The certificates to order for the ports that are opened, sorted by Secret.
pub(super) fn compile<'a>(context: &Context<'a>, opened: &[(&ServedPort<'a>, u16)]) -> Vec<Arc<Ordered>> {
    let mut wanted: BTreeMap<String, Wanted<'_>> = BTreeMap::new();
    let mut by_gateway: HashMap<&str, Vec<&Served<'a>>> = HashMap::new();
    for served in opened.iter().flat_map(|(port, _)| &port.servers) {
        by_gateway.entry(&served.gateway_name).or_default().push(served);
    }
    for gateway in context.resources.gateways.iter().filter(|it| context.proxy.selected_by(&it.spec.selector)) {
        review(context, gateway);
        if let Some(request) = Request::new(context, gateway) {
            let own = by_gateway.get(format!("{}/{}", gateway.namespace(), gateway.name()).as_str());
            own.into_iter().flatten().for_each(|served| request.add(served, &mut wanted));
        }
    }
    let reach = Reach {
        http: opened.iter().any(|(port, _)| port.number == 80 && !port.tls),
        tls: opened.iter().any(|(port, _)| port.number == 443 && port.tls),
    };
    let all = wanted.into_iter().filter_map(|(secret, wanted)| wanted.settle(context, secret, reach));
    all.map(Arc::new).collect()
}

/// Whether a Gateway wants its certificates ordered, so that a Secret which is not there is no mistake of its own.
pub(super) fn are_ordered(gateway: &Object<Gateway>) -> bool {
    gateway.meta.annotations.contains_key(ISSUER)
}

/// What a server presents while the certificate is on order: `None` when it is not.
pub(super) fn pending(context: &Context<'_>, served: &Served<'_>, all: &[Arc<Ordered>]) -> Option<CertificateSource> {
    let CertificateSource::Missing(secret) = &served.tls.as_ref()?.certificate else { return None };
    let credential =
        own_certificate(served.server)?.credential_name.as_ref().filter(|_| are_ordered(served.gateway))?;
    let name = secrets::own_name(context, credential)?;
    // They are sorted by Secret.
    let ordered = all.binary_search_by(|ordered| ordered.secret.as_str().cmp(name)).ok().map(|index| &all[index])?;
    Some(CertificateSource::Pending {
        secret: secret.clone(),
        issuer: ordered.issuer.name.clone(),
        placeholder: says_true(served.gateway, PLACEHOLDER),
        hosts: ordered.hosts.clone(),
    })
}

fn says_true(gateway: &Object<Gateway>, annotation: &str) -> bool {
    gateway.meta.annotations.get(annotation).is_some_and(|value| value == "true")
}

fn annotation(key: &str) -> String {
    format!("metadata.annotations[{key:?}]")
}

/// Annotations of ours that say nothing.
fn review(context: &Context<'_>, gateway: &Object<Gateway>) {
    let ours = gateway.meta.annotations.iter().filter(|(key, _)| key.starts_with(PREFIX));
    for (key, value) in ours {
        let field = annotation(key);
        let warn = |code, message: String| context.report.warning(gateway, code, &field, message);
        match key.as_str() {
            ISSUER => {}
            TERMS_AGREED | PLACEHOLDER if !matches!(value.as_str(), "true" | "false") => {
                warn(
                    BAD_VALUE,
                    format!("`{value}` means nothing here and counts as \"false\"; write \"true\" or \"false\""),
                );
            }
            TERMS_AGREED | PLACEHOLDER if !are_ordered(gateway) => {
                warn(NO_EFFECT, format!("this has no effect without the annotation {ISSUER}, which names an issuer"));
            }
            TERMS_AGREED | PLACEHOLDER => {}
            _ => {
                let message =
                    format!("there is no annotation `{key}`; there are {ISSUER}, {TERMS_AGREED} and {PLACEHOLDER}");
                warn("unknown-annotation", message);
            }
        }
    }
}

/// A Gateway that orders, and from whom.
struct Request<'c, 'a> {
    context: &'c Context<'a>,
    issuer: Arc<Issuer>,
    placeholder: bool,
}

impl<'c, 'a> Request<'c, 'a> {
    /// `None`: the Gateway orders nothing, or cannot, which is reported.
    fn new(context: &'c Context<'a>, gateway: &Object<Gateway>) -> Option<Self> {
        let name = gateway.meta.annotations.get(ISSUER)?;
        let field = annotation(ISSUER);
        if name.is_empty() {
            let message = "the annotation names no issuer; write the name of an Issuer, or remove it";
            context.report.error(gateway, BAD_VALUE, &field, message);
            return None;
        }
        if !gateway.spec.servers.iter().any(|server| own_certificate(server).is_some()) {
            let message = "no server has protocol HTTPS and a mode with a certificate of its own (SIMPLE, MUTUAL or \
                           OPTIONAL_MUTUAL), so nothing is ordered";
            context.report.warning(gateway, NO_EFFECT, &field, message);
            return None;
        }
        match issuers::named(context, gateway, name) {
            Ok(issuer) => Some(Self { context, issuer, placeholder: says_true(gateway, PLACEHOLDER) }),
            Err(fault) => {
                context.report.add(gateway, (fault.severity, fault.code), &field, fault.message);
                None
            }
        }
    }

    /// Adds what one server needs.
    fn add(&self, served: &Served<'a>, wanted: &mut BTreeMap<String, Wanted<'a>>) {
        let Some(tls) = own_certificate(served.server) else { return };
        let at = At { gateway: served.gateway, server: served.index };
        let Some(secret) = self.secret(at, tls) else { return };
        let report = &self.context.report;
        let certificate = wanted.entry(secret.to_owned()).or_insert_with(|| Wanted::from(&self.issuer));
        let owner = certificate.servers.first().map(|first| first.gateway.namespace());
        if owner.is_some_and(|owner| owner != at.gateway.namespace()) {
            let message = format!(
                "Secret `{secret}` is ordered for the older Gateways of namespace `{}`, so these hosts are not in its \
                 certificate: one namespace must not hold up another's renewals; write another credentialName",
                owner.unwrap_or_default()
            );
            report.error(at.gateway, ISSUER_CONFLICT, &at.field("tls.credentialName"), message);
            return;
        }
        if certificate.issuer.name != self.issuer.name {
            let older = certificate.servers.first().map_or_else(String::new, |first| {
                format!(" (the older Gateway {}/{})", first.gateway.namespace(), first.gateway.name())
            });
            let message = format!(
                "Secret `{secret}` is ordered from issuer `{}` already{older}, so these hosts are not in its certificate; name \
                 the same issuer, or another credentialName",
                certificate.issuer.name
            );
            report.error(at.gateway, ISSUER_CONFLICT, &at.field("tls.credentialName"), message);
            return;
        }
        certificate.placeholder |= self.placeholder;
        certificate.servers.push(at);
        for host in &served.hosts {
            match certificate_name(host) {
                Ok(name) => certificate.hosts.entry(name).or_default().push((at, host.index)),
                Err(why) => report.error(at.gateway, NOT_ORDERED, &at.field(&format!("hosts[{}]", host.index)), why),
            }
        }
    }

    /// The Secret that a server's certificate goes to.
    fn secret<'t>(&self, at: At<'_>, tls: &'t ServerTls) -> Option<&'t str> {
        let report = &self.context.report;
        let Some(name) = &tls.credential_name else {
            let written = [
                (!tls.credential_names.is_empty(), "credentialNames"),
                (!tls.tls_certificates.is_empty(), "tlsCertificates"),
                (true, "serverCertificate"),
            ];
            let field = written.iter().find(|(given, _)| *given).map_or("", |(_, field)| field);
            let message = format!(
                "nothing is ordered for this server: an ordered certificate needs credentialName, the one Secret that it is \
                 kept in; write that instead of {field}, or move the server to a Gateway without {ISSUER}"
            );
            report.warning(at.gateway, NO_EFFECT, &at.field(&format!("tls.{field}")), message);
            return None;
        };
        let own = secrets::own_name(self.context, name);
        if let Some(name) = own
            && (name.len() > LONGEST_NAME || RESERVED.iter().any(|reserved| name.starts_with(reserved)))
        {
            let message = format!(
                "nothing is ordered for `{name}`: the gateway's own Secrets begin with {}, and beside each certificate lies one \
                 with a longer name; write another name, of at most {LONGEST_NAME} characters",
                RESERVED.join(" or ")
            );
            report.error(at.gateway, NOT_ORDERED, &at.field("tls.credentialName"), message);
            return None;
        }
        if own.is_none() {
            let message = format!(
                "`{name}` is no name of a Secret in the proxy's namespace `{}`, so nothing is ordered for it; write one, as \
                 `my-certificate`",
                self.context.proxy.namespace
            );
            report.error(at.gateway, NOT_ORDERED, &at.field("tls.credentialName"), message);
        }
        own
    }
}

/// Its TLS settings, when a server presents a certificate of its own.
fn own_certificate(server: &Server) -> Option<&ServerTls> {
    let https = server.port.as_ref().is_some_and(|port| port.protocol == Some(Protocol::Https));
    let own =
        |mode| matches!(mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) && https;
    server.tls.as_ref().filter(|tls| own(tls.mode))
}

/// A host as certificates name it, or why none can.
fn certificate_name(host: &ServerHost) -> Result<String, String> {
    let wrong = match &host.pattern {
        HostPattern::Any => "a certificate cannot be ordered for every host",
        HostPattern::Suffix(rest) if !rest.starts_with('.') => "in a certificate `*` is a whole label",
        HostPattern::Exact(name) if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            "certificates are ordered for names and not for IP addresses"
        }
        pattern => return Ok(pattern.to_string().trim_end_matches('.').to_owned()),
    };
    let pattern = &host.pattern;
    Err(format!("{wrong}, so `{pattern}` is left out; write names, as `www.example.com` or `*.example.com`"))
}

/// A `Gateway.servers[]` entry.
#[derive(Clone, Copy)]
struct At<'a> {
    gateway: &'a Object<Gateway>,
    server: usize,
}

impl At<'_> {
    fn field(self, name: &str) -> String {
        format!("spec.servers[{}].{name}", self.server)
    }
}

/// One certificate under way.
struct Wanted<'a> {
    issuer: Arc<Issuer>,
    placeholder: bool,
    /// In the order of the configuration.
    servers: Vec<At<'a>>,
    /// Each with where it is written: server and index.
    hosts: BTreeMap<String, Vec<(At<'a>, usize)>>,
}

impl From<&Arc<Issuer>> for Wanted<'_> {
    fn from(issuer: &Arc<Issuer>) -> Self {
        Self { issuer: Arc::clone(issuer), placeholder: false, servers: Vec::new(), hosts: BTreeMap::new() }
    }
}

impl Wanted<'_> {
    /// The certificate, when it can be ordered. What it waits for, and why it cannot, is reported.
    fn settle(mut self, context: &Context<'_>, secret: String, reach: Reach) -> Option<Ordered> {
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        self.hosts.retain(|host, _| !names.iter().any(|wildcard| covers(wildcard, host)));
        if self.hosts.is_empty() {
            return None;
        }
        let mut gateways: Vec<_> = self.servers.iter().map(|at| at.gateway.reference()).collect();
        gateways.dedup();
        let mut ordered = Ordered {
            hosts: self.hosts.keys().cloned().collect(),
            issuer: Arc::clone(&self.issuer),
            gateways,
            reach,
            placeholder: self.placeholder,
            current: Current::Nothing,
            secret,
        };
        if !self.provable(context, &ordered) {
            return None;
        }
        ordered.current = self.current(context, &ordered.secret)?;
        Some(ordered)
    }

    /// What is in the Secret; `None` = something else than a certificate, which is not ours to replace.
    fn current(&self, context: &Context<'_>, secret: &str) -> Option<Current> {
        let (report, name) = (&context.report, format!("{}/{secret}", context.proxy.namespace));
        let field = |at: &At<'_>| at.field("tls.credentialName");
        match secrets::held(context, secret) {
            Held::Nothing => {
                for at in &self.servers {
                    let meanwhile = match says_true(at.gateway, PLACEHOLDER) {
                        true => "a self-signed certificate is served",
                        false => "handshakes are refused",
                    };
                    let message = format!(
                        "the certificate of Secret `{name}` is ordered from issuer `{}`; until it is there {meanwhile}",
                        self.issuer.name
                    );
                    report.info(at.gateway, PENDING, &field(at), message);
                }
                Some(Current::Nothing)
            }
            Held::Certificate(found, true) => Some(Current::Ordered(found)),
            Held::Certificate(found, false) => {
                let message = format!(
                    "the certificate of Secret `{name}` was not made by an issuer, so it is served and never replaced; delete \
                     the Secret, or annotate it with {ISSUER}: {}, to have one ordered",
                    self.issuer.name
                );
                self.servers.iter().for_each(|at| report.warning(at.gateway, FOREIGN, &field(at), message.clone()));
                Some(Current::Foreign(found))
            }
            Held::Other => {
                let message = format!(
                    "Secret `{name}` holds something else than a certificate and its key, so none is ordered for it; delete \
                     it, or write another credentialName"
                );
                self.servers
                    .iter()
                    .for_each(|at| report.error(at.gateway, MISSING_SECRET, &field(at), message.clone()));
                None
            }
        }
    }

    /// Whether each host can be proved. One that cannot keeps the certificate from being ordered: a CA signs all of an
    /// order or nothing, and a certificate that lost a host would break what worked.
    fn provable(&self, context: &Context<'_>, ordered: &Ordered) -> bool {
        let mut provable = true;
        for (host, places) in self.hosts.iter().filter(|(host, _)| ordered.ways(host).is_empty()) {
            provable = false;
            let message = format!(
                "issuer `{}` has no way to check `{host}`, so the certificate of Secret `{}/{}` is not ordered; {}",
                ordered.issuer.name,
                context.proxy.namespace,
                ordered.secret,
                remedy(context, ordered, host)
            );
            for (at, index) in places {
                context.report.error(at.gateway, NOT_ORDERED, &at.field(&format!("hosts[{index}]")), message.clone());
            }
        }
        provable
    }
}

/// What would make a challenge work for a host that has none.
fn remedy(context: &Context<'_>, ordered: &Ordered, host: &str) -> String {
    let (namespace, name) = (&context.proxy.namespace, &ordered.issuer.name);
    let article = if context.resources.issuers.get(namespace, name).is_some() { "" } else { "a new " };
    let issuer = format!("{article}Issuer `{namespace}/{name}`");
    let listed = &ordered.issuer.challenges;
    let allowed = |challenge| listed.is_empty() || listed.contains(&challenge);
    if host.starts_with("*.") {
        let publish = format!("say under dns01 of {issuer} how it is published");
        let list = format!("list dns-01 in the challenges of {issuer}");
        let what = match (ordered.issuer.dns01.is_none(), allowed(Challenge::Dns01)) {
            (true, true) => publish,
            (true, false) => format!("{publish}, and {list}"),
            (false, _) => list,
        };
        return format!("only a TXT record proves a wildcard: {what}");
    }
    let http = "for http-01 add a server with port 80 and protocol HTTP to a Gateway of this proxy";
    let tls = "for tls-alpn-01 add one with port 443 and protocol HTTPS";
    let dns = format!("for dns-01 say under dns01 of {issuer} how TXT records are published");
    let ways = [(Challenge::Http01, http), (Challenge::TlsAlpn01, tls), (Challenge::Dns01, dns.as_str())];
    let ways: Vec<&str> = ways.into_iter().filter(|(challenge, _)| allowed(*challenge)).map(|(_, way)| way).collect();
    ways.join(", or ")
}

/// Whether a wildcard of a certificate is good for another of its names, too: it stands for one label.
fn covers(wildcard: &str, host: &str) -> bool {
    let parent = wildcard.strip_prefix("*.");
    parent.is_some() && !host.starts_with("*.") && host.split_once('.').map(|(_, parent)| parent) == parent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(covers("*.example.com", "www.example.com"));
        for other in ["example.com", "a.b.example.com", "*.example.com", "*.b.example.com", "www.example.org"] {
            assert!(!covers("*.example.com", other), "{other}");
        }
        assert!(!covers("www.example.com", "www.example.com"));
    }

    #[test]
    fn names_that_no_certificate_holds_say_what_to_write() {
        let name =
            |text: &str| certificate_name(&ServerHost { pattern: text.parse().unwrap(), namespace: None, index: 0 });
        assert_eq!(name("WWW.Example.com").unwrap(), "www.example.com");
        assert_eq!(name("*.example.com.").unwrap(), "*.example.com");
        assert_eq!(name("localhost").unwrap(), "localhost");
        for bad in ["*", "*-v1.example.com", "192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
            let why = name(bad).unwrap_err();
            assert!(why.contains(&format!("`{bad}` is left out; write names, as")), "{why}");
        }
    }
}
