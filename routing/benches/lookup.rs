//! What it costs to find the rule of a request: it must not grow with the hosts of a listener or the prefixes of a host.
//!
//! `cargo bench -p sluice-routing`; the 10,000 case is to stay within twice the 1 case.

use std::{fmt::Write as _, hint::black_box};

use divan::Bencher;
use http::HeaderMap;
use routing::{
    compile::{Proxy, compile},
    request::RequestView,
    resources::Resources,
    table::RouteTable,
};

const COUNTS: [usize; 3] = [1, 100, 10_000];

fn main() {
    divan::main();
}

/// The route table of a gateway with one VirtualService of these hosts and prefixes, compiled as the proxy does.
fn table(hosts: &[String], prefixes: &[String]) -> std::sync::Arc<RouteTable> {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  selector: {istio: \
         ingressgateway}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: http, port: 80}]}\n",
    );
    for (number, host) in hosts.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{number}}}\nspec:\n  hosts: \
             [{host}]\n  gateways: [edge]\n  http:\n"
        );
        for prefix in prefixes {
            let _ = writeln!(
                text,
                "    - {{match: [{{uri: {{prefix: {prefix}}}}}], route: [{{destination: {{host: web}}}}]}}"
            );
        }
    }
    let (resources, _) = Resources::read([("bench.yaml", text.as_str())]);
    compile(&resources, &Proxy::default()).snapshot.listeners[0].routes.clone()
}

fn request<'a>(authority: &'a str, path: &'a str, headers: &'a HeaderMap) -> RequestView<'a> {
    RequestView { method: "GET", scheme: "https", authority, path, query: "", port: 80, headers, token: None }
}

fn look_up(bencher: Bencher<'_, '_>, table: &RouteTable, request: RequestView<'_>) {
    let find = |request: &RequestView<'_>| table.host(request.authority).and_then(|host| host.route(request)).is_some();
    assert!(find(&request), "the bench must find its route");
    bencher.bench(|| find(black_box(&request)));
}

#[divan::bench(args = COUNTS)]
fn hosts(bencher: Bencher<'_, '_>, count: usize) {
    let hosts: Vec<String> = (0..count).map(|number| format!("h{number}.example.com")).collect();
    let table = table(&hosts, &["/".to_owned()]);
    let headers = HeaderMap::new();
    look_up(bencher, &table, request(hosts.last().expect("at least one"), "/x", &headers));
}

#[divan::bench(args = COUNTS)]
fn wildcard_hosts(bencher: Bencher<'_, '_>, count: usize) {
    let hosts: Vec<String> = (0..count).map(|number| format!("'*.h{number}.example.com'")).collect();
    let table = table(&hosts, &["/".to_owned()]);
    let headers = HeaderMap::new();
    let asked = format!("www.h{}.example.com:8443", count - 1);
    look_up(bencher, &table, request(&asked, "/x", &headers));
}

#[divan::bench(args = COUNTS)]
fn prefixes_in_one_host(bencher: Bencher<'_, '_>, count: usize) {
    // The last prefix is /r9999 in every case, so that only the number of the others differs.
    let prefixes: Vec<String> = (10_000 - count..10_000).map(|number| format!("/r{number}")).collect();
    let table = table(&["www.example.com".to_owned()], &prefixes);
    let headers = HeaderMap::new();
    look_up(bencher, &table, request("www.example.com", "/r9999/x", &headers));
}

/// Compiling is no hot path, but a reload must stay quick.
#[divan::bench(args = [100, 10_000], sample_count = 5, sample_size = 1)]
fn compile_virtual_services(bencher: Bencher<'_, '_>, count: usize) {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  selector: {istio: \
         ingressgateway}\n  servers:\n    - port: {number: 80, name: http, protocol: HTTP}\n      hosts:\n",
    );
    for number in 0..count {
        let _ = writeln!(text, "        - '*.h{number}.example.com'");
    }
    for number in 0..count {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{number}}}\nspec:\n  hosts: \
             ['*.h{number}.example.com']\n  gateways: [edge]\n  http: [{{route: [{{destination: {{host: s{number}}}}}]}}]\n"
        );
    }
    let (resources, _) = Resources::read([("bench.yaml", text.as_str())]);
    bencher.bench(|| compile(&resources, &Proxy::default()).snapshot.clusters.len());
}

/// 10,000 routes in one VirtualService.
#[divan::bench(args = [100, 10_000], sample_count = 5, sample_size = 1)]
fn compile_routes(bencher: Bencher<'_, '_>, count: usize) {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  selector: {istio: \
         ingressgateway}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: http, port: 80}]}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: \
         ['*']\n  gateways: [edge]\n  http:\n",
    );
    for number in 0..count {
        let _ = writeln!(
            text,
            "    - {{match: [{{uri: {{prefix: /r{number}}}}}], route: [{{destination: {{host: web}}}}]}}"
        );
    }
    let (resources, _) = Resources::read([("bench.yaml", text.as_str())]);
    bencher.bench(|| compile(&resources, &Proxy::default()).snapshot.listeners.len());
}
