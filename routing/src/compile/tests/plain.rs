//! The compiled table against the plain reading of the API: an interpreter of Gateways and VirtualServices that scans them
//! for every request as Istio's documentation says, with nothing prepared and nothing shared with the compiler.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::read;
use crate::{
    compile::{Proxy, compile},
    request::RequestView,
};

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
    routes: Vec<Vec<Match>>,
}

#[derive(Clone, Debug, Default)]
struct Match {
    uri: Option<(Form, &'static str)>,
    ignore_case: bool,
    method: Option<(Form, &'static str)>,
    scheme: Option<&'static str>,
    authority: Option<(Form, &'static str)>,
    header: Option<(Form, &'static str)>,
    without: Option<(Form, &'static str)>,
    query: Option<(Form, &'static str)>,
    port: Option<u16>,
    gateways: Vec<usize>,
    labels: Option<&'static str>,
    namespace: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Exact,
    Prefix,
    Regex,
    Present,
}

#[derive(Clone, Debug)]
struct Ask {
    host: &'static str,
    port: u16,
    method: &'static str,
    scheme: &'static str,
    path: &'static str,
    query: &'static str,
    header: Option<&'static str>,
}

const HOSTS: [&str; 7] = ["*", "*.test", "*.a.test", "x.a.test", "*.x.a.test", "y.x.a.test", "b.test"];
const ASKED: [&str; 8] =
    ["x.a.test", "z.a.test", "y.x.a.test", "b.test", "X.A.test:80", "a.test", "q.y.x.a.test", "no"];
const PATHS: [&str; 9] = ["/", "/a", "/A", "/a/", "/a/b", "/ab", "/a/7", "/b/12", "/B"];

/// The meaning of every expression that is generated, without an engine.
fn regex(text: &str, value: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text {
        ".*" => true,
        "/a.*" => value.starts_with("/a"),
        "/(a|b)/[0-9]+" => value.strip_prefix("/a/").or(value.strip_prefix("/b/")).is_some_and(digits),
        "GET|PUT" => matches!(value, "GET" | "PUT"),
        "v[0-9]" => value.strip_prefix('v').is_some_and(|rest| rest.len() == 1 && digits(rest)),
        ".*a\\.test" => value.ends_with("a.test"),
        other => unreachable!("{other} is not generated"),
    }
}

fn fits((form, text): (Form, &str), value: &str) -> bool {
    match form {
        Form::Exact => value == text,
        Form::Prefix => value.starts_with(text),
        Form::Regex => regex(text, value),
        Form::Present => true,
    }
}

/// One wildcard pattern or host within another, as sets of names.
pub(super) fn within(narrow: &str, wide: &str) -> bool {
    match (narrow.strip_prefix('*'), wide.strip_prefix('*')) {
        (_, Some("")) => true,
        (Some(narrow), Some(wide)) => narrow.ends_with(wide),
        (None, Some(wide)) => narrow.len() > wide.len() && narrow.ends_with(wide),
        (Some(_), None) => false,
        (None, None) => narrow == wide,
    }
}

struct Plain<'a> {
    gateways: &'a [Gateway],
    services: &'a [Service],
}

/// A route of one VirtualService for one match of it, by its name.
type Named<'a> = (String, &'a Match);

impl Plain<'_> {
    /// Name of the rule that a request follows.
    fn answer(&self, ask: &Ask) -> Option<String> {
        let host = ask.host.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let domains = self.domains(ask.port);
        let fitting = domains.iter().filter(|domain| within(&host, domain));
        // Exact before wildcards, of those the longest; a host without routes is not a reason to ask another.
        let domain = fitting.max_by_key(|domain| (!domain.starts_with('*'), domain.len()))?;
        let mut routes = self.routes(ask.port, domain);
        routes.sort_by_key(|(_, when)| is_catch_all(when));
        routes.into_iter().find(|(_, when)| holds(when, ask)).map(|(name, _)| name)
    }

    /// The domains of a port: what the hosts of a server and of a VirtualService have in common.
    fn domains(&self, port: u16) -> Vec<&'static str> {
        let mut domains = Vec::new();
        self.attached(port, |_, domain| domains.push(domain));
        domains
    }

    /// Every VirtualService that is attached to a port, with each of its domains there.
    fn attached(&self, port: u16, mut seen: impl FnMut(usize, &'static str)) {
        for (number, gateway) in self.gateways.iter().enumerate() {
            for server in gateway.servers.iter().filter(|server| server.port == port) {
                for (at, service) in self.services.iter().enumerate().filter(|(_, it)| it.gateways.contains(&number)) {
                    let mut common = Vec::new();
                    for (namespace, theirs) in &server.hosts {
                        let admitted = match *namespace {
                            "" | "*" => true,
                            "." => service.namespace == gateway.namespace,
                            other => service.namespace == other,
                        };
                        for own in service.hosts.iter().filter(|_| admitted) {
                            common.extend(if within(theirs, own) {
                                Some(*theirs)
                            } else if within(own, theirs) {
                                Some(*own)
                            } else {
                                None
                            });
                        }
                    }
                    common.sort_unstable();
                    common.dedup();
                    common.into_iter().for_each(|domain| seen(at, domain));
                }
            }
        }
    }

    /// The routes of a domain, before catch-alls go to the end: VirtualServices by age, each once, whichever servers they
    /// found.
    fn routes(&self, port: u16, wanted: &str) -> Vec<Named<'_>> {
        let mut services = Vec::new();
        self.attached(port, |at, domain| {
            if domain == wanted {
                services.push(at);
            }
        });
        services.sort_unstable();
        services.dedup();
        services.into_iter().flat_map(|at| self.routes_of(at, port)).collect()
    }

    /// The Gateways of a VirtualService that have a server on this port.
    fn bound(&self, at: usize, port: u16) -> Vec<usize> {
        let opens = |number: &usize| self.gateways[*number].servers.iter().any(|server| server.port == port);
        self.services[at].gateways.iter().copied().filter(opens).collect()
    }

    fn routes_of(&self, at: usize, port: u16) -> Vec<Named<'_>> {
        static ANY: Match = Match {
            uri: None,
            ignore_case: false,
            method: None,
            scheme: None,
            authority: None,
            header: None,
            without: None,
            query: None,
            port: None,
            gateways: Vec::new(),
            labels: None,
            namespace: None,
        };
        let mut routes = Vec::new();
        for (number, matches) in self.services[at].routes.iter().enumerate() {
            let name = format!("v{at}r{number}");
            if matches.is_empty() {
                routes.push((name, &ANY));
                return routes;
            }
            for (index, when) in
                matches.iter().enumerate().filter(|(_, when)| concerns(when, &self.bound(at, port), port))
            {
                routes.push((format!("{name}.m{index}"), when));
                if is_catch_all(when) {
                    return routes;
                }
            }
        }
        routes
    }
}

/// What does not depend on the request: gateways, else labels and namespace of the proxy; and the port.
fn concerns(when: &Match, gateways: &[usize], port: u16) -> bool {
    let here = match when.gateways.as_slice() {
        [] => when.labels.is_none_or(|value| value == "ingressgateway") && when.namespace.is_none_or(|it| it == "edge"),
        named => named.iter().any(|number| gateways.contains(number)),
    };
    here && when.port.is_none_or(|wanted| wanted == port)
}

fn is_catch_all(when: &Match) -> bool {
    let path = matches!(when.uri, None | Some((Form::Prefix, "/" | "")) | Some((Form::Regex, ".*")));
    path && when.method.is_none()
        && when.scheme.is_none()
        && when.authority.is_none()
        && when.header.is_none()
        && when.without.is_none()
        && when.query.is_none()
}

fn holds(when: &Match, ask: &Ask) -> bool {
    let path = when.uri.is_none_or(|(form, text)| match when.ignore_case && form != Form::Regex {
        true => fits((form, &text.to_ascii_lowercase()), &ask.path.to_ascii_lowercase()),
        false => fits((form, text), ask.path),
    });
    let parameter = ask.query.split('&').find_map(|pair| match pair.split_once('=') {
        Some(("q", value)) => Some(value),
        None if pair == "q" => Some(""),
        _ => None,
    });
    path && when.method.is_none_or(|wanted| fits(wanted, ask.method))
        && when.scheme.is_none_or(|wanted| wanted == ask.scheme)
        && when.authority.is_none_or(|wanted| fits(wanted, ask.host))
        && when.header.is_none_or(|wanted| ask.header.is_some_and(|value| fits(wanted, value)))
        && when.without.is_none_or(|wanted| !ask.header.is_some_and(|value| fits(wanted, value)))
        && when.query.is_none_or(|wanted| parameter.is_some_and(|value| fits(wanted, value)))
}

// The same as YAML.

fn pattern((form, text): (Form, &str)) -> Value {
    match form {
        Form::Exact => json!({"exact": text}),
        Form::Prefix => json!({"prefix": text}),
        Form::Regex => json!({"regex": text}),
        Form::Present => json!({}),
    }
}

pub(super) fn object(kind: &str, (namespace, name): (&str, String), age: usize, spec: &Value) -> String {
    let created = format!("2024-01-{:02}T00:00:00Z", age + 1);
    let meta = json!({"name": name, "namespace": namespace, "creationTimestamp": created});
    format!("---\n{}\n", json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec}))
}

