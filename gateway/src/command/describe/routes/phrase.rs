//! One route in words.

use routing::{
    compile::{GatewayPort, GatewayServer},
    cors::Cors,
    fault::{AbortError, Fault, GRPC_CODES},
    host::HostPattern,
    pattern::{HeaderField, PathKind, PathPattern, RouteMatch, StringPattern},
    rule::{Action, Destinations, PathRewrite, Redirect, RedirectPath, Rewrite},
    table,
};

use crate::command::describe::report::{Carries, Destination, Route};

/// How clients begin a URL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'d> {
    scheme: &'static str,
    domain: &'d HostPattern,
    port: u16,
}

impl<'d> Address<'d> {
    /// At a gateway.
    pub(super) fn of(port: &GatewayPort<'_>, server: &GatewayServer<'_>, domain: &'d HostPattern) -> Self {
        let scheme = if super::is_tls(server) { "https" } else { "http" };
        Self { scheme, domain, port: port.number }
    }

    /// A URL that the path condition fits; `None` when it cannot be told.
    fn url(self, path: &PathPattern) -> Option<String> {
        let host = match self.domain {
            HostPattern::Exact(host) => host.to_string(),
            HostPattern::Suffix(rest) => format!("any{rest}"),
            HostPattern::Any => "<gateway>".to_owned(),
        };
        let path = match &path.kind {
            PathKind::Any => "/",
            PathKind::Exact(path) | PathKind::Prefix(path) if path.starts_with('/') => path,
            PathKind::Prefix(prefix) if prefix.is_empty() => "/",
            _ => return None,
        };
        let default = matches!((self.scheme, self.port), ("http", 80) | ("https", 443));
        let port = if default { String::new() } else { format!(":{}", self.port) };
        Some(format!("{}://{host}{port}{path}", self.scheme))
    }
}

/// A destination as its cluster is named: `outbound|8080|v1|host`, or `outbound_.8080_.v1_.host` between networks.
#[derive(Debug, Default)]
pub(super) struct Target<'n> {
    /// Fully qualified; empty when the route names none.
    pub(super) host: &'n str,
    port: u16,
    subset: &'n str,
}

impl<'n> Target<'n> {
    pub(super) fn of(cluster: &'n str) -> Self {
        let between = if cluster.contains('|') { "|" } else { "_." };
        let mut parts = cluster.splitn(4, between).skip(1);
        let (Some(port), Some(subset), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
            return Self::default();
        };
        Self { host, port: port.parse().unwrap_or(0), subset }
    }
}

/// All of a route, by its place in its list; the address is that of a gateway.
pub(super) fn route((position, route): (usize, &table::Route), address: Option<Address<'_>>) -> Route {
    let rule = &route.rule;
    let mut rewrite = rule.rewrite.as_deref().map(rewrite).unwrap_or_default();
    rewrite.extend(rule.timeout.map(|timeout| format!("timeout {timeout:?}")));
    rewrite.extend(rule.fault.as_deref().into_iter().flat_map(fault));
    rewrite.extend(rule.cors.as_deref().map(cors));
    let (destinations, answer) = match &rule.action {
        Action::Route(to) => (destinations(to), None),
        Action::Redirect(redirect) => (Vec::new(), Some(redirection(redirect))),
        Action::Direct(direct) => (Vec::new(), Some(format!("answer {}", direct.status))),
    };
    Route {
        carries: Carries::Http,
        position,
        virtual_service: rule.source.to_string(),
        name: rule.name.to_string(),
        url: address.and_then(|address| address.url(&route.when.path)),
        when: when(&route.when),
        rewrite,
        destinations,
        answer,
    }
}

/// Where a route leads, each with its share.
pub(super) fn destinations(to: &Destinations) -> Vec<Destination> {
    let each = to.all.iter().map(|it| {
        let target = Target::of(&it.cluster_name);
        Destination {
            host: target.host.to_owned(),
            port: target.port,
            subset: (!target.subset.is_empty()).then(|| target.subset.to_owned()),
            percent: percent(it.weight, to.total),
            exists: it.cluster.is_some(),
        }
    });
    each.collect()
}

