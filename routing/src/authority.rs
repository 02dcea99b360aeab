//! The host that a request names, and where the same host is reached by https.

use std::{borrow::Cow, collections::BTreeMap, net::Ipv6Addr};

use crate::{
    host::{bare, strip_port},
    snapshot::{Listener, Snapshot, TlsServer, TlsServers},
};

/// Why an authority names no host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadAuthority {
    /// There is none.
    Missing,
    /// It is no host.
    Host,
    /// It is no port.
    Port,
}

impl BadAuthority {
    /// The same as a sentence.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missing => "the Host header is missing",
            Self::Host => "the Host header is neither a name nor an address",
            Self::Port => "the port in the Host header is not within 1 and 65535",
        }
    }
}

/// A name or an address, and a port that exists (RFC 9110 section 4.2).
///
/// # Errors
/// [`BadAuthority`].
pub fn check(authority: &str) -> Result<(), BadAuthority> {
    if authority.is_empty() {
        return Err(BadAuthority::Missing);
    }
    let host = strip_port(authority);
    let known = match host.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
        // RFC 6874: an address of a link is followed by its zone.
        Some(address) => address.split("%25").next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => is_name(host.as_bytes()),
    };
    if !known {
        return Err(BadAuthority::Host);
    }
    let port = &authority[host.len()..];
    if port.len() > 1 && !port[1..].parse().is_ok_and(|port: u16| port > 0) {
        return Err(BadAuthority::Port);
    }
    Ok(())
}

/// RFC 3986 section 3.2.2, without what no name on the net holds.
fn is_name(mut host: &[u8]) -> bool {
    let some = !host.is_empty();
    while let [first, rest @ ..] = host {
        host = match (first, rest) {
            (b'%', [one, two, rest @ ..]) if one.is_ascii_hexdigit() && two.is_ascii_hexdigit() => rest,
            (byte, rest) if byte.is_ascii_alphanumeric() || b"-._~*".contains(byte) => rest,
            _ => return false,
        };
    }
    some
}

/// Where an authority is reached by https that was `sent` to a listener in plain text. It stays as it was sent, as with Istio,
/// unless it names the very port that the request came to: that one speaks no TLS, so the port of the listener that has this
/// host's certificate stands there. Ports are those that clients see: a Gateway's, or what `port_map` makes of them.
pub fn by_https<'a>(
    snapshot: &Snapshot,
    port_map: &BTreeMap<u16, u16>,
    (bind, port): (Option<std::net::IpAddr>, u16),
    sent: &'a str,
) -> Cow<'a, str> {
    let seen = |port: u16| port_map.get(&port).copied().unwrap_or(port);
    let host = strip_port(sent);
    let named = sent[host.len()..].strip_prefix(':').and_then(|port| port.parse().ok());
    if named != Some(seen(port)) {
        return sent.into();
    }
    let serves = |tls: &TlsServers| {
        let server = tls.by_sni.get(bare(sent));
        server.is_some_and(|index| !tls.servers.get(*index).is_some_and(TlsServer::is_rejected))
    };
    let of_bind = snapshot.listeners.iter().filter(|it| it.bind == bind);
    let is_secure = |it: &&Listener| it.tls.as_ref().is_some_and(serves);
    let secure = of_bind.filter(is_secure).map(|it| it.port);
    match secure.min_by_key(|port| (*port != 443, *port)).map(seen) {
        None => sent.into(),
        Some(443) => host.into(),
        Some(port) => format!("{host}:{port}").into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{host::HostMap, table::RouteTable};

    #[test]
    fn a_host_is_a_name_with_a_port_that_exists() {
        let link = "[fe80::1%25eth0]:80";
        for host in ["a", "a.b.", "a:1", "a:65535", "[::1]", "[::1]:80", link, "a_b", "a%20b", "10.0.0.1:8080", "a:"] {
            assert_eq!(check(host), Ok(()), "{host}");
        }
        assert_eq!(check(""), Err(BadAuthority::Missing));
        for host in ["a:0", "a:65536", "a:99999999"] {
            assert_eq!(check(host), Err(BadAuthority::Port), "{host}");
        }
        let address = ["[::1", "::1", "[a]", "[::1]a", "[]"];
        for host in ["a/b", "a b", "a,b", "a@b", ":80", "a:1:1", "a%b"].iter().chain(&address) {
            assert_eq!(check(host), Err(BadAuthority::Host), "{host}");
        }
    }

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
        let snapshot = Snapshot {
            listeners: vec![
                listener(80, &[]),
                listener(7443, &["*.a.test", "only.b.test"]),
                listener(443, &["*.a.test"]),
            ],
            ..Snapshot::default()
        };
        let (plain, mapped) = (BTreeMap::new(), BTreeMap::from([(80, 8080), (443, 8443)]));
        for (port_map, sent, wanted) in [
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
            assert_eq!(by_https(&snapshot, port_map, (None, 80), sent), wanted, "{sent}");
        }
    }
}
