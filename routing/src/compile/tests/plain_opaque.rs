//! The compiled tables of ports that are no HTTP against a plain reading of Gateways and VirtualServices with `tls` and `tcp`
//! routes: it scans the objects for each connection, with nothing prepared and nothing shared with the compiler.

use std::collections::HashMap;

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{
    plain::{object, within},
    read,
};
use crate::{
    compile::{Proxy, compile},
    opaque::OpaqueTable,
    snapshot::{Content, Snapshot},
};

/// Ports by what their servers are: some of plain bytes, one whose TLS is passed on.
const PLAIN: [u16; 2] = [9000, 9001];
const PASSED: u16 = 443;

const HOSTS: [&str; 6] = ["*", "*.a.test", "x.a.test", "*.x.a.test", "y.x.a.test", "b.test"];
const ASKED: [&str; 7] = ["x.a.test", "z.a.test", "y.x.a.test", "b.test", "a.test", "q.y.x.a.test", ""];

/// The oldest of those that want a port of plain bytes, or a host of the passed one, has it.
#[derive(Clone, Debug)]
struct Gateway {
    namespace: &'static str,
    servers: Vec<Server>,
}

#[derive(Clone, Debug)]
struct Server {
    port: u16,
    /// Namespace and host; an empty namespace is not written.
    hosts: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
struct Service {
    namespace: &'static str,
    hosts: Vec<&'static str>,
    /// Numbers of Gateways.
    gateways: Vec<usize>,
    tls: Vec<Vec<Match>>,
    tcp: Vec<Vec<Match>>,
}

#[derive(Clone, Debug)]
struct Match {
    /// Of a `tls` match alone.
    names: Vec<&'static str>,
    port: Option<u16>,
    gateways: Vec<usize>,
}

/// A server as it is served, with what is left of its hosts.
struct Served<'a> {
    gateway: usize,
    hosts: Vec<&'a (&'static str, &'static str)>,
}

struct Plain<'a> {
    gateways: &'a [Gateway],
    services: &'a [Service],
}

