//! Routes and servers of connections that are no HTTP.

use super::service;

const DB: &str = "\
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {selector: {app: db}, clusterIP: 10.9.0.1, ports: [{name: tcp-db, port: 3306}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: vault, namespace: shop}, spec: {selector: {app: vault}, ports: [{name: tls, port: 443}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: db, namespace: shop}, spec: {host: db, subsets: [{name: v1, labels: {version: v1}}]}}
---
";

const PORTS: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bytes, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 3306, name: db, protocol: MYSQL}, hosts: ['*']}
  - {port: {number: 443, name: passed, protocol: TLS}, hosts: ['*.passed.test'], tls: {mode: PASSTHROUGH}}
  - {port: {number: 443, name: ended, protocol: TLS}, hosts: [db.test], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 15443, name: mesh, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}
---
";

fn routes(spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: bytes, namespace: shop}}\nspec:\n{spec}"
    )
}

fn block(text: &str, title: &str) -> String {
    let from = &text[text.find(title).unwrap_or_else(|| panic!("{title}: {text}"))..];
    from[..from.find("\n\n").unwrap_or(from.len())].to_owned()
}

#[test]
fn ports_of_bytes_are_shown_with_their_shares_and_without_false_alarm() {
    let spec = "  hosts: ['*']\n  gateways: [istio-system/bytes]\n  tcp:\n  - match: [{port: 3306}]\n    route: [{destination: \
                {host: db, subset: v1}, weight: 90}, {destination: {host: db, subset: v9}, weight: 10}]\n";
    let text = service(&format!("{DB}{PORTS}{}", routes(spec)), "shop/db");
    let wanted = "Exposed on Gateway istio-system/bytes\n  server       3306 MYSQL\n  hosts        *\n    tcp://<gateway>:3306  \
                  (VirtualService shop/bytes)\n      every connection\n      -> db.shop.svc.cluster.local:3306 subset v1 90 \
                  %\n      -> db.shop.svc.cluster.local:3306 subset v9 10 %: there is no such thing, so these connections \
                  end\n";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("[unknown-subset]") && !text.contains("no route of it is in force"), "{text}");
}

#[test]
fn what_is_passed_on_and_what_ends_here_are_told_apart_by_server_name() {
    let spec = "  hosts: ['*.passed.test', db.test]\n  gateways: [istio-system/bytes]\n  tls:\n  - match: [{sniHosts: \
                [a.passed.test, '*.b.passed.test']}]\n    route: [{destination: {host: vault}}]\n  tcp: [{route: [{destination: \
                {host: db}}]}]\n";
    let all = format!("{DB}{PORTS}{}", routes(spec));
    let vault = service(&all, "shop/vault");
    for wanted in [
        "server       443 TLS, TLS PASSTHROUGH\n  hosts        *.passed.test\n",
        "tls://a.passed.test:443  (VirtualService shop/bytes)\n      server name is a.passed.test\n      -> \
         vault.shop.svc.cluster.local:443\n",
        "tls://any.b.passed.test:443  (VirtualService shop/bytes)\n      server name is *.b.passed.test\n",
    ] {
        assert!(vault.contains(wanted), "{wanted}: {vault}");
    }
    let db = service(&all, "shop/db");
    assert!(
        db.contains("server       443 TLS, TLS ISTIO_MUTUAL\n  hosts        db.test\n    tls://db.test:443"),
        "{db}"
    );
}

#[test]
fn gateways_of_other_networks_find_every_port_by_name() {
    let text = service(&format!("{DB}{PORTS}"), "shop/db");
    let wanted = "for gateways of other networks\n      server name is outbound_.3306_._.db.shop.svc.cluster.local\n      -> \
                  db.shop.svc.cluster.local:3306\n";
    assert!(text.contains("server       15443 TLS, TLS AUTO_PASSTHROUGH\n") && text.contains(wanted), "{text}");
    assert!(text.contains("server name is outbound_.3306_.v1_.db.shop.svc.cluster.local"), "{text}");
}

#[test]
fn in_the_mesh_destinations_and_sources_narrow_a_route() {
    let spec = "  hosts: [db]\n  tcp:\n  - match: [{destinationSubnets: [10.9.0.0/16], sourceLabels: {app: web}}]\n    route: \
                [{destination: {host: vault, port: {number: 443}}}]\n";
    let all = format!("{DB}{}", routes(spec));
    let text = service(&all, "shop/db");
    let web = "  for          workloads of shop with app=web\n  db.shop.svc.cluster.local port 3306\n    VirtualService \
               shop/bytes\n      destination is 10.9.0.0/16\n      -> vault.shop.svc.cluster.local:443\n";
    assert!(text.contains(web), "{text}");
    assert!(
        text.contains("db.shop.svc.cluster.local port 3306: straight to its endpoints, no VirtualService"),
        "{text}"
    );
    // And from the other end.
    let vault = service(&all, "shop/vault");
    assert!(block(&vault, "Inside of the mesh").contains("port 443: straight"), "{vault}");
    assert!(vault.contains("db.shop.svc.cluster.local port 3306\n    VirtualService shop/bytes\n"), "{vault}");
}

#[test]
fn tls_in_the_mesh_is_routed_by_its_server_names() {
    let spec = "  hosts: [vault.shop.svc.cluster.local, v.test]\n  tls:\n  - match: [{sniHosts: \
                [vault.shop.svc.cluster.local, v.test]}]\n    route: [{destination: {host: db, port: {number: 3306}}}]\n";
    let text = service(&format!("{DB}{}", routes(spec)), "shop/vault");
    let wanted = "vault.shop.svc.cluster.local port 443\n    VirtualService shop/bytes\n      server name is \
                  vault.shop.svc.cluster.local or v.test\n      -> db.shop.svc.cluster.local:3306\n";
    assert!(text.contains(wanted), "{text}");
}
