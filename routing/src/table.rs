//! Host, then path, then predicates: which rule a request follows, at a cost that does not grow with the table.

mod index;
mod segment;

use std::sync::Arc;

use crate::{
    host::{HostMap, bare},
    pattern::RouteMatch,
    request::RequestView,
    rule::Rule,
};

use index::PathIndex;

/// All hosts of one listener.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Virtual hosts by domain.
    pub hosts: HostMap<VirtualHost>,
}

impl RouteTable {
    /// The virtual host of a `Host` header or `:authority`; its port does not count.
    ///
    /// There is no way back to a less specific host when none of the rules of this one fits: Istio answers 404.
    pub fn host(&self, authority: &str) -> Option<&VirtualHost> {
        self.hosts.get(bare(authority))
    }
}

/// What is served under one domain.
#[derive(Debug)]
pub struct VirtualHost {
    /// The domain as configured: a host, `*.example.com` or `*`. Envoy's virtual host name.
    pub domain: Arc<str>,
    /// Istio `Server.tls.httpsRedirect`: 301 to https before any rule is looked at.
    pub https_redirect: bool,
    /// The rules; domains with the same rules share them.
    pub routes: Arc<RouteList>,
}

impl VirtualHost {
    /// The rule of the first route whose conditions all hold.
    pub fn route(&self, request: &RequestView<'_>) -> Option<&Arc<Rule>> {
        self.routes.find(request)
    }
}

/// Routes in order, and an index that finds the first one that holds.
#[derive(Debug, Default)]
pub struct RouteList {
    routes: Vec<Route>,
    index: PathIndex,
}

/// One match entry of an `HTTPRoute` and its rule.
#[derive(Clone, Debug)]
pub struct Route {
    /// When.
    pub when: RouteMatch,
    /// What then.
    pub rule: Arc<Rule>,
}

impl RouteList {
    /// Index routes, given in Istio's order: the first match wins.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut routes = routes;
        routes.shrink_to_fit();
        let index = PathIndex::new(&routes);
        Self { routes, index }
    }

    /// The rule of the first route whose conditions all hold.
    pub fn find(&self, request: &RequestView<'_>) -> Option<&Arc<Rule>> {
        let mut found =
            self.index.candidates(request.path).map(|candidate| (candidate, &self.routes[candidate.number]));
        found.find(|(candidate, route)| candidate.holds(route, request)).map(|(_, route)| &route.rule)
    }

    /// Every route in order, for those who show the configuration.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

#[cfg(test)]
mod tests;
