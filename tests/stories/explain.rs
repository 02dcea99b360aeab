//! What `/explain` says would happen is what happens: a table of questions, each asked of the proxy, and then played at it.

mod rows;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use harness::{
    client::Client,
    eventually::eventually,
    gateway::Proxy,
    listening::Listening,
    mesh::Mesh,
    pki::{authority, spiffe},
    raw::Raw,
    tls_peer::TlsClient,
    workload::Workload,
    yaml,
};
use serde_json::{Value, json};
use tls::authority::{Authority, Issued};

use self::rows::{AT_GATEWAY, AT_SIDECAR};
use crate::{
    log_lines::config_map,
    opaque::{counting, entry},
};

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Who {
    Nobody,
    /// With a certificate for `client.example` of a CA that one server trusts.
    Partner,
    /// A workload of the mesh, `shop/caller`.
    Caller,
    /// The same account of another mesh, by the same CA.
    Foreign,
}

impl Who {
    fn name(self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Partner => "client.example".to_owned(),
            Self::Caller => spiffe("shop", "caller"),
            Self::Foreign => "spiffe://other.domain/ns/shop/sa/caller".to_owned(),
        }
    }
}

/// One question, and what has to come of it: `forwarded SERVICE`, `redirected STATUS LOCATION`, `answered STATUS`,
/// `refused STATUS [POLICY]`, `closed`.
type Row = (&'static str, u16, Who, &'static str, &'static str);

/// `[METHOD] HOST TARGET [HEADER=VALUE...]`
struct Asked {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    /// Words in which `_` stands for a space, and `-` for nothing.
    fn of(text: &str) -> Self {
        let mut words = text.split(' ').map(|word| word.replace('_', " "));
        let mut next = || words.next().expect("a row has a method, a host and a target");
        let (method, host, target) = (next(), next(), next());
        let headers = words.filter_map(|word| word.split_once('=').map(|(name, value)| (name.into(), value.into())));
        Self { method, host: if host == "-" { String::new() } else { host }, target, headers: headers.collect() }
    }

    fn query(&self, (side, port, who): (&str, u16, Who)) -> String {
        let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let headers: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("&header={}", escaped(&format!("{name}: {value}"))))
            .collect();
        format!(
            "/explain?side={side}&port={port}&method={}&host={}&path={}&peer={}{headers}",
            self.method,
            escaped(&self.host),
            escaped(&self.target),
            escaped(&who.name())
        )
    }

    fn bytes(&self, row: usize) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nx-row: {row}\r\n{headers}Connection: close\r\n\r\n",
            self.method, self.target, self.host
        )
    }
}

/// What an explanation comes to, in the words of a row.
fn told(explanation: &Value, side: &str) -> String {
    let text = |name: &str| explanation[name].as_str().unwrap_or_default();
    let last = |list: &Value| list.as_array().and_then(|all| all.last().cloned()).unwrap_or_default();
    match text("outcome") {
        "forwarded" if side == "inbound" => "forwarded".to_owned(),
        "forwarded" => {
            let cluster = explanation["destinations"][0]["cluster"].as_str().unwrap_or_default();
            let host = cluster.rsplit('|').next().unwrap_or_default();
            format!("forwarded {}", host.split('.').next().unwrap_or_default())
        }
        "redirected" => format!("redirected {} {}", explanation["status"], text("location")),
        "answered" => format!("answered {}", explanation["status"]),
        "refused" => {
            let step = last(&explanation["steps"]);
            let policy = if step["stage"] == "policy" { step["source"].as_str().unwrap_or_default() } else { "" };
            format!("refused {} {policy}", explanation["status"]).trim_end().to_owned()
        }
        other => other.to_owned(),
    }
}

/// What the log has of a row: response code details.
async fn details(proxy: &Proxy, row: usize) -> String {
    let mark = format!("row={row} ");
    let line = || proxy.access_log().lines().find(|line| line.starts_with(&mark)).map(str::to_owned);
    eventually(&format!("row {row} is in the log"), async || line().is_some()).await;
    line().expect("it was there").trim_start_matches(&mark).to_owned()
}

