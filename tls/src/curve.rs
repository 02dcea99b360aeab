//! BoringSSL's names for the groups of key exchange, as Istio's `ServerTLSSettings.ecdhCurves` writes them.

use std::sync::Arc;

use rustls::NamedGroup;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;

/// What can be offered.
const GROUPS: [(&str, NamedGroup); 8] = [
    ("X25519", NamedGroup::X25519),
    ("P-256", NamedGroup::secp256r1),
    ("prime256v1", NamedGroup::secp256r1),
    ("P-384", NamedGroup::secp384r1),
    ("secp384r1", NamedGroup::secp384r1),
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
    ("SecP256r1MLKEM768", NamedGroup::secp256r1MLKEM768),
    ("MLKEM768", NamedGroup::MLKEM768),
];

/// The provider with these groups alone, in this order; with all of its own when none of the names can be offered.
pub(crate) fn restricted(provider: Arc<CryptoProvider>, names: &[String]) -> Arc<CryptoProvider> {
    let mut groups = Vec::new();
    for wanted in names.iter().filter_map(|name| group(name)) {
        let found = ALL_KX_GROUPS.iter().copied().find(|one| one.name() == wanted);
        groups.extend(
            found.filter(|one| {
                groups.iter().all(|have: &&dyn rustls::crypto::SupportedKxGroup| have.name() != one.name())
            }),
        );
    }
    if groups.is_empty() {
        return provider;
    }
    Arc::new(CryptoProvider { kx_groups: groups, ..CryptoProvider::clone(&provider) })
}

/// Those of `names` that cannot be offered.
pub(crate) fn unsupported(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| group(name).is_none()).cloned().collect()
}

fn group(name: &str) -> Option<NamedGroup> {
    GROUPS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, group)| *group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;

    fn groups(names: &[&str]) -> Vec<NamedGroup> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let restricted = restricted(Arc::clone(provider::provider()), &names);
        restricted.kx_groups.iter().map(|group| group.name()).collect()
    }

    #[test]
    fn the_named_groups_are_offered_in_their_order_and_once() {
        let named = groups(&["P-384", "x25519", "secp384r1", "P-521"]);
        assert_eq!(named, [NamedGroup::secp384r1, NamedGroup::X25519]);
        assert_eq!(groups(&["X25519MLKEM768"]), [NamedGroup::X25519MLKEM768]);
        assert_eq!(groups(&["P-521"]), groups(&[]), "none that can be offered is no restriction");
    }

    #[test]
    fn what_cannot_be_offered_is_told() {
        let names = ["P-521", "P-256", "X25519Kyber768Draft00"].map(str::to_owned);
        assert_eq!(unsupported(&names), ["P-521", "X25519Kyber768Draft00"]);
    }
}
