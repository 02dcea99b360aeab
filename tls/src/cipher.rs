//! OpenSSL's names for cipher suites, as Istio's `ServerTLSSettings.cipherSuites` writes them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite};

use crate::provider;

/// The suites of TLS 1.2 this build can do, by OpenSSL name. Those of TLS 1.3 cannot be configured, in Envoy neither.
const TLS12: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Those of `names` that are ignored because this build cannot do them (CBC, RSA key exchange, unknown names).
pub(crate) fn unsupported(names: &[String]) -> Vec<String> {
    let is_supported = |name: &str| {
        let bare = name.strip_prefix(['!', '-', '+']).unwrap_or(name);
        // Excluding what cannot be offered anyway is honoured by not offering it.
        name != bare && !name.starts_with('+') || is_everything(bare) || suite(bare).is_some()
    };
    names.iter().filter(|name| alternatives(name).any(|one| !is_supported(one))).cloned().collect()
}

/// The provider restricted to `names`; all suites when none of the names is one this build can do.
///
/// `!NAME` and `-NAME` exclude, `ALL` includes everything, `[A|B]` is A and B, as in OpenSSL's cipher strings.
pub(crate) fn restricted(names: &[String]) -> Arc<CryptoProvider> {
    let all = provider::provider();
    let mut wanted: Vec<CipherSuite> = Vec::new();
    let every = || TLS12.iter().map(|(_, suite)| *suite);
    for name in names.iter().flat_map(|name| alternatives(name)) {
        if let Some(excluded) = name.strip_prefix(['!', '-']) {
            if let Some(suite) = suite(excluded) {
                if wanted.is_empty() {
                    wanted.extend(every());
                }
                wanted.retain(|one| *one != suite);
            }
        } else if is_everything(name) {
            wanted.extend(every());
        } else {
            wanted.extend(suite(name.strip_prefix('+').unwrap_or(name)));
        }
    }
    if wanted.is_empty() {
        return Arc::clone(all);
    }
    let mut cipher_suites: Vec<SupportedCipherSuite> =
        all.cipher_suites.iter().filter(|one| one.tls13().is_some()).copied().collect();
    for suite in wanted {
        let supported = all.cipher_suites.iter().find(|one| one.suite() == suite);
        cipher_suites.extend(supported.filter(|_| cipher_suites.iter().all(|have| have.suite() != suite)));
    }
    Arc::new(CryptoProvider { cipher_suites, ..CryptoProvider::clone(all) })
}

/// The name an access log shows: OpenSSL's for TLS 1.2, the standard one for TLS 1.3, as Envoy's `%DOWNSTREAM_TLS_CIPHER%`.
pub(crate) fn name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => TLS12.iter().find(|(_, suite)| *suite == other).map_or("unknown", |(name, _)| name),
    }
}

fn suite(name: &str) -> Option<CipherSuite> {
    TLS12.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, suite)| *suite)
}

fn is_everything(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("DEFAULT")
}

fn alternatives(name: &str) -> impl Iterator<Item = &str> {
    name.trim().trim_start_matches('[').trim_end_matches(']').split('|').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls12(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let provider = restricted(&names);
        assert!(provider.cipher_suites.iter().any(|suite| suite.tls13().is_some()));
        provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).map(|suite| name(suite.suite())).collect()
    }

    #[test]
    fn only_the_named_suites_of_tls_1_2_are_offered() {
        let one = "ECDHE-RSA-AES128-GCM-SHA256";
        assert_eq!(tls12(&[one, "AES128-SHA", one]), [one]);
    }

    #[test]
    fn a_group_in_brackets_is_each_of_its_members() {
        assert_eq!(
            tls12(&["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]"]),
            ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]
        );
    }

    #[test]
    fn an_excluded_suite_is_not_offered() {
        assert_eq!(tls12(&["ALL", "!ECDHE-RSA-CHACHA20-POLY1305"]).len(), TLS12.len() - 1);
        assert_eq!(tls12(&["-ECDHE-RSA-CHACHA20-POLY1305"]).len(), TLS12.len() - 1);
    }

    #[test]
    fn a_list_without_one_possible_suite_is_no_restriction() {
        assert_eq!(tls12(&["AES128-SHA", "DES-CBC3-SHA"]).len(), TLS12.len());
    }

    #[test]
    fn the_impossible_names_are_told() {
        let names = ["ECDHE-RSA-AES128-SHA", "ALL", "!aNULL", "ECDHE-RSA-AES256-GCM-SHA384", "nonsense"];
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(unsupported(&names), ["ECDHE-RSA-AES128-SHA", "nonsense"]);
    }
}
