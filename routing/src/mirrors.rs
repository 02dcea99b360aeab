//! Copies of requests: which ones, and for whom.

use std::sync::Arc;

use crate::{host::strip_port, upstream::ClusterId};

/// Istio `HTTPMirrorPolicy`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Where copies go.
    pub cluster: ClusterId,
    /// Its name: `outbound|8080|v1|host`.
    pub cluster_name: Arc<str>,
    /// How many requests are copied, in millionths.
    pub parts: u32,
    /// Copies are for [`shadow_host`].
    pub shadow: bool,
}

impl Mirror {
    /// `parts` of a mirror that copies every request.
    pub const ALL: u32 = 1_000_000;

    /// Whether a request is copied; `random` is any uniformly distributed number.
    pub fn takes(&self, random: u32) -> bool {
        (u64::from(random) * u64::from(Self::ALL)) >> 32 < u64::from(self.parts)
    }
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
    fn a_share_is_met_to_the_millionth() {
        let takes = |parts, random| {
            Mirror { cluster: ClusterId(0), cluster_name: Arc::default(), parts, shadow: false }.takes(random)
        };
        for random in [0, 1, u32::MAX / 2, u32::MAX] {
            assert!(takes(Mirror::ALL, random) && !takes(0, random));
        }
        assert!(takes(1, 4_294) && !takes(1, 4_295));
        let taken = (0..1_000).filter(|number| takes(250_000, number * (u32::MAX / 1_000))).count();
        assert!((249..=251).contains(&taken), "{taken}");
    }

    #[test]
    fn a_shadow_keeps_its_port() {
        for (host, shadow) in
            [("a", "a-shadow"), ("a.b:80", "a.b-shadow:80"), ("[::1]:80", "[::1]-shadow:80"), ("", "-shadow")]
        {
            assert_eq!(shadow_host(host), shadow);
        }
    }
}
