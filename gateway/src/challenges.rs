//! What a CA's checks are answered with, at any replica: swapped whole as [`crate::live`] is, and empty nearly always.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use tls::challenge::ChallengeTls;

/// Where RFC 8555 section 8.3 looks for a token.
const PREFIX: &str = "/.well-known/acme-challenge/";

/// The challenges of one moment.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    http: HashMap<String, Http>,
    tls: HashMap<String, ChallengeTls>,
}

#[derive(Debug)]
struct Http {
    host: String,
    answer: Arc<str>,
}

impl Challenges {
    /// A token on port 80: only requests for `host` are answered.
    pub(crate) fn add_http(&mut self, host: &str, token: &str, answer: &str) {
        self.http.insert(token.to_owned(), Http { host: host.to_ascii_lowercase(), answer: answer.into() });
    }

    /// A certificate under the ALPN of RFC 8737 for an SNI.
    pub(crate) fn add_tls(&mut self, host: &str, challenge: ChallengeTls) {
        self.tls.insert(host.to_ascii_lowercase(), challenge);
    }
}

/// The challenges that are live now. Their values are secrets until the CA has asked for them.
#[derive(Debug, Default)]
pub(crate) struct LiveChallenges(ArcSwap<Challenges>);

impl LiveChallenges {
    /// These are answered from now on, and no others.
    pub(crate) fn install(&self, challenges: Challenges) {
        self.0.store(Arc::new(challenges));
    }

    /// The answer to a request for exactly this path at exactly this host (without a port), if it is a live token.
    pub(crate) fn http(&self, host: &str, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(PREFIX)?;
        let challenges = self.0.load();
        let found = challenges.http.get(token)?;
        found.host.eq_ignore_ascii_case(host).then(|| Arc::clone(&found.answer))
    }

    /// What an ACME validator is shown for an SNI in lower case.
    pub(crate) fn tls(&self, sni: &str) -> Option<ChallengeTls> {
        self.0.load().tls.get(sni).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_at_its_own_host_is_answered() {
        let live = LiveChallenges::default();
        let ask = |host: &str, path: &str| live.http(host, path).map(|it| it.to_string());
        assert_eq!(ask("shop.example", "/.well-known/acme-challenge/abc"), None);

        let mut challenges = Challenges::default();
        challenges.add_http("Shop.example", "abc", "abc.thumbprint");
        live.install(challenges);

        assert_eq!(ask("shop.EXAMPLE", "/.well-known/acme-challenge/abc").as_deref(), Some("abc.thumbprint"));
        assert_eq!(ask("other.example", "/.well-known/acme-challenge/abc"), None);
        for path in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/ab",
            "/.well-known/acme-challenge/abcd",
            "/.well-known/acme-challenge/abc/",
            "/.well-known/acme-challenge//abc",
            "/.well-known/acme-challenge/x/abc",
            "/.well-known/acme-challenge/ABC",
            "/.well-known/Acme-challenge/abc",
            "/abc",
            "",
        ] {
            assert_eq!(ask("shop.example", path), None, "{path}");
        }

        live.install(Challenges::default());
        assert_eq!(ask("shop.example", "/.well-known/acme-challenge/abc"), None);
    }
}