impl Plain<'_> {
    fn yaml(&self) -> String {
        let gateways = self.gateways.iter().enumerate().map(|(number, gateway)| {
            let servers = gateway.servers.iter().enumerate().map(|(at, server)| {
                let hosts = server.hosts.iter().map(|(namespace, host)| match *namespace {
                    "" => (*host).to_owned(),
                    namespace => format!("{namespace}/{host}"),
                });
                let hosts: Vec<String> = hosts.collect();
                json!({"port": {"number": server.port, "name": format!("http-{at}"), "protocol": "HTTP"}, "hosts": hosts})
            });
            let spec = json!({"selector": {"istio": "ingressgateway"}, "servers": servers.collect::<Vec<_>>()});
            object("Gateway", (gateway.namespace, format!("g{number}")), number, &spec)
        });
        let services = self.services.iter().enumerate().map(|(number, service)| {
            let http = service.routes.iter().enumerate().map(|(at, matches)| {
                let mut route = json!({"name": format!("v{number}r{at}"), "directResponse": {"status": 200}});
                if !matches.is_empty() {
                    route["match"] = matches.iter().enumerate().map(|(index, when)| self.when(index, when)).collect();
                }
                route
            });
            let http: Vec<Value> = http.collect();
            let spec = json!({"hosts": service.hosts, "gateways": self.names(&service.gateways), "http": http});
            object("VirtualService", (service.namespace, format!("v{number}")), number, &spec)
        });
        gateways.chain(services).collect()
    }

    fn names(&self, numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(|number| format!("{}/g{number}", self.gateways[*number].namespace)).collect()
    }

    fn when(&self, index: usize, when: &Match) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, value: Option<Value>| value.map(|value| map.insert(name.to_owned(), value));
        put("name", Some(format!("m{index}").into()));
        put("uri", when.uri.map(pattern));
        put("ignoreUriCase", when.ignore_case.then(|| true.into()));
        put("method", when.method.map(pattern));
        put("scheme", when.scheme.map(|text| json!({"exact": text})));
        put("authority", when.authority.map(pattern));
        put("headers", when.header.map(|it| json!({"x-a": pattern(it)})));
        put("withoutHeaders", when.without.map(|it| json!({"x-a": pattern(it)})));
        put("queryParams", when.query.map(|it| json!({"q": pattern(it)})));
        put("port", when.port.map(Value::from));
        put("gateways", (!when.gateways.is_empty()).then(|| self.names(&when.gateways).into()));
        put("sourceLabels", when.labels.map(|value| json!({"istio": value})));
        put("sourceNamespace", when.namespace.map(Value::from));
        map.into()
    }
}

