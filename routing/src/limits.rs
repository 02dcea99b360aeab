//! Our `RateLimit`, compiled: which limits a request has to keep within, whose limit it is, and the arithmetic of one.

mod key;
mod rate;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

pub use self::{
    key::{Key, Part, Share, claim_path},
    rate::{Rate, Refused},
};

use crate::{
    hashed::HashMap,
    host::{HostMap, HostPattern, bare},
    pattern::{PathPattern, RouteMatch},
    request::RequestView,
    rule::Rule,
    upstream::ClusterId,
};

/// What limits look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request, with its verified token.
    pub request: RequestView<'a>,
    /// Who the client is, as trusted proxies in front tell it.
    pub client: IpAddr,
    /// The peer's SPIFFE id; empty = none.
    pub peer: &'a str,
    /// The route; `None` at a workload's own side.
    pub route: Option<&'a Rule>,
    /// At a workload's own side: its port.
    pub inbound: Option<u16>,
}

/// The limits of one proxy. Those of other hosts, routes and services cost a request nothing.
#[derive(Debug, Default)]
pub struct Limits {
    all: Box<[Limit]>,
    routes: HashMap<Arc<str>, Vec<u32>>,
    named: HashMap<Arc<str>, Vec<u32>>,
    ports: HashMap<u16, Vec<u32>>,
    hosts: HostMap<Vec<u32>>,
    rest: Vec<u32>,
    asks: bool,
}

/// One rule of a `RateLimit`.
#[derive(Debug)]
pub struct Limit {
    /// `namespace/name/rule`.
    pub name: Arc<str>,
    /// The rule's own name, for clients.
    pub short: Arc<str>,
    /// Changes with what is counted and how; as long as it is the same, what was counted stays.
    pub identity: u64,
    /// Where it holds: any of these.
    pub targets: Box<[Target]>,
    /// Which requests it is about: any of these; empty = all.
    pub when: Box<[When]>,
    /// Whose limit it is.
    pub key: Key,
    /// Who counts.
    pub place: Place,
    /// It is only counted and told what would be turned away.
    pub dry_run: bool,
    /// Status of what is turned away.
    pub status: u16,
    /// Answers that turn away say how much is left.
    pub tells_refused: bool,
    /// All others do, too.
    pub tells_passed: bool,
}

/// Who counts.
#[derive(Debug)]
pub enum Place {
    /// This proxy.
    Local(Rate),
    /// A service that is asked.
    Global(Box<Global>),
}

/// A rate limit service.
#[derive(Debug)]
pub struct Global {
    /// Where it is; `None`: the configuration does not have it, which is as if it never answered.
    pub cluster: Option<ClusterId>,
    /// The name of the cluster.
    pub cluster_name: Arc<str>,
    /// Domain of its configuration.
    pub domain: Arc<str>,
    /// How long its word is waited for.
    pub timeout: Duration,
    /// Requests pass that it says nothing about.
    pub fail_open: bool,
}

/// Where a limit holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Everywhere at this proxy.
    Proxy,
    /// For hosts of a Gateway, each at the port of its server.
    Gateway(Vec<(u16, HostPattern)>),
    /// For routes of a VirtualService (`namespace/name`): the one of this name, or all.
    Routes(Arc<str>, Option<Arc<str>>),
    /// For what comes to these ports of the workload, which a service leads to.
    Ports(Vec<u16>),
}

/// One entry of `match`.
#[derive(Debug, Default)]
pub struct When {
    /// Any of these; empty = all.
    pub hosts: Box<[HostPattern]>,
    /// Names of routes: any of these; empty = all.
    pub routes: Box<[Arc<str>]>,
    /// Any of these; empty = all.
    pub methods: Box<[Box<str>]>,
    /// Any of these; empty = all.
    pub paths: Box<[PathPattern]>,
    /// Headers and query parameters.
    pub rest: RouteMatch,
}

impl Target {
    fn holds(&self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Proxy => true,
            Self::Gateway(doors) => {
                asked.route.is_some()
                    && doors
                        .iter()
                        .any(|(port, host)| *port == asked.request.port && is_of(host, asked.request.authority))
            }
            Self::Routes(source, name) => asked
                .route
                .is_some_and(|rule| rule.source == *source && name.as_ref().is_none_or(|name| rule.is_called(name))),
            Self::Ports(ports) => asked.inbound.is_some_and(|port| ports.contains(&port)),
        }
    }
}

impl When {
    fn holds(&self, asked: &Asked<'_>) -> bool {
        let request = &asked.request;
        let of = |list: &[Box<str>], text: &str| list.is_empty() || list.iter().any(|one| **one == *text);
        of(&self.methods, request.method)
            && (self.hosts.is_empty() || self.hosts.iter().any(|host| is_of(host, request.authority)))
            && (self.routes.is_empty()
                || asked.route.is_some_and(|rule| self.routes.iter().any(|name| rule.is_called(name))))
            && (self.paths.is_empty() || self.paths.iter().any(|path| path.matches(request.path)))
            && self.rest.matches(request)
    }
}

/// Whether an authority is of a pattern.
fn is_of(pattern: &HostPattern, authority: &str) -> bool {
    let host = bare(authority);
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(own) => own.eq_ignore_ascii_case(host),
        HostPattern::Suffix(rest) => {
            let at = host.len().checked_sub(rest.len()).filter(|at| *at > 0);
            at.and_then(|at| host.as_bytes().get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(rest.as_bytes()))
        }
    }
}

