//! The mesh's own CA and the proxies that live by it: identities of seconds under traffic, then another root.

use std::time::Duration;

use harness::{
    control_plane::{Answer, Folder, ProxiesCa, ask, key_and_csr, plug_in, revoke},
    eventually::within,
    gateway::Proxy,
    load::Load,
    mesh::{Mesh, SHOP},
    program,
};
use tls::request::KeyKind;

const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

/// Waits until a proxy has been given so many identities since it started.
async fn given(proxy: &Proxy, count: f64) {
    within(Duration::from_secs(60), &format!("{count} identities are given"), async || {
        proxy.metrics().await.sum("sluice_identity_attempts_total", &[("result", "given")]) >= count
    })
    .await;
}

#[tokio::test]
async fn proxies_live_by_the_ca_through_a_change_of_roots() {
    let mut mesh = Mesh::with_edge();
    let folder = Folder::new();
    // Long enough for a machine that is busy: a CA that has not read its Secret for so long does not sign.
    let control = folder.start(&mesh.block, 9, &["--propagation", "3s", "--default-lifetime", "6s"]).await;
    mesh.control = Some(ProxiesCa { folder, address: control.ca, lifetime: "6s" });
    mesh.write("strict.yaml", STRICT);
    let reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.route_all_to("reviews.shop.svc.cluster.local");
    let gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);

    let folder = &mesh.control.as_ref().unwrap().folder;
    let before = folder.roots();
    let load = Load::start(&mesh.browser(), 4, SHOP);
    for proxy in [&gateway, reviews.proxy()] {
        given(proxy, 3.0).await;
    }
    let (code, text) = folder.ca(&["rotate"]);
    assert_eq!(code, 0, "{text}");
    within(Duration::from_secs(120), "the old root has left", async || {
        let now = folder.roots();
        now.matches("BEGIN").count() == 1 && now != before
    })
    .await;
    control.logs("the old root has left").await;
    let met = async |proxy: &Proxy| proxy.metrics().await.sum("sluice_identity_attempts_total", &[("result", "given")]);
    for proxy in [&gateway, reviews.proxy()] {
        // By the new root alone.
        given(proxy, met(proxy).await + 2.0).await;
    }
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 500), (0, true), "{result:?}");
    let counted = control.metrics().await;
    assert!(counted.sum("sluice_ca_issued_total", &[]) >= 10.0, "each proxy has had five at least");
    control.stop().await;
}

#[tokio::test]
async fn a_token_that_is_gone_or_refused_costs_nothing_while_the_certificate_lasts() {
    let mut mesh = Mesh::with_edge();
    let folder = Folder::new();
    let control = folder.start(&mesh.block, 9, &["--default-lifetime", "6s"]).await;
    mesh.control = Some(ProxiesCa { folder, address: control.ca, lifetime: "6s" });
    mesh.write("strict.yaml", STRICT);
    let reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.route_all_to("reviews.shop.svc.cluster.local");
    let gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    let load = Load::start(&mesh.browser(), 2, SHOP);
    let by_certificate = async || control.metrics().await.sum("sluice_ca_issued_total", &[("proof", "certificate")]);
    let tokens = mesh.tokens();
    assert!(tokens.len() >= 2, "{tokens:?}");
    for (number, file) in tokens.iter().enumerate() {
        match number % 2 {
            0 => std::fs::remove_file(file).unwrap(),
            _ => std::fs::write(file, "not.a.token").unwrap(),
        }
    }
    within(Duration::from_secs(30), "each proxy renews by its certificate", async || by_certificate().await >= 4.0)
        .await;
    for (proxy, why) in [(&gateway, "renewed by the certificate"), (reviews.proxy(), "renewed by the certificate")] {
        assert_eq!(proxy.log().matches(why).count(), 1, "it is said once: {}", proxy.log());
    }
    let said = gateway.log() + &reviews.proxy().log();
    assert!(said.contains("cannot be read") && said.contains("UNAUTHENTICATED"), "{said}");
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 100), (0, true), "{result:?}");
    control.stop().await;
}

#[tokio::test]
async fn what_a_revoked_ca_has_issued_is_refused_and_proxies_go_on_with_its_successor() {
    let Some(python) = program::executable("that a revoked CA's certificates are refused", "python") else { return };
    let mut mesh = Mesh::with_edge();
    let folder = Folder::new();
    let (cacerts, root) = (folder.path("cacerts"), folder.path("root"));
    plug_in(&cacerts, &root, "first").await;
    std::fs::copy(cacerts.join("ca-cert.pem"), root.join("first.pem")).unwrap();
    let flags = ["--default-lifetime", "6s", "--ca-dir", &cacerts.display().to_string()];
    let control = folder.start(&mesh.block, 9, &flags).await;
    let (key, csr) = key_and_csr(KeyKind::EcdsaP256);
    let request = folder.request(&control, "shop/cart", &csr);
    let mut lasting = request.clone();
    lasting["ttl"] = 3600.into();
    let issued = ask(&python, &[lasting]).await.remove(0);
    let renewal = |issued: &Answer| {
        let mut renewal = request.clone();
        renewal.as_object_mut().unwrap().remove("token");
        renewal["chain"] = issued.chain[..issued.chain.len() - 1].concat().into();
        renewal["key"] = key.clone().into();
        renewal
    };
    assert_eq!(ask(&python, &[renewal(&issued)]).await[0].code, "OK");
    mesh.control = Some(ProxiesCa { folder, address: control.ca, lifetime: "6s" });
    mesh.write("strict.yaml", STRICT);
    let reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.route_all_to("reviews.shop.svc.cluster.local");
    let _gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);

    // Its successor is plugged in first: with the first one in force a list that revokes it is refused.
    plug_in(&cacerts, &root, "second").await;
    let folder = &mesh.control.as_ref().unwrap().folder;
    let by_second = async || ask(&python, std::slice::from_ref(&request)).await.remove(0);
    within(Duration::from_secs(30), "the second CA signs", async || by_second().await.chain[1] != issued.chain[1])
        .await;
    revoke(&cacerts, &root, &root.join("first.pem")).await;
    within(Duration::from_secs(30), "the lists are handed out", async || folder.path("state/ca-crl.pem").exists())
        .await;
    within(Duration::from_secs(30), "what the first has issued is refused", async || {
        ask(&python, &[renewal(&issued)]).await[0].code == "UNAVAILABLE"
    })
    .await;
    assert_eq!(ask(&python, &[renewal(&by_second().await)]).await[0].code, "OK");
    given(reviews.proxy(), 3.0).await;
    within(Duration::from_secs(30), "the mesh goes on", async || mesh.browser().status(SHOP).await == 200).await;
    let told = reviews.proxy().admin_json("/certs").await;
    let own =
        told["certificates"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == "workload")).cloned();
    assert_eq!(own.unwrap()["identity"]["revocationLists"], true);
    control.stop().await;
}
