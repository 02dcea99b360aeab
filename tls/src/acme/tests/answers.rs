//! Answers that are no success, and CAs that cannot be reached.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::ca::{Answer, Ca};
use super::*;

const HOSTS: [&str; 1] = ["a.example"];

async fn order_error(ca: &Ca) -> Error {
    let hosts = HOSTS.map(str::to_owned);
    let request = OrderRequest { hosts: &hosts, profile: None, replaces: None };
    ca.account().await.order(&request).await.expect_err("is refused")
}

async fn register(client: &Client) -> Result<Account, Error> {
    let key = AccountKey::generate().expect("a key can be made");
    client.register(&Registration { key: &key, email: None, external: None }).await
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let ca = Ca::start().await;
    ca.says("/order", Answer::problem(429, "rateLimited", "too many certificates").with("Retry-After", "3600"));

    let error = order_error(&ca).await;

    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert!(!error.is_transient());
    let expected = format!("the CA at {} refused: too many certificates (rateLimited)", ca.host());
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_wait_may_be_a_date() {
    let ca = Ca::start().await;
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(7200));
    ca.says("/order", Answer::problem(503, "serverInternal", "busy").with("Retry-After", &date));

    let error = order_error(&ca).await;

    let wait = error.retry_after().expect("is told").as_secs();
    assert!((7100..=7200).contains(&wait), "{wait}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn each_identifier_that_is_refused_is_named() {
    let ca = Ca::start().await;
    let refused = json!({
        "type": "urn:ietf:params:acme:error:malformed", "detail": "Some identifiers were rejected", "subproblems": [
            {"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not\nours",
             "identifier": {"type": "dns", "value": "example.net"}},
            {"detail": "why", "identifier": {"type": "something-new", "value": "x"}},
        ],
    });
    ca.says("/order", Answer::json(403, refused));

    let text = order_error(&ca).await.to_string();

    let expected = "Some identifiers were rejected (malformed); for example.net: not ours (rejectedIdentifier); \
                    for x: why";
    assert!(text.ends_with(expected), "{text}");
}

#[tokio::test]
async fn an_error_without_problem_document_is_told_by_its_status() {
    let ca = Ca::start().await;
    ca.says("/order", Answer::text(502, "<html>Bad gateway</html>").with("Content-Type", "text/html"));
    let error = order_error(&ca).await;
    let expected = "HTTP status 502 Bad Gateway with a body of type text/html instead of an ACME problem document";
    assert!(error.to_string().contains(expected), "{error}");
    assert!(error.is_transient());

    ca.says("/order", Answer::text(503, "").with("Retry-After", "5"));
    let error = order_error(&ca).await;
    assert!(error.to_string().contains("HTTP status 503 Service Unavailable with nothing instead"), "{error}");
    assert_eq!((error.is_transient(), error.retry_after()), (true, Some(Duration::from_secs(5))));

    ca.says("/order", Answer::text(429, ""));
    assert_eq!(order_error(&ca).await.problem().expect("is told").kind, "rateLimited");
    ca.says("/order", Answer::json(403, json!({"type": "about:blank", "subproblems": null})));
    let error = order_error(&ca).await;
    assert!(error.to_string().ends_with("refused: no reason given"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_rejected_nonce_is_no_failure() {
    let ca = Ca::start().await;
    let rejected = || Answer::problem(400, "badNonce", "JWS has an invalid anti-replay nonce");
    (0..8).for_each(|_| ca.answers("/account/1", rejected()));
    ca.answers("/account/1", Answer::json(200, json!({"status": "valid"})));
    let account = ca.account().await;

    account.update_email(None).await.expect("updates in the end");

    ca.says("/account/1", rejected());
    let error = account.update_email(None).await.expect_err("never ends");
    assert_eq!(error.problem().expect("is told").kind, "badNonce");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let ca = Ca::start().await;
    ca.says("/directory", Answer::text(301, "").with("Location", "BASE/elsewhere"));

    let error = register(&ca.client()).await.expect_err("is redirected");

    assert!(error.to_string().ends_with(&format!("it redirects to {}, which is not followed", ca.url("/elsewhere"))));
    assert_eq!(ca.asked("/elsewhere").len(), 0);
}

#[tokio::test]
async fn what_is_no_directory_is_told() {
    let ca = Ca::start().await;
    let error = async |answer| {
        ca.says("/directory", answer);
        register(&ca.client()).await.expect_err("is no directory").to_string()
    };

    assert!(error(Answer::text(404, "404 page not found")).await.contains("HTTP status 404 Not Found"));
    assert!(error(Answer::text(200, "<html>")).await.ends_with("its directory is not JSON"));
    assert!(error(Answer::json(200, json!({"newNonce": 1}))).await.ends_with("its directory has no newNonce"));
    let hostile = json!({"newNonce": "https://a b", "newAccount": "BASE/a", "newOrder": "BASE/a"});
    assert!(error(Answer::json(200, hostile)).await.ends_with("newNonce in its directory is not an https URL"));
    let plain = json!({"newNonce": "BASE/n", "newAccount": "http://127.0.0.1/", "newOrder": "BASE/a"});
    assert!(error(Answer::json(200, plain)).await.ends_with("newAccount in its directory is not an https URL"));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let ca = Ca::start().await;
    ca.says("/directory", Answer::text(200, &" ".repeat(2 * 1024 * 1024)));

    let error = register(&ca.client()).await.expect_err("is too large");

    assert!(error.to_string().ends_with("its answer is larger than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn an_absurd_wait_is_cut_short() {
    let ca = Ca::start().await;
    ca.says("/order", Answer::problem(429, "rateLimited", "never").with("Retry-After", "18446744073709551616"));
    assert_eq!(order_error(&ca).await.retry_after(), Some(Duration::from_secs(30 * 86_400)));
    ca.says("/order", Answer::problem(429, "rateLimited", "never").with("Retry-After", "soon"));
    assert_eq!(order_error(&ca).await.retry_after(), None);
}

#[tokio::test]
async fn a_ca_that_is_away_can_be_asked_again() {
    let ca = Ca::start().await;
    let (client, host) = (ca.client(), ca.host().to_owned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let closed = listener.local_addr().expect("is bound");
    drop(listener);
    let away = Client::new(&format!("https://{closed}/directory"), Some(ca.root_pem.as_bytes())).expect("is a client");

    let error = register(&away).await.expect_err("nobody is there");

    assert!(error.to_string().starts_with(&format!("the CA at {closed} cannot be reached: Connection refused")));
    assert!(error.is_transient());
    let stranger = Ca::start().await;
    let url = format!("https://{host}/directory");
    let suspicious = Client::new(&url, Some(stranger.root_pem.as_bytes())).expect("is a client");
    let error = register(&suspicious).await.expect_err("is not trusted");
    assert!(
        error.to_string().contains("was not issued by a trusted CA; the issuer's CA bundle has to hold"),
        "{error}"
    );
    assert!(!error.is_transient());
    register(&client).await.expect("the right roots do");
}

#[test]
fn a_server_is_an_https_url() {
    for wrong in ["", "hello", "http://ca.example/directory", "https://", "ca.example", "https://a b/"] {
        let error = Client::new(wrong, None).expect_err("is no URL").to_string();
        assert!(error.starts_with(&format!("`{wrong}` is not the URL of an ACME directory")), "{error}");
    }
    let error = Client::new("https://ca.example/directory", Some(b"?")).expect_err("are no roots").to_string();
    assert_eq!(error, "the CA's HTTPS certificate cannot be checked: no BEGIN CERTIFICATE block");
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic_as_a_problem(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let problem = Problem::read(&body, http::StatusCode::BAD_REQUEST, None);
        proptest::prop_assert!(!problem.detail.is_empty());
    }

    #[test]
    fn no_words_of_a_ca_break_a_line(detail in proptest::string::string_regex("(?s).{0,40}").expect("is one")) {
        let body = json!({"detail": detail, "subproblems": [{"detail": detail, "identifier": {"value": detail}}]});
        let problem = Problem::read(body.to_string().as_bytes(), http::StatusCode::BAD_REQUEST, None);
        proptest::prop_assert!(!problem.to_string().contains(char::is_control));
    }
}
