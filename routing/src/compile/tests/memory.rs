//! A compiler that remembers gives what one gives that does not.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::{
    resources::{Parsed, Store, parse_file},
    rule::Action,
    table::RouteTable,
};

/// The documents of a golden case, each as it is and with other names in it.
fn documents(text: &str) -> Vec<[(String, Parsed); 2]> {
    let versions = |(index, document): (usize, &str)| {
        let file = format!("{index}.yaml");
        let other = document.replace("v1", "v2").replace("8080", "8081");
        // The API versions are no names.
        let other =
            other.replace("istio.io/v2", "istio.io/v1").replace("k8s.io/v2", "k8s.io/v1").replace("dev/v2", "dev/v1");
        let other = other.replace("apiVersion: v2", "apiVersion: v1").replace("apps/v2", "apps/v1");
        [document, &other].map(|text| (file.clone(), parse_file(&file, text)))
    };
    text.split("\n---\n").enumerate().map(versions).collect()
}

/// Everything of a snapshot as text, clusters by name.
fn text(mut compiled: Compiled) -> String {
    let snapshot = &mut compiled.snapshot;
    let tables = snapshot.listeners.iter().map(|listener| &listener.routes);
    let outbound = snapshot.outbound.iter().flat_map(|outbound| outbound.by_port.values());
    for table in tables.chain(outbound) {
        numbers_are_right(snapshot, table);
    }
    // A cluster for requests and one for bytes may share a name.
    snapshot.clusters.sort_by_key(|cluster| (cluster.name.clone(), format!("{:?}", cluster.protocol)));
    render::compiled(&compiled)
}

fn numbers_are_right(snapshot: &Snapshot, table: &RouteTable) {
    for route in table.hosts.iter().flat_map(|(_, host)| host.routes.routes()) {
        let Action::Route(to) = &route.rule.action else { continue };
        for to in &to.all {
            assert!(to.cluster.is_none_or(|id| snapshot.cluster(id).name == to.cluster_name), "{}", to.cluster_name);
        }
    }
}

fn cases() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compile");
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.to_string_lossy().ends_with(".in.yaml"));
    inputs.sort();
    inputs.iter().map(|input| fs::read_to_string(input).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_change_leads_to_what_a_fresh_compilation_gives(
        // Of each document in each step: away, as it is, or its other version; mostly as it is.
        steps in prop::collection::vec(prop::collection::vec(prop_oneof![1 => Just(None), 6 => Just(Some(0)), 2 => Just(Some(1))], 40), 3..6),
    ) {
        for case in cases() {
            let documents = documents(&case);
            let proxy = proxy(&case);
            let mut compiler = Compiler::default();
            for step in &steps {
                let chosen = documents.iter().zip(step.iter().cycle());
                let files = chosen.filter_map(|(versions, chosen): (_, &Option<usize>)| Some(versions[(*chosen)?].clone()));
                let (resources, _) = Store::default().replace(files.collect());
                prop_assert_eq!(text(compiler.compile(&resources, &proxy)), text(compile(&resources, &proxy)));
            }
        }
    }
}

