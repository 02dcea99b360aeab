//! Keys of tokens that stand in a RequestAuthentication: whether they can verify anything.

use std::{collections::HashMap, sync::Arc};

use routing::{
    api::RequestAuthentication,
    problem::{Problem, Severity},
    resources::Resources,
};
use tls::jwt::Keys;

/// Code of both problems.
const CODE: &str = "bad-jwks";

/// What was found in RequestAuthentications, by their digests.
#[derive(Debug, Default)]
pub(super) struct Examined(HashMap<u64, Arc<[Fault]>>);

/// Something wrong with the keys of a rule.
#[derive(Debug)]
struct Fault {
    field: String,
    severity: Severity,
    message: String,
}

impl Examined {
    /// Tells of every key that no token can be verified with.
    pub(super) fn run(&mut self, resources: &Resources, problems: &mut Vec<Problem>) {
        let mut known = HashMap::new();
        for object in &resources.request_authentications {
            if object.spec.jwt_rules.iter().all(|rule| rule.jwks.is_none()) {
                continue;
            }
            let before = self.0.get(&object.digest).cloned();
            let faults = before.unwrap_or_else(|| examine(&object.spec).into());
            let told = faults.iter().map(|it| object.problem(it.severity, CODE, &it.field, it.message.clone()));
            problems.extend(told);
            known.insert(object.digest, faults);
        }
        self.0 = known;
    }
}

fn examine(spec: &RequestAuthentication) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, rule) in spec.jwt_rules.iter().enumerate() {
        let Some(text) = &rule.jwks else { continue };
        let field = format!("spec.jwtRules[{index}].jwks");
        match Keys::read(text.as_bytes()) {
            Err(fault) => {
                let message = format!("{fault}; tokens of `{}` are refused with 401", rule.issuer);
                faults.push(Fault { field, severity: Severity::Error, message });
            }
            Ok(keys) => faults.extend(keys.faults().iter().map(|fault| {
                let message = format!("{fault}; tokens that were signed with it are refused");
                Fault { field: field.clone(), severity: Severity::Warning, message }
            })),
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Resources {
        let yaml = format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a, namespace: b}}\n\
             spec:\n  jwtRules:\n  - issuer: https://a\n    jwks: '{{\"keys\": [{keys}]}}'\n"
        );
        let (resources, read) = Resources::read([("a.yaml", yaml.as_str())]);
        assert!(read.is_empty(), "{read:?}");
        resources
    }

    fn told(keys: &str) -> Vec<String> {
        let mut problems = Vec::new();
        Examined::default().run(&read(keys), &mut problems);
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

    #[test]
    fn keys_are_read_when_they_change() {
        let bad = GOOD.replace("OhAv", "OhAw");
        let (mut examined, mut problems) = (Examined::default(), Vec::new());
        let mut faults = |keys: &str| {
            examined.run(&read(keys), &mut problems);
            Arc::clone(examined.0.values().next().unwrap())
        };
        let first = faults(&bad);
        assert!(Arc::ptr_eq(&first, &faults(&bad)), "read again");
        assert!(faults(GOOD).is_empty());
        assert!(!Arc::ptr_eq(&first, &faults(&bad)), "kept for ever");
        assert_eq!(problems.len(), 3, "told each time");
    }
}