/// `ns[shop]-policy[one]-rule[0]` as `shop/one`.
fn policy(details: &str) -> String {
    let part = |name: &str| details.split_once(name).and_then(|(_, rest)| rest.split_once(']')).map(|(part, _)| part);
    match (part("[ns["), part("-policy[")) {
        (Some(namespace), Some(policy)) => format!("{namespace}/{policy}"),
        _ => String::new(),
    }
}

/// What really became of a request, in the words of a row.
async fn became(proxy: &Proxy, (row, side): (usize, &str), heard: &str) -> String {
    // The service that was reached says its name; that of bytes says nothing else.
    let service = heard.split_once("\"service\": \"").and_then(|(_, rest)| rest.split('"').next());
    let service = service.or_else(|| heard.strip_prefix("bytes of "));
    match (service, heard.split(' ').nth(1)) {
        (Some(_), _) if side == "inbound" => "forwarded".to_owned(),
        (Some(service), _) => format!("forwarded {}", service.trim_end().split(['\n', ' ']).next().unwrap_or_default()),
        (None, None) => "closed".to_owned(),
        (None, Some(status)) => {
            let details = details(proxy, row).await;
            let location = heard.lines().find_map(|line| line.strip_prefix("location: "));
            match (&*details, location) {
                (_, Some(location)) => format!("redirected {status} {location}"),
                ("direct_response", None) if status == "502" => format!("refused {status}"),
                ("direct_response" | "cors_response" | "fault_filter_abort", None) => format!("answered {status}"),
                _ => format!("refused {status} {}", policy(&details)).trim_end().to_owned(),
            }
        }
    }
}

/// Everything that rows are played at.
struct Stand {
    mesh: Mesh,
    partners: Authority,
}

impl Stand {
    fn certificate(&self, who: Who) -> Option<Issued> {
        match who {
            Who::Nobody => None,
            Who::Partner => Some(self.partners.issue_client("partner", &["client.example"]).expect("a certificate")),
            Who::Caller | Who::Foreign => Some(self.mesh.pki.workload(&who.name())),
        }
    }

    /// TLS of a client outside, or of the mesh.
    fn tls(&self, who: Who, side: &str, port: u16) -> Option<TlsClient> {
        let identity = self.certificate(who);
        match (side, port, who) {
            ("gateway", 443 | 9443 | 9445, _) => {
                let root = self.mesh.pki.edge.root_pem();
                Some(TlsClient::with(root, identity.as_ref(), &[&rustls::version::TLS13]).offering(&["http/1.1"]))
            }
            ("gateway", 9444, _) => {
                let root = self.mesh.pki.mesh.root_pem();
                let tls = TlsClient::with(root, identity.as_ref(), &[&rustls::version::TLS13]);
                Some(tls.for_any_name(root).offering(&["http/1.1"]))
            }
            ("inbound", _, Who::Caller | Who::Foreign) => {
                let tls = TlsClient::for_mesh(self.mesh.pki.mesh.root_pem(), identity.as_ref());
                Some(tls.offering(&["istio-http/1.1", "istio", "http/1.1"]))
            }
            _ => None,
        }
    }

    /// Plays a row; what was heard, empty = nothing.
    async fn play(&self, to: SocketAddr, (side, port, who): (&str, u16, Who), (asked, row): (&Asked, usize)) -> String {
        let client = match self.tls(who, side, port) {
            Some(tls) => Client::over(to, tls),
            None => Client::plain(to),
        };
        let name = asked.host.split(':').next().unwrap_or_default();
        let Ok(stream) = client.dial(if name.is_empty() { "shop.example.com" } else { name }).await else {
            return String::new();
        };
        let mut raw = Raw::over(stream);
        // Whoever is cut off hears nothing, which is what counts.
        raw.send(asked.bytes(row)).await.ok();
        raw.hear(Duration::from_secs(2)).await.text
    }

