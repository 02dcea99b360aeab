//! Istio `RequestAuthentication` (security.istio.io).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    destination_rule::LabelSelector,
    scalar::{ProtoDuration, non_empty},
    target_reference::TargetReference,
};

/// Istio `RequestAuthentication`: which tokens (RFC 7519) are checked, by whose keys, and where they are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestAuthentication {
    /// The workloads; the whole namespace when unset, the whole mesh in the root namespace.
    pub selector: Option<LabelSelector>,
    /// What it is attached to, instead of a selector; `targetRefs` replaces it.
    pub target_ref: Option<TargetReference>,
    /// What it is attached to, instead of a selector.
    pub target_refs: Vec<TargetReference>,
    /// The issuers.
    pub jwt_rules: Vec<JwtRule>,
}

impl RequestAuthentication {
    /// What it is attached to.
    pub fn targets(&self) -> impl Iterator<Item = &TargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

/// Istio `JWTRule`: one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct JwtRule {
    /// `iss` of its tokens.
    pub issuer: String,
    /// A token is for one of these (`aud`); for anybody when empty.
    pub audiences: Vec<String>,
    /// Where its keys are; by OpenID Connect discovery when neither this nor `jwks` is set.
    #[serde(deserialize_with = "non_empty")]
    pub jwks_uri: Option<String>,
    /// Its keys themselves (RFC 7517).
    #[serde(deserialize_with = "non_empty")]
    pub jwks: Option<String>,
    /// Headers that hold a token.
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that hold a token.
    pub from_params: Vec<String>,
    /// Cookies that hold a token.
    pub from_cookies: Vec<String>,
    /// A header that gets what the token says, in base64url.
    #[serde(deserialize_with = "non_empty")]
    pub output_payload_to_header: Option<String>,
    /// Headers that get single claims.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the token itself goes on to the workload.
    pub forward_original_token: bool,
    /// How long a fetch of the keys may take; 5 s when unset.
    pub timeout: Option<ProtoDuration>,
    /// Claims whose text is a list with spaces between its items, besides `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
}

/// Istio `JWTHeader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct JwtHeader {
    /// Name of the header. Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// What stands in front of the token, as `Bearer ` with its space.
    pub prefix: String,
}

/// Istio `ClaimToHeader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Name of the header. Required.
    #[schemars(extend("x-required" = true))]
    pub header: String,
    /// Name of the claim; one within another as `realm.roles`. Required.
    #[schemars(extend("x-required" = true))]
    pub claim: String,
}
