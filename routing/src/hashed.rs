//! Hash tables of what people write: seeded, as some of them choose what they write, and quick, as there may be much of it.

use foldhash::fast::RandomState;

/// As the standard one.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
/// As the standard one.
pub(crate) type HashSet<K> = std::collections::HashSet<K, RandomState>;
