//! RequestAuthentication, seen from outside: which tokens are taken, what the workload is told, and what an issuer that is slow,
//! away or changes its keys does to requests.

mod keys;

use std::fs;

use harness::{
    binary::repository,
    client::{Client, request, with_body},
    gateway::Proxy,
    jwt::{Minter, encode, now, request_authentication},
    mesh::{Mesh, SHOP},
    reply::Reply,
    workload::{Workload, service},
};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.test";

/// A gateway with rules for tokens, and a workload behind it.
struct Shop {
    mesh: Mesh,
    _gateway: Proxy,
    _pod: Workload,
    browser: Client,
}

impl Shop {
    async fn with(rules: &Value) -> Self {
        let mesh = Mesh::with_edge();
        let pod = mesh.workload("reviews").start().await;
        mesh.route_all_to("reviews");
        mesh.write("tokens.yaml", &request_authentication("istio-system", rules));
        Self { _gateway: mesh.gateway().await, _pod: pod, browser: mesh.browser(), mesh }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let call = headers
            .iter()
            .fold(request("GET", &format!("{SHOP}{path}")), |call, (name, value)| call.header(*name, *value));
        self.browser.call(with_body(call, "")).await
    }

    async fn bearer(&self, token: &str) -> Reply {
        self.get("/", &[("authorization", &format!("Bearer {token}"))]).await
    }
}

fn rule(jwks: &str, more: &Value) -> Value {
    let mut rule = json!({"issuer": ISSUER, "jwks": jwks});
    for (name, value) in more.as_object().into_iter().flatten() {
        rule[name.as_str()] = value.clone();
    }
    rule
}

/// One line of the matrix.
struct Row<'t> {
    line: usize,
    expected: &'t str,
    token: String,
}

fn claims(text: &str, now: u64) -> String {
    let usual = "\"iss\":\"https://issuer.test\",\"sub\":\"ada\",\"aud\":\"shop\",\"exp\":NOW+600";
    let text = match text.strip_prefix('*') {
        Some(more) => format!("{{{usual}{more}}}"),
        None => text.to_owned(),
    };
    let mut parts = text.split("NOW");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part[1..].find(|c: char| !c.is_ascii_digit()).map_or(part.len(), |end| end + 1);
        let offset: i64 = part[..end].parse().expect("a number stands behind NOW");
        written += &now.saturating_add_signed(offset).to_string();
        written += &part[end..];
    }
    written
}

fn changed(token: String, change: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a token has dots");
    let (header, payload) = signed.split_once('.').expect("a token has dots");
    match change {
        "" => token,
        "unsigned" => format!("{signed}."),
        "cut" => format!("{signed}.{}", &signature[..signature.len() / 2 / 4 * 4]),
        "zeros" => format!("{signed}.{}", encode([0; 64])),
        "flip" => {
            let other = if signature.starts_with('A') { 'B' } else { 'A' };
            format!("{signed}.{other}{}", &signature[1..])
        }
        "payload" => format!("{header}.{}.{signature}", encode(claims("*", now()).replace("ada", "eve"))),
        "payload-std" => format!("{header}.+/{payload}.{signature}"),
        "padded" => format!("{token}="),
        "padded-header" => format!("{header}=.{payload}.{signature}"),
        "raw-signature" => format!("{signed}.!!!!"),
        "huge" => format!("{signed}.{}", "A".repeat(40_000)),
        raw => raw.strip_prefix("raw:").expect("a known change").to_owned(),
    }
}

fn matrix<'t>(text: &'t str, minter: &Minter) -> Vec<Row<'t>> {
    let stranger = minter.public("stranger", &json!({})).to_string();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    let row = |(line, text): (usize, &'t str)| {
        let columns: Vec<&str> = text.split('|').map(str::trim).collect();
        let [expected, key, header, stated, change, _] = columns[..] else { panic!("line {}: {text}", line + 1) };
        let algorithm = header.split(' ').next().unwrap_or_default();
        let header = match header.split_once(' ') {
            _ if header.starts_with(['{', '[']) => header.replace("STRANGER", &stranger),
            Some((algorithm, id)) => format!("{{\"alg\":\"{algorithm}\",\"kid\":\"{id}\"}}"),
            None => format!("{{\"alg\":\"{header}\"}}"),
        };
        let (key, way) = key.split_once('/').unwrap_or((key, algorithm));
        let token = minter.sign(&header, &claims(stated, now()), key, way);
        Row { line: line + 1, expected, token: changed(token, change) }
    };
    lines.map(row).collect()
}

