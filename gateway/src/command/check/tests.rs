use std::fs;

use super::*;

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: shop-cert}
";
const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80}]
";

fn service_of(gateways: &str, destination: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [shop.example.com]
  gateways: [{gateways}]
  http:
  - route:
    - destination: {{host: {destination}}}
"
    )
}

fn findings(yaml: &str) -> Findings {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a.yaml");
    fs::write(&file, yaml).unwrap();
    check(vec![file]).unwrap()
}

fn codes(yaml: &str) -> Vec<&'static str> {
    findings(yaml).problems.iter().filter(|it| it.severity != Severity::Info).map(|it| it.code).collect()
}

fn summary(yaml: &str) -> String {
    let mut out = Vec::new();
    text(&mut out, &findings(yaml), &["shop/".into()]).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_gateway_without_its_secret_is_an_error_told_once() {
    let yaml = format!("{GATEWAY}{SERVICE}{}", service_of("edge", "web"));
    let findings = findings(&yaml);
    let errors: Vec<&Problem> = findings.problems.iter().filter(|it| it.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].code, "missing-secret");
    assert_eq!(errors[0].place.as_ref().unwrap().line, 10);
    assert_eq!(findings.objects, 3);
}

#[test]
fn rules_for_sidecars_are_checked_although_there_is_no_workload() {
    assert_eq!(codes(&format!("{SERVICE}{}", service_of("mesh", "wbe"))), ["unknown-host"]);
}

#[test]
fn a_made_up_proxy_is_no_problem_of_the_files() {
    assert_eq!(codes(&format!("{SERVICE}{}", service_of("mesh", "web"))), [""; 0]);
}

#[test]
fn a_broken_document_is_told_with_its_place() {
    let findings =
        findings("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  hots: [a]\n");
    let problem = &findings.problems[0];
    assert_eq!((problem.severity, problem.place.as_ref().unwrap().line), (Severity::Error, 5), "{problem}");
    assert_eq!(findings.objects, 1);
}

#[test]
fn problems_are_sorted_by_place_and_json_is_one_object_per_line() {
    let yaml = format!("{GATEWAY}{SERVICE}{}", service_of("edge, mesh", "wbe"));
    let findings = findings(&yaml);
    let mut out = Vec::new();
    json(&mut out, &findings).unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines.len(), findings.problems.len());
    let places: Vec<u64> = lines.iter().filter_map(|it| it["line"].as_u64()).collect();
    assert!(places.len() >= 2 && places.is_sorted(), "{places:?}");
    for line in &lines {
        let mut keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["code", "column", "field", "file", "kind", "line", "message", "name", "namespace", "severity"]
        );
    }
}

#[test]
fn text_ends_with_a_summary_and_what_to_do_next() {
    let good = summary(SERVICE);
    assert!(good.ends_with("0 errors, 0 warnings in 1 object\nServe it: sluice gateway --config shop/\n"), "{good}");
    let bad = summary(&format!("{GATEWAY}{SERVICE}"));
    assert!(bad.contains("1 error, "), "{bad}");
    assert!(bad.ends_with("Correct the errors: what they name will not work, everything else will.\n"), "{bad}");
}

#[test]
fn files_without_objects_say_so() {
    assert!(summary("# nothing\n").contains("There is nothing to serve"));
}

#[test]
fn a_path_that_does_not_exist_is_bad_usage() {
    assert!(check(vec!["/no/such/path".into()]).unwrap_err().contains("/no/such/path"));
}

fn proxies(yaml: &str) -> Vec<String> {
    let (resources, _) = routing::resources::Resources::read([("a.yaml", yaml)]);
    proxies::of(&resources).into_iter().map(|it| format!("{}/{}", it.proxy.namespace, it.proxy.name)).collect()
}

fn deployment(namespace: &str, name: &str, label: &str) -> String {
    format!(
        "\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  template:\n    \
         metadata: {{labels: {{{label}}}}}\n"
    )
}

#[test]
fn the_gateways_workload_tells_its_namespace() {
    let yaml = format!(
        "{GATEWAY}{}{}",
        deployment("edge-ns", "gw", "istio: ingressgateway"),
        deployment("shop", "web", "app: web")
    );
    assert_eq!(proxies(&yaml), ["edge-ns/gw", "shop/web"]);
}

#[test]
fn without_a_workload_the_gateway_is_where_its_secret_is() {
    assert_eq!(proxies(GATEWAY), ["shop/istio-ingressgateway"]);
    let secret = "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: shop-cert, namespace: istio-system}\nstringData: {a: b}\n";
    assert_eq!(proxies(&format!("{GATEWAY}{secret}")), ["istio-system/istio-ingressgateway"]);
}