// What is generated.

fn values() -> impl Strategy<Value = (Form, &'static str)> {
    select(vec![(Form::Exact, "v1"), (Form::Prefix, "v"), (Form::Regex, "v[0-9]"), (Form::Present, "")])
}

fn rarely<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.15, strategy)
}

fn a_match(gateways: Vec<usize>) -> impl Strategy<Value = Match> {
    use Form::{Exact, Prefix, Regex};
    let uris = vec![
        (Exact, "/a"),
        (Exact, "/a/b"),
        (Exact, "/"),
        (Prefix, ""),
        (Prefix, "/"),
        (Prefix, "/a"),
        (Prefix, "/a/"),
        (Prefix, "/ab"),
        (Regex, ".*"),
        (Regex, "/a.*"),
        (Regex, "/(a|b)/[0-9]+"),
    ];
    let methods = vec![(Exact, "GET"), (Prefix, "P"), (Regex, "GET|PUT")];
    let authorities = vec![(Exact, "x.a.test"), (Prefix, "X.A.test:"), (Regex, ".*a\\.test")];
    let path = (prop::option::weighted(0.8, select(uris)), prop::bool::weighted(0.2));
    let line = (rarely(select(methods)), rarely(select(vec!["http", "https"])), rarely(select(authorities)));
    let fields = (rarely(values()), rarely(values()), rarely(values()));
    let one = prop::sample::subsequence(gateways, 0..=1);
    let place = (
        rarely(select(vec![80, 81])),
        prop_oneof![4 => Just(Vec::new()), 1 => one],
        rarely(select(vec!["ingressgateway", "other"])),
        rarely(select(vec!["edge", "shop"])),
    );
    (path, line, fields, place).prop_map(|(path, line, fields, place)| Match {
        uri: path.0,
        ignore_case: path.1,
        method: line.0,
        scheme: line.1,
        authority: line.2,
        header: fields.0,
        without: fields.1,
        query: fields.2,
        port: place.0,
        gateways: place.1,
        labels: place.2,
        namespace: place.3,
    })
}