    /// Asks a proxy each question of a table, plays each at it, and compares both with what the table says.
    async fn compare(&self, proxy: &Proxy, rows: &[Row], address: impl Fn(&str, u16) -> SocketAddr) {
        let mut wrong = Vec::new();
        for (number, (side, port, who, question, wanted)) in rows.iter().enumerate() {
            let asked = Asked::of(question);
            let explanation = proxy.admin_json(&asked.query((side, *port, *who))).await;
            let heard = self.play(address(side, *port), (side, *port, *who), (&asked, number)).await;
            let (told, became) = (told(&explanation, side), became(proxy, (number, side), &heard).await);
            if told != *wanted || became != *wanted {
                wrong.push(format!(
                    "{side} {port} {who:?} {question}\n  wanted: {wanted}\n  told:   {told}: {}\n  became: {became}",
                    explanation["answer"]
                ));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    }
}

const FORMAT: &str = "accessLogFormat: |\n  row=%REQ(X-ROW)% %RESPONSE_CODE_DETAILS%";

fn policies(namespace: &str, all: &[(&str, &str)]) -> String {
    let one = |(name, spec): &(&str, &str)| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{{spec}}}\n"
        )
    };
    all.iter().map(one).collect()
}

const ROUTES: &str = r#"
- match: [{uri: {prefix: /gone}}]
  directResponse: {status: 410, body: {string: gone}}
- match: [{uri: {prefix: /old}}]
  redirect: {uri: /new, redirectCode: 308}
- match: [{uri: {prefix: /secure}}]
  redirect: {scheme: https}
- match: [{uri: {prefix: /teapot}}]
  fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
  route: [{destination: {host: reviews, port: {number: 8080}}}]
- match: [{uri: {prefix: /never}}]
  fault: {abort: {httpStatus: 418, percentage: {value: 0}}}
  route: [{destination: {host: reviews, port: {number: 8080}}}]
- match: [{uri: {prefix: /pages}}]
  corsPolicy: {allowOrigins: [{exact: "https://a.example"}], allowMethods: [GET], unmatchedPreflights: IGNORE}
  route: [{destination: {host: reviews, port: {number: 8080}}}]
- match: [{uri: {prefix: /nobody}}]
  route: [{destination: {host: empty, port: {number: 8080}}}]
- match: [{uri: {prefix: /nowhere}}]
  route: [{destination: {host: nowhere.test}}]
- match: [{uri: {prefix: /api/}, method: {exact: POST}, headers: {x-user: {exact: bob}}}]
  rewrite: {uri: /}
  route: [{destination: {host: reviews, port: {number: 8080}}}]
- match: [{uri: {prefix: /web}}, {uri: {prefix: /admin}}, {uri: {prefix: /own}}]
  route: [{destination: {host: reviews, port: {number: 8080}}}]
"#;

