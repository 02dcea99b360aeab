use crate::{
    compile::{Proxy, compile},
    resources::Resources,
    upstream::Cluster,
};

use super::least_common_multiple;

const ROUTE: &str = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: istio-system}, spec: \
                     {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}\n---\n{apiVersion: \
                     networking.istio.io/v1, kind: VirtualService, metadata: {name: v, namespace: a}, spec: {hosts: [all.test], \
                     gateways: [istio-system/g], http: [{route: [{destination: {host: all.test}}]}]}}\n---\n";

/// The cluster of `all.test` as a gateway of `network` reaches it.
fn cluster(network: &str, endpoints: &[&str], networks: &str, more: &str) -> (Cluster, Vec<String>) {
    let entry = format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: s, namespace: a}}, spec: {{hosts: [all.test], \
         location: MESH_INTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{}]}}}}",
        endpoints.join(", ")
    );
    let mesh = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: ''\n  meshNetworks: \
         |-\n    {networks}\n"
    );
    let text = format!("{ROUTE}{entry}\n---\n{mesh}---\n{more}");
    let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
    assert!(problems.is_empty(), "{problems:?}");
    let compiled =
        compile(&resources, &Proxy { network: network.to_owned(), namespace: "a".to_owned(), ..Proxy::default() });
    let found = compiled.snapshot.named_clusters().find(|cluster| &*cluster.host == "all.test");
    let problems = compiled.problems.iter().map(|problem| problem.message.clone()).collect();
    ((**found.expect("a route leads there")).clone(), problems)
}

fn told(cluster: &Cluster) -> Vec<String> {
    let told = |it: &crate::upstream::Endpoint| {
        format!("{} {} {}", it.address, it.weight, if it.tls { "tls" } else { "plain" })
    };
    cluster.endpoints.iter().map(told).collect()
}

const SIDECAR: &str = "labels: {security.istio.io/tlsMode: istio}";
const TWO: &str = "{networks: {n2: {endpoints: [{fromCidr: 10.2.0.0/16}], gateways: [{address: 1.1.1.1, port: 15443}, {address: \
                   1.1.1.2, port: 15443}]}, n3: {gateways: [{address: 1.1.1.3, port: 443}]}}}";

#[test]
fn what_is_elsewhere_is_reached_by_the_gateways_of_its_network_which_weigh_what_is_behind_them() {
    let endpoints = [
        format!("{{address: 10.1.0.1, network: n1, {SIDECAR}}}"),
        format!("{{address: 10.2.0.1, {SIDECAR}}}"),
        format!("{{address: 10.2.0.2, weight: 4, {SIDECAR}}}"),
        format!("{{address: 10.1.0.1, network: n3, {SIDECAR}}}"),
        format!("{{network: n3, {SIDECAR}}}"),
        // Nobody can lead on what is no mesh TLS.
        "{address: 10.2.0.9}".to_owned(),
    ];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let (cluster, _) = cluster("n1", &endpoints, TWO, "");
    assert_eq!(
        told(&cluster),
        ["10.1.0.1:80 2 tls", "1.1.1.1:15443 5 tls", "1.1.1.2:15443 5 tls", "1.1.1.3:443 4 tls"]
    );
}

#[test]
fn within_one_network_and_where_none_is_known_addresses_are_connected_to() {
    let endpoints = ["{address: 10.2.0.1, network: n2}", "{address: 10.2.0.2}", "{address: 10.9.0.1, network: n9}"];
    for network in ["n2", ""] {
        let (found, problems) = cluster(network, &endpoints, TWO, "");
        assert_eq!(found.endpoints.len(), 3, "{network}");
        let lost = problems.iter().any(|message| message.contains("own network is not known"));
        assert_eq!(lost, network.is_empty(), "{problems:?}");
        assert!(problems.iter().any(|message| message.contains("no gateway of this network")), "{problems:?}");
    }
}

/// Mesh-wide there is no mesh TLS, in one namespace there is.
const STRICT: &str = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: istio-system}, spec: \
                      {mtls: {mode: DISABLE}}}\n---\n{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: \
                      default, namespace: a}, spec: {mtls: {mode: STRICT}}}\n";

#[test]
fn to_the_gateway_of_another_network_everything_goes_in_mesh_tls_whatever_holds_mesh_wide() {
    let endpoints =
        [format!("{{address: 10.1.0.1, network: n1, {SIDECAR}}}"), format!("{{address: 10.2.0.1, {SIDECAR}}}")];
    let endpoints = endpoints.each_ref().map(String::as_str);
    let (found, _) = cluster("n1", &endpoints, TWO, STRICT);
    assert_eq!(told(&found), ["10.1.0.1:80 2 tls", "1.1.1.1:15443 1 tls", "1.1.1.2:15443 1 tls"]);
    let reversed = STRICT.replace("DISABLE", "WAS").replace("STRICT", "DISABLE").replace("WAS", "STRICT");
    let (found, _) = cluster("n1", &endpoints, TWO, &reversed);
    assert_eq!(told(&found), ["10.1.0.1:80 2 plain"], "who takes no mesh TLS is not led to");
}

#[test]
fn a_unix_socket_is_in_no_block_of_addresses() {
    let all = "{networks: {n2: {endpoints: [{fromCidr: '::/0'}], gateways: [{address: 1.1.1.1, port: 15443}]}}}";
    let (found, _) = cluster("n1", &["{address: 'unix:///run/app.sock'}"], all, "");
    let shown: Vec<String> = found.endpoints.iter().map(|it| crate::unix::shown(it.address).to_string()).collect();
    assert_eq!(shown, ["unix:///run/app.sock"]);
}

#[test]
fn where_there_is_one_network_an_address_counts_once_whoever_writes_a_network() {
    let (found, _) = cluster("", &["{address: 10.1.0.1, network: n1}", "{address: 10.1.0.1}"], "", "");
    assert_eq!(told(&found), ["10.1.0.1:80 1 plain"]);
    let (found, _) = cluster("n1", &["{address: 10.1.0.1, network: n1}", "{address: 10.1.0.1, network: n9}"], TWO, "");
    assert_eq!(found.endpoints.len(), 2, "networks that are apart");
}

#[test]
fn a_service_with_the_label_is_a_gateway_of_its_network() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: east, namespace: istio-system, labels: \
                   {topology.istio.io/network: n4}}\nspec: {ports: [{name: tls, port: 15443}], externalIPs: [3.3.3.3]}\nstatus: \
                   {loadBalancer: {ingress: [{ip: 4.4.4.4}, {hostname: east.test}]}}\n";
    let endpoint = format!("{{address: 10.4.0.1, network: n4, {SIDECAR}}}");
    let (found, _) = cluster("n1", &[&endpoint], "", service);
    assert_eq!(told(&found), ["3.3.3.3:15443 1 tls", "4.4.4.4:15443 1 tls"]);
    let named = "{networks: {n5: {gateways: [{registryServiceName: east.istio-system.svc.cluster.local, port: 443}]}}}";
    let endpoint = format!("{{address: 10.5.0.1, network: n5, {SIDECAR}}}");
    let (found, _) = cluster("n1", &[&endpoint], named, service);
    assert_eq!(told(&found), ["3.3.3.3:443 1 tls", "4.4.4.4:443 1 tls"]);
}

#[test]
fn gateways_divide_weights_evenly() {
    let all = [(2, 3), (1, 7), (4, 6), (0, 5)].map(|(one, other)| least_common_multiple(one, other));
    assert_eq!(all, [6, 7, 12, 5]);
}
