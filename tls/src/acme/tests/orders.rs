//! Orders from the first word to the certificate, and what comes after it.

use std::time::Duration;

use serde_json::{Value, json};

use super::ca::{Answer, Ca};
use super::*;
use crate::authority::Authority;

const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn order(status: &str) -> Value {
    json!({
        "status": status, "authorizations": ["BASE/authz/1", "BASE/authz/2"], "finalize": "BASE/finalize",
        "certificate": "BASE/certificate",
    })
}

fn placed(status: &str) -> Answer {
    Answer::json(201, order(status)).with("Location", "BASE/order/1")
}

fn authorization(host: &str, wildcard: bool, status: &str, challenge: Value) -> Answer {
    let unknown = json!({"type": "dns-account-01", "url": "BASE/challenge/9", "status": "pending"});
    let identifier = json!({"type": "dns", "value": host});
    let state =
        json!({"identifier": identifier, "status": status, "wildcard": wildcard, "challenges": [unknown, challenge]});
    Answer::json(200, state)
}

fn challenge(kind: &str, number: u32, status: &str) -> Value {
    json!({"type": kind, "url": format!("BASE/challenge/{number}"), "token": TOKEN, "status": status})
}

/// A CA with an order for `a.example` and `*.a.example`.
async fn ca_with_order() -> (Ca, Order) {
    let ca = Ca::start().await;
    ca.says("/order", placed("pending"));
    ca.says("/order/1", Answer::json(200, order("pending")).with("Retry-After", "7"));
    ca.says("/authz/1", authorization("a.example", false, "pending", challenge("http-01", 1, "pending")));
    ca.says("/authz/2", authorization("a.example", true, "pending", challenge("dns-01", 2, "pending")));
    let hosts = hosts(&["a.example", "*.a.example"]);
    let request = OrderRequest { hosts: &hosts, profile: Some("shortlived"), replaces: None };
    let order = ca.account().await.order(&request).await.expect("orders");
    (ca, order)
}

fn certificate() -> String {
    let ca = Authority::new("test root").expect("a CA can be made");
    ca.issue_server(&["a.example"], Duration::from_secs(3600)).expect("issues").chain_pem
}

#[tokio::test]
async fn an_order_names_hosts_and_profile() {
    let (ca, order) = ca_with_order().await;

    assert_eq!((order.url(), order.status()), (ca.url("/order/1").as_str(), OrderStatus::Pending));
    let identifiers = json!([{"type": "dns", "value": "a.example"}, {"type": "dns", "value": "*.a.example"}]);
    assert_eq!(ca.asked("/order")[0].payload, json!({"identifiers": identifiers, "profile": "shortlived"}));
}

#[tokio::test]
async fn an_ip_address_is_ordered_as_one() {
    let ca = Ca::start().await;
    ca.says("/order", placed("pending"));
    let request = OrderRequest { hosts: &hosts(&["10.0.0.1"]), profile: None, replaces: None };

    ca.account().await.order(&request).await.expect("orders");

    assert_eq!(ca.asked("/order")[0].payload["identifiers"], json!([{"type": "ip", "value": "10.0.0.1"}]));
}

#[tokio::test]
async fn authorizations_tell_what_proves_each_host() {
    let (ca, mut order) = ca_with_order().await;

    let all = order.authorizations().await.expect("are there");

    let [plain, wildcard] = &all[..] else { panic!("{all:?}") };
    assert_eq!((plain.host.as_str(), plain.wildcard), ("a.example", false));
    assert_eq!((wildcard.host.as_str(), wildcard.wildcard), ("a.example", true));
    let kinds: Vec<_> = all.iter().flat_map(|one| &one.offers).map(|offer| offer.kind).collect();
    assert_eq!(kinds, [ChallengeKind::Http01, ChallengeKind::Dns01]);
    assert!(plain.offers[0].key_authorization.starts_with(&format!("{TOKEN}.")));
    assert_eq!(ca.asked("/authz/1").len(), 1);
    order.authorizations().await.expect("are there");
    assert_eq!(ca.asked("/authz/1").len(), 2, "they are read again");
    assert_eq!(order.retry_after(), Some(Duration::from_secs(7)));
}

#[test]
fn proofs_are_computed_as_the_rfc_says() {
    let offered: instant_acme::Challenge =
        serde_json::from_value(challenge("dns-01", 1, "pending")).expect("is a challenge");
    let offer = Offer::new(&offered, "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI").expect("is known");
    let key_authorization = format!("{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI");
    assert_eq!((offer.token.as_str(), offer.key_authorization), (TOKEN, key_authorization));
    assert_eq!(offer.dns_value, DNS_VALUE);
}

