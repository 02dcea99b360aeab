//! Golden pairs: `testdata/compile/NN-name.in.yaml` compiles to `NN-name.out.txt`. `BLESS=1` writes the latter anew.
//!
//! Comments at the head of an input say for whom it is compiled: `# proxy: gateway` (also the default) or
//! `# proxy: sidecar shop/cart-v1`; `# resolved: name address` is what DNS says.

mod memory;
mod plain;
mod plain_opaque;
mod render;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use super::*;
use crate::{problem::Severity, resources::Resources};

#[test]
fn golden_cases_compile_to_what_was_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compile");
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.to_string_lossy().ends_with(".in.yaml"));
    inputs.sort();
    assert!(inputs.len() >= 15, "the golden cases are missing");
    let bless = std::env::var_os("BLESS").is_some();
    let mut differing = Vec::new();
    for input in inputs {
        let output = input.with_file_name(input.file_name().unwrap().to_string_lossy().replace(".in.yaml", ".out.txt"));
        let actual = rendered(&fs::read_to_string(&input).unwrap());
        if bless {
            fs::write(&output, actual).unwrap();
        } else if fs::read_to_string(&output).unwrap_or_default() != actual {
            differing.push(format!("{}:\n{actual}", output.display()));
        }
    }
    assert!(differing.is_empty(), "run with BLESS=1 and review the difference\n{}", differing.join("\n"));
}

fn rendered(text: &str) -> String {
    let (resources, problems) = Resources::read([("in.yaml", text)]);
    let rejected: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    assert!(rejected.is_empty(), "a golden case is valid object by object: {rejected:?}");
    let compiled = compile(&resources, &proxy(text));
    render::compiled(&compiled)
}

fn proxy(text: &str) -> Proxy {
    let mut proxy = Proxy::default();
    let mut resolved: BTreeMap<String, Vec<std::net::IpAddr>> = BTreeMap::new();
    for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["proxy:", "sidecar", workload] => {
                let (namespace, name) = workload.split_once('/').unwrap();
                proxy.role = Role::Sidecar { namespace: namespace.to_owned(), workload: name.to_owned() };
                proxy.namespace = namespace.to_owned();
                proxy.labels = BTreeMap::new();
            }
            ["resolved:", name, address] => {
                resolved.entry((*name).to_owned()).or_default().push(address.parse().unwrap());
            }
            _ => {}
        }
    }
    proxy.resolved = Arc::new(resolved);
    proxy
}

fn read(text: &str) -> Resources {
    Resources::read([("in.yaml", text)]).0
}

#[test]
fn endpoints_are_no_part_of_the_configuration() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-0}\nstatus: {podIP: 10.0.0.1}\n";
    let proxy = Proxy::default();
    let (bare, peopled) = (read(service), read(&format!("{service}{pod}")));
    assert_eq!(proxy.configuration(&bare), proxy.configuration(&peopled));
    assert_ne!(proxy.content(&bare), proxy.content(&peopled));
    assert_ne!(proxy.configuration(&bare), proxy.configuration(&read(&service.replace("80", "81"))));
}

#[test]
fn the_digest_tells_content_and_proxy_apart() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    let digest = |text: &str, proxy: &Proxy| compile(&read(text), proxy).snapshot.digest;
    let (proxy, other) = (Proxy::default(), Proxy { namespace: "shop".to_owned(), ..Proxy::default() });
    assert_eq!(digest(service, &proxy), digest(service, &proxy));
    assert_ne!(digest(service, &proxy), digest(service, &other));
    assert_ne!(digest(service, &proxy), digest(&service.replace("80", "81"), &proxy));
}

#[test]
fn a_workload_is_found_by_pod_then_entry_then_deployment() {
    let resources = read(
        "{apiVersion: v1, kind: Pod, metadata: {name: a-1, labels: {app: a}}, spec: {serviceAccountName: pod, containers: \
         [{name: c, ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.0.0.1}}\n---\n{apiVersion: apps/v1, \
         kind: Deployment, metadata: {name: a}, spec: {template: {metadata: {labels: {app: a}}, spec: {serviceAccountName: \
         deployment}}}}\n---\n{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: vm}, spec: {address: \
         10.0.0.9, labels: {app: vm}, serviceAccount: vm}}\n",
    );
    let found = |name: &str| workload(&resources, "default", name).unwrap();
    assert_eq!(found("a-1").service_account, "pod");
    assert_eq!(found("a-1").ports, [WorkloadPort { name: "http".to_owned(), number: 8080 }]);
    assert_eq!(found("a-1").name, "a");
    assert_eq!(found("a").service_account, "deployment");
    assert_eq!(found("a").addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(found("vm").labels["app"], "vm");
    assert_eq!(workload(&resources, "default", "nobody"), None);
}

#[test]
fn many_problems_in_one_object_are_summed_up() {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  selector: {istio: \
         ingressgateway}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: ['*']\n  gateways: \
         [g]\n  http:\n",
    );
    for number in 0..200 {
        text.push_str(&format!(
            "  - match: [{{uri: {{prefix: /r{number}}}}}]\n    route: [{{destination: {{host: s{number}}}}}]\n"
        ));
    }
    let problems = compile(&read(&text), &Proxy::default()).problems;
    assert_eq!(problems.len(), 21);
    assert!(problems.iter().any(|problem| problem.message == "and 180 more of this kind in this object"));
}

