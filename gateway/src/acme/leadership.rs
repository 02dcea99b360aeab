//! What whoever leads works with.

use super::{Acme, accounts::Accounts, replicas::Replicas, vault::Vault};

/// One leadership, from the moment this replica leads until another does.
pub(super) struct Leadership<'a> {
    pub(super) acme: &'a Acme,
    pub(super) vault: &'a Vault,
    pub(super) accounts: Accounts,
    pub(super) replicas: Replicas,
}

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        self.acme.progress.left_to_others();
    }
}