#[test]
fn only_what_a_change_touches_is_made_anew() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: istio-system}\n\
                   spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{name: http, port: 80}], selector: {app: web}}\n";
    let slice = |address: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: ['{address}']}}]\n"
        )
    };
    let routes = |name: &str, prefix: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{hosts: [{name}.example.com], gateways: [istio-system/edge], http: [{{match: [{{uri: {{prefix: {prefix}}}}}], \
             route: [{{destination: {{host: web}}}}]}}]}}\n"
        )
    };
    let mut texts: BTreeMap<&str, String> = BTreeMap::from([
        ("gateway", gateway.to_owned()),
        ("service", service.to_owned()),
        ("slice", slice("10.0.0.1")),
        ("a", routes("a", "/a")),
        ("b", routes("b", "/b")),
    ]);
    let mut known: BTreeMap<&str, (String, Parsed)> = BTreeMap::new();
    let mut compiler = Compiler::default();
    let mut reused = |texts: &BTreeMap<&'static str, String>| {
        for (file, text) in texts {
            if known.get(file).is_none_or(|(known, _)| known != text) {
                known.insert(file, (text.clone(), parse_file(file, text)));
            }
        }
        let files = texts.keys().map(|file| ((*file).to_owned(), known[file].1.clone()));
        let (resources, problems) = Store::default().replace(files.collect());
        assert!(problems.is_empty(), "{problems:?}");
        compiler.compile(&resources, &Proxy::default());
        compiler.reused()
    };
    assert_eq!(reused(&texts), 0);
    assert_eq!(reused(&texts), 2, "nothing has changed");
    texts.insert("slice", slice("10.0.0.2"));
    assert_eq!(reused(&texts), 2, "an endpoint is no part of a route");
    texts.insert("a", routes("a", "/other"));
    assert_eq!(reused(&texts), 1, "the routes of the other one stay");
    texts.insert("service", service.replace("port: 80", "port: 81"));
    assert_eq!(reused(&texts), 0, "both lead to another cluster");
}

#[test]
fn the_routes_of_two_binds_of_a_port_are_made_once() {
    let server = |bind: &str| {
        format!("{{port: {{number: 80, name: at-{bind}, protocol: HTTP}}, hosts: ['*'], bind: {bind}}}")
            .replace("at-127.0.0.", "at-")
    };
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: istio-system}}\n\
         spec: {{selector: {{istio: ingressgateway}}, servers: [{}, {}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: shop}}\n\
         spec: {{hosts: [a.example.com], gateways: [istio-system/edge], http: [{{directResponse: {{status: 200}}}}]}}\n",
        server("127.0.0.1"),
        server("127.0.0.2")
    );
    let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
    assert!(problems.is_empty(), "{problems:?}");
    let mut compiler = Compiler::default();
    for _ in 0..2 {
        let snapshot = compiler.compile(&resources, &Proxy::default()).snapshot;
        let lists: Vec<_> = snapshot
            .listeners
            .iter()
            .flat_map(|listener| listener.routes.hosts.iter().map(|(_, host)| Arc::as_ptr(&host.routes)))
            .collect();
        assert_eq!(lists.len(), 2);
        assert_eq!(lists[0], lists[1]);
    }
}

fn policies(paths: impl IntoIterator<Item = String>) -> Vec<(String, Parsed)> {
    let one = |(number, path): (usize, String)| {
        let rules: String = (0..10)
            .map(|rule| {
                format!(
                    "  - from: [{{source: {{principals: [cluster.local/ns/n{number}/sa/a{rule}]}}}}]\n    to: [{{operation: \
                     {{paths: ['{path}/{rule}/*'], methods: [GET]}}}}]\n"
                )
            })
            .collect();
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{number}, namespace: \
             istio-system}}\nspec:\n  rules:\n{rules}"
        );
        let file = format!("{number}.yaml");
        (file.clone(), parse_file(&file, &text))
    };
    paths.into_iter().enumerate().map(one).collect()
}

#[test]
fn policies_are_made_anew_when_one_of_them_changes() {
    let made = |compiler: &mut Compiler, files: Vec<(String, Parsed)>, proxy: &Proxy| {
        let (resources, problems) = Store::default().replace(files);
        assert!(problems.is_empty(), "{problems:?}");
        compiler.compile(&resources, proxy).snapshot.guard.unwrap().authorization.unwrap()
    };
    let (mut compiler, proxy) = (Compiler::default(), Proxy::default());
    let files = policies(["/a".to_owned(), "/b".to_owned()]);
    let first = made(&mut compiler, files.clone(), &proxy);
    assert!(Arc::ptr_eq(&first, &made(&mut compiler, files.clone(), &proxy)));
    let mut more = files.clone();
    more.push((
        "s.yaml".to_owned(),
        parse_file(
            "s.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {ports: [{port: 80}]}\n",
        ),
    ));
    assert!(Arc::ptr_eq(&first, &made(&mut compiler, more, &proxy)), "a Service is none of them");
    let other = policies(["/a".to_owned(), "/c".to_owned()]);
    let second = made(&mut compiler, vec![files[0].clone(), other[1].clone()], &proxy);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&second, &made(&mut compiler, files[..1].to_vec(), &proxy)), "one less");
    let first = made(&mut compiler, files.clone(), &proxy);
    let elsewhere = Proxy { trust_domain: "other".to_owned(), ..proxy };
    assert!(!Arc::ptr_eq(&first, &made(&mut compiler, files, &elsewhere)), "principals have other names there");
}

