//! The mesh's own CA and the proxies that live by it: identities of seconds under traffic, then another root.

use std::time::Duration;

use harness::{
    ca_mesh::CaMesh,
    control_plane::{Answer, Folder, ask, key_and_csr, plug_in, revoke},
    eventually::within,
    load::Load,
    mesh::SHOP,
    program,
};
use tls::request::KeyKind;

#[tokio::test]
async fn proxies_live_by_the_ca_through_a_change_of_roots() {
    // Long enough for a machine that is busy: a CA that has not read its Secret for so long does not sign.
    let scene = CaMesh::start(Folder::new(), "6s", &["--propagation", "3s"]).await;
    let folder = scene.folder();
    let before = folder.roots();
    let load = Load::start(&scene.mesh.browser(), 4, SHOP);
    scene.renewed(2.0).await;
    let (code, text) = folder.ca(&["rotate"]);
    assert_eq!(code, 0, "{text}");
    within(Duration::from_secs(120), "the old root has left", async || {
        let now = folder.roots();
        now.matches("BEGIN").count() == 1 && now != before
    })
    .await;
    scene.control.logs("the old root has left").await;
    // By the new root alone.
    scene.renewed(2.0).await;
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 500), (0, true), "{result:?}");
    let counted = scene.control.metrics().await;
    assert!(counted.sum("sluice_ca_issued_total", &[]) >= 10.0, "each proxy has had five at least");
    scene.control.stop().await;
}

#[tokio::test]
async fn a_token_that_is_gone_or_refused_costs_nothing_while_the_certificate_lasts() {
    let scene = CaMesh::start(Folder::new(), "6s", &[]).await;
    let CaMesh { control, mesh, .. } = &scene;
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
    for proxy in scene.proxies() {
        assert_eq!(proxy.log().matches("renewed by the certificate").count(), 1, "it is said once: {}", proxy.log());
    }
    let said: String = scene.proxies().iter().map(|proxy| proxy.log()).collect();
    assert!(said.contains("cannot be read") && said.contains("UNAUTHENTICATED"), "{said}");
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 100), (0, true), "{result:?}");
    scene.control.stop().await;
}

#[tokio::test]
async fn what_a_revoked_ca_has_issued_is_refused_and_proxies_go_on_with_its_successor() {
    let Some(python) = program::executable("that a revoked CA's certificates are refused", "python") else { return };
    let folder = Folder::new();
    let (cacerts, root) = (folder.path("cacerts"), folder.path("root"));
    plug_in(&cacerts, &root, "first").await;
    std::fs::copy(cacerts.join("ca-cert.pem"), root.join("first.pem")).unwrap();
    let scene = CaMesh::start(folder, "6s", &["--ca-dir", &cacerts.display().to_string()]).await;
    let (folder, control) = (scene.folder(), &scene.control);
    let (key, csr) = key_and_csr(KeyKind::EcdsaP256);
    let request = folder.request(control, "shop/cart", &csr);
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

    // Its successor is plugged in first: with the first one in force a list that revokes it is refused.
    plug_in(&cacerts, &root, "second").await;
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
    scene.renewed(2.0).await;
    within(Duration::from_secs(30), "the mesh goes on", async || scene.mesh.browser().status(SHOP).await == 200).await;
    let told = scene.reviews.proxy().admin_json("/certs").await;
    let own =
        told["certificates"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == "workload")).cloned();
    assert_eq!(own.unwrap()["identity"]["revocationLists"], true);
    scene.control.stop().await;
}
