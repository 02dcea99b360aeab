//! JSON Web Tokens (RFC 7519): what they say, and whether the issuer's keys signed it.
//!
//! Only signatures count, and only keys that were configured: what a token says about keys (`jwk`, `jku`, `x5u`, `x5c`) is not
//! looked at. Texts of errors are those of Envoy's filter, which clients and dashboards know.

mod fetch;
mod json;
mod keys;
mod token;

#[cfg(test)]
mod tests;

pub use fetch::{Allows, Fetcher};
pub use keys::{Keys, MOST_KEYS};
pub use token::Jwt;

/// SHA-256 of a token: to know it again without keeping it.
pub fn digest(token: &[u8]) -> [u8; 32] {
    let mut short = [0; 32];
    short.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token).as_ref());
    short
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not three parts, or too long.
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    /// The header is not base64url.
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderCoding,
    /// The header is no JSON object, or says something twice.
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    /// There is no `alg`.
    #[error("Jwt header [alg] field is missing or is not a string")]
    NoAlgorithm,
    /// Not one of ours: `none`, shared secrets, and what nobody knows.
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    /// `kid` is something else.
    #[error("Jwt header [kid] field is not a string")]
    KeyId,
    /// There is something that has to be understood, and is not (RFC 7515 section 4.1.11).
    #[error("Jwt header [crit] is not supported")]
    Critical,
    /// The payload is not base64url.
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadCoding,
    /// The payload is no JSON object, or says something twice.
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    /// `iss` is something else.
    #[error("Jwt payload [iss] field is not a string")]
    Issuer,
    /// `sub` is something else.
    #[error("Jwt payload [sub] field is not a string")]
    Subject,
    /// `iat` is something else.
    #[error("Jwt payload [iat] field is not an integer")]
    IssuedAt,
    /// `nbf` is something else.
    #[error("Jwt payload [nbf] field is not an integer")]
    NotBefore,
    /// `exp` is something else.
    #[error("Jwt payload [exp] field is not an integer")]
    Expiry,
    /// `aud` is something else.
    #[error("Jwt payload [aud] field is not a string or string list")]
    Audience,
    /// The signature is not base64url.
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureCoding,
    /// `nbf` is to come.
    #[error("Jwt not yet valid")]
    TooEarly,
    /// `exp` is past.
    #[error("Jwt is expired")]
    Expired,
    /// Nobody here knows the issuer.
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    /// It is for others.
    #[error("Audiences in Jwt are not allowed")]
    WrongAudience,
    /// No key fits.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// No key that fits has signed it.
    #[error("Jwt verification fails")]
    Signature,
}
