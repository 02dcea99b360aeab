//! The PROXY header in front of connections that a balancer passes on (Istio `gatewayTopology.proxyProtocol`): who the client
//! is, before TLS and HTTP.

use std::{future::poll_fn, net::IpAddr, time::Duration};

use ipnet::IpNet;
use routing::proxy_protocol::{Header, Parsed, parse};
use tls::stream::Stream;
use tokio::{net::TcpStream, time::timeout};

use super::{accept::Reception, facts::Facts};

/// The header is complete within this time: whoever sends one sends it at once.
const HEADER: Duration = Duration::from_secs(10);

impl Reception {
    /// Takes the header away, and gives the facts as it says them. `None`: the connection is over, and that was told.
    pub(super) async fn behind_balancer(&self, plain: &mut Stream<TcpStream>, facts: Facts) -> Option<Facts> {
        if !is_trusted(&self.balancers, facts.remote.ip()) {
            let why =
                "the sender is not in a range of --proxy-protocol-from, so what it would say of the client is not read";
            self.turn_away("ProxyUntrusted", &facts, why);
            return None;
        }
        match timeout(HEADER, header(plain)).await {
            Ok(Ok(Some(header))) => Some(match header.addresses {
                Some((client, met)) => {
                    Facts { balancer: Some(facts.remote.ip()), ..Facts::new(client, met, facts.arrival) }
                }
                None => facts,
            }),
            // A balancer that looks whether anybody listens.
            Ok(Ok(None)) => None,
            Ok(Err(why)) => {
                self.turn_away("BadProxyHeader", &facts, why);
                None
            }
            Err(_) => {
                self.turn_away("ProxyHeaderTimeout", &facts, "the PROXY header was not complete within 10 s");
                None
            }
        }
    }
}

/// `None`: the connection ended before its first byte.
async fn header(plain: &mut Stream<TcpStream>) -> Result<Option<Header>, &'static str> {
    loop {
        match parse(plain.input()) {
            Parsed::Header(header) => {
                plain.consume(header.length);
                return Ok(Some(header));
            }
            Parsed::Invalid(why) => return Err(why),
            Parsed::Incomplete => {}
        }
        match poll_fn(|cx| plain.poll_fill(cx)).await {
            Ok(true) => {}
            _ if plain.input().is_empty() => return Ok(None),
            _ => return Err("the connection ended within its PROXY header"),
        }
    }
}

/// Whether a balancer may be there.
fn is_trusted(ranges: &[IpNet], sender: IpAddr) -> bool {
    let sender = sender.to_canonical();
    ranges.iter().any(|range| range.contains(&sender))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::private_ranges;

    #[test]
    fn senders_are_of_private_networks_unless_others_are_named() {
        let private = private_ranges();
        let trusts = |text: &str| is_trusted(&private, text.parse().unwrap());
        for own in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "100.64.0.9",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(trusts(own), "{own}");
        }
        for foreign in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!trusts(foreign), "{foreign}");
        }
    }
}