impl Limit {
    /// Whether it is about a request.
    pub fn concerns(&self, asked: &Asked<'_>) -> bool {
        self.targets.iter().any(|target| target.holds(asked))
            && (self.when.is_empty() || self.when.iter().any(|when| when.holds(asked)))
    }

    /// The hosts that it is about, none of them covered by another; `None` = it may be about every host.
    fn hosts(&self) -> Option<Vec<HostPattern>> {
        let mut all: Vec<HostPattern> = Vec::new();
        if let [Target::Gateway(doors)] = &*self.targets {
            all.extend(doors.iter().map(|(_, host)| host.clone()));
        } else if self.when.is_empty() || self.when.iter().any(|when| when.hosts.is_empty()) {
            return None;
        } else {
            all.extend(self.when.iter().flat_map(|when| when.hosts.iter().cloned()));
        }
        // What covers stands behind what it covers.
        all.sort();
        all.dedup();
        let mut apart: Vec<HostPattern> = Vec::new();
        for pattern in all.into_iter().rev() {
            if !apart.iter().any(|other| other.covers(&pattern)) {
                apart.push(pattern);
            }
        }
        Some(apart)
    }

    /// Names of the routes that it is about; `None` = it may be about every route.
    fn route_names(&self) -> Option<Vec<Arc<str>>> {
        if self.when.is_empty() || self.when.iter().any(|when| when.routes.is_empty()) {
            return None;
        }
        let mut names: Vec<Arc<str>> = self.when.iter().flat_map(|when| when.routes.iter().cloned()).collect();
        names.sort();
        names.dedup();
        Some(names)
    }
}

impl Limits {
    /// An index over these; `None` of none. Each one stands where the fewest requests find it, and each request finds it once.
    pub fn new(all: Vec<Limit>) -> Option<Self> {
        let mut limits = Self::default();
        for (number, limit) in (0..).zip(&all) {
            limits.place(number, limit);
        }
        limits.asks = all.iter().any(|limit| matches!(limit.place, Place::Global(_)));
        limits.all = all.into();
        (!limits.all.is_empty()).then_some(limits)
    }

    fn place(&mut self, number: u32, limit: &Limit) {
        let sources: Option<Vec<_>> = limit
            .targets
            .iter()
            .map(|one| match one {
                Target::Routes(source, _) => Some(Arc::clone(source)),
                _ => None,
            })
            .collect();
        let ports: Option<Vec<&Vec<u16>>> = limit
            .targets
            .iter()
            .map(|one| match one {
                Target::Ports(ports) => Some(ports),
                _ => None,
            })
            .collect();
        let fill = |map: &mut HashMap<Arc<str>, Vec<u32>>, mut names: Vec<Arc<str>>| {
            names.sort();
            names.dedup();
            names.into_iter().for_each(|name| map.entry(name).or_default().push(number));
        };
        if let Some(sources) = sources {
            fill(&mut self.routes, sources);
        } else if let Some(ports) = ports {
            let ports: BTreeSet<u16> = ports.into_iter().flatten().copied().collect();
            ports.into_iter().for_each(|port| self.ports.entry(port).or_default().push(number));
        } else if let Some(names) = limit.route_names() {
            fill(&mut self.named, names);
        } else if let Some(hosts) = limit.hosts() {
            hosts.iter().for_each(|host| self.hosts.get_or_insert_with(host, Vec::new).push(number));
        } else {
            self.rest.push(number);
        }
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Limit] {
        &self.all
    }

    /// Whether any of them asks a service.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// Shows each limit that is about a request, with its number, until one says stop (`Err`).
    ///
    /// # Errors
    /// What `each` stopped with.
    pub fn each<E>(&self, asked: &Asked<'_>, mut each: impl FnMut(usize, &Limit) -> Result<(), E>) -> Result<(), E> {
        let mut look = |numbers: &[u32]| {
            numbers.iter().try_for_each(|number| {
                let limit = &self.all[*number as usize];
                if limit.concerns(asked) { each(*number as usize, limit) } else { Ok(()) }
            })
        };
        if let Some(rule) = asked.route {
            look(under(&self.routes, &rule.source))?;
            look(under(&self.named, &rule.name))?;
        }
        if let Some(rule) = asked.route.filter(|rule| !self.named.is_empty() && rule.route_name() != &*rule.name) {
            // One that is about both of its names was found already.
            let (known, more) = (under(&self.named, &rule.name), under(&self.named, rule.route_name()));
            more.iter().filter(|number| !known.contains(number)).try_for_each(|number| look(&[*number]))?;
        }
        if let Some(numbers) = asked.inbound.filter(|_| !self.ports.is_empty()).and_then(|port| self.ports.get(&port)) {
            look(numbers)?;
        }
        if !self.hosts.is_empty() {
            self.hosts.each(bare(asked.request.authority), |numbers| look(numbers))?;
        }
        look(&self.rest)
    }
}

fn under<'m>(map: &'m HashMap<Arc<str>, Vec<u32>>, name: &str) -> &'m [u32] {
    if map.is_empty() { &[] } else { map.get(name).map(Vec::as_slice).unwrap_or_default() }
}

#[cfg(test)]
mod tests;
