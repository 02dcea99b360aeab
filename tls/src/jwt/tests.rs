//! Each rule by itself. What tokens come to as a whole is the matrix of `tests/tokens`.

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn p256() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn rsa(size: KeySize) -> RsaKeyPair {
    RsaKeyPair::generate(size).unwrap()
}

/// The public key of a pair, with more fields.
fn of_p256(pair: &EcdsaKeyPair, more: Value) -> Value {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    with(json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}), more)
}

fn of_rsa(pair: &RsaKeyPair, more: Value) -> Value {
    let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
    let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
    with(json!({"kty": "RSA", "n": encode(n), "e": encode(e)}), more)
}

fn with(mut key: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        key[name.as_str()] = value.clone();
    }
    key
}

fn keys(all: &[Value]) -> Keys {
    Keys::read(json!({"keys": all}).to_string().as_bytes()).unwrap()
}

fn fault(text: &str) -> String {
    Keys::read(text.as_bytes()).map(|keys| keys.count()).unwrap_err()
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", encode(header), encode(claims))
}

fn signed(pair: &EcdsaKeyPair, header: &str, claims: &str) -> String {
    let message = message(header, claims);
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", encode(signature.as_ref()))
}

fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", message(header, claims), encode([0; 64]))
}

fn verdict(keys: &Keys, token: &str) -> Result<(), Refusal> {
    keys.verify(&Jwt::read(token)?)
}

#[test]
fn an_algorithm_is_one_of_nine_in_exactly_these_letters() {
    let read = |name: &str| Jwt::read(&unsigned(&format!("{{\"alg\":\"{name}\"}}"), "{}")).map(|_| ());
    for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
        assert_eq!(read(name), Ok(()), "{name}");
        let other = if name == "EdDSA" { "EDDSA".to_owned() } else { name.to_lowercase() };
        assert_eq!(read(&other), Err(Refusal::Algorithm), "{other}");
        assert_eq!(read(&format!("{name} ")), Err(Refusal::Algorithm), "{name} and a space");
    }
    for name in
        ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES512", "ES256K", "dir", "A128KW", "\\u006eone"]
    {
        assert_eq!(read(name), Err(Refusal::Algorithm), "{name}");
    }
    for header in ["{}", r#"{"alg":null}"#, r#"{"alg":["ES256"]}"#, r#"{"Alg":"ES256"}"#, r#"{"alg":256}"#] {
        assert_eq!(Jwt::read(&unsigned(header, "{}")).map(|_| ()), Err(Refusal::NoAlgorithm), "{header}");
    }
}

