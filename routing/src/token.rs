//! A token that was verified: who its issuer says that it is about, and what else it says (RFC 7519).

use serde_json::{Map, Value};

/// What a JSON Web Token says whose signature, times, issuer and audiences were found right (Istio `RequestAuthentication`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Token {
    /// Everything that it says.
    pub claims: Map<String, Value>,
}

impl Token {
    /// `iss`; empty = none.
    pub fn issuer(&self) -> &str {
        self.text("iss")
    }

    /// `sub`; empty = none.
    pub fn subject(&self) -> &str {
        self.text("sub")
    }

    /// Issuer and subject, as policies name them: `iss/sub`.
    pub fn principal(&self) -> String {
        format!("{}/{}", self.issuer(), self.subject())
    }

    /// `azp`: who may present it; empty = none.
    pub fn presenter(&self) -> &str {
        self.text("azp")
    }

    /// `aud`: whom it is for, one or several.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self.claims.get("aud") {
            Some(Value::String(one)) => (Some(one.as_str()), &[][..]),
            Some(Value::Array(several)) => (None, several.as_slice()),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().filter_map(Value::as_str))
    }

    /// A claim by its path: `["realm_access", "roles"]`.
    pub fn claim<'n>(&self, path: impl IntoIterator<Item = &'n str>) -> Option<&Value> {
        let mut path = path.into_iter();
        let first = self.claims.get(path.next()?)?;
        path.try_fold(first, |at, name| at.as_object()?.get(name))
    }

    fn text(&self, name: &str) -> &str {
        self.claims.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_by_their_path() {
        let claims = serde_json::json!({
            "iss": "https://issuer.example", "sub": "ada", "aud": ["a", 1, "b"], "realm": { "roles": ["admin"] }
        });
        let token = Token { claims: claims.as_object().unwrap().clone() };
        assert_eq!(token.principal(), "https://issuer.example/ada");
        assert_eq!((token.issuer(), token.subject(), token.presenter()), ("https://issuer.example", "ada", ""));
        assert_eq!(token.audiences().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(token.claim(["realm", "roles"]), Some(&serde_json::json!(["admin"])));
        assert_eq!(token.claim(["realm", "roles", "0"]), None);
        assert_eq!(token.claim([]), None);
        let one = Token { claims: serde_json::json!({ "aud": "a" }).as_object().unwrap().clone() };
        assert_eq!(one.audiences().collect::<Vec<_>>(), ["a"]);
    }
}
