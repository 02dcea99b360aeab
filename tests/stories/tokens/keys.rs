//! Issuers whose keys are elsewhere.

use std::time::Duration;

use harness::{
    client::{request, with_body},
    eventually::{eventually, within},
    jwt::{Answer, KeyServer, Minter, request_authentication},
    mesh::{Mesh, SHOP},
    pki::authority,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ISSUER, Shop};

fn remote(uri: &str) -> Value {
    json!([{"issuer": ISSUER, "jwksUri": uri, "timeout": "1s"}])
}

#[tokio::test]
async fn keys_that_rotate_are_fetched_when_a_token_names_a_new_one() {
    let (old, new) = (Minter::simple(), Minter::new(&[("next", "P-256")]));
    let block = harness::loopback::Loopback::claim();
    let server = KeyServer::start(block.at(1, 8080), Answer::Keys(old.jwks())).await;
    let shop = Shop::with(&remote(&server.uri)).await;
    let token = old.token(ISSUER, "ada", &json!({}));
    assert_eq!(shop.bearer(&token).await.code(), 200);
    assert_eq!(server.asked(), 1, "once for all requests");

    let both =
        json!({"keys": [old.public("main", &json!({"kid": "main"})), new.public("next", &json!({"kid": "next"}))]});
    server.set(Answer::Keys(both.to_string()));
    let claims = json!({"iss": ISSUER, "sub": "ada"}).to_string();
    let next = new.sign(r#"{"alg":"ES256","kid":"next"}"#, &claims, "next", "ES256");
    within(Duration::from_secs(25), "the new key is known", async || shop.bearer(&next).await.code() == 200).await;
    assert_eq!(shop.bearer(&token).await.code(), 200);
    assert_eq!(server.asked(), 2, "many tokens of unknown keys ask once");
}

#[tokio::test]
async fn an_issuer_that_is_away_keeps_its_last_good_keys_over_a_reload() {
    let minter = Minter::simple();
    let block = harness::loopback::Loopback::claim();
    let server = KeyServer::start(block.at(1, 8080), Answer::Keys(minter.jwks())).await;
    let shop = Shop::with(&remote(&server.uri)).await;
    let token = minter.token(ISSUER, "ada", &json!({}));
    assert_eq!(shop.bearer(&token).await.code(), 200);

    server.set(Answer::Status(503));
    let generation = async || shop._gateway.metrics().await.sum("sluice_snapshot_generation", &[]);
    let before = generation().await;
    shop.mesh.routes("- directResponse: {status: 200, body: {string: new}}");
    eventually("the change is in force", async || generation().await > before).await;
    assert_eq!(shop.bearer(&token).await.text(), "new");
    assert_eq!(server.asked(), 1, "what is known is not asked for again");
}

#[tokio::test]
async fn keys_that_are_not_there_yet_cost_only_their_tokens() {
    for answer in [Answer::Status(503), Answer::Silence, Answer::Keys("{}".to_owned())] {
        let minter = Minter::simple();
        let block = harness::loopback::Loopback::claim();
        let server = KeyServer::start(block.at(1, 8080), answer.clone()).await;
        let started = Instant::now();
        let shop = Shop::with(&remote(&server.uri)).await;
        assert!(started.elapsed() < Duration::from_secs(15), "{answer:?}: nobody waits for an issuer for long");
        let token = minter.token(ISSUER, "ada", &json!({}));
        assert_eq!(shop.get("/", &[]).await.code(), 200);
        let refused = shop.bearer(&token).await;
        assert_eq!(
            (refused.code(), refused.text().as_str()),
            (401, "Jwks doesn't have key to match kid or alg from Jwt")
        );
        shop._gateway.logs("the keys of an issuer of tokens cannot be had").await;
        shop._gateway.logs("jwks-missing").await;

        server.set(Answer::Keys(minter.jwks()));
        within(Duration::from_secs(20), "the keys are fetched", async || shop.bearer(&token).await.code() == 200).await;
        shop._gateway.logs("the keys of an issuer of tokens are here").await;
    }
}

#[tokio::test]
async fn a_ca_of_ones_own_is_trusted_for_keys_when_it_is_named() {
    let (authority, minter) = (authority("keys"), Minter::simple());
    let block = harness::loopback::Loopback::claim();
    let address = block.at(1, 8443);
    let identity = authority.issue_server(&[&address.ip().to_string()], Duration::from_secs(3600)).expect("a key");
    let server = KeyServer::start_tls(address, Answer::Keys(minter.jwks()), &identity).await;
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    mesh.write("tokens.yaml", &request_authentication("istio-system", &remote(&server.uri)));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "no certificate").expect("written");
    let gateway = mesh.gateway_with(&["--jwks-ca", file.path().to_str().expect("a plain name")]).await;
    let token = format!("Bearer {}", minter.token(ISSUER, "ada", &json!({})));
    let browser = mesh.browser();
    let ask = async || browser.call(with_body(request("GET", SHOP).header("authorization", &token), "")).await.code();

    gateway.logs("--jwks-ca").await;
    assert_eq!((ask().await, server.asked()), (401, 0), "without a CA nobody is asked");
    std::fs::write(file.path(), authority.root_pem()).expect("written");
    within(Duration::from_secs(20), "the file is read again", async || ask().await == 200).await;
}

#[tokio::test]
async fn metadata_of_clouds_is_not_asked() {
    for address in ["169.254.169.254", "100.100.100.200", "[64:ff9b::a83f:8110]"] {
        let shop = Shop::with(&remote(&format!("http://{address}/latest/meta-data"))).await;
        shop._gateway.logs("can reach").await;
        assert_eq!(shop.get("/", &[]).await.code(), 200);
    }
}
