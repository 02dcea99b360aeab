//! `RateLimit` (policy.sluice.dev): how often something may be asked for, and by whom.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{
    destination_rule::LabelSelector,
    scalar::{ProtoDuration, StringMatch, non_empty},
};

/// `RateLimit`: what gateways and sidecars let through of requests, by whatever tells clients apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RateLimit {
    /// The workloads whose proxies count; the whole namespace when unset, the whole mesh in the root namespace.
    pub selector: Option<LabelSelector>,
    /// Instead of `selector`: the Gateways, routes and Services that are limited.
    pub target_refs: Vec<TargetRef>,
    /// Each limits by itself: a request has to keep within all that are about it.
    #[schemars(extend("x-required" = true))]
    pub rules: Vec<LimitRule>,
}

/// `RateLimit.targetRefs`: something of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetRef {
    /// `networking.istio.io` (Gateway, VirtualService), `gateway.networking.k8s.io` (Gateway), or empty (Service).
    pub group: String,
    /// `Gateway`, `VirtualService` or `Service`. Required.
    #[schemars(extend("x-required" = true))]
    pub kind: String,
    /// Its name. Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// Of a VirtualService, the route of this name; all of its routes when unset.
    #[serde(deserialize_with = "non_empty")]
    pub section_name: Option<String>,
}

/// `RateLimit.rules`: one limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LimitRule {
    /// For logs, metrics and clients; its number when unset.
    #[serde(deserialize_with = "non_empty")]
    pub name: Option<String>,
    /// The requests that it is about, each entry being enough; all of them when empty.
    #[serde(rename = "match")]
    pub matches: Vec<LimitMatch>,
    /// What tells clients apart: each set of values has a limit of its own. When empty, all requests share one.
    pub key: Vec<KeyPart>,
    /// How much is let through. Required with `local`.
    pub limit: Option<Amount>,
    /// Counted by each proxy for itself, over all of its threads; what holds when neither this nor `global` is given.
    pub local: Option<Nothing>,
    /// Counted by a service that speaks Envoy's rate limit protocol (`envoy.service.ratelimit.v3`), for all proxies together.
    pub global: Option<Global>,
    /// Only count and log what would be turned away.
    pub dry_run: bool,
    /// Status of what is turned away; 429 when unset.
    pub status: Option<u16>,
    /// Which answers tell the client how much is left.
    pub headers: HeadersOn,
}

/// `RateLimit.rules.match`: all of what is given has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LimitMatch {
    /// Hosts, as `shop.example.com` or `*.example.com`; any of them.
    pub hosts: Vec<String>,
    /// Paths without query; any of them.
    pub paths: Vec<StringMatch>,
    /// Methods; any of them.
    pub methods: Vec<String>,
    /// Headers by lower-case name; all of them.
    pub headers: BTreeMap<String, StringMatch>,
    /// Headers that must not match; none of them.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Query parameters; all of them.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Names of routes of VirtualServices; any of them.
    pub routes: Vec<String>,
}

/// `RateLimit.rules.key`: one thing that tells clients apart. Exactly one of the fields beside `as` and `whenAbsent`.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct KeyPart {
    /// The client's address, as trusted proxies in front tell it.
    pub client_address: Option<ClientAddress>,
    /// The value of this header.
    #[serde(deserialize_with = "non_empty")]
    pub header: Option<String>,
    /// The value of this cookie.
    #[serde(deserialize_with = "non_empty")]
    pub cookie: Option<String>,
    /// A claim of the verified token, as `sub` or `request.auth.claims[realm][tenant]`.
    #[serde(deserialize_with = "non_empty")]
    pub claim: Option<String>,
    /// The peer's identity in the mesh (its SPIFFE id).
    pub principal: Option<Nothing>,
    /// The namespace in the peer's identity.
    pub namespace: Option<Nothing>,
    /// The method.
    pub method: Option<Nothing>,
    /// The path without query.
    pub path: Option<Nothing>,
    /// The host that is asked for, without port.
    pub host: Option<Nothing>,
    /// The name of the route.
    pub route: Option<Nothing>,
    /// This text, which is the same for everybody (`generic_key`).
    #[serde(deserialize_with = "non_empty")]
    pub constant: Option<String>,
    /// The key of the descriptor entry, for `global`; Envoy's when unset (`remote_address`, `generic_key`, the header's name...).
    #[serde(rename = "as", deserialize_with = "non_empty")]
    pub alias: Option<String>,
    /// What becomes of requests that do not have it.
    pub when_absent: WhenAbsent,
}

/// `RateLimit.rules.key.clientAddress`.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientAddress {
    /// Clients within the same network of this many bits share a limit; 32 when unset, each address by itself.
    pub ipv4_prefix: Option<u8>,
    /// The same for IPv6; 64 when unset, since most clients have a network of that size to themselves.
    pub ipv6_prefix: Option<u8>,
}

/// Nothing more to say: `{}`.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Nothing {}

/// `RateLimit.rules.key.whenAbsent`.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WhenAbsent {
    /// All of them share one limit, so that leaving it out is no way around.
    #[default]
    Share,
    /// The rule is not about them (as in Envoy).
    Skip,
}

/// `RateLimit.rules.headers`.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HeadersOn {
    /// Those that turn the client away.
    #[default]
    Refused,
    /// All of them.
    Always,
    /// None; `retry-after` stays.
    Never,
}

/// `RateLimit.rules.limit`: a bucket that is filled evenly and holds `burst`.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Amount {
    /// So many requests, 1 or more. Required.
    #[schemars(extend("x-required" = true))]
    pub requests: u32,
    /// In this time: `second`, `minute`, `hour`, `day`, or a duration as `10s`; a second when unset.
    #[schemars(with = "Option<String>")]
    pub per: Option<Period>,
    /// At most so many at once; as `requests` when unset.
    pub burst: Option<u32>,
}

/// `RateLimit.rules.limit.per`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Period(ProtoDuration);

impl Period {
    /// The same as std's duration.
    pub fn get(self) -> Duration {
        self.0.get()
    }
}

impl Default for Period {
    fn default() -> Self {
        Self(ProtoDuration::from_millis(1000))
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = match text.to_ascii_lowercase().as_str() {
            "second" => 1,
            "minute" => 60,
            "hour" => 3600,
            "day" => 86_400,
            _ => {
                let other = text.parse().map(Self);
                return other.map_err(|_: super::scalar::BadDuration| {
                    format!("`{text}` is no period; write second, minute, hour, day, or a duration as `10s`")
                });
            }
        };
        Ok(Self(ProtoDuration::from_millis(seconds * 1000)))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;

        impl de::Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("second, minute, hour, day, or a duration as `10s`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(PeriodVisitor)
    }
}

/// `RateLimit.rules.global`: who counts.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Global {
    /// Host of the rate limit service, as a VirtualService would name it. Required.
    #[schemars(extend("x-required" = true))]
    pub service: String,
    /// Its port; the only one that it has when unset.
    pub port: Option<u16>,
    /// The domain of its configuration. Required.
    #[schemars(extend("x-required" = true))]
    pub domain: String,
    /// How long its word is waited for; 20ms when unset, as in Envoy.
    pub timeout: Option<ProtoDuration>,
    /// Whether requests pass that it says nothing about; they do when unset, as in Envoy.
    pub fail_open: Option<bool>,
}
