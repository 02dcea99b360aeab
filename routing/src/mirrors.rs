//! Copies of requests: which ones, and for whom.

use std::sync::Arc;

use crate::{fault::Share, host::strip_port, upstream::ClusterId};

/// Istio `HTTPMirrorPolicy`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Where copies go.
    pub cluster: ClusterId,
    /// Its name: `outbound|8080|v1|host`.
    pub cluster_name: Arc<str>,
    /// How many requests are copied.
    pub share: Share,
    /// Copies are for [`shadow_host`].
    pub shadow: bool,
}

/// Envoy's host of a copy: `a-shadow:80` for `a:80`.
pub fn shadow_host(authority: &str) -> String {
    let host = strip_port(authority);
    format!("{host}-shadow{}", &authority[host.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_keeps_its_port() {
        for (host, shadow) in
            [("a", "a-shadow"), ("a.b:80", "a.b-shadow:80"), ("[::1]:80", "[::1]-shadow:80"), ("", "-shadow")]
        {
            assert_eq!(shadow_host(host), shadow);
        }
    }
}
