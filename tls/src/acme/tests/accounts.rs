//! Registering, keeping and changing accounts.

use serde_json::json;

use super::ca::{Answer, Ca};
use super::*;

fn key() -> AccountKey {
    AccountKey::generate().expect("a key can be made")
}

#[tokio::test]
async fn an_account_is_registered_with_the_callers_key_and_then_told_the_address() {
    let (ca, key) = (Ca::start().await, key());
    let registration = Registration { key: &key, email: Some("ops@example.com"), external: None };

    let account = ca.client().register(&registration).await.expect("registers");

    assert_eq!(account.url(), ca.url("/account/1"));
    let asked = ca.asked("/account");
    assert_eq!(asked[0].payload, json!({"contact": [], "termsOfServiceAgreed": true}));
    assert_eq!(ca.asked("/account/1")[0].payload, json!({"contact": ["mailto:ops@example.com"]}));
    assert!(asked[0].head.contains("user-agent: sluice/"), "{}", asked[0].head);
    let again = Registration { key: &AccountKey::from_pem(&key.to_pem()).expect("is a key"), ..registration };
    ca.client().register(&again).await.expect("registers");
    assert_eq!(ca.asked("/account")[1].protected["jwk"], asked[0].protected["jwk"]);
}

#[tokio::test]
async fn an_external_account_is_bound() {
    let (ca, key) = (Ca::start().await, key());
    let registration = Registration { key: &key, email: Some("a@b.example"), external: Some(("kid-7", b"secret")) };

    let account = ca.client().register(&registration).await.expect("registers");

    let asked = ca.asked("/account");
    assert_eq!(asked[0].payload["contact"], json!(["mailto:a@b.example"]));
    assert!(asked[0].payload["externalAccountBinding"]["signature"].is_string());
    assert!(ca.client().account(&account.credentials()).await.is_ok());
    assert!(!format!("{registration:?}").contains("secret"));
}

#[tokio::test]
async fn an_account_kept_is_the_same_account() {
    let ca = Ca::start().await;
    let account = ca.account().await;

    let kept = ca.client().account(&account.credentials()).await.expect("is an account");

    kept.update_email(None).await.expect("updates");
    assert_eq!((kept.url(), kept.credentials()), (account.url(), account.credentials()));
    assert_eq!(ca.asked("/account/1")[0].protected["kid"], ca.url("/account/1"));
    assert_eq!(ca.asked("/account/1")[0].payload, json!({"contact": []}));
}

#[tokio::test]
async fn an_account_of_another_ca_is_not_used() {
    let (ca, other) = (Ca::start().await, Ca::start().await);
    let credentials = ca.account().await.credentials();

    let error = other.client().account(&credentials).await.expect_err("is registered elsewhere");

    let expected = format!("it is registered at `{}`, not at {}", ca.url("/directory"), other.url("/directory"));
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert!(matches!(ca.client().account("{}").await, Err(Error::Credentials(_))));
    assert!(matches!(ca.client().account("hello").await, Err(Error::Credentials(_))));
}

#[tokio::test]
async fn an_account_the_ca_does_not_know_is_named_so() {
    let ca = Ca::start().await;
    let account = ca.account().await;
    ca.says("/account/1", Answer::problem(400, "accountDoesNotExist", "Account not found."));

    let error = account.update_email(None).await.expect_err("is unknown");

    assert_eq!(error.problem().map(|problem| problem.kind.as_str()), Some("accountDoesNotExist"));
    assert_eq!(error.problem().and_then(|problem| problem.status), Some(400));
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_changed_key_is_in_the_credentials() {
    let ca = Ca::start().await;
    let mut account = ca.account().await;
    let old = account.credentials();
    ca.says("/key", Answer::json(200, json!({"status": "valid"})));

    account.change_key().await.expect("changes");

    assert_ne!(account.credentials(), old);
    assert!(ca.client().account(&account.credentials()).await.is_ok());
    ca.says("/key", Answer::problem(409, "malformed", "key in use"));
    let kept = account.credentials();
    account.change_key().await.expect_err("is refused");
    assert_eq!(account.credentials(), kept);
}

#[test]
fn a_key_comes_back_from_its_pem() {
    let key = key();
    assert_eq!(AccountKey::from_pem(&key.to_pem()).expect("is a key").to_pem(), key.to_pem());
    let other = crate::request::generate_key(crate::request::KeyKind::EcdsaP384).expect("a key can be made");
    let error = AccountKey::from_pem(&other).expect_err("is on another curve");
    assert_eq!(error.to_string(), "the account key cannot be used: it is not an ECDSA key on P-256");
    let error = AccountKey::from_pem("").expect_err("is empty");
    assert_eq!(error.to_string(), "the account key cannot be used: the private key is empty");
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let (ca, key) = (Ca::start().await, key());
    let account = ca.account().await;
    let secret = serde_json::from_str::<serde_json::Value>(&account.credentials()).expect("is JSON");
    let secret = secret["key_pkcs8"].as_str().expect("has a key").to_owned();

    assert!(!format!("{account:?}").contains(&secret));
    assert_eq!(format!("{key:?}"), "AccountKey { .. }");
    let offer = Offer {
        kind: ChallengeKind::Http01,
        token: "a".to_owned(),
        key_authorization: "a.b".to_owned(),
        dns_value: "c".to_owned(),
    };
    assert_eq!(format!("{offer:?}"), "Offer { kind: Http01, .. }");
}