impl Plain<'_> {
    /// The cluster that a connection to a port goes to, which is called as its route.
    fn answer(&self, port: u16, name: &str) -> Option<String> {
        if port == PASSED { self.passed(name) } else { self.bytes(port) }
    }

    /// The first `tcp` route that holds of the first VirtualService that attaches to the only server.
    fn bytes(&self, port: u16) -> Option<String> {
        let served = self.served(port);
        let only = served.first()?;
        self.services.iter().enumerate().find_map(|(at, service)| {
            let attaches = service.gateways.contains(&only.gateway)
                && service.hosts.iter().any(|host| !self.common(&[only], host, service.namespace).is_empty());
            let mut routes = service.tcp.iter().enumerate().filter(|_| attaches);
            let (index, _) = routes.find(|(_, matches)| {
                matches.is_empty() || matches.iter().any(|when| concerns(when, only.gateway, port))
            })?;
            Some(format!("v{at}tcp{index}.test"))
        })
    }

    /// Of all names in all matches, cut to the hosts of the servers, the most specific that holds; of equal ones the first.
    fn passed(&self, asked: &str) -> Option<String> {
        let served = self.served(PASSED);
        let mut best: Option<((bool, usize), String)> = None;
        for (at, service) in self.services.iter().enumerate() {
            for &gateway in &service.gateways {
                let own: Vec<&Served<'_>> = served.iter().filter(|server| server.gateway == gateway).collect();
                for (index, matches) in service.tls.iter().enumerate() {
                    let holding = matches.iter().filter(|when| concerns(when, gateway, PASSED));
                    for name in holding.flat_map(|when| &when.names) {
                        for domain in self.common(&own, name, service.namespace) {
                            let rank = (!domain.starts_with('*'), domain.len());
                            if within(asked, domain) && best.as_ref().is_none_or(|(known, _)| rank > *known) {
                                best = Some((rank, format!("v{at}tls{index}.test")));
                            }
                        }
                    }
                }
            }
        }
        best.map(|(_, cluster)| cluster)
    }

    fn served(&self, port: u16) -> Vec<Served<'_>> {
        let mut taken: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut all = Vec::new();
        for (gateway, it) in self.gateways.iter().enumerate() {
            for (at, server) in it.servers.iter().enumerate().filter(|(_, server)| server.port == port) {
                let mut hosts = Vec::new();
                for host in &server.hosts {
                    if *taken.entry(host.1).or_insert((gateway, at)) == (gateway, at) {
                        hosts.push(host);
                    }
                }
                if !hosts.is_empty() {
                    all.push(Served { gateway, hosts });
                }
            }
        }
        if port != PASSED {
            all.truncate(1);
        }
        all
    }

    /// What a host of a VirtualService has in common with the hosts of servers of one Gateway: the narrower of each two.
    fn common<'h>(&self, servers: &[&Served<'h>], own: &'h str, namespace: &str) -> Vec<&'h str> {
        let mut common = Vec::new();
        for served in servers {
            for (admitted, host) in &served.hosts {
                let admits = match *admitted {
                    "" | "*" => true,
                    "." => namespace == self.gateways[served.gateway].namespace,
                    other => namespace == other,
                };
                if admits && within(own, host) {
                    common.push(own);
                } else if admits && within(host, own) {
                    common.push(*host);
                }
            }
        }
        common
    }

    fn yaml(&self) -> String {
        let gateways = self.gateways.iter().enumerate().map(|(number, gateway)| {
            let servers = gateway.servers.iter().enumerate().map(|(at, server)| {
                let hosts = server.hosts.iter().map(|(namespace, host)| match *namespace {
                    "" => (*host).to_owned(),
                    namespace => format!("{namespace}/{host}"),
                });
                let hosts: Vec<String> = hosts.collect();
                let protocol = if server.port == PASSED { "TLS" } else { "TCP" };
                let mut one = json!({"port": {"number": server.port, "name": format!("p{at}"), "protocol": protocol}, "hosts": hosts});
                if server.port == PASSED {
                    one["tls"] = json!({"mode": "PASSTHROUGH"});
                }
                one
            });
            let spec = json!({"selector": {"istio": "ingressgateway"}, "servers": servers.collect::<Vec<_>>()});
            object("Gateway", (gateway.namespace, format!("g{number}")), number, &spec)
        });
        let services = self.services.iter().enumerate().map(|(number, service)| {
            let routes = |kind: &str, all: &[Vec<Match>]| -> Vec<Value> {
                let routes = all.iter().enumerate().map(|(at, matches)| {
                    let to = json!({"host": format!("v{number}{kind}{at}.test"), "port": {"number": 1}});
                    let mut route = json!({"route": [{"destination": to}]});
                    if !matches.is_empty() {
                        route["match"] = matches.iter().map(|when| self.when(when)).collect();
                    }
                    route
                });
                routes.collect()
            };
            let spec = json!({
                "hosts": service.hosts, "gateways": self.names(&service.gateways),
                "tls": routes("tls", &service.tls), "tcp": routes("tcp", &service.tcp),
            });
            object("VirtualService", (service.namespace, format!("v{number}")), number, &spec)
        });
        gateways.chain(services).collect()
    }

    fn names(&self, numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(|number| format!("{}/g{number}", self.gateways[*number].namespace)).collect()
    }

    fn when(&self, when: &Match) -> Value {
        let mut value = json!({});
        if !when.names.is_empty() {
            value["sniHosts"] = json!(when.names);
        }
        if let Some(port) = when.port {
            value["port"] = port.into();
        }
        if !when.gateways.is_empty() {
            value["gateways"] = self.names(&when.gateways).into();
        }
        value
    }
}

fn concerns(when: &Match, gateway: usize, port: u16) -> bool {
    when.port.is_none_or(|wanted| wanted == port) && (when.gateways.is_empty() || when.gateways.contains(&gateway))
}

/// Where the compiled configuration leads a connection.
fn compiled(snapshot: &Snapshot, port: u16, name: &str) -> Option<String> {
    let listener = snapshot.listeners.iter().find(|listener| listener.port == port)?;
    let passed: Option<&OpaqueTable> = listener.tls.as_ref().and_then(|tls| match &tls.servers.first()?.content {
        Content::Passed(table) => Some(&**table),
        Content::Http | Content::Bytes(_) | Content::Mesh(_) => None,
    });
    let rule = match &listener.bytes {
        Some(table) => table.first()?,
        None => &passed?.find(None, name)?.rule,
    };
    let cluster = &rule.to.all.first()?.cluster_name;
    cluster.rsplit('|').next().map(str::to_owned)
}

