mod doors;
mod intercepted;

use serde_json::json;

use super::*;
use crate::{
    compile::{Proxy, Role, compile},
    resources::Resources,
};

const SHOP: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: next, namespace: shop}, spec: {selector: {app: next}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web, security.istio.io/tlsMode: istio}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}, status: {podIP: 10.0.0.1}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.org]}
  - {port: {number: 81, name: old, protocol: HTTP}, hosts: [shop.example.org], tls: {httpsRedirect: true}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.org]
  gateways: [istio-system/edge]
  http:
  - {name: gone, match: [{uri: {exact: /gone}}], directResponse: {status: 410, body: {string: gone}}}
  - {name: old, match: [{uri: {prefix: /old}}], redirect: {uri: /new, redirectCode: 308}}
  - name: api
    match: [{uri: {prefix: /api/}, method: {exact: GET}, headers: {x-user: {exact: bob}}}]
    rewrite: {uri: /}
    headers: {request: {set: {x-seen: edge}}}
    fault: {abort: {httpStatus: 503, percentage: {value: 5}}}
    timeout: 3s
    route: [{destination: {host: web}, weight: 90}, {destination: {host: next}, weight: 10}]
  - {name: nobody, match: [{uri: {prefix: /next}}], route: [{destination: {host: next}}]}
  - {name: rest, route: [{destination: {host: web}}], match: [{uri: {prefix: /web}}]}
";

const DENIED: &str = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: istio-system}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/api/admin*]}}]}]}
";

fn gateway() -> Proxy {
    Proxy {
        namespace: "istio-system".to_owned(),
        labels: [("istio".to_owned(), "ingressgateway".to_owned())].into(),
        ..Proxy::default()
    }
}

fn sidecar() -> Proxy {
    let role = Role::Sidecar { namespace: "shop".to_owned(), workload: "web-1".to_owned() };
    Proxy { role, namespace: "shop".to_owned(), ..Proxy::default() }
}

fn asked(yaml: &str, proxy: &Proxy, question: &Question) -> Explanation {
    let resources = Resources::read([("shop.yaml", yaml)]).0;
    explain(&compile(&resources, proxy).snapshot, &BTreeMap::new(), question)
}

fn edge(target: &str) -> Question {
    Question { host: "shop.example.org".to_owned(), target: target.to_owned(), ..Question::default() }
}

fn at_edge(question: &Question) -> Explanation {
    asked(&format!("{SHOP}{DENIED}"), &gateway(), question)
}

#[test]
fn a_request_is_followed_to_its_destinations() {
    let mut question = edge("/x/../api/v1?a=b");
    question.headers.insert("x-user", "bob".parse().unwrap());
    let told = at_edge(&question);
    assert_eq!(told.outcome, Outcome::Forwarded, "{told:#?}");
    assert_eq!(told.path, "/api/v1");
    let route = told.route.as_ref().unwrap();
    assert_eq!((route.name.as_str(), route.source.as_str(), route.timeout_ms), ("api", "shop/shop", Some(3000)));
    assert_eq!(route.when, "path begins with /api/, method is GET, header x-user is bob");
    let [web, next] = &told.destinations[..] else { panic!("{told:#?}") };
    assert_eq!((web.cluster.as_str(), web.percent), ("outbound|80||web.shop.svc.cluster.local", 90.0));
    assert_eq!((web.endpoints, web.tls, web.target.as_str()), (Some(1), "mutual", "/v1?a=b"));
    assert_eq!((next.endpoints, next.percent), (Some(0), 10.0));
    let stages: Vec<_> = told.steps.iter().map(|step| step.stage).collect();
    for stage in ["listener", "path", "policy", "host", "route", "fault", "rewrite", "headers", "destination"] {
        assert!(stages.contains(&stage), "{stage}: {told:#?}");
    }
    let fault = told.steps.iter().find(|step| step.stage == "fault").unwrap();
    assert_eq!(fault.text, "5 % of the requests are answered 503 on purpose");
    assert!(told.steps.iter().any(|step| step.stage == "headers" && step.text.contains("x-seen: edge")));
}

