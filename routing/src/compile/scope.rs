//! Istio's `Sidecar`: which one is a workload's own, and which hosts the workload knows by it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    proxy::{Proxy, Role, is_subset},
    virtual_services::Bound,
};
use crate::{
    api::{
        Sidecar,
        sidecar::{CaptureMode, EgressListener},
    },
    host::HostPattern,
    resources::{Object, Resources},
    unix,
};

/// What one proxy knows.
pub(super) struct Scope<'a> {
    /// The workload's own, if there is one.
    pub(super) sidecar: Option<&'a Object<Sidecar>>,
    /// `None`: everything that is exported to the proxy.
    listeners: Option<Vec<Listener>>,
}

/// One entry of `egress`.
pub(super) struct Listener {
    /// Its position in `egress`.
    pub(super) index: usize,
    /// The one port that it is for; `None`: for all that have no entry of their own.
    pub(super) port: Option<u16>,
    /// Where applications connect to it themselves, without being captured.
    pub(super) bind: Option<IpAddr>,
    /// The unix socket that they connect to: it stands for no port, and what is known by it is known on every port.
    pub(super) socket: Option<SocketAddr>,
    /// Whether bytes come through it that nobody looks at.
    pub(super) bytes: bool,
    /// What is known by it.
    hosts: Hosts,
}

/// `hosts` of an entry.
#[derive(Default)]
pub(super) struct Hosts {
    known: Vec<Entry>,
    left_out: Vec<Entry>,
}

struct Entry {
    /// `None`: any.
    namespace: Option<String>,
    host: HostPattern,
}

impl<'a> Scope<'a> {
    pub(super) fn new(resources: &'a Resources, proxy: &Proxy) -> Self {
        let sidecar = own(resources, proxy);
        let egress = sidecar.map(|sidecar| sidecar.spec.egress.as_slice()).unwrap_or_default();
        let listener = |(index, listener)| Listener::new(index, listener, proxy);
        let listeners = (!egress.is_empty()).then(|| egress.iter().enumerate().map(listener).collect());
        Self { sidecar, listeners }
    }

    /// Whether requests to a port of a service find it.
    pub(super) fn knows(&self, host: &str, namespace: &str, port: u16) -> bool {
        let Some(listeners) = &self.listeners else { return true };
        let Ok(host) = host.parse::<HostPattern>() else { return false };
        listeners_of(listeners, port).any(|it| it.hosts.hold(&host, namespace))
    }

    /// The hosts of a VirtualService that are known on a port.
    pub(super) fn known_hosts<'b>(&self, bound: &'b Bound<'_>, port: u16) -> Vec<&'b HostPattern> {
        let hosts = bound.hosts.iter().map(|(host, _)| host);
        match &self.listeners {
            None => hosts.collect(),
            Some(listeners) => {
                let of: Vec<&Listener> = listeners_of(listeners, port).collect();
                hosts.filter(|host| of.iter().any(|it| it.hosts.hold(host, bound.object.namespace()))).collect()
            }
        }
    }

    /// Tells ports apart for which other hosts are known.
    pub(super) fn listener(&self, port: u16) -> Option<usize> {
        self.listeners.as_ref().and_then(|listeners| Some(listener_of(listeners, port)?.index))
    }

    /// Entries with an address that applications connect to themselves.
    pub(super) fn bound(&self) -> impl Iterator<Item = &Listener> {
        let has_place = |it: &&Listener| it.socket.is_some() || (it.bind.is_some() && it.port.is_some());
        self.listeners.iter().flatten().filter(has_place)
    }

    /// All entries.
    pub(super) fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().flatten()
    }
}