// What is generated.

fn a_gateway() -> impl Strategy<Value = Gateway> {
    let host = (select(vec!["", "", "", "*", ".", "shop", "edge"]), select(HOSTS.to_vec()));
    let hosts = prop::collection::vec(host, 1..4).prop_map(|mut hosts| {
        hosts.sort_unstable_by_key(|(_, host)| *host);
        hosts.dedup_by_key(|(_, host)| *host);
        hosts
    });
    let port = select(vec![PASSED, PASSED, PLAIN[0], PLAIN[1]]);
    let server = (port, hosts).prop_map(|(port, hosts)| Server { port, hosts });
    (select(vec!["edge", "shop"]), prop::collection::vec(server, 1..4))
        .prop_map(|(namespace, servers)| Gateway { namespace, servers })
}

fn a_match(gateways: Vec<usize>, names: Vec<&'static str>) -> impl Strategy<Value = Match> {
    let least = usize::from(!names.is_empty());
    let most = names.len().min(2);
    let names = prop::sample::subsequence(names, least..=most);
    let port = prop::option::weighted(0.3, select(vec![PASSED, PLAIN[0], PLAIN[1]]));
    let gateways = prop_oneof![3 => Just(Vec::new()), 1 => prop::sample::subsequence(gateways, 0..=1)];
    (names, port, gateways).prop_map(|(names, port, gateways)| Match { names, port, gateways })
}

fn a_service(gateways: usize) -> impl Strategy<Value = Service> {
    // Hosts of one VirtualService that hold each other are refused.
    let hosts = prop::sample::subsequence(HOSTS.to_vec(), 1..3).prop_map(|mut hosts| {
        if let [one, other] = hosts.as_slice()
            && (within(one, other) || within(other, one))
        {
            hosts.pop();
        }
        hosts
    });
    let bound = prop::sample::subsequence((0..gateways).collect::<Vec<_>>(), 1..=gateways);
    (select(vec!["edge", "shop"]), hosts, bound).prop_flat_map(|(namespace, hosts, gateways)| {
        // A name that no host holds is refused.
        let held = |name: &&str| hosts.iter().any(|host| within(name, host));
        let asked = ASKED.into_iter().filter(|name| !name.is_empty());
        let mut names: Vec<&str> = HOSTS.into_iter().chain(asked).filter(held).collect();
        names.sort_unstable();
        names.dedup();
        let tls = prop::collection::vec(a_match(gateways.clone(), names), 1..3);
        let one = prop::collection::vec(a_match(gateways.clone(), Vec::new()), 1..3);
        let tcp = prop_oneof![1 => Just(Vec::new()), 3 => one];
        (prop::collection::vec(tls, 0..4), prop::collection::vec(tcp, 1..4)).prop_map(move |(tls, tcp)| Service {
            namespace,
            hosts: hosts.clone(),
            gateways: gateways.clone(),
            tls,
            tcp,
        })
    })
}

fn a_configuration() -> impl Strategy<Value = (Vec<Gateway>, Vec<Service>)> {
    prop::collection::vec(a_gateway(), 1..4).prop_flat_map(|gateways| {
        let services = prop::collection::vec(a_service(gateways.len()), 1..5);
        (Just(gateways), services)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn the_compiled_tables_lead_connections_as_the_plain_reading_of_the_objects((gateways, services) in a_configuration()) {
        let plain = Plain { gateways: &gateways, services: &services };
        let yaml = plain.yaml();
        let resources = read(&yaml);
        let read = (resources.gateways.iter().count(), resources.virtual_services.iter().count());
        prop_assert_eq!(read, (gateways.len(), services.len()), "none is refused\n{}", yaml);
        let proxy = Proxy { namespace: "edge".to_owned(), ..Proxy::default() };
        let snapshot = compile(&resources, &proxy).snapshot;
        for port in [PASSED, PLAIN[0], PLAIN[1]] {
            for name in ASKED {
                let found = compiled(&snapshot, port, name);
                prop_assert_eq!(found, plain.answer(port, name), "{} {:?}\n{}", port, name, yaml);
            }
        }
    }
}
