//! What a matched route says to do: the compiled form of one Istio `HTTPRoute`.

mod headers;
mod tally;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use http::HeaderValue;

pub use self::{
    headers::{Computed, EditHeaders, HeaderOps},
    tally::{Counts, Tally},
};

use crate::{
    cors::Cors,
    fault::Fault,
    host::strip_port,
    mirrors::Mirror,
    re2::{Expression, Substitution},
    request::RequestView,
    retries::Retries,
    upstream::ClusterId,
};

/// One compiled `HTTPRoute`.
#[derive(Debug)]
pub struct Rule {
    /// `HTTPRoute.name` (with the match's name), `default` when unnamed: `%ROUTE_NAME%`.
    pub name: Arc<str>,
    /// Bytes of it that are the route's own, where the match's name follows.
    pub own_name: usize,
    /// `namespace/name` of the VirtualService.
    pub source: Arc<str>,
    /// What to do.
    pub action: Action,
    /// `timeout`: the whole request with its retries; `None` = no limit.
    pub timeout: Option<Duration>,
    /// `retries`, else Istio's default.
    pub retries: Option<Box<Retries>>,
    /// `mirror`, `mirrors`; `None`: nothing is copied.
    pub mirrors: Option<Box<[Mirror]>>,
    /// `rewrite`.
    pub rewrite: Option<Box<Rewrite>>,
    /// `fault`.
    pub fault: Option<Box<Fault>>,
    /// `corsPolicy` of a route that forwards; routes with the same one share it.
    pub cors: Option<Arc<Cors>>,
    /// `headers.request` of the route.
    pub request_headers: Option<Box<HeaderOps>>,
    /// `headers.response` of the route.
    pub response_headers: Option<Box<HeaderOps>>,
    /// How often it was followed. What takes its place in the next snapshot counts on in the same one.
    pub tally: Arc<Tally>,
}

impl Rule {
    /// A rule that does nothing but `action`, as a route without any other field.
    pub fn new(name: impl Into<Arc<str>>, source: Arc<str>, action: Action) -> Self {
        let name = name.into();
        Self {
            own_name: name.len(),
            name,
            source,
            action,
            timeout: None,
            retries: None,
            mirrors: None,
            rewrite: None,
            fault: None,
            cors: None,
            request_headers: None,
            response_headers: None,
            tally: Arc::default(),
        }
    }

    /// The name of its route, without that of the match.
    pub fn route_name(&self) -> &str {
        self.name.get(..self.own_name).unwrap_or(&self.name)
    }

    /// Whether the route is called so, with the name of the match or without.
    pub fn is_called(&self, name: &str) -> bool {
        *self.name == *name || (!name.is_empty() && self.route_name() == name)
    }

    /// Whether something comes before the destination is chosen: a fault, or the answer to a preflight.
    pub fn intercepts(&self) -> bool {
        self.fault.is_some() || self.cors.is_some()
    }

    /// What is repeated, and how often.
    pub fn retries(&self) -> &Retries {
        static DEFAULT: Retries = Retries::DEFAULT;
        self.retries.as_deref().unwrap_or(&DEFAULT)
    }

    /// Apply the request header operations of the rule and of the destination chosen (`None` unless forwarding).
    pub fn edit_request(&self, destination: Option<&Destination>, headers: &mut impl EditHeaders) {
        self.edit(self.request_headers.as_deref(), destination.and_then(|to| to.request_headers.as_deref()), headers);
    }

    /// Apply the response header operations of the rule and of the destination chosen (`None` unless forwarding).
    pub fn edit_response(&self, destination: Option<&Destination>, headers: &mut impl EditHeaders) {
        self.edit(self.response_headers.as_deref(), destination.and_then(|to| to.response_headers.as_deref()), headers);
    }

