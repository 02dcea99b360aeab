//! What a sidecar's own workload opens: requests, or bytes for a service, or for whatever address it meant.

use std::{net::SocketAddr, sync::Arc};

use routing::{opaque::Demand, outbound::known_ip, snapshot::Unclaimed};
use tls::stream::Stream;
use tokio::net::TcpStream;

use super::{
    accept::{Received, Reception, first_bytes, http, opaque},
    course::{Course, Way},
    facts::{Arrival, Facts},
    sniff::Sniffed,
};
use crate::live::{ClientPolicy, Installed};

/// The port of TLS whose original destination is not known, as 80 is that of requests.
const TLS_PORT: u16 = 443;

impl Reception {
    /// `original`: where the client meant to go; `None` when it was not captured.
    pub(super) async fn outbound(
        &self,
        tcp: TcpStream,
        (remote, local): (SocketAddr, SocketAddr),
        original: Option<SocketAddr>,
    ) -> Option<Received> {
        let installed = self.live.pin();
        let own = || installed.snapshot.inbound.as_ref().map_or(&[][..], |inbound| &inbound.addresses);
        if let Some(meant) = original.filter(|meant| self.own_ports.means_from(remote, *meant, own())) {
            self.refuse_own(&tcp, (remote, local), meant);
            return None;
        }
        let facts = Facts::new(remote, local, Arrival::Outbound { original });
        let mut plain = Stream::new(tcp);
        let demand = installed.snapshot.outbound.as_ref()?.demand(original);
        if demand == Demand::Nothing {
            return Some(opaque(plain, facts, course(installed, original, "")));
        }
        let limit = installed.snapshot.mesh.detection_timeout();
        let first = first_bytes(&mut plain, limit).await?;
        // Not before: what was waited for may have taken an hour.
        let installed = self.live.pin();
        let is_http = matches!(first, Sniffed::Http1 | Sniffed::Http2) && demand == Demand::Protocol;
        match first {
            Sniffed::Closed => None,
            first if is_http => Some(http(plain, facts, first == Sniffed::Http2)),
            Sniffed::Tls => {
                let name = self.first_hello(&mut plain, &facts).await?.sni.unwrap_or_default();
                let course = course(installed, original, &name);
                if original.is_none() && matches!(course.way, Way::Nowhere) {
                    let why = format_args!("refused: no service on port {TLS_PORT} has the server name `{name}`");
                    self.unserved("UnknownName", (&facts, &name), why);
                    return None;
                }
                Some(opaque(plain, facts.passing(&name, ClientPolicy::UNMET), course))
            }
            _ if original.is_some() => Some(opaque(plain, facts, course(installed, original, ""))),
            _ => {
                self.unserved("NotHttp", (&facts, ""), "refused: not HTTP, and the original destination is unknown");
                None
            }
        }
    }
}

fn course(installed: Arc<Installed>, original: Option<SocketAddr>, name: &str) -> Course {
    let outbound = installed.snapshot.outbound.as_ref();
    let port = original.map_or(TLS_PORT, |original| original.port());
    let table = outbound.and_then(|outbound| outbound.opaque.get(&port));
    let found = table.and_then(|table| table.find(original.and_then(known_ip), name).map(|route| &route.rule));
    // Without an address there is nothing to choose by, and the first service has the port.
    let addressless = original.is_some_and(|original| known_ip(original).is_none());
    let found = found.or_else(|| table.filter(|_| addressless)?.first());
    let original = original.filter(|_| !addressless);
    let unclaimed = outbound.map(|outbound| outbound.unclaimed).unwrap_or_default();
    let proxy = outbound.and_then(|outbound| outbound.fallback_bytes.as_ref());
    let way = match (found, original, unclaimed) {
        (Some(rule), ..) => Way::Rule(Arc::clone(rule)),
        (None, Some(_), Unclaimed::Pass) if proxy.is_some() => {
            proxy.map_or(Way::Nowhere, |rule| Way::Rule(Arc::clone(rule)))
        }
        (None, None, _) => Way::Nowhere,
        (None, Some(original), Unclaimed::Pass) => Way::Original(original),
        (None, Some(_), Unclaimed::Refuse) => Way::Blocked,
    };
    Course { installed, way }
}

#[cfg(test)]
mod tests {
    use routing::{
        opaque::OpaqueRule,
        rule::Destinations,
        snapshot::{Outbound, Snapshot},
    };

    use super::*;

    #[test]
    fn bytes_that_no_service_claims_go_through_the_egress_proxy_where_there_is_one() {
        let original: SocketAddr = "192.0.2.1:7000".parse().unwrap();
        let way = |unclaimed, proxy: bool| {
            let to = Destinations { all: Box::default(), total: 0 };
            let through = Arc::new(OpaqueRule { source: "proxy".into(), to });
            let outbound = Outbound { unclaimed, fallback_bytes: proxy.then_some(through), ..Outbound::default() };
            let snapshot = Snapshot { outbound: Some(outbound), ..Snapshot::default() };
            course(Arc::new(Installed { snapshot, ..Installed::default() }), Some(original), "").way
        };
        assert!(matches!(way(Unclaimed::Pass, true), Way::Rule(rule) if *rule.source == *"proxy"));
        assert!(matches!(way(Unclaimed::Pass, false), Way::Original(address) if address == original));
        assert!(matches!(way(Unclaimed::Refuse, true), Way::Blocked));
    }
}