/// The gateway that the table is about; 443 and 80 are bound as 8443 and 8080.
fn doors(mesh: &Mesh, partners: &Authority) {
    let issued = mesh.pki.server(&["*.example.com"]);
    let partner = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "partner", "namespace": "istio-system"},
        "stringData": {"tls.crt": issued.chain_pem, "tls.key": issued.key_pem, "ca.crt": partners.root_pem()},
    });
    mesh.write("partner.yaml", &partner.to_string());
    mesh.write("edge-cert.yaml", &mesh.edge_secret(&["*.example.com"]));
    let hosts = "hosts: ['*.example.com']";
    let tls =
        |number: u16, mode: &str| format!("{{port: {{number: {number}, name: s{number}, protocol: HTTPS}}, {mode}");
    let servers = [
        format!("{{port: {{number: 80, name: http, protocol: HTTP}}, {hosts}}}"),
        format!("{{port: {{number: 8081, name: old, protocol: HTTP}}, {hosts}, tls: {{httpsRedirect: true}}}}"),
        tls(443, &format!("{hosts}, tls: {{mode: SIMPLE, credentialName: edge-cert}}}}")),
        tls(
            9443,
            "hosts: [partner.example.com], tls: {mode: MUTUAL, credentialName: partner, subjectAltNames: [client.example]}}",
        ),
        tls(9444, "hosts: [mesh.example.com], tls: {mode: ISTIO_MUTUAL}}"),
        "{port: {number: 9445, name: pass, protocol: TLS}, hosts: [passed.example.com], tls: {mode: PASSTHROUGH}}"
            .into(),
        "{port: {number: 3306, name: tcp, protocol: TCP}, hosts: ['*']}".into(),
        "{port: {number: 3307, name: tcp-denied, protocol: TCP}, hosts: ['*']}".into(),
    ];
    let servers: String = servers.iter().map(|server| format!("  - {server}\n")).collect();
    mesh.write(
        "edge.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: istio-system}}\n\
             spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
        ),
    );
    mesh.write("routes.yaml", &yaml::virtual_service("routes", "*.example.com", ROUTES));
    mesh.write(
        "bytes-routes.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bytes, namespace: shop}\n\
         spec:\n  hosts: ['*']\n  gateways: [istio-system/edge]\n  \
         tcp: [{route: [{destination: {host: db.test, port: {number: 3306}}}]}]\n  \
         tls: [{match: [{sniHosts: [passed.example.com]}], route: [{destination: {host: db.test, port: {number: 3306}}}]}]\n",
    );
    mesh.write("policies.yaml", &denials());
}

/// What the gateway's policies deny.
fn denials() -> String {
    policies(
        "istio-system",
        &[
            ("no-admin", "action: DENY, rules: [{to: [{operation: {paths: [/admin*], ports: ['8080']}}]}]"),
            (
                "own",
                "action: DENY, rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/caller]}}], \
                     to: [{operation: {paths: [/own], ports: ['8080', '8443', '9444']}}]}]",
            ),
            ("outside", "action: DENY, rules: [{from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]}]"),
            ("bytes", "action: DENY, rules: [{to: [{operation: {ports: ['3307'], methods: [GET]}}]}]"),
            (
                "passed",
                "action: DENY, rules: [{to: [{operation: {ports: ['9445']}}], \
                     when: [{key: connection.sni, values: [passed.example.com]}]}]",
            ),
        ],
    )
}

#[tokio::test]
async fn a_gateway_does_what_it_says_that_it_would_do() {
    let stand = Stand { mesh: Mesh::new(), partners: authority("partners") };
    let mesh = &stand.mesh;
    let services =
        yaml::service("shop", "reviews", &[(8080, "http")]) + &yaml::service("shop", "empty", &[(8080, "http")]);
    let at = mesh.block.at(200, 3306);
    mesh.write("services.yaml", &(services + &entry("db", 3306, &[at])));
    mesh.write("mesh.yaml", &config_map(FORMAT));
    doors(mesh, &stand.partners);
    let _db = named(at).await;
    let _reviews = mesh.workload("reviews").start().await;
    let gateway = mesh.gateway().await;

    let bound = BTreeMap::from([(80, 8080), (443, 8443)]);
    stand.compare(&gateway, &AT_GATEWAY, |_, port| mesh.block.at(1, bound.get(&port).copied().unwrap_or(port))).await;
}

/// A service of bytes that says its name.
async fn named(at: SocketAddr) -> Listening {
    counting(at, "bytes of db\n").await
}

