//! The peers of certificate stories are what those stories believe: a real CA behind a proxy that can stand still.

use std::time::Duration;

use harness::{
    acme::{AcmeMesh, NAMESPACE, SECRET, Setting},
    ca_proxy::{Ari, Canned, Moment, Step},
    client,
    eventually::{SOON, eventually},
    mesh::{HOST, SHOP},
    pebble::Options,
    tls_peer::TlsClient,
    yaml::tls_secret,
};
use tls::{
    acme::{
        Account, AccountKey, ChallengeKind, Client, Error, Order, OrderRequest, OrderStatus, Problem, Registration,
        RevocationReason,
    },
    authority::Issued,
    facts::facts,
    request::{KeyKind, generate_key, signing_request},
};

async fn account(acme: &AcmeMesh, external: Option<(&str, &[u8])>) -> Result<Account, Error> {
    let client = Client::new(&acme.ca.directory(), Some(acme.ca.ca_bundle().as_bytes()))?;
    let key = AccountKey::generate()?;
    client.register(&Registration { key: &key, email: Some("ops@example.com"), external }).await
}

/// An order for one host whose TXT record the CA is told to look at.
async fn order(acme: &AcmeMesh, account: &Account, host: &str, replaces: Option<&[u8]>) -> Result<Order, Error> {
    let mut order = account.order(&OrderRequest { hosts: &[host.to_owned()], profile: None, replaces }).await?;
    for authorization in order.authorizations().await? {
        let wanted = authorization.offers.iter().find(|offer| offer.kind == ChallengeKind::Dns01);
        let value = &wanted.expect("pebble offers dns-01").dns_value;
        acme.dns.set_txt(&format!("_acme-challenge.{}", authorization.host), value).await;
        order.begin(&authorization.host, authorization.wildcard, ChallengeKind::Dns01).await?;
    }
    comes_to(&mut order, OrderStatus::Ready).await;
    Ok(order)
}

async fn finalize(order: Order, host: &str) -> Result<String, Error> {
    finalize_with(order, host, &generate_key(KeyKind::EcdsaP256).expect("a key can be made")).await
}

async fn finalize_with(mut order: Order, host: &str, key: &str) -> Result<String, Error> {
    order.finalize(&signing_request(key, &[host.to_owned()]).expect("a request can be signed")).await?;
    comes_to(&mut order, OrderStatus::Valid).await;
    order.certificate().await
}

async fn certificate(acme: &AcmeMesh, account: &Account, replaces: Option<&[u8]>) -> Result<String, Error> {
    finalize(order(acme, account, HOST, replaces).await?, HOST).await
}

async fn comes_to(order: &mut Order, status: OrderStatus) {
    eventually(&format!("the order is {}", status.name()), async || {
        order.refresh().await.expect("the CA tells about the order") == status
    })
    .await;
}

fn serial(chain: &str) -> String {
    facts(chain.as_bytes()).expect("the CA gives certificates").serial
}

#[tokio::test]
async fn a_real_ca_issues_through_the_proxy_however_many_nonces_it_rejects() {
    let pebble =
        Options { nonce_reject: 50, chain_length: 2, validity: Duration::from_secs(600), ..Options::default() };
    let setting = Setting { pebble, in_cluster: false };
    let Some(acme) = AcmeMesh::with("of a CA that rejects nonces", &["*.example.com"], setting).await else { return };
    let account = account(&acme, None).await.expect("the CA takes an account");

    let ordered = order(&acme, &account, "*.example.com", None).await.expect("the CA takes an order");
    let chain = finalize(ordered, "*.example.com").await.expect("the CA issues a certificate");

    let facts = facts(chain.as_bytes()).expect("the CA gives certificates");
    assert_eq!(facts.dns_names, ["*.example.com"]);
    assert!((590..=600).contains(&(facts.not_after - facts.not_before)), "{facts:?}");
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 3);
    assert_eq!(acme.pebble.issued(), std::slice::from_ref(&facts.serial));
    assert_eq!(acme.pebble.certificate_status(&facts.serial).await, "Valid");
    assert_eq!(acme.ca.accepted(Step::NewOrder), 1);
    assert!(acme.ca.seen().iter().any(|seen| seen.problem == "badNonce"));
    assert_eq!(acme.ca.tokens("dns-01").len(), 1);
    assert!(acme.dns.questions("_acme-challenge.example.com").await > 0);

    account.revoke(chain.as_bytes(), RevocationReason::Superseded).await.expect("the CA revokes");
    assert_eq!(acme.pebble.certificate_status(&facts.serial).await, "Revoked");
}

