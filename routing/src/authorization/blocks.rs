//! Values by blocks of addresses.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{hashed::HashMap, opaque::Subnet};

/// Values by block.
#[derive(Debug)]
pub(super) struct Blocks<V> {
    by_block: HashMap<Subnet, V>,
    lengths: Vec<u8>,
}

impl<V: Default> Blocks<V> {
    /// From blocks; `join` adds to the value of a block that comes again.
    pub(super) fn new<T>(entries: impl IntoIterator<Item = (Subnet, T)>, mut join: impl FnMut(&mut V, T)) -> Self {
        let mut by_block = HashMap::default();
        let mut lengths = BTreeSet::new();
        for (block, value) in entries {
            lengths.insert(block.length());
            join(by_block.entry(block).or_default(), value);
        }
        Self { by_block, lengths: lengths.into_iter().collect() }
    }

    /// Shows the values of all blocks around an address, until one is taken; whether one was.
    pub(super) fn any(&self, address: IpAddr, mut take: impl FnMut(&V) -> bool) -> bool {
        let whole = Subnet::of(address);
        let mut around = self.lengths.iter().filter_map(|length| whole.shortened(*length));
        around.any(|block| self.by_block.get(&block).is_some_and(&mut take))
    }
}