/// Algorithm confusion: what a public key is known for does not sign.
#[test]
fn a_key_verifies_by_the_algorithms_of_its_kind_alone() {
    let (ec, rsa) = (p256(), rsa(KeySize::Rsa2048));
    let both = keys(&[of_p256(&ec, json!({"kid": "e"})), of_rsa(&rsa, json!({"kid": "r"}))]);
    assert_eq!(verdict(&both, &signed(&ec, r#"{"alg":"ES256","kid":"e"}"#, "{}")), Ok(()));
    // Of another kind than the key that is named.
    for header in [r#"{"alg":"ES256","kid":"r"}"#, r#"{"alg":"RS256","kid":"e"}"#, r#"{"alg":"ES384","kid":"e"}"#] {
        assert_eq!(verdict(&both, &signed(&ec, header, "{}")), Err(Refusal::NoKey), "{header}");
    }
    assert_eq!(verdict(&both, &signed(&ec, r#"{"alg":"EdDSA"}"#, "{}")), Err(Refusal::NoKey));
    // The public RSA key, in each of its forms, as a shared secret.
    let der = rsa.public_key().as_der().unwrap();
    for (header, refusal) in [
        (r#"{"alg":"HS256","kid":"r"}"#, Refusal::Algorithm),
        (r#"{"alg":"RS256","kid":"r"}"#, Refusal::Signature),
        (r#"{"alg":"PS256"}"#, Refusal::Signature),
    ] {
        let message = message(header, "{}");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, der.as_ref()), message.as_bytes());
        assert_eq!(verdict(&both, &format!("{message}.{}", encode(tag.as_ref()))), Err(refusal), "{header}");
    }
    // A shared secret among the keys is no key.
    let secret = json!({"kty": "oct", "k": encode("secret"), "kid": "s", "alg": "HS256"});
    assert_eq!(keys(&[secret.clone(), of_p256(&ec, json!({}))]).count(), 1);
    assert!(fault(&json!({"keys": [secret]}).to_string()).contains("oct verifies nothing here"));
}

#[test]
fn a_key_that_says_its_algorithm_verifies_by_no_other() {
    let pair = rsa(KeySize::Rsa2048);
    let sign = |name: &str| {
        let message = message(&format!("{{\"alg\":\"{name}\"}}"), "{}");
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", encode(signature))
    };
    let any = keys(&[of_rsa(&pair, json!({}))]);
    assert_eq!(verdict(&any, &sign("RS256")), Ok(()));
    assert_eq!(verdict(&any, &sign("PS256")), Err(Refusal::Signature));
    let bound = keys(&[of_rsa(&pair, json!({"alg": "RS256"}))]);
    assert_eq!(verdict(&bound, &sign("RS256")), Ok(()));
    assert_eq!(verdict(&bound, &sign("PS256")), Err(Refusal::NoKey));
    let text = json!({"keys": [of_rsa(&pair, json!({"alg": "ES256"}))]}).to_string();
    assert!(fault(&text).contains("`alg` ES256 does not fit the key"));
}

#[test]
fn a_key_is_chosen_by_its_id_and_without_one_by_trying() {
    let (own, other) = (p256(), p256());
    let token = |id: &str| signed(&own, &format!("{{\"alg\":\"ES256\"{id}}}"), "{}");
    let set = |name: &str| keys(&[of_p256(&other, json!({"kid": "other"})), of_p256(&own, json!({"kid": name}))]);
    assert_eq!(verdict(&set("a"), &token(r#","kid":"a""#)), Ok(()));
    assert_eq!(verdict(&set("a"), &token("")), Ok(()), "no key is named");
    assert_eq!(verdict(&set("a"), &token(r#","kid":"""#)), Ok(()), "an empty name is none");
    assert_eq!(verdict(&set("a"), &token(r#","kid":"A""#)), Err(Refusal::NoKey), "letters count");
    assert_eq!(
        verdict(&set("a"), &token(r#","kid":"other""#)),
        Err(Refusal::Signature),
        "the named one has not signed"
    );
    assert_eq!(verdict(&set(""), &token(r#","kid":"whatever""#)), Ok(()), "a key without a name has any");
    for id in ["1", "null", "[]", "{}", "true"] {
        assert_eq!(verdict(&set("a"), &token(&format!(",\"kid\":{id}"))), Err(Refusal::KeyId), "{id}");
    }
}

#[test]
fn a_token_makes_no_more_work_than_a_few_signatures_and_a_named_key_is_always_tried() {
    let (own, other) = (p256(), p256());
    let nameless = vec![of_p256(&other, json!({})); 8];
    let token = |id: &str| signed(&own, &format!("{{\"alg\":\"ES256\"{id}}}"), "{}");
    let seven = keys(&[&nameless[..7], &[of_p256(&own, json!({}))]].concat());
    assert_eq!(verdict(&seven, &token("")), Ok(()));
    let eight = keys(&[&nameless[..], &[of_p256(&own, json!({}))]].concat());
    assert_eq!(verdict(&eight, &token("")), Err(Refusal::Signature));
    let named = keys(&[&nameless[..], &[of_p256(&own, json!({"kid": "own"}))]].concat());
    assert_eq!(verdict(&named, &token(r#","kid":"own""#)), Ok(()));
}

#[test]
fn clocks_differ_by_a_minute_and_no_second_more() {
    let now = 1_000_000;
    let at = |claims: Value| Jwt::check_times(claims.as_object().unwrap(), now);
    for (claims, wanted) in [
        (json!({}), Ok(())),
        (json!({"nbf": now + 60}), Ok(())),
        (json!({"nbf": now + 61}), Err(Refusal::TooEarly)),
        (json!({"nbf": u64::MAX}), Err(Refusal::TooEarly)),
        (json!({"exp": now - 60}), Ok(())),
        (json!({"exp": now - 61}), Err(Refusal::Expired)),
        (json!({"exp": 0}), Err(Refusal::Expired)),
        (json!({"exp": u64::MAX}), Ok(())),
        (json!({"exp": 999_939.9}), Err(Refusal::Expired)),
        (json!({"exp": 999_940.1}), Ok(())),
        (json!({"nbf": 1_000_060.9}), Ok(())),
        (json!({"nbf": now + 61, "exp": 0}), Err(Refusal::TooEarly)),
        (json!({"iat": u64::MAX}), Ok(())),
    ] {
        assert_eq!(at(claims.clone()), wanted, "{claims}");
    }
    let always = json!({"nbf": 0, "exp": u64::MAX});
    for now in [0, u64::MAX] {
        assert_eq!(Jwt::check_times(always.as_object().unwrap(), now), Ok(()), "{now}");
    }
}

#[test]
fn claims_that_say_what_a_token_is_have_their_types() {
    let read = |claims: &str| Jwt::read(&unsigned(r#"{"alg":"ES256"}"#, claims)).map(|_| ());
    let no_texts = ["1", "null", "[]", "{}", "true", r#"["a"]"#];
    let no_times = [r#""1""#, "null", "[]", "{}", "true", "-1", "-0.5", "1e300", "9e15"];
    let no_audiences = ["1", "null", "{}", r#"["a",1]"#, r#"[["a"]]"#];
    for (name, refusal, values) in [
        ("iss", Refusal::Issuer, &no_texts[..]),
        ("sub", Refusal::Subject, &no_texts[..]),
        ("iat", Refusal::IssuedAt, &no_times[..]),
        ("nbf", Refusal::NotBefore, &no_times[..]),
        ("exp", Refusal::Expiry, &no_times[..]),
        ("aud", Refusal::Audience, &no_audiences[..]),
    ] {
        for value in values {
            assert_eq!(read(&format!("{{\"{name}\":{value}}}")), Err(refusal), "{name} {value}");
        }
    }
    for claims in [r#"{"aud":[]}"#, r#"{"aud":"a"}"#, r#"{"exp":1.5}"#, r#"{"exp":0}"#, r#"{"other":null}"#] {
        assert_eq!(read(claims), Ok(()), "{claims}");
    }
}

#[test]
fn a_name_stands_once_however_deep_and_however_it_is_written() {
    let read = |header: &str, claims: &str| Jwt::read(&unsigned(header, claims)).map(|_| ());
    let (header, claims) = (r#"{"alg":"ES256"}"#, "{}");
    for twice in [r#"{"alg":"ES256","alg":"ES256"}"#, r#"{"alg":"ES256","x":{"a":1,"a":2}}"#] {
        assert_eq!(read(twice, claims), Err(Refusal::HeaderJson), "{twice}");
    }
    for twice in [
        r#"{"sub":"a","sub":"a"}"#,
        r#"{"sub":"a","s\u0075b":"b"}"#,
        r#"{"a":[{"b":{"c":1,"c":1}}]}"#,
        r#"{"a":1,"a":null}"#,
        r#"{"":1,"":2}"#,
    ] {
        assert_eq!(read(header, twice), Err(Refusal::PayloadJson), "{twice}");
    }
    for once in [r#"{"sub":"a","Sub":"b"}"#, r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#] {
        assert_eq!(read(header, once), Ok(()), "{once}");
    }
    for other in ["[]", "1", "\"a\"", "null", "{} {}", "{", "", "{\"a\":1}x"] {
        assert_eq!(read(other, claims), Err(Refusal::HeaderJson), "{other}");
        assert_eq!(read(header, other), Err(Refusal::PayloadJson), "{other}");
    }
}

#[test]
fn what_has_to_be_understood_is_refused_and_what_a_token_says_of_keys_is_not_looked_at() {
    let (own, stranger) = (p256(), p256());
    let known = keys(&[of_p256(&own, json!({"kid": "a"}))]);
    let header = |more: Value| with(json!({"alg": "ES256"}), more).to_string();
    for crit in [json!([]), json!(["b64"]), json!(["exp"]), json!(null)] {
        let token = signed(&own, &header(json!({"crit": crit})), "{}");
        assert_eq!(verdict(&known, &token), Err(Refusal::Critical));
    }
    for more in [
        json!({"jwk": of_p256(&stranger, json!({}))}),
        json!({"jwk": of_p256(&stranger, json!({})), "kid": "a"}),
        json!({"jku": "http://127.0.0.1:1/"}),
        json!({"x5c": ["MIIB"], "x5u": "http://127.0.0.1:1/"}),
    ] {
        assert_eq!(verdict(&known, &signed(&stranger, &header(more.clone()), "{}")), Err(Refusal::Signature), "{more}");
        assert_eq!(verdict(&known, &signed(&own, &header(more.clone()), "{}")), Ok(()), "{more}");
    }
}

#[test]
fn a_token_has_three_parts_in_base64url_and_an_end() {
    let good = unsigned(r#"{"alg":"ES256"}"#, "{}");
    assert!(Jwt::read(&good).is_ok());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    for (token, refusal) in [
        (String::new(), Refusal::Form),
        (header.to_owned(), Refusal::Form),
        (signed.to_owned(), Refusal::Form),
        (format!("{good}."), Refusal::Form),
        (format!("{good}.{signature}.{signature}"), Refusal::Form),
        ("..".to_owned(), Refusal::HeaderJson),
        (format!("{header}=.{payload}.{signature}"), Refusal::HeaderCoding),
        (format!("{header}.{payload}==.{signature}"), Refusal::PayloadCoding),
        (format!("{header}.{payload}.{signature}="), Refusal::SignatureCoding),
        (format!("{header}.{payload}.{signature} "), Refusal::SignatureCoding),
        (format!("{header}.+{payload}.{signature}"), Refusal::PayloadCoding),
        (format!("{header}\n.{payload}.{signature}"), Refusal::HeaderCoding),
    ] {
        assert_eq!(Jwt::read(&token).map(|_| ()), Err(refusal), "{token:?}");
    }
    let long = |size: usize| format!("{signed}.{}", "A".repeat(size - signed.len() - 1));
    assert!(Jwt::read(&long(32 * 1024)).is_ok(), "its signature is wrong, and nobody has looked yet");
    assert_eq!(Jwt::read(&long(32 * 1024 + 4)).map(|_| ()), Err(Refusal::Form));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = unsigned(r#"{"alg":"ES256"}"#, &format!("{{\"a\":{deep}}}"));
    assert_eq!(Jwt::read(&deep).map(|_| ()), Err(Refusal::PayloadJson), "no stack is used up");
}

#[test]
fn a_signature_is_of_these_letters_and_no_others() {
    let pair = p256();
    let known = keys(&[of_p256(&pair, json!({}))]);
    let token = signed(&pair, r#"{"alg":"ES256"}"#, r#"{"sub":"ada"}"#);
    let jwt = Jwt::read(&token).unwrap();
    assert_eq!((jwt.issuer(), jwt.payload()), ("", token.split('.').nth(1).unwrap()));
    assert_eq!(known.verify(&jwt), Ok(()));
    let parts: Vec<&str> = token.split('.').collect();
    for other in [
        format!("{}.{}.{}", parts[0], encode(r#"{"sub":"eve"}"#), parts[2]),
        format!("{}.{}.{}", encode(r#"{"alg":"ES256" }"#), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], encode([0; 64])),
        format!("{}.{}.{}", parts[0], parts[1], encode([0xff; 64])),
        format!("{}.{}.{}", parts[0], parts[1], &parts[2][..40]),
        format!("{}.{}.", parts[0], parts[1]),
        signed(&p256(), r#"{"alg":"ES256"}"#, r#"{"sub":"ada"}"#),
    ] {
        assert_eq!(verdict(&known, &other), Err(Refusal::Signature), "{other}");
    }
}

#[test]
fn a_set_of_keys_says_what_is_wrong_with_it() {
    let pair = p256();
    let good = of_p256(&pair, json!({}));
    for (text, words) in [
        ("", "no JSON object"),
        ("[]", "no JSON object"),
        (r#"{"keys":[],"keys":[]}"#, "no JSON object"),
        ("{}", "no list `keys`"),
        (r#"{"keys":{}}"#, "no list `keys`"),
        (r#"{"keys":[]}"#, "it is empty"),
        (r#"{"keys":[1]}"#, "`kty` is missing"),
        (r#"{"keys":[{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}]}"#, "EC on P-521 verifies nothing here"),
        (r#"{"keys":[{"kty":"OKP","crv":"X25519","x":"AA"}]}"#, "OKP on X25519 verifies nothing here"),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#, "32 bytes"),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA"}]}"#, "`y` is missing"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}"#, "32 bytes"),
        (r#"{"keys":[{"kty":"RSA","n":"!","e":"AQAB"}]}"#, "`n` is not base64url"),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "2048 to 8192"),
    ] {
        assert!(fault(text).contains(words), "{text}: {}", fault(text));
    }
    for (more, words) in [
        (json!({"use": "enc"}), "not for signatures"),
        (json!({"key_ops": ["sign"]}), "not for verifying"),
        (json!({"key_ops": "verify"}), "not for verifying"),
    ] {
        assert!(fault(&json!({"keys": [of_p256(&pair, more)]}).to_string()).contains(words), "{words}");
    }
    // What nobody knows is passed over where another key is good.
    let mixed = keys(&[json!({"kty": "new"}), json!({}), good.clone(), of_p256(&pair, json!({"use": "enc"}))]);
    assert_eq!(mixed.count(), 1);
    assert_eq!(keys(&vec![good.clone(); MOST_KEYS]).count(), MOST_KEYS);
    let text = json!({"keys": vec![good.clone(); MOST_KEYS + 1]}).to_string();
    assert!(fault(&text).contains(&MOST_KEYS.to_string()));
    // Some issuers pad, or write a byte of zeros in front of a number.
    let large = rsa(KeySize::Rsa2048);
    let modulus = large.public_key().modulus();
    let padded = [&[0], modulus.big_endian_without_leading_zero()].concat();
    assert_eq!(keys(&[of_rsa(&large, json!({"n": format!("{}==", encode(padded)), "e": "AQAB"}))]).count(), 1);
}

#[test]
fn sets_of_one_text_are_the_same_and_have_numbers_of_their_own() {
    let text = json!({"keys": [of_p256(&p256(), json!({}))]}).to_string();
    let (one, two) = (Keys::read(text.as_bytes()).unwrap(), Keys::read(text.as_bytes()).unwrap());
    assert!(one.is_same(&two) && one.number != two.number);
    let nobodys = Keys::nobodys();
    assert!(!one.is_same(&nobodys) && nobodys.count() == 0);
    assert_eq!(verdict(&nobodys, &unsigned(r#"{"alg":"ES256"}"#, "{}")), Err(Refusal::NoKey));
}

proptest! {
    #[test]
    fn no_text_is_a_token_by_chance_and_none_ends_the_process(
        token in ".{0,60}",
        header in "[{}\\[\\]\":,a-z0-9]{0,30}",
        claims in "[{}\\[\\]\":,a-z0-9.-]{0,40}",
    ) {
        let nobodys = Keys::nobodys();
        prop_assert!(verdict(&nobodys, &token).is_err());
        prop_assert!(verdict(&nobodys, &unsigned(&header, &claims)).is_err());
        prop_assert!(Keys::read(token.as_bytes()).is_err());
    }
}