impl Listener {
    fn new(index: usize, listener: &EgressListener, proxy: &Proxy) -> Self {
        let given = listener.bind.as_deref().and_then(|bind| bind.parse().ok());
        let bind = match listener.capture_mode {
            CaptureMode::None => given.or(Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            CaptureMode::Default => given.filter(|ip: &IpAddr| !ip.is_unspecified()),
            CaptureMode::Iptables => None,
        };
        let port = listener.port.as_ref().map(|port| port.number).filter(|number| *number != 0);
        // One that cannot be made is told of where it is opened.
        let socket = listener.bind.as_deref().filter(|bind| bind.starts_with(unix::SCHEME));
        let socket = socket.and_then(|bind| unix::address(bind).ok());
        let protocol = listener.port.as_ref().and_then(|port| port.protocol);
        let bytes = protocol.is_some_and(|protocol| !protocol.is_plain_http() && !protocol.is_tls());
        Self { index, port, bind, socket, bytes, hosts: Hosts::new(&listener.hosts, &proxy.namespace) }
    }

    /// Whether a service is known by it.
    pub(super) fn holds(&self, host: &str, namespace: &str) -> bool {
        host.parse::<HostPattern>().is_ok_and(|host| self.hosts.hold(&host, namespace))
    }
}

/// The entry of a port: its own, else the one for all others.
fn listener_of(listeners: &[Listener], port: u16) -> Option<&Listener> {
    let own = listeners.iter().find(|listener| listener.port == Some(port));
    own.or_else(|| listeners.iter().find(|listener| listener.port.is_none() && listener.socket.is_none()))
}

/// The same, and those of unix sockets.
fn listeners_of(listeners: &[Listener], port: u16) -> impl Iterator<Item = &Listener> {
    listener_of(listeners, port).into_iter().chain(listeners.iter().filter(|listener| listener.socket.is_some()))
}

impl Hosts {
    /// As written, for a proxy of `own`.
    pub(super) fn new(written: &[String], own: &str) -> Self {
        let mut hosts = Self::default();
        for (namespace, host) in written.iter().filter_map(|text| text.split_once('/')) {
            let Ok(host) = host.parse::<HostPattern>() else { continue };
            let (list, namespace) = match namespace.strip_prefix('~') {
                // Nothing is known by this entry.
                Some("") => continue,
                Some(rest) => (&mut hosts.left_out, rest),
                None => (&mut hosts.known, namespace),
            };
            let namespace = match namespace {
                "*" => None,
                "." => Some(own.to_owned()),
                name => Some(name.to_owned()),
            };
            list.push(Entry { namespace, host });
        }
        // An entry that only leaves out leaves out of everything.
        if hosts.known.is_empty() && !hosts.left_out.is_empty() {
            hosts.known.push(Entry { namespace: None, host: HostPattern::Any });
        }
        hosts
    }

    /// Whether a host of a namespace is known.
    pub(super) fn hold(&self, host: &HostPattern, namespace: &str) -> bool {
        let of = |entry: &Entry| entry.namespace.as_deref().is_none_or(|name| name == namespace);
        let overlaps = |entry: &Entry| entry.host.covers(host) || host.covers(&entry.host);
        self.known.iter().any(|entry| of(entry) && overlaps(entry))
            && !self.left_out.iter().any(|entry| of(entry) && entry.host.covers(host))
    }
}

/// The Sidecar of a workload: of its namespace one that selects it, else one without a selector, else such a one of the root
/// namespace; of several the oldest.
fn own<'a>(resources: &'a Resources, proxy: &Proxy) -> Option<&'a Object<Sidecar>> {
    let Role::Sidecar { namespace, .. } = &proxy.role else { return None };
    let of = |namespace: &'a str| resources.sidecars.iter().filter(move |it| it.namespace() == namespace);
    let selects =
        |it: &&std::sync::Arc<Object<Sidecar>>| selector(it).is_some_and(|selector| is_subset(selector, &proxy.labels));
    let namespace: &str =
        resources.sidecars.iter().map(|it| it.namespace()).find(|name| name == namespace).unwrap_or("");
    let root: &str =
        resources.sidecars.iter().map(|it| it.namespace()).find(|name| *name == proxy.root_namespace).unwrap_or("");
    let own = of(namespace).find(selects).or_else(|| of(namespace).find(|it| selector(it).is_none()));
    own.or_else(|| of(root).find(|it| selector(it).is_none())).map(|found| &**found)
}

/// The labels that a Sidecar asks for; `None`: it is for all.
pub(super) fn selector(sidecar: &Object<Sidecar>) -> Option<&std::collections::BTreeMap<String, String>> {
    let selector = sidecar.spec.workload_selector.as_ref().map(|selector| &selector.labels);
    selector.filter(|labels| !labels.is_empty())
}

#[cfg(test)]
mod tests;