fn a_gateway() -> impl Strategy<Value = Gateway> {
    let namespaces = select(vec!["", "", "", "*", ".", "shop", "edge"]);
    let host = (namespaces, select(HOSTS.to_vec()));
    let hosts = prop::collection::vec(host, 1..3).prop_map(|mut hosts| {
        hosts.sort_unstable_by_key(|(_, host)| *host);
        hosts.dedup_by_key(|(_, host)| *host);
        hosts
    });
    let server = (select(vec![80, 81]), hosts).prop_map(|(port, hosts)| Server { port, hosts });
    (select(vec!["edge", "shop"]), prop::collection::vec(server, 1..3))
        .prop_map(|(namespace, servers)| Gateway { namespace, servers })
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
        let matches = prop_oneof![1 => Just(Vec::new()), 6 => prop::collection::vec(a_match(gateways.clone()), 1..3)];
        prop::collection::vec(matches, 1..5).prop_map(move |routes| Service {
            namespace,
            hosts: hosts.clone(),
            gateways: gateways.clone(),
            routes,
        })
    })
}

fn a_configuration() -> impl Strategy<Value = (Vec<Gateway>, Vec<Service>)> {
    prop::collection::vec(a_gateway(), 1..4).prop_flat_map(|gateways| {
        let services = prop::collection::vec(a_service(gateways.len()), 1..5);
        (Just(gateways), services)
    })
}

fn an_ask() -> impl Strategy<Value = Ask> {
    let header = select(vec![None, Some("v1"), Some("v2"), Some("vx"), Some("w")]);
    let query = select(vec!["", "q", "q=v1", "p=v1&q=v2", "q=w&q=v1", "Q=v1"]);
    let line = (select(vec!["GET", "PUT", "POST", "get"]), select(vec!["http", "https"]));
    (select(ASKED.to_vec()), select(vec![80, 81]), line, select(PATHS.to_vec()), query, header).prop_map(
        |(host, port, (method, scheme), path, query, header)| Ask { host, port, method, scheme, path, query, header },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn the_compiled_table_answers_as_the_plain_reading_of_the_objects(
        (gateways, services) in a_configuration(),
        asks in prop::collection::vec(an_ask(), 1..16),
    ) {
        let plain = Plain { gateways: &gateways, services: &services };
        let yaml = plain.yaml();
        let proxy = Proxy { namespace: "edge".to_owned(), ..Proxy::default() };
        let snapshot = compile(&read(&yaml), &proxy).snapshot;
        for ask in &asks {
            let mut headers = HeaderMap::new();
            if let Some(value) = ask.header {
                headers.insert(HeaderName::from_static("x-a"), HeaderValue::from_static(value));
            }
            let request = RequestView {
                method: ask.method,
                scheme: ask.scheme,
                authority: ask.host,
                path: ask.path,
                query: ask.query,
                port: ask.port,
                headers: &headers,
                token: None,
            };
            let listener = snapshot.listeners.iter().find(|listener| listener.port == ask.port);
            let host = listener.and_then(|listener| listener.routes.host(ask.host));
            let found = host.and_then(|host| host.route(&request)).map(|rule| rule.name.to_string());
            prop_assert_eq!(found, plain.answer(ask), "{:?}\n{}", ask, yaml);
        }
    }
}
