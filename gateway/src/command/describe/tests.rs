//! Golden descriptions in `testdata/describe`; `BLESS=1` writes them anew.

mod bytes;

use std::{fs, path::Path};

use super::*;

const BOOKS: &str = include_str!("../../../testdata/describe/bookshop.yaml");

fn described(kind: DescribeKind, object: (&str, &str), files: &[(String, String)]) -> Result<Description, String> {
    let (resources, problems) = Resources::read(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    describe(kind, object, &resources, problems)
}

fn one_file(text: &str) -> Vec<(String, String)> {
    vec![("books.yaml".to_owned(), text.to_owned())]
}

fn example(name: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    let named = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (named(path), fs::read_to_string(path).unwrap())).collect()
}

fn in_text(description: &Description) -> String {
    let mut out = Vec::new();
    print::text(&mut out, description).unwrap();
    String::from_utf8(out).unwrap()
}

fn as_json(description: &Description) -> String {
    let mut out = Vec::new();
    document::json(&mut out, description).unwrap();
    String::from_utf8(out).unwrap()
}

/// The text of a service of a document set, by `namespace/name`.
fn service(yaml: &str, title: &str) -> String {
    in_text(&described(DescribeKind::Service, title.split_once('/').unwrap(), &one_file(yaml)).unwrap())
}

fn refused(kind: DescribeKind, title: &str, yaml: &str) -> String {
    described(kind, title.split_once('/').unwrap(), &one_file(yaml)).unwrap_err()
}

#[test]
fn golden_descriptions_are_what_was_reviewed() {
    use DescribeKind::{Pod, Service};
    let (cargo, books) = (example("cloud-cargo"), one_file(BOOKS));
    let (tcp, egress) = (example("tcp"), example("egress"));
    let of = |kind, object, files: &[(String, String)]| described(kind, object, files).unwrap();
    let cases = [
        ("cargo-rating.txt", in_text(&of(Service, ("cloud-cargo", "freight-rating-server"), &cargo))),
        ("cargo-webapp.txt", in_text(&of(Pod, ("cloud-cargo", "cargo-webapp"), &cargo))),
        ("tcp-orders.txt", in_text(&of(Service, ("bookshop", "orders"), &tcp))),
        ("egress-gateway.txt", in_text(&of(Service, ("istio-system", "istio-egressgateway"), &egress))),
        ("books-page.txt", in_text(&of(Service, ("books", "page"), &books))),
        ("books-page.json", as_json(&of(Service, ("books", "page"), &books))),
        ("books-reviews.txt", in_text(&of(Service, ("books", "reviews"), &books))),
        ("books-reviews-old.txt", in_text(&of(Pod, ("books", "reviews-old"), &books))),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/describe");
    let mut differing = Vec::new();
    for (name, actual) in cases {
        if std::env::var_os("BLESS").is_some() {
            fs::write(folder.join(name), actual).unwrap();
        } else if fs::read_to_string(folder.join(name)).unwrap_or_default() != actual {
            differing.push(format!("{name}:\n{actual}"));
        }
    }
    assert!(differing.is_empty(), "run with BLESS=1 and review the difference\n{}", differing.join("\n"));
}

#[test]
fn a_missing_object_is_answered_with_near_names() {
    use DescribeKind::{Pod, Service};
    assert_eq!(
        refused(Service, "books/reviwes", BOOKS),
        "there is no Service books/reviwes; did you mean `books/reviews`?"
    );
    assert_eq!(
        refused(Service, "boks/reviews", BOOKS),
        "there is no Service boks/reviews; did you mean `books/reviews`?"
    );
    let pod = refused(Pod, "books/reviews-v1", BOOKS);
    assert!(pod.ends_with("did you mean `books/reviews-v1-7d9c-x1`?"), "{pod}");
    assert!(refused(Service, "a/b", "# nothing\n").ends_with("there is none at all in the configuration"));
    assert_eq!(refused(Service, "books/zzz", BOOKS), "there is no Service books/zzz");
}

#[test]
fn a_broken_object_is_not_called_missing() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {ports: [{port: many}]}\n";
    let sentence = refused(DescribeKind::Service, "shop/a", text);
    assert!(sentence.starts_with("Service shop/a cannot be read: books.yaml:4:"), "{sentence}");
}

#[test]
fn a_document_that_cannot_be_read_is_told_since_it_may_matter() {
    let broken = "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x, namespace: \
                  books}\nspec: {hosst: [page]}\n";
    let text = service(&format!("{BOOKS}{broken}"), "books/page");
    let (_, unread) = text.split_once("Not read, so missing above\n").unwrap();
    assert!(unread.contains("VirtualService books/x") && unread.contains("hosst"), "{unread}");
    assert!(!service(BOOKS, "books/page").contains("Not read"));
}

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {app: web}\n  \
                   ports: [{name: http, port: 80, targetPort: 8080}]\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-1, \
                   namespace: shop, labels: {app: web, version: v1, security.istio.io/tlsMode: istio}}\nspec: {containers: \
                   [{name: web}]}\nstatus: {podIP: 10.0.0.1}\n";

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{host: web.shop.svc.cluster.local, {spec}}}\n"
    )
}

