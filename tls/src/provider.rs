//! The crypto provider: aws-lc-rs, for the whole process.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Make aws-lc-rs the process default; `true` when it is, also when an earlier call did it.
///
/// Call it first in `main`: libraries that install another provider ignore that they came second.
pub fn install() -> bool {
    let provider = provider();
    if CryptoProvider::install_default(CryptoProvider::clone(provider)).is_ok() {
        return true;
    }
    // Two providers are told apart by their key loaders, which print their type's name.
    CryptoProvider::get_default()
        .is_some_and(|installed| format!("{:?}", installed.key_provider) == format!("{:?}", provider.key_provider))
}

/// The provider every configuration of this crate is built with.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn installing_twice_is_the_same_as_once() {
        assert!(super::install());
        assert!(super::install());
    }
}
