//! Keys of tokens that stand in a RequestAuthentication: whether they can verify anything.

use routing::{
    problem::{Problem, Severity},
    resources::Resources,
};
use tls::jwt::Keys;

/// Code of both problems.
const CODE: &str = "bad-jwks";

/// Tells of every key that no token can be verified with.
pub(super) fn inline_keys(resources: &Resources, problems: &mut Vec<Problem>) {
    for object in &resources.request_authentications {
        for (index, rule) in object.spec.jwt_rules.iter().enumerate() {
            let Some(text) = &rule.jwks else { continue };
            let field = format!("spec.jwtRules[{index}].jwks");
            match Keys::read(text.as_bytes()) {
                Err(fault) => {
                    let message = format!("{fault}; tokens of `{}` are refused with 401", rule.issuer);
                    problems.push(object.problem(Severity::Error, CODE, &field, message));
                }
                Ok(keys) => problems.extend(keys.faults().iter().map(|fault| {
                    let message = format!("{fault}; tokens that were signed with it are refused");
                    object.problem(Severity::Warning, CODE, &field, message)
                })),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use routing::resources::Resources;

    use super::*;

    fn told(keys: &str) -> Vec<String> {
        let yaml = format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a, namespace: b}}\n\
             spec:\n  jwtRules:\n  - issuer: https://a\n    jwks: '{{\"keys\": [{keys}]}}'\n"
        );
        let (resources, read) = Resources::read([("a.yaml", yaml.as_str())]);
        assert!(read.is_empty(), "{read:?}");
        let mut problems = Vec::new();
        inline_keys(&resources, &mut problems);
        problems.into_iter().map(|it| format!("{:?} {}", it.severity, it.message)).collect()
    }

    const GOOD: &str = r#"{"kty":"EC","crv":"P-256","x":"OhAvLtJfbqoHlerbul0cpHaO3rlavYz1ctGCzViu-es","y":"jqf3xtZVYgTlmDvKMsB1VjzGMUCQ8NeLJ2WeQqJdq5k"}"#;

    #[test]
    fn a_key_that_verifies_nothing_is_told() {
        assert_eq!(told(GOOD), [""; 0]);
        let off = GOOD.replace("OhAv", "OhAw");
        assert_eq!(
            told(&off),
            [
                "Error no key in it verifies signatures (key 0: `x` and `y` are no point of this curve); tokens of `https://a` \
              are refused with 401"
            ]
        );
        let secret = format!("{GOOD}, {{\"kty\": \"oct\", \"k\": \"AAAA\"}}");
        assert_eq!(
            told(&secret),
            ["Warning key 1: oct verifies nothing here; tokens that were signed with it are refused"]
        );
        // It is not meant to.
        assert_eq!(told(&format!("{GOOD}, {{\"kty\": \"RSA\", \"use\": \"enc\"}}")), [""; 0]);
    }
}
