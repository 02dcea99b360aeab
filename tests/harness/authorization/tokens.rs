//! The tokens that rows bring.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::table::{Row, Table};
use crate::jwt::{Minter, now};

/// Who signs what is verified; other issuers sign with another key.
const ISSUER: &str = "https://issuer.test";
/// A second one.
const PARTNER: &str = "https://partner.test/realms/a";

/// Tokens by name.
pub(super) struct Tokens {
    minter: Minter,
    minted: BTreeMap<String, String>,
}

impl Tokens {
    /// Those of a table. Of their claims `signed: stranger` names another key than the issuer's; `iss` and `exp` are a
    /// good token's where they are not said.
    pub(super) fn of(table: &Table) -> Self {
        let minter = Minter::new(&[("main", "P-256"), ("partner", "P-256"), ("stranger", "P-256")]);
        let minted = table.tokens.iter().map(|(name, claims)| (name.clone(), mint(&minter, claims)));
        Self { minted: minted.collect(), minter }
    }

    /// `jwtRules` of a RequestAuthentication.
    pub(super) fn rules(&self) -> Value {
        let rule = |issuer: &str, key: &str| {
            let jwks = json!({"keys": [self.minter.public(key, &json!({"kid": key}))]}).to_string();
            json!({"issuer": issuer, "jwks": jwks, "forwardOriginalToken": true})
        };
        json!([rule(ISSUER, "main"), rule(PARTNER, "partner")])
    }

    /// A row with the field that holds its token.
    pub(super) fn given(&self, row: &Row) -> Row {
        let mut row = row.clone();
        if let Some(name) = &row.token {
            let token = self.minted.get(name).unwrap_or(name);
            row.headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        row
    }
}

fn mint(minter: &Minter, claims: &Map<String, Value>) -> String {
    let mut claims = claims.clone();
    let key = match (claims.remove("signed"), claims.get("iss").and_then(Value::as_str)) {
        (Some(key), _) => key.as_str().unwrap_or_default().to_owned(),
        (None, Some(PARTNER)) => "partner".to_owned(),
        (None, _) => "main".to_owned(),
    };
    claims.entry("iss").or_insert_with(|| ISSUER.into());
    claims.entry("exp").or_insert_with(|| (now() + 600).into());
    let header = json!({"alg": "ES256", "kid": key}).to_string();
    minter.sign(&header, &Value::Object(claims).to_string(), &key, "ES256")
}
