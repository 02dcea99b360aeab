//! Who else is asked about a request: Istio's external authorization, compiled.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use crate::upstream::ClusterId;

/// The status of a no that has none of its own, and of no verdict where the provider does not say (Envoy's and Istio's).
pub const FORBIDDEN: u16 = 403;
/// So many bytes of a body are shown at most.
pub const MOST_BODY: u32 = 16 * 1024 * 1024;

/// The providers of a mesh that authorize, by name.
#[derive(Debug, Default)]
pub struct External {
    /// See [`Self::provider`].
    pub providers: HashMap<Arc<str>, Provider>,
}

impl External {
    /// The provider of this name; `None`: there is none that could be asked, and what would be asked is denied.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.get(name)
    }
}

/// One provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// Its service.
    pub cluster: ClusterId,
    /// How it is asked.
    pub form: Form,
    /// It answers within this time.
    pub timeout: Duration,
    /// What cannot be asked goes on.
    pub fail_open: bool,
    /// The client's answer when it cannot be asked.
    pub status_on_error: u16,
    /// It is shown bodies.
    pub body: Option<Body>,
    /// Routes are chosen after it has changed the request.
    pub reroutes: bool,
}

/// How a provider is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Form {
    /// By Envoy's `envoy.service.auth.v3.Authorization`.
    Grpc,
    /// By a request like the one that is asked about.
    Http(Box<HttpForm>),
}

/// As far as bodies are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Body {
    /// So many bytes.
    pub most: usize,
    /// Of longer ones the beginning; else they are refused.
    pub partial: bool,
    /// Not as text.
    pub bytes: bool,
}

/// What is said and heard over HTTP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpForm {
    /// Stands before the path.
    pub path_prefix: Box<str>,
    /// What of the request is shown, beside what always is.
    pub shown: Names,
    /// What is said besides.
    pub said: Box<[(HeaderName, HeaderValue)]>,
    /// What of a yes goes on with the request.
    pub to_upstream: Names,
    /// What of a no goes to the client; empty: all.
    pub to_client_on_deny: Names,
    /// What of a yes goes to the client.
    pub to_client_on_allow: Names,
}

/// Names of header fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names(Box<[NamePattern]>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum NamePattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
}

impl Names {
    /// From names, `prefix*` and `*suffix`.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let one = |name: &str| {
            let lower = |text: &str| text.to_ascii_lowercase().into_bytes().into_boxed_slice();
            match (name.strip_suffix('*'), name.strip_prefix('*')) {
                (Some(prefix), _) => NamePattern::Prefix(lower(prefix)),
                (None, Some(suffix)) => NamePattern::Suffix(lower(suffix)),
                (None, None) => NamePattern::Exact(lower(name)),
            }
        };
        Self(names.into_iter().map(one).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a field's name, in any case, is among them.
    pub fn has(&self, name: &[u8]) -> bool {
        let same = |part: Option<&[u8]>, text: &[u8]| part.is_some_and(|part| part.eq_ignore_ascii_case(text));
        self.0.iter().any(|pattern| match pattern {
            NamePattern::Exact(text) => name.eq_ignore_ascii_case(text),
            NamePattern::Prefix(text) => same(name.get(..text.len()), text),
            NamePattern::Suffix(text) => same(name.len().checked_sub(text.len()).map(|at| &name[at..]), text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_or_have_an_open_end() {
        let names = Names::new(["X-User", "x-auth-*", "*-token"]);
        for name in ["x-user", "X-USER", "x-auth-", "x-auth-request-user", "-token", "X-My-Token"] {
            assert!(names.has(name.as_bytes()), "{name}");
        }
        for name in ["", "x-use", "x-users", "x-aut", "token", "x-token-"] {
            assert!(!names.has(name.as_bytes()), "{name}");
        }
        assert!(Names::default().is_empty() && !names.is_empty());
    }
}