/// A workload with ports of every kind, and what it may send.
async fn reviews(mesh: &Mesh) -> Workload {
    let ports = [(8080, "http"), (8081, "http-strict"), (8082, "http-off"), (8083, "tcp-denied"), (8084, "tcp")];
    let services = yaml::service("shop", "reviews", &ports) + &yaml::service("shop", "ratings", &[(8080, "http")]);
    mesh.write("services.yaml", &(services + &entry("db", 3306, &[mesh.block.at(200, 3306)])));
    mesh.write(
        "peers.yaml",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: reviews, namespace: shop}\n\
         spec:\n  selector: {matchLabels: {app: reviews}}\n  mtls: {mode: PERMISSIVE}\n  \
         portLevelMtls: {8081: {mode: STRICT}, 8082: {mode: DISABLE}}\n",
    );
    mesh.write(
        "policies.yaml",
        &policies(
            "shop",
            &[
                (
                    "own",
                    "selector: {matchLabels: {app: reviews}}, action: DENY, rules: [{from: [{source: {notPrincipals: \
                     [cluster.local/ns/shop/sa/caller]}}], to: [{operation: {paths: [/own], ports: ['8080']}}]}]",
                ),
                (
                    "outside",
                    "selector: {matchLabels: {app: reviews}}, action: DENY, \
                     rules: [{from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]}]",
                ),
                (
                    "bytes",
                    "selector: {matchLabels: {app: reviews}}, action: DENY, \
                     rules: [{to: [{operation: {ports: ['8083'], methods: [GET]}}]}]",
                ),
            ],
        ),
    );
    mesh.write(
        "ratings.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ratings, namespace: shop}\n\
         spec:\n  hosts: [ratings]\n  http:\n  \
         - match: [{uri: {prefix: /teapot}}]\n    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}\n    \
         route: [{destination: {host: ratings}}]\n  \
         - route: [{destination: {host: ratings}}]\n",
    );
    mesh.workload("reviews").ports(&[8080, 8081, 8082, 8083, 8084]).sidecar().start().await
}

#[tokio::test]
async fn a_sidecar_does_what_it_says_that_it_would_do() {
    let stand = Stand { mesh: Mesh::new(), partners: authority("partners") };
    let mesh = &stand.mesh;
    mesh.write("mesh.yaml", &config_map(FORMAT));
    let _db = named(mesh.block.at(200, 3306)).await;
    let _ratings = mesh.workload("ratings").start().await;
    let reviews = reviews(mesh).await;
    let own = reviews.address.ip();
    mesh.write(
        "sidecar.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: reviews, namespace: shop}}\n\
             spec:\n  workloadSelector: {{labels: {{app: reviews}}}}\n  outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\n  egress:\n  \
             - {{port: {{number: 3306, name: tcp, protocol: TCP}}, bind: {own}, hosts: ['./db.test']}}\n  \
             - {{hosts: ['*/*']}}\n"
        ),
    );
    let door = SocketAddr::new(own, 3306);
    eventually("the sidecar listens for it", async || tokio::net::TcpStream::connect(door).await.is_ok()).await;

    stand
        .compare(reviews.proxy(), &AT_SIDECAR, |side, port| match (side, port) {
            ("outbound", 3306) => door,
            ("outbound", _) => reviews.outbound(),
            _ => SocketAddr::new(own, port),
        })
        .await;

    // TLS where PeerAuthentication says DISABLE is the application's, who gets it unread.
    let asked = Asked::of("GET reviews /");
    let explanation = reviews.proxy().admin_json(&asked.query(("inbound", 8082, Who::Caller))).await;
    assert_eq!(explanation["outcome"], "forwarded", "{explanation:#}");
    assert!(explanation["answer"].as_str().is_some_and(|text| text.contains("its bytes unread")), "{explanation:#}");
    let labels = [("reporter", "destination"), ("connection_security_policy", "none")];
    let opened = async || reviews.proxy().metrics().await.sum("istio_tcp_connections_opened_total", &labels);
    let before = opened().await;
    stand.play(SocketAddr::new(own, 8082), ("inbound", 8082, Who::Caller), (&asked, 0)).await;
    eventually("the application has got it", async || opened().await > before).await;
}
