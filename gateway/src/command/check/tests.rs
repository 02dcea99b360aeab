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
    findings_in(yaml, Extent::Part)
}

fn findings_in(yaml: &str, extent: Extent) -> Findings {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a.yaml");
    fs::write(&file, yaml).unwrap();
    check(vec![file], extent).unwrap()
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
fn a_gateway_without_its_secret_is_told_once_and_an_error_only_where_the_files_are_all_there_is() {
    let yaml = format!("{GATEWAY}{SERVICE}{}", service_of("edge", "web"));
    for (extent, severity, words) in [
        (Extent::Part, Severity::Warning, "is not among what was read"),
        (Extent::Whole, Severity::Error, "there is no"),
    ] {
        let findings = findings_in(&yaml, extent);
        let told: Vec<&Problem> = findings.problems.iter().filter(|it| it.severity != Severity::Info).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].code, told[0].severity), ("missing-secret", severity));
        assert!(told[0].message.contains(words), "{}", told[0]);
        assert_eq!(told[0].place.as_ref().unwrap().line, 10);
        assert_eq!(findings.objects, 3);
    }
}

/// What a team's own folder names of others: Secret, host, subset, Gateway, Issuer.
const OTHERS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: shop-cert}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ordered, namespace: shop, annotations: {acme.sluice.dev/issuer: theirs}}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [ordered.example.com]
    tls: {mode: SIMPLE, credentialName: ordered-cert}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge, infra/other]
  http:
  - match: [{uri: {prefix: /theirs}}]
    route: [{destination: {host: theirs.others.svc.cluster.local}}]
  - route: [{destination: {host: web, subset: v1}}]
";

#[test]
fn what_others_have_warns_in_a_part_and_is_missed_in_the_whole() {
    let yaml = format!("{OTHERS}{SERVICE}");
    let codes = |extent| -> Vec<(&str, Severity)> {
        let problems = findings_in(&yaml, extent).problems;
        problems.iter().filter(|it| it.severity != Severity::Info).map(|it| (it.code, it.severity)).collect()
    };
    let named = ["missing-secret", "unknown-issuer", "unknown-gateway", "unknown-host", "unknown-subset"];
    assert_eq!(codes(Extent::Part), named.map(|code| (code, Severity::Warning)));
    assert_eq!(codes(Extent::Whole), named.map(|code| (code, Severity::Error)));
}

/// As (line, code, a part of the message) of everything told.
fn told(yaml: &str) -> Vec<(u32, &'static str, String)> {
    let problems = findings(yaml).problems.into_iter();
    problems.map(|it| (it.place.map_or(0, |place| place.line), it.code, it.message)).collect()
}

#[test]
fn what_follows_from_a_rejected_document_says_where_that_is() {
    let broken = GATEWAY.replace("mode: SIMPLE", "mode: EASY");
    let rule = "\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec: \
                {host: web, subsets: [{name: v1}], exportTo: [here and there]}\n";
    let service = service_of("edge", "web, subset: v1");
    let told = told(&format!(
        "{broken}{SERVICE}{service}{rule}{}",
        service_of("mesh", "web, subset: v1").replace("name: web", "name: x")
    ));
    let followed: Vec<&(u32, &str, String)> =
        told.iter().filter(|(_, code, _)| *code == "rejected-reference").collect();
    assert_eq!(followed.len(), 2, "{told:?}");
    assert!(followed[0].2.starts_with("Gateway `shop/edge` is rejected above, line 10"), "{:?}", followed[0]);
    assert!(followed[1].2.starts_with("DestinationRule `shop/web` is rejected above, line 35"), "{:?}", followed[1]);
    assert_eq!(told.iter().filter(|(_, code, _)| *code == "unknown-gateway").count(), 0, "{told:?}");
}

#[test]
fn a_server_that_is_not_opened_is_named_where_its_host_is_missed() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [other.example.com]
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: c, maxProtocolVersion: TLSV1_1}
";
    let told = told(&format!("{yaml}{SERVICE}{}", service_of("edge", "web")));
    let followed: Vec<&(u32, &str, String)> =
        told.iter().filter(|(_, code, _)| *code == "rejected-reference").collect();
    assert_eq!(followed.len(), 1, "{told:?}");
    assert!(
        followed[0].2.contains("servers[1] of Gateway shop/edge in ") && followed[0].2.contains(":10 is not opened")
    );
}

#[test]
fn a_list_of_the_api_server_is_read_by_its_own_kind() {
    let list = "
apiVersion: v1
kind: ServiceList
items:
- metadata: {name: web, namespace: shop}
  spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualServiceList
items:
- metadata: {name: web, namespace: shop}
  spec: {hosts: [web], http: [{route: [{destination: {host: web, port: {number: 81}}}]}]}
---
{apiVersion: v1, kind: PodList, items: null}
";
    assert_eq!(findings(list).objects, 2);
    assert_eq!(told(list).iter().map(|it| (it.0, it.1)).collect::<Vec<_>>(), [(12, "unknown-port")]);
}

#[test]
fn patches_that_a_kustomization_names_are_no_objects() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
    write(
        "kustomization.yaml",
        "resources: [gateway.yaml]\npatches: [{path: ./more/../hosts.yaml}, {path: gone.yaml}]\n",
    );
    write("gateway.yaml", GATEWAY);
    write("values.yaml", "gateway: {enabled: true}\n");
    write(
        "hosts.yaml",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec: {servers: []}\n",
    );
    let findings = check(vec![root.path().to_owned()], Extent::Part).unwrap();
    let told: Vec<(&str, Severity)> = findings.problems.iter().map(|it| (it.code, it.severity)).collect();
    assert_eq!(
        told,
        [
            ("missing-secret", Severity::Warning),
            ("skipped", Severity::Info),
            ("skipped", Severity::Info),
            ("skipped", Severity::Info)
        ]
    );
    assert_eq!(findings.objects, 1);
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
    assert!(bad.contains("0 errors, 1 warning"), "{bad}");
    assert!(bad.contains("It can be served, perhaps not as meant"), "{bad}");
    let broken = summary(&GATEWAY.replace("mode: SIMPLE", "mode: EASY"));
    assert!(broken.contains("1 error, "), "{broken}");
    assert!(broken.ends_with("Correct the errors: what they name will not work, everything else will.\n"), "{broken}");
}

#[test]
fn files_without_objects_say_so() {
    assert!(summary("# nothing\n").contains("There is nothing to serve"));
}

#[test]
fn a_path_that_does_not_exist_is_bad_usage() {
    assert!(check(vec!["/no/such/path".into()], Extent::Part).unwrap_err().contains("/no/such/path"));
}

fn proxies(yaml: &str) -> Vec<String> {
    let (resources, _) = Resources::read([("a.yaml", yaml)]);
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

/// A folder as teams keep it: several ways to route the same host, hosts and Secrets of others, templates, patches.
#[test]
fn nothing_in_a_folder_as_teams_keep_it_is_an_error() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/check/teams");
    let findings = check(vec![folder], Extent::Part).unwrap();
    let mut told: Vec<String> = findings
        .problems
        .iter()
        .map(|it| format!("{} {} {}", it.severity, it.code, it.object.name).trim_end().to_owned())
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "info skipped",
            "info skipped",
            "info skipped",
            "info skipped",
            "warning duplicate-object opinions",
            "warning duplicate-object opinions",
            "warning rejected-reference secure",
            "warning skipped secure",
            "warning unknown-host certificate-proofs",
        ],
        "{:#?}",
        findings.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
}
