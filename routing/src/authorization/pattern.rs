//! One value of a policy, as texts are compared with it.

use super::template::{Template, is_template};

/// A text, or texts of one form.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Pattern {
    /// `*`: any that is not empty.
    Present,
    /// This one.
    Exact(Box<str>),
    /// `a*`; the empty one is any text.
    Prefix(Box<str>),
    /// `*a`.
    Suffix(Box<str>),
    /// Of a namespace, which may have `*` anywhere: what stands between them, at least two parts.
    Glob(Box<[Box<str>]>),
    /// Of a path.
    Template(Template),
}

impl Pattern {
    /// What is there, be it empty.
    pub(crate) fn any() -> Self {
        Self::Prefix("".into())
    }

    /// Istio's usual forms: one `*` counts, at the begin or else at the end.
    pub(crate) fn of(text: &str) -> Self {
        if text == "*" {
            Self::Present
        } else if let Some(rest) = text.strip_prefix('*') {
            Self::Suffix(rest.into())
        } else if let Some(rest) = text.strip_suffix('*') {
            Self::Prefix(rest.into())
        } else {
            Self::Exact(text.into())
        }
    }

    /// Of a header, a host or a method: `*` is any that is there.
    pub(crate) fn of_header(text: &str) -> Self {
        if text == "*" { Self::any() } else { Self::of(text) }
    }

    /// Of a namespace, in what stands behind `/ns/` of an id. What a `*` stands for may have slashes, as in Istio's
    /// expression `.*/ns/NAMESPACE/.*`.
    pub(crate) fn of_namespace(text: &str) -> Self {
        let before = format!("{text}/");
        if text.contains('*') {
            Self::Glob(before.split('*').chain([""]).map(Box::from).collect())
        } else {
            Self::Prefix(before.into())
        }
    }

    /// Of a path.
    pub(crate) fn of_path(text: &str) -> Self {
        if is_template(text) { Self::Template(Template::of(text)) } else { Self::of(text) }
    }

    /// Whether a text is one of them.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(own) => &**own == text,
            Self::Prefix(own) => text.starts_with(&**own),
            Self::Suffix(own) => text.ends_with(&**own),
            Self::Glob(parts) => glob(parts, text),
            Self::Template(template) => template.fits(text),
        }
    }

    /// One of the first four forms that has all texts of this one: what it is looked up by.
    pub(super) fn widened(&self) -> Self {
        match self {
            Self::Glob(parts) => Self::Prefix(parts.first().cloned().unwrap_or_default()),
            Self::Template(template) => Self::Prefix(template.head().into()),
            other => other.clone(),
        }
    }
}

/// Each part at its first place behind the last one is as good as any other place.
fn glob(parts: &[Box<str>], text: &str) -> bool {
    let [first, middle @ .., last] = parts else { return false };
    let Some(mut rest) = text.strip_prefix(&**first) else { return false };
    for part in middle {
        match rest.find(&**part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(&**last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_counts_at_one_end() {
        for (pattern, matching, others) in [
            ("*", &["a", "*"][..], &[""][..]),
            ("a", &["a"], &["A", "ab", ""]),
            ("a*", &["a", "ab"], &["ba", ""]),
            ("*a", &["a", "ba"], &["ab", ""]),
            ("a*b", &["a*b"], &["aab", "ab"]),
            ("*a*", &["a*", "ba*"], &["a", "bac"]),
        ] {
            let compiled = Pattern::of(pattern);
            assert!(matching.iter().all(|text| compiled.matches(text)), "{pattern}");
            assert!(!others.iter().any(|text| compiled.matches(text)), "{pattern}");
        }
        assert!(Pattern::of_header("*").matches(""));
    }

    proptest! {
        #[test]
        fn a_namespace_matches_as_a_regular_expression_would(pattern in "[ab*/]{1,6}", text in "[ab/]{0,8}") {
            let expression = format!("{}/.*", pattern.replace('*', ".*"));
            let wanted = crate::re2::Expression::whole(&expression).unwrap().is_match(&text);
            prop_assert_eq!(Pattern::of_namespace(&pattern).matches(&text), wanted);
        }

        #[test]
        fn what_is_looked_up_by_has_all_texts(pattern in "[ab*]{1,5}", text in "[ab/]{0,8}") {
            for compiled in [Pattern::of(&pattern), Pattern::of_namespace(&pattern)] {
                prop_assert!(!compiled.matches(&text) || compiled.widened().matches(&text));
            }
        }
    }
}