#[tokio::test]
async fn every_token_of_the_matrix_gets_its_answer() {
    let minter = Minter::new(&[
        ("rsa", "RSA"),
        ("p256", "P-256"),
        ("p384", "P-384"),
        ("ed", "Ed25519"),
        ("nokid", "P-256"),
        ("bound", "RSA"),
        ("enc", "RSA"),
        ("oct", "oct"),
        ("stranger", "RSA"),
    ]);
    let known = [
        ("rsa", json!({"kid": "r1"})),
        ("p256", json!({"kid": "e1"})),
        ("p384", json!({"kid": "e3", "alg": "ES384", "use": "sig"})),
        ("ed", json!({"kid": "d1"})),
        ("nokid", json!({})),
        ("bound", json!({"kid": "r256", "alg": "RS256", "key_ops": ["verify"]})),
        ("enc", json!({"kid": "enc1", "use": "enc"})),
        ("oct", json!({"kid": "h1"})),
    ];
    let keys: Vec<Value> = known.iter().map(|(name, more)| minter.public(name, more)).collect();
    let jwks = json!({"keys": keys}).to_string();
    let more = json!({"audiences": ["shop"], "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}]});
    let shop = Shop::with(&json!([rule(&jwks, &more)])).await;

    let text = fs::read_to_string(repository().join("tests/tokens/matrix.txt")).expect("the matrix");
    let rows = matrix(&text, &minter);
    assert!(rows.len() >= 110, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        // Twice: the second time it may be known already.
        for _ in 0..2 {
            let reply = shop.bearer(&row.token).await;
            let got = if reply.code() == 200 { reply.saw("x-sub") } else { reply.text() };
            let status = match row.expected {
                "ada" => 200,
                "Audiences in Jwt are not allowed" => 403,
                _ => 401,
            };
            if got != row.expected || reply.code() != status {
                wrong.push(format!("line {}: {} {got}, and not {}", row.line, reply.code(), row.expected));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_refusal_says_why_and_a_request_without_token_passes() {
    let minter = Minter::simple();
    let shop = Shop::with(&json!([rule(&minter.jwks(), &json!({}))])).await;

    assert_eq!(shop.get("/", &[]).await.code(), 200);
    assert_eq!(shop.get("/", &[("authorization", "Basic YTpi")]).await.code(), 200, "no token of ours");
    let reply = shop.get("/a?access_token=x", &[]).await;
    assert_eq!(reply.code(), 401);
    assert_eq!(
        reply.header("www-authenticate"),
        "Bearer realm=\"https://shop.example.com/a\", error=\"invalid_token\""
    );
    let details =
        "jwt_authn_access_denied{Jwt_is_not_in_the_form_of_Header.Payload.Signature_with_two_dots_and_3_sections}";
    let logged = async || shop._gateway.access_log().contains(details);
    harness::eventually::eventually("the reason is in the access log", logged).await;

    let good = minter.token(ISSUER, "ada", &json!({}));
    assert_eq!(shop.bearer(&good).await.code(), 200);
    let two = shop.get(&format!("/?access_token={good}"), &[("authorization", "Bearer bad")]).await;
    assert_eq!(two.code(), 401, "one of two tokens is bad");
    let preflight =
        [("authorization", "Bearer bad"), ("origin", "https://a.test"), ("access-control-request-method", "GET")];
    let call = preflight.iter().fold(request("OPTIONS", SHOP), |call, (name, value)| call.header(*name, *value));
    assert_eq!(shop.browser.call(with_body(call, "")).await.code(), 200, "browsers send no tokens with these");
}

#[tokio::test]
async fn the_workload_is_told_what_was_verified_and_nothing_else() {
    let minter = Minter::simple();
    let more = json!({
        "fromHeaders": [{"name": "x-token", "prefix": "jwt "}], "fromParams": ["t"], "fromCookies": ["session"],
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [
            {"header": "x-sub", "claim": "sub"}, {"header": "x-role", "claim": "realm.role"}, {"header": "x-age", "claim": "age"}
        ],
    });
    let shop = Shop::with(&json!([rule(&minter.jwks(), &more)])).await;
    let token = minter.token(ISSUER, "ada", &json!({"realm": {"role": "admin"}, "age": 42}));
    let payload = token.split('.').nth(1).expect("a payload");

    let forged = [("x-sub", "root"), ("X-Payload", "forged"), ("x_role", "root"), ("x-age", "1")];
    let reply = shop.get("/", &forged).await;
    for name in ["x-sub", "x-payload", "x_role", "x-age"] {
        assert_eq!(reply.saw(name), "", "{name}");
    }
    let header = [("x-token", format!("jwt {token}")), ("x-sub", "root".to_owned())];
    let header: Vec<(&str, &str)> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let cookie = format!("a=b; session={token}");
    for (path, headers) in [
        ("/".to_owned(), header),
        (format!("/?a=1&t={token}&b=2"), vec![]),
        ("/".to_owned(), vec![("cookie", cookie.as_str())]),
    ] {
        let reply = shop.get(&path, &headers).await;
        assert_eq!(reply.code(), 200, "{}", reply.text());
        let told = ["x-sub", "x-role", "x-age", "x-payload"].map(|name| reply.saw(name));
        assert_eq!(told, ["ada", "admin", "42", payload]);
        assert!(!reply.text().contains(&token), "the token does not go on: {}", reply.text());
        if path.contains('?') {
            assert_eq!(reply.echoed("path"), "/?a=1&b=2");
        }
        if headers.contains(&("cookie", cookie.as_str())) {
            assert_eq!(reply.saw("cookie"), "a=b");
        }
    }
    assert_eq!(shop.bearer("bad").await.code(), 200, "nobody looks there");
}

#[tokio::test]
async fn one_of_several_issuers_is_enough() {
    let (one, other) = (Minter::simple(), Minter::simple());
    let output = json!({"outputClaimToHeaders": [{"header": "x-iss", "claim": "iss"}]});
    let mut second = rule(&other.jwks(), &output);
    second["issuer"] = json!("https://other.test");
    let shop = Shop::with(&json!([rule(&one.jwks(), &output), second])).await;

    for (minter, issuer) in [(&one, ISSUER), (&other, "https://other.test")] {
        let reply = shop.bearer(&minter.token(issuer, "ada", &json!({}))).await;
        assert_eq!((reply.code(), reply.saw("x-iss").as_str()), (200, issuer), "{}", reply.text());
    }
    let crossed = shop.bearer(&one.token("https://other.test", "ada", &json!({}))).await;
    assert_eq!(crossed.code(), 401, "one issuer cannot sign for another");
    let unknown = shop.bearer(&one.token("https://third.test", "ada", &json!({}))).await;
    assert_eq!(unknown.text(), "Jwt issuer is not configured");
}

#[tokio::test]
async fn claims_choose_routes_and_headers_do_not() {
    let minter = Minter::simple();
    let shop = Shop::with(&json!([rule(&minter.jwks(), &json!({}))])).await;
    let answer = |name: &str, claim: &str, value: &str| {
        format!(
            "- match: [{{headers: {{\"@request.auth.claims{claim}\": {{exact: {value}}}}}}}]\n  directResponse: {{status: 200, body: {{string: {name}}}}}\n"
        )
    };
    let routes = [
        answer("admins", ".realm.roles", "admin"),
        answer("readers", "[scope]", "read"),
        answer("ada", ".sub", "ada"),
        "- directResponse: {status: 200, body: {string: others}}\n".to_owned(),
    ];
    shop.mesh.routes(&routes.concat());
    harness::eventually::eventually("the routes are in force", async || shop.get("/", &[]).await.text() == "others")
        .await;

    let text = async |more: Value, subject: &str| shop.bearer(&minter.token(ISSUER, subject, &more)).await.text();
    assert_eq!(text(json!({"realm": {"roles": ["user", "admin"]}}), "ada").await, "admins");
    assert_eq!(text(json!({"scope": "write read"}), "eve").await, "readers");
    assert_eq!(text(json!({}), "ada").await, "ada");
    assert_eq!(text(json!({}), "eve").await, "others");
    assert_eq!(shop.get("/", &[("request.auth.claims.sub", "ada")]).await.text(), "others");
}

#[tokio::test]
async fn an_object_that_cannot_be_read_lets_no_token_in() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let told = json!([{"header": "x-user", "claim": "sub"}]);
    let broken = json!([{"issuer": ISSUER, "jwks": "{", "outputClaimToHeaders": told}]);
    mesh.write("tokens.yaml", &request_authentication("istio-system", &broken));
    let gateway = mesh.gateway().await;
    gateway.logs("this is not JSON").await;
    let status = async |headers: &[(&str, &str)]| {
        let call = headers.iter().fold(request("GET", SHOP), |call, (name, value)| call.header(*name, *value));
        mesh.browser().call(with_body(call, "")).await.code()
    };
    let minter = Minter::simple();
    let token = format!("Bearer {}", minter.token(ISSUER, "ada", &json!({})));
    assert_eq!(status(&[]).await, 200);
    assert_eq!(status(&[("authorization", &token)]).await, 401);
    let forged = mesh.browser().call(with_body(request("GET", SHOP).header("x-user", "root"), "")).await;
    assert_eq!(forged.saw("x-user"), "", "only a token that was verified says who it is");

    mesh.write("tokens.yaml", &request_authentication("istio-system", &json!([rule(&minter.jwks(), &json!({}))])));
    harness::eventually::eventually("it is mended", async || status(&[("authorization", &token)]).await == 200).await;
    mesh.write("tokens.yaml", &request_authentication("istio-system", &json!([{"issuer": ISSUER, "jwks": "["}])));
    gateway.logs("last good version").await;
    assert_eq!(status(&[("authorization", &token)]).await, 200, "the last good version stays");
    assert_eq!(status(&[("authorization", "Bearer bad")]).await, 401);
}

#[tokio::test]
async fn a_sidecar_checks_what_comes_to_its_workload_and_not_what_that_sends() {
    let (mesh, minter) = (Mesh::new(), Minter::simple());
    mesh.write("services.yaml", &(service("reviews") + &service("ratings")));
    let more = json!({"fromCookies": ["session"], "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}]});
    mesh.write("tokens.yaml", &request_authentication("shop", &json!([rule(&minter.jwks(), &more)])));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let _ratings = mesh.workload("ratings").start().await;
    let token = minter.token(ISSUER, "ada", &json!({}));
    let cookie = format!("session={token}; a=b");
    for client in [
        Client::plain(reviews.address),
        Client::plain(reviews.address).h2(),
        Client::over(reviews.address, mesh.mesh_peer("shop", "web", "http/1.1")),
        Client::over(reviews.address, mesh.mesh_peer("shop", "web", "h2")).http2(),
    ] {
        let get = async |cookie: &str| {
            let call = request("GET", "http://reviews/").header("x-sub", "root").header("cookie", cookie);
            client.call(with_body(call, "")).await
        };
        let good = get(&cookie).await;
        assert_eq!((good.code(), good.saw("x-sub"), good.saw("cookie")), (200, "ada".into(), "a=b".into()));
        let none = get("a=b").await;
        assert_eq!((none.code(), none.saw("x-sub")), (200, String::new()));
        let bad = get("session=bad").await;
        assert_eq!((bad.code(), bad.header("www-authenticate").starts_with("Bearer realm=")), (401, true));
    }

    let out = Client::plain(reviews.outbound());
    let sent = async || {
        let call = request("GET", "http://ratings:8080/").header("cookie", "session=bad").header("x-sub", "own");
        out.call(with_body(call, "")).await
    };
    harness::eventually::eventually("the workload reaches others", async || sent().await.code() == 200).await;
    assert_eq!(sent().await.saw("x-sub"), "own", "that is its destination's business");
}