#[test]
fn policies_are_made_anew_when_the_same_words_mean_something_else() {
    let mesh = |settings: &str| {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {settings}\n"
        );
        ("mesh.yaml".to_owned(), parse_file("mesh.yaml", &text))
    };
    let policy = |annotations: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: istio-system, \
             annotations: {{{annotations}}}}}\nspec: {{rules: [{{from: [{{source: {{principals: [old/ns/a/sa/b]}}}}]}}]}}\n"
        );
        ("p.yaml".to_owned(), parse_file("p.yaml", &text))
    };
    let (mut compiler, mut store) = (Compiler::default(), Store::default());
    let mut made = |mesh: &(String, Parsed), policy: &(String, Parsed), proxy: &Proxy| {
        let (resources, problems) = store.replace(vec![mesh.clone(), policy.clone()]);
        assert!(problems.is_empty(), "{problems:?}");
        compiler.compile(&resources, proxy).snapshot.guard.unwrap().authorization.unwrap()
    };
    let (plain, proxy) = (mesh("trustDomain: td"), Proxy::default());
    let labelled = Proxy { labels: [("app".to_owned(), "other".to_owned())].into(), ..Proxy::default() };
    let others = [
        ("aliases", mesh("{trustDomain: td, trustDomainAliases: [old]}"), policy(""), &proxy),
        ("root namespace", mesh("{trustDomain: td, rootNamespace: policies}"), policy(""), &proxy),
        ("dry-run", plain.clone(), policy("istio.io/dry-run: 'true'"), &proxy),
        ("labels", plain.clone(), policy(""), &labelled),
    ];
    let mut before = made(&plain, &policy(""), &proxy);
    for (what, mesh, policy, proxy) in &others {
        let now = made(mesh, policy, proxy);
        assert!(!Arc::ptr_eq(&before, &now), "{what}");
        assert!(Arc::ptr_eq(&now, &made(mesh, policy, proxy)), "{what}: twice the same");
        before = now;
    }
}

/// `cargo test --release -p sluice-routing -- --ignored --nocapture a_thousand_policies`
#[test]
#[ignore = "a measurement"]
fn a_thousand_policies_and_an_endpoint() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{name: http, port: 80}], selector: {app: web}}\n";
    let slice = |number: usize| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: ['10.0.0.{number}']}}]\n"
        )
    };
    let mut files = policies((0..1000).map(|number| format!("/p{number}")));
    files.push(("service.yaml".to_owned(), parse_file("service.yaml", service)));
    let mut remembering = Compiler::default();
    let (mut fresh, mut kept) = (Duration::ZERO, Duration::ZERO);
    for number in 1..=20 {
        let mut files = files.clone();
        files.push(("slice.yaml".to_owned(), parse_file("slice.yaml", &slice(number))));
        let (resources, _) = Store::default().replace(files);
        let begun = Instant::now();
        compile(&resources, &Proxy::default());
        fresh += begun.elapsed();
        let begun = Instant::now();
        remembering.compile(&resources, &Proxy::default());
        kept += if number > 1 { begun.elapsed() } else { Duration::ZERO };
    }
    eprintln!("1,000 policies of 10 rules, an endpoint changes: {:?} without memory, {:?} with", fresh / 20, kept / 19);
}