#[tokio::test]
async fn a_request_held_before_the_ca_never_arrives_when_its_client_dies() {
    let Some(acme) = AcmeMesh::start("of a held request", &[HOST]).await else { return };
    let account = account(&acme, None).await.expect("the CA takes an account");
    let ordered = order(&acme, &account, HOST, None).await.expect("the CA takes an order");
    let url = ordered.url().to_owned();
    let mut held = acme.ca.hold_next(Step::Finalize, Moment::Before);

    tokio::select! {
        done = finalize(ordered, HOST) => panic!("it was not held: {done:?}"),
        () = held.reached() => {}
    }
    drop(held);

    let resumed = account.resume(&url).await.expect("the order is still there");
    assert_eq!((resumed.status(), acme.ca.accepted(Step::Finalize)), (OrderStatus::Ready, 0));
    let chain = finalize(resumed, HOST).await.expect("the order can be finished");
    assert_eq!(acme.pebble.issued(), [serial(&chain)]);
}

#[tokio::test]
async fn a_request_held_after_the_ca_has_taken_effect_although_nobody_was_told() {
    let Some(acme) = AcmeMesh::start("of a held answer", &[HOST]).await else { return };
    let account = account(&acme, None).await.expect("the CA takes an account");
    let ordered = order(&acme, &account, HOST, None).await.expect("the CA takes an order");
    let url = ordered.url().to_owned();
    let mut held = acme.ca.hold_next(Step::Finalize, Moment::After);

    tokio::select! {
        done = finalize(ordered, HOST) => panic!("it was not held: {done:?}"),
        () = held.reached() => {}
    }
    drop(held);

    let mut resumed = account.resume(&url).await.expect("the order is still there");
    comes_to(&mut resumed, OrderStatus::Valid).await;
    let chain = resumed.certificate().await.expect("the certificate was issued");
    assert_eq!(acme.pebble.issued(), [serial(&chain)]);
}

#[tokio::test]
async fn a_ca_on_a_bad_day_is_told_apart() {
    let Some(acme) = AcmeMesh::start("of a CA on a bad day", &[HOST]).await else { return };
    let account = account(&acme, None).await.expect("the CA takes an account");
    let refused = async || certificate(&acme, &account, None).await.expect_err("the CA is told to refuse");

    acme.ca.answer(Step::NewOrder, 1, Canned::rate_limited(Duration::from_secs(3600)));
    let limited = refused().await;
    assert_eq!(limited.problem().map(|problem: &Problem| problem.kind.as_str()), Some("rateLimited"));
    assert_eq!(limited.retry_after(), Some(Duration::from_secs(3600)));
    assert!(!limited.is_transient());

    acme.ca.answer(Step::NewOrder, usize::MAX, Canned::unavailable().retry_after(Duration::from_secs(5)));
    assert!(refused().await.is_transient());
    acme.ca.answer_nothing();
    acme.ca.answer(Step::NewOrder, usize::MAX, Canned::bad_gateway());
    assert!(refused().await.is_transient());
    acme.ca.answer_nothing();
    acme.ca.stop().await;
    assert!(refused().await.is_transient());
    assert_eq!(acme.ca.accepted(Step::NewOrder), 0);

    acme.ca.start_again().await;
    certificate(&acme, &account, None).await.expect("the CA is well again");
}