const ORDERING: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: istio-system, \
                        annotations: {acme.sluice.dev/issuer: ca}}\nspec:\n  selector: {istio: ingressgateway}\n  servers: \
                        [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: SIMPLE, \
                        credentialName: cert}}]\n---\napiVersion: acme.sluice.dev/v1alpha1\nkind: Issuer\nmetadata: {name: \
                        ca, namespace: istio-system}\nspec: {server: 'https://ca.example.com/', termsOfServiceAgreed: true, \
                        externalAccount: {keyID: one, secretName: account}, dns01: {rfc2136: {nameserver: ns1, tsigKeyName: \
                        k, tsigSecretName: tsig}}}\n";

#[test]
fn the_secrets_of_an_issuer_that_a_gateway_names_are_read() {
    let proxy = Proxy::default();
    let named: Vec<String> = named_secrets(&read(ORDERING), &proxy).into_iter().collect();
    assert_eq!(named, ["account", "cert", "cert-cacert", "tsig"]);
    let unused = read(&ORDERING.replace("issuer: ca", "issuer: other"));
    assert_eq!(named_secrets(&unused, &proxy).into_iter().collect::<Vec<_>>(), ["cert", "cert-cacert"]);
    let elsewhere = Proxy { namespace: "shop".to_owned(), ..Proxy::default() };
    assert!(!named_secrets(&read(ORDERING), &elsewhere).contains("account"));
}

#[test]
fn an_issuer_is_part_of_a_gateways_configuration_and_of_no_sidecars() {
    let (one, other) = (read(ORDERING), read(&ORDERING.replace("keyID: one", "keyID: two")));
    let sidecar = Role::Sidecar { namespace: "shop".to_owned(), workload: "cart".to_owned() };
    let (gateway, sidecar) = (Proxy::default(), Proxy { role: sidecar, ..Proxy::default() });
    assert_ne!(gateway.configuration(&one), gateway.configuration(&other));
    assert_eq!(sidecar.configuration(&one), sidecar.configuration(&other));
}

#[test]
fn a_certificate_is_ordered_with_keys_that_nobody_prints() {
    let secrets = "---\n{apiVersion: v1, kind: Secret, metadata: {name: account, namespace: istio-system}, stringData: {key: \
                   AQID}}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: tsig, namespace: istio-system}, stringData: \
                   {key: BAUG}}\n";
    let compiled = compile(&read(&format!("{ORDERING}{secrets}")), &Proxy::default());
    let issuer = &compiled.snapshot.ordered[0].issuer;
    assert_eq!(&*issuer.external_account.as_ref().unwrap().key, [1, 2, 3]);
    let text = format!("{:?}", compiled.snapshot.ordered);
    assert!(!text.contains("[1, 2, 3]") && !text.contains("[4, 5, 6]"), "{text}");
}

/// Of a Gateway that is not there at all: who writes `newField` must not find the hosts of its servers served by the wildcard
/// of another one, which asks for no client certificate.
#[test]
fn a_rejected_gateway_keeps_its_hosts_from_wildcards_but_not_from_who_names_them() {
    let gateway = |name: &str, selector: &str, server: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: istio-system}}\n\
             spec: {{selector: {{istio: {selector}}}, servers: [{server}]}}\n"
        )
    };
    let port = "port: {number: 443, name: https, protocol: HTTPS}";
    let wide = gateway(
        "wide",
        "ingressgateway",
        &format!("{{{port}, hosts: ['*.example.com', both.example.com], tls: {{mode: SIMPLE, credentialName: a}}}}"),
    );
    let hosts = "hosts: [admin.example.com, both.example.com]";
    let admin = |field: &str| {
        let server = format!("{{{port}, {hosts}, tls: {{mode: MUTUAL, credentialName: a}}{field}}}");
        gateway("admin", "ingressgateway", &server)
    };
    let others = gateway("others", "egressgateway", &format!("{{{port}, hosts: [other.example.com], newField: 1}}"));
    let secret = "---\n{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: istio-system}, \
                  stringData: {cert: chain, key: key, cacert: ca}}\n";

    let broken = read(&[wide.as_str(), &admin(", newField: 1"), &others, secret].concat());
    let alone = read(&[wide.as_str(), &others, secret].concat());
    assert_ne!(broken.digest(), alone.digest(), "it is another configuration");
    let compiled = compile(&broken, &Proxy::default());
    let tls = compiled.snapshot.listeners[0].tls.as_ref().unwrap();
    let server = |host: &str| &tls.servers[*tls.by_sni.get(host).unwrap()];
    assert!(server("admin.example.com").is_rejected());
    assert!(!server("both.example.com").is_rejected(), "another Gateway names it");
    assert!(!server("other.example.com").is_rejected(), "for other proxies");
    assert_eq!(tls.only(), tls.by_sni.get("any.example.com").copied());
}