#[test]
fn what_the_proxy_answers_itself_is_told_with_its_status() {
    for (port, target, outcome, status) in [
        (80, "/gone", Outcome::Answered, 410),
        (80, "/old/a", Outcome::Redirected, 308),
        (81, "/web", Outcome::Redirected, 301),
        (80, "/nothing", Outcome::Refused, 404),
        (80, "/next", Outcome::Refused, 503),
        (80, "/api/admin/x", Outcome::Refused, 403),
        (80, "/%00", Outcome::Refused, 400),
    ] {
        let told = at_edge(&Question { port, ..edge(target) });
        assert_eq!((told.outcome, told.status), (outcome, Some(status)), "{target}: {told:#?}");
    }
    assert_eq!(at_edge(&edge("/old/a?q=1")).location.as_deref(), Some("http://shop.example.org/new?q=1"));
    let denied = at_edge(&edge("/api/admin/x"));
    assert_eq!(denied.steps.last().unwrap().source, "istio-system/no-admin");
    let unknown = at_edge(&Question { host: "other.example.org".to_owned(), ..edge("/") });
    assert!(
        unknown.answer.contains("no virtual host is for other.example.org; there are shop.example.org"),
        "{unknown:?}"
    );
    let closed = at_edge(&Question { port: 8443, ..edge("/") });
    assert_eq!((closed.outcome, closed.status), (Outcome::Closed, None));
    assert!(closed.answer.contains("nothing listens on port 8443; there are 80, 81"), "{}", closed.answer);
}

#[test]
fn a_sidecar_is_asked_on_both_sides() {
    let strict = format!(
        "{SHOP}\n---\n{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: all, namespace: shop}}, \
         spec: {{mtls: {{mode: STRICT}}}}}}"
    );
    let inbound = Question { side: Side::Inbound, port: 8080, host: "web".to_owned(), ..Question::default() };
    let plain = asked(&strict, &sidecar(), &inbound);
    assert_eq!(plain.outcome, Outcome::Closed, "{plain:#?}");
    assert!(plain.answer.contains("PeerAuthentication is STRICT"), "{}", plain.answer);
    let proven = Question { peer: "spiffe://cluster.local/ns/shop/sa/next".to_owned(), ..inbound };
    assert_eq!(asked(&strict, &sidecar(), &proven).outcome, Outcome::Forwarded);

    let outbound = Question { side: Side::Outbound, host: "web.shop".to_owned(), ..Question::default() };
    let told = asked(SHOP, &sidecar(), &outbound);
    assert_eq!(told.destinations[0].cluster, "outbound|80||web.shop.svc.cluster.local", "{told:#?}");
    let elsewhere = Question { host: "example.com".to_owned(), ..outbound };
    assert!(asked(SHOP, &sidecar(), &elsewhere).answer.contains("PassthroughCluster"));
}

#[test]
fn programs_get_words_that_stay() {
    let told = serde_json::to_value(at_edge(&edge("/gone"))).unwrap();
    assert_eq!(
        told,
        json!({
            "answer": "The route itself answers 410 (4 bytes)", "outcome": "answered", "status": 410, "path": "/gone",
            "location": null, "destinations": [],
            "route": {"name": "gone", "source": "shop/shop", "when": "path is /gone", "host": "shop.example.org",
                      "timeout_ms": null, "retries": 2},
            "steps": [
                {"stage": "listener", "mark": "passed", "text": "port 80 takes it, in plain text", "source": ""},
                {"stage": "policy", "mark": "passed", "text": "the authorization policies allow it", "source": ""},
                {"stage": "host", "mark": "passed", "text": "virtual host shop.example.org", "source": ""},
                {"stage": "route", "mark": "passed", "text": "route gone: path is /gone", "source": "shop/shop"},
            ],
        })
    );
}

proptest::proptest! {
    #[test]
    fn whatever_is_asked_gets_an_answer(host in ".{0,20}", target in ".{0,40}", method in "[A-Z]{0,8}", port in 0_u16..) {
        let question = Question { host, target, method, port, ..Question::default() };
        for port in [port, 80] {
            let told = at_edge(&Question { port, ..question.clone() });
            proptest::prop_assert!(!told.answer.is_empty());
            proptest::prop_assert!(!told.steps.is_empty());
        }
    }
}
