//! What ends a request between its route and its destination, and who counts it.

use http::{HeaderMap, HeaderValue};

use super::*;

const ROUTES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}, status: {podIP: 10.0.0.1}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.org]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.org, web.shop.svc.cluster.local]
  gateways: [istio-system/edge, mesh]
  http:
  - {name: teapot, match: [{uri: {prefix: /teapot}}], fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: web}}]}
  - {name: code, match: [{uri: {prefix: /code}}], fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}, route: [{destination: {host: web}}]}
  - {name: some, match: [{uri: {prefix: /some}}], fault: {abort: {httpStatus: 418, percentage: {value: 99.9}}}, route: [{destination: {host: web}}]}
  - {name: gone, match: [{uri: {prefix: /gone}}], route: [{destination: {host: nowhere}, weight: 50}, {destination: {host: web, subset: x}, weight: 50}]}
  - name: pages
    corsPolicy: {allowOrigins: [{exact: 'https://a.example'}], allowMethods: [GET], unmatchedPreflights: IGNORE}
    route: [{destination: {host: web}}]
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: few, namespace: istio-system}
spec:
  rules: [{name: all, limit: {requests: 1, per: hour}}]
";

fn preflight(origin: &'static str) -> Question {
    let mut headers = HeaderMap::new();
    headers.insert("origin", HeaderValue::from_static(origin));
    headers.insert("access-control-request-method", HeaderValue::from_static("GET"));
    Question { method: "OPTIONS".to_owned(), headers, ..edge("/") }
}

fn stages(told: &Explanation) -> Vec<&'static str> {
    told.steps.iter().map(|step| step.stage).collect()
}

#[test]
fn what_is_answered_before_its_destination_is_told_so() {
    for (question, outcome, status, counted) in [
        (edge("/teapot"), Outcome::Answered, Some(418), true),
        (edge("/code"), Outcome::Answered, Some(200), true),
        (edge("/some"), Outcome::Forwarded, None, true),
        (edge("/gone"), Outcome::Refused, Some(503), true),
        (edge("/"), Outcome::Forwarded, None, true),
        // Preflights are answered, and counted by no limit.
        (preflight("https://a.example"), Outcome::Answered, Some(200), false),
        (preflight("https://b.example"), Outcome::Answered, Some(200), false),
    ] {
        let told = asked(ROUTES, &gateway(), &question);
        assert_eq!((told.outcome, told.status), (outcome, status), "{}: {told:#?}", question.target);
        assert_eq!(stages(&told).contains(&"limits"), counted, "{}: {told:#?}", question.target);
        if outcome == Outcome::Answered {
            assert_eq!(told.steps.last().unwrap().mark, Mark::Stopped, "{told:#?}");
            assert!(told.destinations.is_empty(), "{told:#?}");
        }
    }
}

#[test]
fn what_a_sidecar_sends_is_counted_and_judged_where_it_arrives() {
    let yaml = ROUTES.replace("name: few, namespace: istio-system", "name: few, namespace: shop");
    let sent = Question { side: Side::Outbound, host: "web.shop".to_owned(), ..Question::default() };
    let told = asked(&yaml, &sidecar(), &sent);
    assert_eq!(told.outcome, Outcome::Forwarded, "{told:#?}");
    assert!(!stages(&told).contains(&"limits"), "{told:#?}");
    let received = Question { side: Side::Inbound, port: 8080, ..sent };
    assert!(stages(&asked(&yaml, &sidecar(), &received)).contains(&"limits"));
}

/// A RequestAuthentication of the gateway, and a token.
fn with_token(rules: &str, claims: serde_json::Value, target: &str) -> Explanation {
    let yaml = format!(
        "{ROUTES}---\n{{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{name: tokens, namespace: \
         istio-system}}, spec: {{jwtRules: {rules}}}}}\n"
    );
    let claims = claims.as_object().cloned().filter(|claims| !claims.is_empty());
    let token = claims.map(|claims| Token { claims });
    asked(&yaml, &gateway(), &Question { token, ..edge(target) })
}

#[test]
fn a_token_is_taken_by_those_who_take_its_issuer() {
    let rules = "[{issuer: one, audiences: [shop], jwksUri: 'https://one.example/keys'}]";
    for (claims, status) in [
        (json!({}), None),
        (json!({"iss": "one", "aud": "shop"}), None),
        (json!({"iss": "one", "aud": "other"}), Some(403)),
        (json!({"iss": "two", "aud": "shop"}), Some(401)),
    ] {
        let told = with_token(rules, claims.clone(), "/");
        assert_eq!(told.status, status, "{claims}: {told:#?}");
    }
}