fn strict(namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: strict, namespace: \
         {namespace}}}\nspec: {{{spec}}}\n"
    )
}

#[test]
fn plain_text_to_a_strict_workload_is_an_error_and_to_a_permissive_one_is_not() {
    let plain = rule("shop", "web", "trafficPolicy: {tls: {mode: DISABLE}}");
    let strict = strict("shop", "mtls: {mode: STRICT}");
    let text = service(&format!("{WEB}{plain}{strict}"), "shop/web");
    let wanted = "error        DestinationRule shop/web (spec.trafficPolicy.tls) sends DISABLE to port 80, but STRICT takes \
                  mutual TLS of the mesh only (PeerAuthentication shop/strict, for its namespace): these requests fail\n";
    assert!(text.contains(wanted), "{text}");
    let permissive = service(&format!("{WEB}{plain}"), "shop/web");
    assert!(!permissive.contains("error "), "{permissive}");
}

#[test]
fn mutual_tls_to_a_workload_that_disabled_it_is_an_error_of_that_port() {
    let mesh = rule("shop", "web", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    // The Service's 80 is the workload's 8080, which is what portLevelMtls speaks of.
    let off = strict("shop", "selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}");
    let text = service(&format!("{WEB}{mesh}{off}"), "shop/web");
    assert!(text.contains("sends ISTIO_MUTUAL to port 80, but DISABLE takes plain text only"), "{text}");
    assert!(text.contains("port 8080: DISABLE (PeerAuthentication shop/strict, for its workload)"), "{text}");
    let other = off.replace("8080", "80");
    assert!(!service(&format!("{WEB}{mesh}{other}"), "shop/web").contains("error "));
}

#[test]
fn every_client_is_told_which_rule_is_its_own_and_why() {
    let all = [
        rule("istio-system", "mesh-wide", "trafficPolicy: {loadBalancer: {simple: RANDOM}}"),
        rule("bank", "of-bank", "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"),
        rule(
            "bank",
            "of-teller",
            "workloadSelector: {matchLabels: {app: teller}}, trafficPolicy: {tls: {mode: DISABLE}}",
        ),
    ];
    let text = service(&format!("{WEB}{}", all.concat()), "shop/web");
    let block = |title: &str| {
        let from = &text[text.find(title).unwrap_or_else(|| panic!("{title}: {text}"))..];
        from[..from.find("\n\n").unwrap()].to_owned()
    };
    let mesh_wide = block("DestinationRule istio-system/mesh-wide");
    assert!(mesh_wide.contains("it is of the root namespace"), "{mesh_wide}");
    assert!(
        mesh_wide.contains("workloads of shop") && mesh_wide.contains("workloads of other namespaces"),
        "{mesh_wide}"
    );
    let bank = block("DestinationRule bank/of-bank");
    assert!(bank.contains("it is of the client's namespace") && bank.contains("ROUND_ROBIN"), "{bank}");
    let teller = block("DestinationRule bank/of-teller");
    assert!(teller.contains("its workloadSelector picks the client"), "{teller}");
    assert!(teller.contains("workloads of bank with app=teller") && teller.contains("DISABLE"), "{teller}");
}

#[test]
fn clients_that_do_not_see_a_service_are_named() {
    let hidden =
        WEB.replacen("namespace: shop}", "namespace: shop, annotations: {networking.istio.io/exportTo: '.'}}", 1);
    let text = service(&hidden, "shop/web");
    assert!(text.contains("warning      workloads of other namespaces do not see this service"), "{text}");
    assert!(text.contains("1 endpoint ready"), "{text}");
}

#[test]
fn a_service_without_workloads_says_so() {
    let text = service(&WEB.replace("selector: {app: web}", "selector: {app: wbe}"), "shop/web");
    assert!(text.contains("warning      its selector app=wbe picks no workload of namespace shop"), "{text}");
    let text = service(&WEB.replace("selector: {app: web}", "selector: {}"), "shop/web");
    assert!(text.contains("no EndpointSlice with ready endpoints names it"), "{text}");
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-x, namespace: shop, labels: \
                 {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints: [{addresses: [10.9.9.9]}]\nports: [{name: \
                 http, port: 8080}]\n";
    let text = service(&format!("{}{slice}", WEB.replace("selector: {app: web}", "selector: {}")), "shop/web");
    assert!(text.contains("1 endpoint ready") && !text.contains("warning"), "{text}");
}

#[test]
fn the_certificate_of_the_server_and_a_wildcard_host_are_shown() {
    let edge = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec:\n  \
                selector: {istio: ingressgateway}\n  servers:\n  - port: {number: 8443, name: https, protocol: HTTPS}\n    hosts: \
                ['*.example.com']\n    tls: {mode: MUTUAL, credentialName: edge-cert}\n---\napiVersion: \
                networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\nspec:\n  hosts: \
                ['*.example.com']\n  gateways: [edge]\n  http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: \
                web}}]}]\n";
    let text = service(&format!("{WEB}{edge}"), "shop/web");
    assert!(text.contains("8443 HTTPS, TLS MUTUAL, credentialName edge-cert\n"), "{text}");
    assert!(text.contains("https://any.example.com:8443/a  (VirtualService shop/web)"), "{text}");
    assert!(text.contains("Problems of these objects") && text.contains("[missing-secret]"), "{text}");
}

