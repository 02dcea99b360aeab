//! Which door takes a request, what is known of its client behind it, and where bytes go.

use http::{HeaderMap, HeaderValue};

use super::*;

/// A gateway with every kind of door.
const DOORS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: doors, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.org]}
  - {port: {number: 81, name: old, protocol: HTTP}, hosts: [shop.example.org], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: simple, protocol: HTTPS}, hosts: [shop.example.org], tls: {mode: SIMPLE, credentialName: cert}}
  - {port: {number: 444, name: mutual, protocol: HTTPS}, hosts: [shop.example.org], tls: {mode: MUTUAL, credentialName: cert, subjectAltNames: [client.example]}}
  - {port: {number: 445, name: mesh, protocol: HTTPS}, hosts: [shop.example.org], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 446, name: pass, protocol: TLS}, hosts: [shop.example.org], tls: {mode: PASSTHROUGH}}
  - {port: {number: 3306, name: tcp, protocol: TCP}, hosts: ['*']}
  - {port: {number: 90, name: bound, protocol: HTTP}, bind: 127.0.0.7, hosts: [shop.example.org]}
---
{apiVersion: v1, kind: Secret, metadata: {name: cert, namespace: istio-system}, stringData: {tls.crt: a, tls.key: b, ca.crt: c}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec: {hosts: [db.test], addresses: [10.9.0.1], resolution: STATIC, ports: [{number: 3306, name: tcp, protocol: TCP}], endpoints: [{address: 10.0.0.3}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: shop}
spec: {hosts: [other.test], addresses: [10.9.0.2], resolution: STATIC, ports: [{number: 3306, name: tcp, protocol: TCP}], endpoints: [{address: 10.0.0.4}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.org]
  gateways: [istio-system/doors]
  http: [{directResponse: {status: 204}}]
  tls: [{match: [{port: 446, sniHosts: [shop.example.org]}], route: [{destination: {host: db.test}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec:
  hosts: ['*']
  gateways: [istio-system/doors]
  tcp: [{match: [{port: 3306}], route: [{destination: {host: db.test}}]}]
";

fn policy(spec: &str) -> String {
    format!(
        "{DOORS}---\n{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: one, namespace: \
         istio-system}}, spec: {{{spec}}}}}\n"
    )
}

fn at(port: u16, peer: &str) -> Question {
    Question { port, peer: peer.to_owned(), ..edge("/") }
}

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

#[test]
fn a_server_takes_the_clients_that_it_asks_for() {
    for (port, peer, outcome, what) in [
        (443, "", Outcome::Answered, "answers 204"),
        (444, "", Outcome::Closed, "asks for a client's certificate (MUTUAL)"),
        (444, "client.example", Outcome::Answered, "answers 204"),
        (444, WEB, Outcome::Closed, "takes certificates of client.example alone"),
        (445, "", Outcome::Closed, "ISTIO_MUTUAL"),
        (445, "client.example", Outcome::Closed, "takes identities of the mesh"),
        (445, WEB, Outcome::Answered, "answers 204"),
        (447, "", Outcome::Closed, "nothing listens on port 447"),
    ] {
        let told = asked(DOORS, &gateway(), &at(port, peer));
        assert_eq!(told.outcome, outcome, "{port} {peer}: {told:#?}");
        assert!(told.answer.contains(what), "{port} {peer}: {}", told.answer);
    }
}

#[test]
fn nobody_proves_an_identity_where_nobody_asks_for_one() {
    let only = policy("action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]");
    for (port, outcome) in [
        (80, Outcome::Refused),
        (443, Outcome::Refused),
        (445, Outcome::Answered),
        // Bytes have policies, too.
        (446, Outcome::Closed),
        (3306, Outcome::Closed),
    ] {
        let told = asked(&only, &gateway(), &at(port, WEB));
        assert_eq!(told.outcome, outcome, "{port}: {told:#?}");
    }
    let told = asked(DOORS, &gateway(), &at(443, WEB));
    assert!(told.steps.iter().any(|step| step.text.contains("peer= proves nothing here")), "{told:#?}");
}

#[test]
fn policies_judge_bytes_by_what_is_known_of_bytes() {
    // Methods are not known of bytes, and what denies does not let them pass for that.
    let deny = policy("action: DENY, rules: [{to: [{operation: {ports: ['3306'], methods: [GET]}}]}]");
    let told = asked(&deny, &gateway(), &Question { method: "POST".to_owned(), ..at(3306, "") });
    assert_eq!((told.outcome, told.status), (Outcome::Closed, None), "{told:#?}");
    assert_eq!(told.steps.last().unwrap().source, "istio-system/one");
    let told = asked(DOORS, &gateway(), &at(3306, ""));
    assert_eq!(told.destinations[0].cluster, "outbound|3306||db.test", "{told:#?}");
}

#[test]
fn policies_see_the_port_that_is_bound_and_listeners_have_addresses() {
    let deny = policy("action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]");
    let snapshot = compile(&Resources::read([("shop.yaml", deny.as_str())]).0, &gateway()).snapshot;
    let told = |port_map: &[(u16, u16)], question: &Question| {
        explain(&snapshot, &BTreeMap::from_iter(port_map.iter().copied()), question)
    };
    assert_eq!(told(&[], &at(80, "")).outcome, Outcome::Answered);
    assert_eq!(told(&[(80, 8080)], &at(80, "")).status, Some(403));

    let redirected = |host: &str| {
        let question = Question { host: host.to_owned(), ..at(81, "") };
        told(&[(81, 8081), (443, 8443)], &question).location.unwrap()
    };
    assert_eq!(redirected("shop.example.org"), "https://shop.example.org/");
    assert_eq!(redirected("shop.example.org:8081"), "https://shop.example.org:8443/");
    assert_eq!(redirected("shop.example.org:9"), "https://shop.example.org:9/");

    let bound = |address: &str| told(&[], &Question { address: address.parse().ok(), ..at(90, "") });
    assert_eq!(bound("127.0.0.7").outcome, Outcome::Answered);
    assert_eq!(bound("").outcome, Outcome::Answered);
    let elsewhere = bound("127.0.0.8");
    assert!(elsewhere.answer.contains("port 90 is taken at 127.0.0.7 only"), "{}", elsewhere.answer);
}

#[test]
fn what_is_no_host_is_refused() {
    for host in ["", "a b", "shop.example.org:0", "shop.example.org:99999", "[::1"] {
        let told = asked(DOORS, &gateway(), &Question { host: host.to_owned(), ..at(80, "") });
        assert_eq!((told.outcome, told.status), (Outcome::Refused, Some(400)), "{host}: {told:#?}");
    }
    let told = asked(DOORS, &gateway(), &Question { method: "CONNECT".to_owned(), ..at(80, "") });
    assert_eq!(told.status, Some(405), "{told:#?}");
}

#[test]
fn who_the_client_is_is_what_those_say_who_are_believed() {
    let deny = policy("action: DENY, rules: [{from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]}]");
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1, 203.0.113.9"));
    let question = Question { headers, ..at(80, "") };
    assert_eq!(asked(&deny, &gateway(), &question).outcome, Outcome::Answered, "nobody is believed");

    let mut behind = compile(&Resources::read([("shop.yaml", deny.as_str())]).0, &gateway()).snapshot;
    behind.topology.trusted_proxies = 1;
    assert_eq!(explain(&behind, &BTreeMap::new(), &question).status, Some(403));

    let inbound = Question { side: Side::Inbound, port: 8080, host: "web".to_owned(), ..question };
    let at_sidecar = format!("{SHOP}{}", deny.replace(DOORS, "").replace("istio-system", "shop"));
    assert_eq!(asked(&at_sidecar, &sidecar(), &inbound).status, Some(403), "a gateway has said it");
}

#[test]
fn bytes_leave_a_sidecar_for_the_service_that_has_the_address_or_the_name() {
    let yaml = format!("{SHOP}---\n{DOORS}");
    let asked = |host: &str, address: &str| {
        let (host, address) = (host.to_owned(), address.parse().ok());
        asked(&yaml, &sidecar(), &Question { side: Side::Outbound, port: 3306, host, address, ..Question::default() })
    };
    for (host, address, cluster) in [
        ("db.test", "", "outbound|3306||db.test"),
        ("other.test", "", "outbound|3306||other.test"),
        ("", "10.9.0.1", "outbound|3306||db.test"),
        ("db.test", "10.9.0.2", "outbound|3306||other.test"),
    ] {
        let told = asked(host, address);
        assert_eq!(told.outcome, Outcome::Forwarded, "{host} {address}: {told:#?}");
        assert_eq!(told.destinations[0].cluster, cluster, "{host} {address}");
    }
    let unclear = asked("", "");
    assert!(unclear.answer.contains("write the address that is connected to with address="), "{}", unclear.answer);
    assert!(asked("", "192.0.2.1").answer.contains("PassthroughCluster"));
}

/// The sidecar's own port 8080, as a Service and policies tell it.
fn at_port(name: &str, mode: &str, policy: &str, question: &Question) -> Explanation {
    let yaml = format!(
        "{}\n---\n{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: all, namespace: shop}}, \
         spec: {{mtls: {{mode: {mode}}}}}}}\n{policy}",
        SHOP.replace(
            "{name: http, port: 80, targetPort: 8080}",
            &format!("{{name: {name}, port: 80, targetPort: 8080}}")
        )
    );
    let question = Question { side: Side::Inbound, port: 8080, host: "web".to_owned(), ..question.clone() };
    asked(&yaml, &sidecar(), &question)
}

#[test]
fn a_sidecar_takes_what_its_port_is_told_to_take() {
    let of = |peer: &str| Question { peer: peer.to_owned(), ..Question::default() };
    let foreign = "spiffe://other.domain/ns/shop/sa/web";
    for (mode, peer, outcome) in [
        ("PERMISSIVE", "", Outcome::Forwarded),
        ("PERMISSIVE", WEB, Outcome::Forwarded),
        ("PERMISSIVE", foreign, Outcome::Closed),
        ("STRICT", "", Outcome::Closed),
        ("STRICT", WEB, Outcome::Forwarded),
        ("STRICT", foreign, Outcome::Closed),
        // The application gets the TLS as it is.
        ("DISABLE", WEB, Outcome::Forwarded),
    ] {
        let told = at_port("http", mode, "", &of(peer));
        assert_eq!(told.outcome, outcome, "{mode} {peer}: {told:#?}");
    }
    let deny = "---\n{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: gets, namespace: shop}, spec: \
                {action: DENY, rules: [{to: [{operation: {ports: ['8080'], methods: [GET]}}]}]}}\n";
    let post = Question { method: "POST".to_owned(), ..Question::default() };
    assert_eq!(at_port("http", "PERMISSIVE", deny, &post).outcome, Outcome::Forwarded);
    assert_eq!(at_port("tcp", "PERMISSIVE", deny, &post).outcome, Outcome::Closed, "nobody reads a method in bytes");
    let handed = at_port("http", "DISABLE", deny, &Question { peer: WEB.to_owned(), ..post });
    assert_eq!(handed.outcome, Outcome::Closed, "{handed:#?}");
}
