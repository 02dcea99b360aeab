//! Issuers whose keys are elsewhere.

use std::time::Duration;

use harness::{
    eventually::{eventually, within},
    jwt::{Answer, KeyServer, Minter},
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
async fn metadata_of_clouds_is_not_asked() {
    let shop = Shop::with(&remote("http://169.254.169.254/latest/meta-data")).await;
    shop._gateway.logs("can reach").await;
    assert_eq!(shop.get("/", &[]).await.code(), 200);
}