    /// The authority to send upstream when it differs from the request's: `rewrite.authority`, else `host` set by the
    /// route, else by the destination.
    pub fn authority<'a>(&'a self, destination: &'a Destination) -> Option<&'a HeaderValue> {
        let rewritten = self.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_ref());
        let own = |ops: &'a Option<Box<HeaderOps>>| ops.as_ref().and_then(|ops| ops.authority.as_ref());
        rewritten.or_else(|| own(&self.request_headers)).or_else(|| own(&destination.request_headers))
    }

    /// One destination: its operations are done together with the route's and after them, so they win. Several: Envoy applies
    /// the chosen one's first, so the route's win.
    fn edit(&self, own: Option<&HeaderOps>, theirs: Option<&HeaderOps>, headers: &mut impl EditHeaders) {
        let several = matches!(&self.action, Action::Route(to) if to.all.len() > 1);
        match (own, theirs) {
            (None, None) => {}
            (Some(ops), None) | (None, Some(ops)) => ops.apply(headers),
            (Some(own), Some(theirs)) if several => {
                theirs.apply(headers);
                own.apply(headers);
            }
            (Some(own), Some(theirs)) => headers::apply([own, theirs], headers),
        }
    }
}

/// What to do with a matched request.
#[derive(Debug)]
pub enum Action {
    /// Forward to one of these.
    Route(Destinations),
    /// Answer with a redirect.
    Redirect(Box<Redirect>),
    /// Answer with a fixed response.
    Direct(DirectResponse),
}

/// Weighted destinations.
#[derive(Debug)]
pub struct Destinations {
    /// At least one; weights above 0.
    pub all: Box<[Destination]>,
    /// Sum of the weights.
    pub total: u32,
}

impl Destinations {
    /// The only destination there is.
    pub fn one(destination: Destination) -> Self {
        Self { all: [destination].into(), total: 1 }
    }

    /// One destination; `random` is any uniformly distributed number.
    pub fn pick(&self, random: u32) -> &Destination {
        let mut left = random % self.total.max(1);
        for destination in &self.all[..self.all.len() - 1] {
            if left < destination.weight {
                return destination;
            }
            left -= destination.weight;
        }
        &self.all[self.all.len() - 1]
    }
}

/// One `HTTPRouteDestination`.
#[derive(Debug)]
pub struct Destination {
    /// Where; `None`: the configuration names a service or subset that does not exist (503, flag NC).
    pub cluster: Option<ClusterId>,
    /// The name, known or not, for logs: `outbound|8080|v1|host`.
    pub cluster_name: Arc<str>,
    /// Relative share.
    pub weight: u32,
    /// `headers.request` of the destination.
    pub request_headers: Option<Box<HeaderOps>>,
    /// `headers.response` of the destination.
    pub response_headers: Option<Box<HeaderOps>>,
}

impl Destination {
    /// A destination that changes no header.
    pub fn new(cluster: Option<ClusterId>, cluster_name: Arc<str>) -> Self {
        Self { cluster, cluster_name, weight: 1, request_headers: None, response_headers: None }
    }
}

/// Istio `HTTPRewrite`.
#[derive(Debug)]
pub struct Rewrite {
    /// How the path changes.
    pub path: Option<PathRewrite>,
    /// New authority.
    pub authority: Option<HeaderValue>,
}

impl Rewrite {
    /// The path to send upstream for a path (without query) that the route matched; `None` when it stays.
    ///
    /// No slash is repaired (Istio: prefix `/foo` to `/` makes `/foo/bar` into `//bar`), but what does not begin with `/`
    /// gets one, since it could not be sent otherwise.
    pub fn path(&self, path: &str) -> Option<String> {
        let new = match self.path.as_ref()? {
            PathRewrite::Prefix { matched, with } => format!("{with}{}", path.get(*matched..).unwrap_or_default()),
            PathRewrite::Full(with) => with.to_string(),
            PathRewrite::Regex { pattern, with } => pattern.replace_all(path, with),
        };
        if new == path {
            None
        } else if new.starts_with('/') {
            Some(new)
        } else {
            Some(format!("/{new}"))
        }
    }
}