#[test]
fn another_name_for_a_service_is_described_as_what_it_names() {
    const NAMES: &str = "\
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: back}, spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: old, namespace: shop}, spec: {type: ExternalName, externalName: web.back.svc.cluster.local., ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {type: ExternalName, externalName: api.partner.test}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: api, namespace: shop}, spec: {hosts: [api.partner.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}
";
    let text = service(NAMES, "shop/old");
    assert!(text.starts_with("Service back/web\n") && text.contains("port         8080 http"), "{text}");
    assert!(text.contains("shop/old is another name for this Service, which is what is described"), "{text}");
    let text = service(NAMES, "shop/api");
    assert!(text.contains("it is another name for `api.partner.test` of a ServiceEntry"), "{text}");
}

/// What is asked of tokens, and what limits, one of each kind that can be read and that cannot.
const CHECKS: &str = "\
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: login, namespace: istio-system}
spec: {jwtRules: [{issuer: https://a.example, jwksUri: https://a.example/keys}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: broken, namespace: shop}
spec: {jwtRules: [{isuer: a}]}
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: of-web, namespace: shop}
spec: {targetRefs: [{kind: Service, name: web}], rules: [{name: day, limit: {requests: 1, per: day}}, {limit: {requests: 1}}]}
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: of-others, namespace: shop}
spec: {selector: {matchLabels: {app: other}}, rules: [{limit: {requests: 1}}]}
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: of-routes, namespace: shop}
spec: {targetRefs: [{group: networking.istio.io, kind: VirtualService, name: web}], rules: [{limit: {requests: 1}}]}
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: unread, namespace: shop}
spec: {rules: [{limit: {requests: 0}}]}
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: unread, namespace: istio-system}
spec: {rules: [{limit: {requests: 0}}]}
---
apiVersion: policy.sluice.dev/v1alpha1
kind: RateLimit
metadata: {name: unread, namespace: elsewhere}
spec: {rules: [{limit: {requests: 0}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*\"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web.example], gateways: [istio-system/edge], http: [{route: [{destination: {host: web}}]}]}
";

#[test]
fn tokens_and_limits_are_told_where_they_hold() {
    let text = service(&format!("{WEB}{CHECKS}"), "shop/web");
    let (own, gateway) = text.split_once("Exposed on Gateway").unwrap_or_else(|| panic!("{text}"));
    for line in [
        "check        tokens of https://a.example (RequestAuthentication istio-system/login, for the mesh)\n",
        "cannot be read, so tokens that no other one verifies are refused (RequestAuthentication shop/broken, for its namespace)\n",
        "limits day, 1 (RateLimit shop/of-web, for what it names)\n",
        "cannot be read, so it limits nothing (RateLimit shop/unread, for its namespace)\n",
        "cannot be read, so it limits nothing (RateLimit istio-system/unread, for the mesh)\n",
    ] {
        assert!(own.contains(line), "{line}\n{text}");
    }
    assert!(!own.contains("of-others") && !own.contains("of-routes"), "{text}");
    assert!(gateway.contains("limits 0 (RateLimit shop/of-routes, for what it names)\n"), "{text}");
    assert!(
        gateway.contains("cannot be read, so it limits nothing (RateLimit shop/unread, for what it names)\n"),
        "{text}"
    );
    assert!(!text.contains("RateLimit elsewhere/unread, for"), "{text}");
    assert!(gateway.contains("login, for the mesh") && !gateway.contains("of-web"), "{text}");
}

#[test]
fn policies_are_told_with_what_they_are_for_and_what_follows_when_they_cannot_be_read() {
    let policy = |namespace: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: \
             {namespace}}}\nspec: {{{spec}}}\n"
        )
    };
    let policies = [
        policy("istio-system", "nothing", ""),
        policy("shop", "deny", "selector: {matchLabels: {app: web}}, action: DENY, rules: [{}, {}]"),
        policy("shop", "broken", "action: DENY, rules: [{form: []}]"),
        policy("shop", "other", "selector: {matchLabels: {app: other}}"),
    ];
    let text = service(&format!("{WEB}{}", policies.concat()), "shop/web");
    for line in [
        "policy       ALLOW (AuthorizationPolicy istio-system/nothing, for the mesh): without rules, so it allows nothing\n",
        "DENY (AuthorizationPolicy shop/broken, for its namespace): cannot be read, so it denies everything\n",
        "DENY (AuthorizationPolicy shop/deny, for its workload): 2 rules\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    assert!(!text.contains("shop/other") && text.contains("there is no field `form` here"), "{text}");
}
