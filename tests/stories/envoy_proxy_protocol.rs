//! Real Envoy on the other side of PROXY headers, in front of the gateway and behind it.

use harness::{
    client::{Client, get},
    envoy::{Envoy, executable},
    eventually::eventually,
    mesh::{Mesh, SHOP},
    yaml::{destination_rule, indent},
};

use super::envoy::{bootstrap, cluster, manager, socket};

const GATEWAY_TOPOLOGY: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  \
                                mesh: |\n    defaultConfig:\n      gatewayTopology: {proxyProtocol: {}}\n";

#[tokio::test]
async fn envoy_behind_the_gateway_reads_who_the_client_is() {
    let Some(envoy) = executable("envoy_behind_the_gateway_reads_who_the_client_is") else { return };
    for version in ["V1", "V2"] {
        let mesh = Mesh::with_edge();
        let pod = mesh.workload("reviews").declare();
        let filter = "name: proxy\ntyped_config: {'@type': \
                      type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}";
        let http = "name: envoy.filters.network.http_connection_manager\ntyped_config:\n  \
             '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n  \
             stat_prefix: http\n  use_remote_address: true\n  http_filters:\n  - name: router\n    \
             typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n  \
             route_config:\n    response_headers_to_add:\n    \
             - header: {key: x-seen, value: '%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS%'}\n    \
             virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, \
             direct_response: {status: 200, body: {inline_string: hello}}}]}]";
        let listener = format!(
            "- name: inbound\n  address: {{{}}}\n  listener_filters:\n  -\n{}\n  filter_chains:\n  - filters:\n    -\n{}\n",
            socket(pod),
            indent(filter, 4),
            indent(http, 6)
        );
        let admin = mesh.block.at(90, 9901);
        let _envoy = Envoy::start(&envoy, &bootstrap(admin, &listener, &cluster("none", pod, "")), admin).await;
        let rule = format!("trafficPolicy: {{proxyProtocol: {{version: {version}}}}}");
        mesh.write("rule.yaml", &destination_rule("reviews", &rule));
        mesh.route_all_to("reviews");
        let gateway = mesh.gateway().await;
        let front = gateway.addresses().second;

        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut connection = Client::plain(front).connect("shop.example.com").await.expect("somebody listens");
            for _ in 0..2 {
                let reply = connection.send(get("http://shop.example.com/")).await.expect("an answer");
                assert_eq!((reply.code(), reply.text().as_str()), (200, "hello"), "{version}");
                seen.push(reply.header("x-seen").to_owned());
            }
        }
        assert!(seen.iter().all(|seen| seen.ends_with(&format!(" {front}"))), "{version}: {seen:?}");
        assert!(seen[0] == seen[1] && seen[2] == seen[3] && seen[0] != seen[2], "{version}: {seen:?}");
    }
}

#[tokio::test]
async fn envoy_in_front_of_the_gateway_says_who_the_client_is() {
    let Some(envoy) = executable("envoy_in_front_of_the_gateway_says_who_the_client_is") else { return };
    for version in ["V1", "V2"] {
        let mesh = Mesh::with_edge();
        let _app = mesh.workload("reviews").start().await;
        mesh.route_all_to("reviews");
        mesh.write("mesh.yaml", GATEWAY_TOPOLOGY);
        let gateway = mesh.gateway().await;
        let proxy = format!(
            "transport_socket:\n  name: proxy\n  typed_config:\n    \
             '@type': type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport\n    \
             config: {{version: {version}}}\n    transport_socket:\n      name: raw\n      typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}"
        );
        let (front, admin) = (mesh.block.at(90, 8080), mesh.block.at(90, 9901));
        let listener = format!(
            "- name: front\n  address: {{{}}}\n  filter_chains:\n  - filters:\n    -\n{}\n",
            socket(front),
            indent(&manager("gateway", ""), 6)
        );
        let clusters = cluster("gateway", gateway.addresses().second, &proxy);
        let _envoy = Envoy::start(&envoy, &bootstrap(admin, &listener, &clusters), admin).await;

        let reply = Client::plain(front).get("http://shop.example.com/").await;

        assert_eq!(reply.code(), 200, "{version}: {}", reply.text());
        let met = format!(" {front} ");
        eventually("the log names Envoy's address", async || gateway.access_log().contains(&met)).await;
        let direct = Client::plain(gateway.addresses().second).status("http://shop.example.com/").await;
        assert_eq!(direct, 0, "{version}: without a header there is no service at {SHOP}");
    }
}
