//! One token, as far as it can be read without keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{Refusal, json};

/// Heads of requests are bounded by 60 KiB; a token of more than this is nobody's.
const LONGEST: usize = 32 * 1024;
/// Clocks differ: by so many seconds (Envoy's default).
const SKEW: u64 = 60;

/// A token that was read, and not yet verified.
#[derive(Debug)]
pub struct Jwt<'t> {
    /// What is signed: header and payload as they stand there.
    pub(super) signed: &'t str,
    /// In base64url.
    pub(super) signature: &'t str,
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// What it says.
    pub claims: Map<String, Value>,
}

impl<'t> Jwt<'t> {
    /// Reads a token.
    ///
    /// # Errors
    /// It is not one, or is one that nobody here would verify.
    pub fn read(token: &'t str) -> Result<Self, Refusal> {
        let parts = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.') && token.len() <= LONGEST).then_some((signed, header, payload, signature))
        };
        let (signed, header, payload, signature) = parts().ok_or(Refusal::Form)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Refusal::HeaderCoding)?;
        let header = json::object(&header).ok_or(Refusal::HeaderJson)?;
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => algorithm(name).ok_or(Refusal::Algorithm)?,
            _ => return Err(Refusal::NoAlgorithm),
        };
        let key_id = match header.get("kid") {
            None => None,
            // An empty name is none.
            Some(Value::String(id)) => (!id.is_empty()).then(|| id.clone()),
            Some(_) => return Err(Refusal::KeyId),
        };
        if header.contains_key("crit") {
            return Err(Refusal::Critical);
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refusal::PayloadCoding)?;
        let claims = json::object(&payload).ok_or(Refusal::PayloadJson)?;
        check_types(&claims)?;
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::SignatureCoding)?;
        Ok(Self { signed, signature, algorithm, key_id, claims })
    }

    /// `kid`.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// `iss`; empty = none.
    pub fn issuer(&self) -> &str {
        self.claims.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// Payload, as it stands there, in base64url.
    pub fn payload(&self) -> &'t str {
        self.signed.split_once('.').map_or("", |(_, payload)| payload)
    }

    /// Whether claims hold at this moment, in seconds since 1970.
    ///
    /// # Errors
    /// Too early, or too late.
    pub fn check_times(claims: &Map<String, Value>, now: u64) -> Result<(), Refusal> {
        let time = |name: &str| claims.get(name).and_then(seconds);
        if time("nbf").is_some_and(|nbf| nbf > now.saturating_add(SKEW)) {
            return Err(Refusal::TooEarly);
        }
        if time("exp").is_some_and(|exp| exp.saturating_add(SKEW) < now) {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

fn check_types(claims: &Map<String, Value>) -> Result<(), Refusal> {
    let text = |name: &str| claims.get(name).is_none_or(Value::is_string);
    let time = |name: &str| claims.get(name).is_none_or(|value| seconds(value).is_some());
    let audience = match claims.get("aud") {
        None | Some(Value::String(_)) => true,
        Some(Value::Array(several)) => several.iter().all(Value::is_string),
        Some(_) => false,
    };
    let rules = [
        (text("iss"), Refusal::Issuer),
        (text("sub"), Refusal::Subject),
        (time("iat"), Refusal::IssuedAt),
        (time("nbf"), Refusal::NotBefore),
        (time("exp"), Refusal::Expiry),
        (audience, Refusal::Audience),
    ];
    rules.into_iter().find(|(good, _)| !good).map_or(Ok(()), |(_, refusal)| Err(refusal))
}

/// A moment (RFC 7519 section 2, NumericDate); a part of a second counts as not passed yet.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within, and a fraction is cut off")]
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|time| (0.0..9e15).contains(time)).map(|time| time as u64))
}