#[tokio::test]
async fn renewal_information_is_what_the_story_suggests() {
    let Some(acme) = AcmeMesh::start("of renewal information", &[HOST]).await else { return };
    let usual =
        Ari { start: 4_000_000_000, end: 4_000_086_400, explanation: None, retry_after: Duration::from_secs(7200) };
    acme.ca.offer_ari(Some(usual.clone()));
    let account = account(&acme, None).await.expect("the CA takes an account");
    let first = certificate(&acme, &account, None).await.expect("the CA issues a certificate");
    let asked = async |chain: &str| account.renewal(chain.as_bytes()).await.expect("the CA tells").expect("it has ARI");

    let before = asked(&first).await;
    acme.ca.suggest(&serial(&first), Ari { start: 1_000, end: 2_000, ..usual });
    let after = asked(&first).await;
    let second = certificate(&acme, &account, Some(first.as_bytes())).await.expect("the CA issues another one");

    assert_eq!((before.start, before.end), (4_000_000_000, 4_000_086_400));
    assert!(before.check_again > Duration::from_secs(7190), "{before:?}");
    assert_eq!((after.start, after.end), (1_000, 2_000));
    assert_eq!(asked(&second).await.start, 4_000_000_000);
    assert_eq!(acme.ca.asked_to_renew(), [serial(&first), serial(&first), serial(&second)]);
    assert_eq!(acme.ca.replaced(), [serial(&first)]);
}

#[tokio::test]
async fn a_ca_started_again_has_forgotten_its_accounts_and_knows_who_may_have_one() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let Some(mut acme) = AcmeMesh::start("of a CA that forgot", &[HOST]).await else { return };
    let forgotten = account(&acme, None).await.expect("the CA takes an account");
    let before = certificate(&acme, &forgotten, None).await.expect("the CA issues a certificate");

    acme.pebble.set_options(Options { external_accounts: vec![("kid-1".into(), KEY.into())], ..Options::default() });
    acme.pebble.start_again().await;

    let refused = certificate(&acme, &forgotten, None).await.expect_err("the account is unknown");
    assert_eq!(refused.problem().map(|problem| problem.kind.as_str()), Some("accountDoesNotExist"));
    let refused = account(&acme, None).await.expect_err("an account needs a key of the CA");
    assert_eq!(refused.problem().map(|problem| problem.kind.as_str()), Some("externalAccountRequired"));
    let mac = harness::pebble::mac_key(KEY);
    let known = account(&acme, Some(("kid-1", &mac))).await.expect("the CA knows this key");
    let after = certificate(&acme, &known, None).await.expect("the CA issues a certificate");
    assert_eq!(acme.pebble.issued(), [serial(&after)]);
    assert_eq!(acme.pebble.certificate_status(&serial(&before)).await, "");
    assert_eq!(acme.pebble.roots().matches("BEGIN CERTIFICATE").count(), 2);
}

#[tokio::test]
async fn what_the_ca_issues_is_served_by_every_replica_with_its_whole_chain() {
    let Some(acme) = AcmeMesh::start("of replicas that serve", &[HOST]).await else { return };
    let account = account(&acme, None).await.expect("the CA takes an account");
    let mut orders_nothing = acme.gateway_object();
    orders_nothing["metadata"]["annotations"].take();
    acme.write("edge.yaml", &orders_nothing);
    let (_one, _two) = (acme.replica(1).await, acme.replica(2).await);
    let [http, https] = acme.balance(&[1, 2]).await;
    assert!(acme.served(1, HOST).await.is_err());

    let ordered = order(&acme, &account, HOST, None).await.expect("the CA takes an order");
    let key_pem = generate_key(KeyKind::EcdsaP256).expect("a key can be made");
    let chain_pem = finalize_with(ordered, HOST, &key_pem).await.expect("the CA issues a certificate");
    acme.mesh.write("secret.yaml", &tls_secret(NAMESPACE, SECRET, &Issued { chain_pem, key_pem }));

    let served = [acme.served_within(SOON, 1, HOST).await, acme.served_within(SOON, 2, HOST).await];
    assert_eq!(
        served.each_ref().map(|it| (it.length, it.facts.serial.clone())),
        [(2, acme.pebble.issued()[0].clone()), (2, acme.pebble.issued()[0].clone())]
    );
    assert_eq!(acme.browser(2).status(SHOP).await, 200);
    let anywhere = client::Client::https(https.address(), TlsClient::trusting(acme.pebble.roots()));
    assert_eq!((anywhere.status(SHOP).await, anywhere.status(SHOP).await), (200, 200));
    let backends = [1, 2].map(|number| acme.mesh.block.at(number, https.address().port()));
    assert_eq!(backends.map(|backend| https.count(backend)), [1, 1]);
    assert_eq!(client::Client::plain(http.address()).status("http://shop.example.com/").await, 301);
    assert_eq!(acme.app.requests().len(), 3);
}
