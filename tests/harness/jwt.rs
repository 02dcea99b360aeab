//! Issuers of tokens: keys, tokens signed with them, and a server that answers with the public ones.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tls::authority::Issued;
use tokio_rustls::TlsAcceptor;

use crate::{listening::Listening, raw::Raw, tls_peer};

/// A key pair.
enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

/// Key pairs by name.
pub struct Minter {
    pairs: BTreeMap<String, Pair>,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

impl Minter {
    /// Fresh keys of these names and kinds: `RSA`, `P-256`, `P-384`, `Ed25519`, `oct`.
    pub fn new(keys: &[(&str, &str)]) -> Self {
        let pairs = keys.iter().map(|(name, kind)| ((*name).to_owned(), pair(kind))).collect();
        Self { pairs }
    }

    /// One issuer with one P-256 key, `main`.
    pub fn simple() -> Self {
        Self::new(&[("main", "P-256")])
    }

    /// A token of [`Self::simple`] for `sub` with more claims.
    pub fn token(&self, issuer: &str, subject: &str, more: &Value) -> String {
        let mut claims = json!({"iss": issuer, "sub": subject, "exp": now() + 600});
        for (name, value) in more.as_object().into_iter().flatten() {
            claims[name.as_str()] = value.clone();
        }
        self.sign(r#"{"alg":"ES256","kid":"main"}"#, &claims.to_string(), "main", "ES256")
    }

    /// A token of this header and these claims as they are written, signed with a key in the way of `algorithm`.
    pub fn sign(&self, header: &str, claims: &str, key: &str, algorithm: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(message.as_bytes(), key, algorithm);
        format!("{message}.{}", encode(&signature))
    }

    fn signature(&self, message: &[u8], key: &str, algorithm: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pairs[key] {
            Pair::Rsa(pair) if algorithm.starts_with("HS") => {
                // Algorithm confusion: the public key, which everybody has, as a shared secret.
                let public = pair.public_key().as_der().expect("a public key has a form");
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public.as_ref()), message).as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding(algorithm), &random, message, &mut signature).expect("RSA signs");
                signature
            }
            Pair::P256(pair) if algorithm == "DER" => {
                let der = pair.to_pkcs8v1().expect("a key has a form");
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.as_ref()).expect("the same key");
                pair.sign(&random, message).expect("ECDSA signs").as_ref().to_vec()
            }
            Pair::P256(pair) | Pair::P384(pair) => pair.sign(&random, message).expect("ECDSA signs").as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
        }
    }

    /// The public key of a pair (RFC 7517), with more fields.
    pub fn public(&self, name: &str, more: &Value) -> Value {
        let point = |pair: &EcdsaKeyPair, curve: &str| {
            let bytes = pair.public_key().as_ref()[1..].to_vec();
            let (x, y) = bytes.split_at(bytes.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
        };
        let mut key = match &self.pairs[name] {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({"kty": "RSA", "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero())})
            }
            Pair::P256(pair) => point(pair, "P-256"),
            Pair::P384(pair) => point(pair, "P-384"),
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())}),
            Pair::Secret(secret) => json!({"kty": "oct", "k": encode(secret)}),
        };
        for (name, value) in more.as_object().into_iter().flatten() {
            key[name.as_str()] = value.clone();
        }
        key
    }

    /// The set of [`Self::simple`].
    pub fn jwks(&self) -> String {
        json!({"keys": [self.public("main", &json!({"kid": "main"}))]}).to_string()
    }
}

fn pair(kind: &str) -> Pair {
    match kind {
        "RSA" => Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made"))),
        "P-256" => Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made")),
        "P-384" => Pair::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key can be made")),
        "Ed25519" => Pair::Ed(Ed25519KeyPair::generate().expect("a key can be made")),
        _ => Pair::Secret(b"a secret that everybody in this story knows".to_vec()),
    }
}

fn padding(algorithm: &str) -> &'static dyn RsaEncoding {
    match algorithm {
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

/// base64url, as in tokens.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A RequestAuthentication `tokens` in a namespace; `rules` is its `jwtRules`.
pub fn request_authentication(namespace: &str, rules: &Value) -> String {
    json!({"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": namespace}, "spec": {"jwtRules": rules}})
    .to_string()
}

/// What a server of keys does next.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200 with this.
    Keys(String),
    /// This status.
    Status(u16),
    /// Nothing, for ever.
    Silence,
}

/// A server of keys; ends when dropped.
pub struct KeyServer {
    /// Where its keys are.
    pub uri: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    _listening: Listening,
}

impl KeyServer {
    /// Listens and answers so.
    pub async fn start(address: SocketAddr, answer: Answer) -> Self {
        Self::over(address, answer, None).await
    }

    /// The same over TLS.
    pub async fn start_tls(address: SocketAddr, answer: Answer, identity: &Issued) -> Self {
        Self::over(address, answer, Some(TlsAcceptor::from(tls_peer::server(identity, None, &[])))).await
    }

    async fn over(address: SocketAddr, answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(AtomicUsize::new(0));
        let (next, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let serve = move |stream| {
            let (next, count, tls) = (Arc::clone(&next), Arc::clone(&count), tls.clone());
            async move {
                let mut raw = match tls {
                    None => Raw::over(Box::new(stream)),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Raw::over(Box::new(stream)),
                        // It does not trust us.
                        Err(_) => return,
                    },
                };
                let asked = raw.read_until("\r\n\r\n").await;
                count.fetch_add(1, Ordering::Relaxed);
                let answer = next.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let (status, body) = match answer {
                    Answer::Keys(keys) => (200, keys),
                    Answer::Status(status) => (status, String::new()),
                    Answer::Silence => std::future::pending().await,
                };
                if asked.is_err() {
                    return;
                }
                let head =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // Who gave up hears nothing.
                raw.send(format!("{head}{body}")).await.ok();
                raw.finish().await;
            }
        };
        let listening = Listening::start(address, serve).await;
        Self { uri: format!("{scheme}://{address}/keys"), answer, asked, _listening: listening }
    }

    /// What it does from now on.
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}