fn percent(weight: u32, total: u32) -> f64 {
    (f64::from(weight) * 1000.0 / f64::from(total.max(1))).round() / 10.0
}

/// Every condition, in words.
fn when(when: &RouteMatch) -> Vec<String> {
    let mut words: Vec<String> = path(&when.path).into_iter().collect();
    let Some(conditions) = &when.conditions else { return words };
    let pseudo = [("scheme", &conditions.scheme), ("method", &conditions.method), ("authority", &conditions.authority)];
    words.extend(pseudo.iter().filter_map(|(name, given)| Some(format!("{name} {}", pattern(given.as_ref()?)))));
    for header in &conditions.headers {
        let not = if header.inverted { "not: " } else { "" };
        let name = match &header.field {
            HeaderField::Claim(path) => {
                words.push(format!("{not}claim {} {}", path.join("."), pattern(&header.pattern)));
                continue;
            }
            HeaderField::Name(name) => name.as_str(),
            HeaderField::Method => ":method",
            HeaderField::Scheme => ":scheme",
            HeaderField::Authority => ":authority",
            HeaderField::Path => ":path",
        };
        words.push(format!("{not}header {name} {}", pattern(&header.pattern)));
    }
    words.extend(conditions.query.iter().map(|it| format!("query {} {}", it.name, pattern(&it.pattern))));
    words
}

fn path(path: &PathPattern) -> Option<String> {
    let text = match &path.kind {
        PathKind::Any => return None,
        PathKind::Prefix(prefix) if matches!(&**prefix, "" | "/") => return None,
        PathKind::Exact(exact) => format!("path is {exact}"),
        PathKind::Prefix(prefix) => format!("path begins with {prefix}"),
        PathKind::Regex(regex) => format!("path matches {}", regex),
    };
    Some(if path.ignore_case { format!("{text} in any case") } else { text })
}

fn pattern(pattern: &StringPattern) -> String {
    match pattern {
        StringPattern::Present => "is there".to_owned(),
        StringPattern::Exact(exact) => format!("is {exact}"),
        StringPattern::Prefix(prefix) => format!("begins with {prefix}"),
        StringPattern::Regex(regex) => format!("matches {}", regex),
    }
}

fn rewrite(rewrite: &Rewrite) -> Vec<String> {
    let path = rewrite.path.as_ref().map(|path| match path {
        PathRewrite::Prefix { with, .. } => format!("prefix becomes {with}"),
        PathRewrite::Full(with) => format!("path becomes {with}"),
        PathRewrite::Regex { pattern, with } => format!("path: {pattern} becomes {with}"),
    });
    let authority =
        rewrite.authority.as_ref().map(|it| format!("Host becomes {}", String::from_utf8_lossy(it.as_bytes())));
    path.into_iter().chain(authority).collect()
}

fn fault(fault: &Fault) -> Vec<String> {
    let delay = fault.delay.map(|delay| format!("{}% wait {:?}", delay.share.percent(), delay.time));
    let abort = fault.abort.map(|abort| {
        let error = match abort.error {
            AbortError::Http(status) => status.to_string(),
            AbortError::Grpc(code) => {
                format!("gRPC {}", GRPC_CODES.get(usize::from(code)).copied().unwrap_or_default())
            }
        };
        format!("{}% get {error}", abort.share.percent())
    });
    delay.into_iter().chain(abort).collect()
}

fn cors(cors: &Cors) -> String {
    let origins: Vec<String> = cors.origins.iter().map(pattern).collect();
    match origins.as_slice() {
        [] => "pages of no origin may ask".to_owned(),
        origins => format!("pages may ask whose origin {}", origins.join(" or ")),
    }
}

fn redirection(redirect: &Redirect) -> String {
    let mut text = format!("redirect {}", redirect.code);
    let path = redirect.path.as_ref().map(|path| match path {
        RedirectPath::Full(path) => format!("path {path}"),
        RedirectPath::Prefix { with, .. } => format!("prefix {with}"),
    });
    let parts = [
        redirect.scheme.as_ref().map(|it| format!("scheme {it}")),
        redirect.authority.as_ref().map(|it| format!("host {it}")),
        path,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if !parts.is_empty() {
        text.push_str(" to ");
        text.push_str(&parts.join(", "));
    }
    text
}
