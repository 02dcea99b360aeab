//! Trust domains with other names: whoever is meant by one of them is meant by all.

/// What a mesh always calls its own domain.
const OWN: &str = "cluster.local";

/// A principal under all names of its trust domain, if that is one of the mesh (`domains`).
pub(super) fn principals(principal: &str, domains: &[String]) -> Vec<String> {
    let mut parts = principal.split('/');
    let domain = parts.next().unwrap_or_default();
    // What is not a whole identity says nothing about its domain.
    if parts.count() != 4 || domain == "*" {
        return vec![principal.to_owned()];
    }
    let rest = &principal[domain.len()..];
    renamed(domain, domains).into_iter().map(|name| format!("{name}{rest}")).collect()
}

/// A trust domain under all of its names.
pub(super) fn renamed(domain: &str, domains: &[String]) -> Vec<String> {
    let is_own = domain == OWN || domains.iter().any(|own| meets(domain, own) || meets(own, domain));
    if domain == "*" || !is_own {
        return vec![domain.to_owned()];
    }
    let mut names = Vec::new();
    for own in domains {
        let covered = domain.strip_prefix('*').is_some_and(|rest| own.ends_with(rest));
        let name = if covered { domain } else { own };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Whether a name is of a pattern with a `*` at one of its ends.
fn meets(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), _) => name.ends_with(rest),
        (_, Some(rest)) => name.starts_with(rest),
        _ => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_mesh_stands_for_all() {
        let domains = ["new".to_owned(), "old".to_owned(), "x-old".to_owned()];
        for (written, wanted) in [
            ("cluster.local/ns/a/sa/b", &["new/ns/a/sa/b", "old/ns/a/sa/b", "x-old/ns/a/sa/b"][..]),
            ("old/ns/a/sa/b", &["new/ns/a/sa/b", "old/ns/a/sa/b", "x-old/ns/a/sa/b"]),
            ("*old/ns/a/sa/b", &["new/ns/a/sa/b", "*old/ns/a/sa/b"]),
            ("*/ns/a/sa/b", &["*/ns/a/sa/b"]),
            ("foreign/ns/a/sa/b", &["foreign/ns/a/sa/b"]),
            ("old/ns/a/*", &["old/ns/a/*"]),
            ("*", &["*"]),
            ("*/sa/b", &["*/sa/b"]),
        ] {
            assert_eq!(principals(written, &domains), wanted, "{written}");
        }
        assert_eq!(renamed("old", &domains), domains);
        assert_eq!(renamed("other", &domains), ["other"]);
        assert_eq!(renamed("ne*", &domains), domains);
    }
}
