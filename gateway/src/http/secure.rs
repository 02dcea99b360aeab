//! Which port a redirect from plain text to https names.

use std::borrow::Cow;

use routing::{
    host::{bare, strip_port},
    snapshot::{TlsServer, TlsServers},
};

use crate::{live::Installed, net::facts::Arrival};

/// Where an authority is reached by https. It stays as it was sent, as with Istio, unless it names the very port that the
/// request came to: that one speaks no TLS, so the port of the listener that has this host's certificate stands there. Ports
/// are those that clients see: a Gateway's, or what `--port-map` makes of them.
pub(super) fn authority<'a>(installed: &Installed, arrival: Arrival, sent: &'a str) -> Cow<'a, str> {
    let Arrival::Gateway { bind, port } = arrival else { return sent.into() };
    let seen = |port: u16| installed.port_map.get(&port).copied().unwrap_or(port);
    let host = strip_port(sent);
    let named = sent[host.len()..].strip_prefix(':').and_then(|port| port.parse().ok());
    if named != Some(seen(port)) {
        return sent.into();
    }
    let serves = |tls: &TlsServers| {
        let server = tls.by_sni.get(bare(sent));
        server.is_some_and(|index| !tls.servers.get(*index).is_some_and(TlsServer::is_rejected))
    };
    let of_bind = installed.snapshot.listeners.iter().filter(|it| it.bind == bind);
    let secure = of_bind.filter(|it| it.tls.as_ref().is_some_and(serves)).map(|it| it.port);
    match secure.min_by_key(|port| (*port != 443, *port)).map(seen) {
        None => sent.into(),
        Some(443) => host.into(),
        Some(port) => format!("{host}:{port}").into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use routing::{
        host::HostMap,
        snapshot::{Listener, Snapshot, TlsServers},
        table::RouteTable,
    };

    use super::*;

    fn listener(port: u16, hosts: &[&str]) -> Listener {
        let mut by_sni = HostMap::default();
        for host in hosts {
            by_sni.insert(&host.parse().unwrap(), 0);
        }
        let tls = (!hosts.is_empty()).then(|| TlsServers { servers: Vec::new(), by_sni });
        Listener { bind: None, port, bind_port: port, tls, routes: Arc::new(RouteTable::default()), bytes: None }
    }

    #[test]
    fn a_port_that_speaks_no_tls_is_replaced_by_one_that_does() {
        let installed = |port_map: &[(u16, u16)]| Installed {
            snapshot: Snapshot {
                listeners: vec![
                    listener(80, &[]),
                    listener(7443, &["*.a.test", "only.b.test"]),
                    listener(443, &["*.a.test"]),
                ],
                ..Snapshot::default()
            },
            port_map: BTreeMap::from_iter(port_map.iter().copied()),
            ..Installed::default()
        };
        let (plain, mapped) = (installed(&[]), installed(&[(80, 8080), (443, 8443)]));
        for (installed, sent, wanted) in [
            // As sent.
            (&plain, "x.a.test", "x.a.test"),
            (&plain, "x.a.test:8080", "x.a.test:8080"),
            (&mapped, "x.a.test", "x.a.test"),
            (&mapped, "x.a.test:80", "x.a.test:80"),
            (&mapped, "x.a.test:9", "x.a.test:9"),
            (&mapped, "nobody.test:8080", "nobody.test:8080"),
            // The port of the listener.
            (&plain, "x.a.test:80", "x.a.test"),
            (&plain, "only.b.test:80", "only.b.test:7443"),
            (&mapped, "X.a.test:8080", "X.a.test:8443"),
            (&mapped, "only.b.test:8080", "only.b.test:7443"),
        ] {
            assert_eq!(authority(installed, Arrival::Gateway { bind: None, port: 80 }, sent), wanted, "{sent}");
        }
        assert_eq!(authority(&mapped, Arrival::Outbound { original: None }, "x.a.test:8080"), "x.a.test:8080");
    }
}