#[tokio::test]
async fn a_challenge_is_begun_once() {
    let (ca, mut order) = ca_with_order().await;
    ca.says("/challenge/2", Answer::json(200, challenge("dns-01", 2, "processing")));
    order.begin("a.example", true, ChallengeKind::Dns01).await.expect("begins");
    assert_eq!(ca.asked("/challenge/2")[0].payload, json!({}));

    ca.says("/challenge/2", Answer::problem(400, "malformed", "only status pending"));
    ca.says("/authz/2", authorization("a.example", true, "pending", challenge("dns-01", 2, "processing")));

    order.begin("a.example", true, ChallengeKind::Dns01).await.expect("was begun");
    order.begin("a.example", true, ChallengeKind::Dns01).await.expect("is known to be begun");
    assert_eq!((ca.asked("/challenge/2").len(), ca.asked("/challenge/1").len()), (2, 0));
}

#[tokio::test]
async fn a_challenge_that_cannot_begin_is_told() {
    let (ca, mut order) = ca_with_order().await;
    let error = order.begin("a.example", true, ChallengeKind::Http01).await.expect_err("is not offered");
    assert_eq!(error.to_string(), "the CA offers no http-01 for *.a.example");

    ca.says("/challenge/1", Answer::problem(403, "unauthorized", "no"));
    let error = order.begin("a.example", false, ChallengeKind::Http01).await.expect_err("is refused");
    assert_eq!(error.problem().expect("is told").kind, "unauthorized");

    ca.says("/authz/1", authorization("a.example", false, "valid", challenge("tls-alpn-01", 3, "valid")));
    order.refresh().await.expect("is there");
    order.begin("a.example", false, ChallengeKind::Http01).await.expect("is proved already");
}

#[tokio::test]
async fn a_failed_order_keeps_the_reasons() {
    let (ca, mut order) = ca_with_order().await;
    let reason =
        |kind: &str, detail: &str| json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail});
    let mut failed = self::order("invalid");
    failed["error"] = reason("unauthorized", "Unable to update challenge");
    ca.says("/order/1", Answer::json(200, failed));
    let mut refused = challenge("http-01", 1, "invalid");
    refused["error"] = reason("connection", "10.0.0.1: Timeout during connect");
    ca.says("/authz/1", authorization("a.example", false, "invalid", refused));

    assert_eq!(order.refresh().await.expect("is there"), OrderStatus::Invalid);

    assert_eq!(order.error().as_deref(), Some("Unable to update challenge (unauthorized)"));
    let all = order.authorizations().await.expect("are there");
    assert_eq!(all[0].status, AuthorizationStatus::Invalid);
    let error = all[0].error.as_ref().expect("has a reason");
    assert_eq!(error.to_string(), "10.0.0.1: Timeout during connect (connection)");
    let error = order.certificate().await.expect_err("there is none");
    assert_eq!(error.to_string(), "the order has no certificate: it is invalid");
}