/// How a path is rewritten; the query is always kept.
#[derive(Debug)]
pub enum PathRewrite {
    /// `uri` with a prefix match: the first `matched` bytes give way to `with`, textually.
    Prefix {
        /// Length of the matched prefix in bytes.
        matched: usize,
        /// Its replacement.
        with: Box<str>,
    },
    /// `uri` with an exact, regex or no match.
    Full(Box<str>),
    /// `uriRegexRewrite`: every match.
    Regex {
        /// Pattern.
        pattern: Expression,
        /// Replacement.
        with: Substitution,
    },
}

/// Istio `HTTPRedirect`.
#[derive(Debug, Default)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
    /// Path: whole (may hold its own query), or a replaced prefix.
    pub path: Option<RedirectPath>,
    /// New authority.
    pub authority: Option<String>,
    /// New scheme.
    pub scheme: Option<String>,
    /// Port in `Location`.
    pub port: RedirectPort,
}

impl Redirect {
    /// The value of `Location` for a request.
    pub fn location(&self, request: &RequestView<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let authority = self.authority.as_deref().unwrap_or(request.authority);
        let mut location = format!("{scheme}://{}", strip_port(authority));
        if let Some(port) = self.explicit_port(request, scheme, authority) {
            let _ = write!(location, ":{port}");
        }
        let kept = match &self.path {
            None => {
                location.push_str(request.path);
                true
            }
            Some(RedirectPath::Prefix { matched, with }) => {
                location.push_str(with);
                location.push_str(request.path.get(*matched..).unwrap_or_default());
                true
            }
            Some(RedirectPath::Full(path)) => {
                location.push_str(path);
                !path.contains('?')
            }
        };
        if kept && !request.query.is_empty() {
            location.push('?');
            location.push_str(request.query);
        }
        location
    }

    /// The port to print; a default port of the final scheme is left out.
    fn explicit_port<'a>(&self, request: &RequestView<'_>, scheme: &str, authority: &'a str) -> Option<Port<'a>> {
        let own = authority.strip_prefix(strip_port(authority)).and_then(|rest| rest.strip_prefix(':'));
        let fixed = match self.port {
            RedirectPort::Keep => {
                let own = own.filter(|port| !port.is_empty())?;
                // `http://a:80/` becomes `https://a/`: the port meant the old scheme's default.
                let default = Some(own) == default_port(scheme) || Some(own) == default_port(request.scheme);
                let dropped = default && (self.scheme.is_some() || Some(own) == default_port(scheme));
                return (!dropped).then_some(Port::Text(own));
            }
            RedirectPort::Protocol => return None,
            RedirectPort::Fixed(port) => port,
            RedirectPort::Request => request.port,
        };
        let default = default_port(scheme).is_some_and(|port| *port == fixed.to_string());
        (!default).then_some(Port::Number(fixed))
    }
}

/// A port as it stands in an authority, or as configured.
enum Port<'a> {
    Text(&'a str),
    Number(u16),
}

impl std::fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

fn default_port(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    }
}

/// The path of a redirect.
#[derive(Debug)]
pub enum RedirectPath {
    /// `uri`.
    Full(String),
    /// `prefixRewrite`.
    Prefix {
        /// Length of the matched prefix in bytes.
        matched: usize,
        /// Its replacement.
        with: String,
    },
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RedirectPort {
    /// As the request's authority has it (only a default port of a changed scheme is dropped).
    #[default]
    Keep,
    /// `port`.
    Fixed(u16),
    /// `derivePort: FROM_PROTOCOL_DEFAULT`.
    Protocol,
    /// `derivePort: FROM_REQUEST_PORT`.
    Request,
}

/// Istio `HTTPDirectResponse`.
#[derive(Debug)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// Body.
    pub body: Arc<[u8]>,
}

#[cfg(test)]
mod tests;