#[tokio::test]
async fn an_order_is_taken_up_where_it_was_left() {
    let (ca, first) = ca_with_order().await;
    let account = ca.account().await;
    ca.says("/order/1", Answer::json(200, order("ready")));
    let mut order = account.resume(first.url()).await.expect("is there");
    assert_eq!(order.status(), OrderStatus::Ready);
    ca.says("/finalize", Answer::json(200, self::order("processing")).with("Retry-After", "3"));

    assert_eq!(order.finalize(b"csr").await.expect("finalizes"), OrderStatus::Processing);

    assert_eq!(order.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(ca.asked("/finalize")[0].payload, json!({"csr": "Y3Ny"}));
    ca.says("/order/1", Answer::json(200, self::order("valid")));
    let chain = certificate();
    ca.says("/certificate", Answer::text(200, &chain));
    let mut order = account.resume(first.url()).await.expect("is there");
    assert_eq!(order.certificate().await.expect("is issued"), chain);
    ca.says("/certificate", Answer::text(200, "hello"));
    let error = order.certificate().await.expect_err("is none");
    assert!(error.to_string().ends_with("what it gives as certificate cannot be read: no BEGIN CERTIFICATE block"));
}

#[tokio::test]
async fn a_replacement_is_named_where_renewal_information_is_offered() {
    let (ca, old) = (Ca::with_renewal().await, certificate());
    let hosts = hosts(&["a.example"]);
    let request = OrderRequest { hosts: &hosts, profile: None, replaces: Some(old.as_bytes()) };
    ca.says("/order", placed("pending"));

    ca.account().await.order(&request).await.expect("orders");

    let asked = ca.asked("/order");
    assert!(asked[0].payload["replaces"].as_str().is_some_and(|id| id.contains('.')));
    assert_eq!(asked[1].payload["replaces"], Value::Null, "the CA did not repeat it");

    let plain = Ca::start().await;
    plain.says("/order", placed("pending"));
    plain.account().await.order(&request).await.expect("orders");
    assert_eq!(plain.asked("/order").len(), 1);
    assert_eq!(plain.asked("/order")[0].payload["replaces"], Value::Null);
}

#[tokio::test]
async fn a_certificate_that_was_replaced_already_does_not_stop_an_order() {
    let (ca, old) = (Ca::with_renewal().await, certificate());
    let hosts = hosts(&["a.example"]);
    let request = OrderRequest { hosts: &hosts, profile: None, replaces: Some(old.as_bytes()) };
    ca.answers("/order", Answer::problem(409, "alreadyReplaced", "by another order"));
    ca.answers("/order", placed("pending"));
    ca.account().await.order(&request).await.expect("orders");

    ca.says("/order", Answer::problem(429, "rateLimited", "too many"));
    let error = ca.account().await.order(&request).await.expect_err("is limited");
    assert_eq!(error.problem().expect("is told").kind, "rateLimited");
    assert_eq!(ca.asked("/order").len(), 3, "a limit is not tried twice");
}

#[tokio::test]
async fn renewal_information_is_read() {
    let (ca, own) = (Ca::with_renewal().await, certificate());
    let account = ca.account().await;
    let id = instant_acme::CertificateIdentifier::try_from(&pem::certificates(own.as_bytes()).unwrap()[0])
        .expect("has an id")
        .to_string();
    let path = format!("/renewal/{id}");
    let window = |start: &str, end: &str| json!({"suggestedWindow": {"start": start, "end": end}, "explanationURL": "https://why"});
    let good = || Answer::json(200, window("2025-01-02T04:00:00Z", "2025-01-03T04:00:00Z"));
    ca.says(&path, good().with("Retry-After", "21"));

    let renewal = account.renewal(own.as_bytes()).await.expect("is there").expect("is offered");

    let explanation = Some("https://why".to_owned());
    assert_eq!(renewal.check_again.as_secs_f64().round(), 21.0);
    let check_again = renewal.check_again;
    assert_eq!(renewal, Renewal { start: 1_735_790_400, end: 1_735_876_800, explanation, check_again });
    ca.says(&path, good());
    let renewal = account.renewal(own.as_bytes()).await.expect("is there").expect("is offered");
    assert_eq!(renewal.check_again.as_secs_f64().round(), 21_600.0);
    ca.says(&path, Answer::json(200, window("2025-01-03T04:00:00Z", "2025-01-02T04:00:00Z")));
    assert!(account.renewal(own.as_bytes()).await.is_err());
    ca.says(&path, Answer::problem(404, "malformed", "unknown certificate"));
    assert_eq!(account.renewal(own.as_bytes()).await.expect_err("is unknown").problem().unwrap().status, Some(404));
    assert_eq!(Ca::start().await.account().await.renewal(own.as_bytes()).await.expect("is fine"), None);
}

#[tokio::test]
async fn a_certificate_is_revoked_with_its_reason() {
    let (ca, own) = (Ca::start().await, certificate());
    let account = ca.account().await;
    ca.says("/revoke", Answer::text(200, ""));

    account.revoke(own.as_bytes(), RevocationReason::KeyCompromise).await.expect("revokes");

    assert_eq!(ca.asked("/revoke")[0].payload["reason"], 1);
    assert!(ca.asked("/revoke")[0].payload["certificate"].as_str().is_some_and(|der| der.starts_with("MII")));
    let error = account.revoke(b"?", RevocationReason::Unspecified).await.expect_err("is no certificate");
    assert_eq!(error.to_string(), "the certificate cannot be read: no BEGIN CERTIFICATE block");
}

/// `printf '%s' KEY_AUTHORIZATION | openssl dgst -sha256 -binary | basenc --base64url`, without the padding.
const DNS_VALUE: &str = "lCM7cZyQXcVHK2nnW3jjAhNT3Fvm18UN-kWZZknKoYM";
