//! A hash of content that does not depend on layout.

use std::hash::{Hash, Hasher};

use serde_json::{Map, Value};

use crate::api::ObjectMeta;

/// Hash of one of Istio's objects or of ours: its `spec`, of which every field is read.
pub(super) fn of_spec(kind: &str, object: &Value) -> u64 {
    let mut hash = Fnv::default();
    hash.text(kind);
    hash_value(&mut hash, object.get("spec").unwrap_or(&Value::Null));
    hash.0
}

/// Hash of a document of which every field is read.
pub(super) fn of_value(kind: &str, value: &Value) -> u64 {
    let mut hash = Fnv::default();
    hash.text(kind);
    hash_value(&mut hash, value);
    hash.0
}

/// Hash of one of Kubernetes' objects: what is read of it, since an API server fills in the rest by itself.
pub(super) fn of_kubernetes(kind: &str, read: &impl Hash) -> u64 {
    let mut hash = Fnv::default();
    hash.text(kind);
    read.hash(&mut hash);
    hash.0
}

/// Joins the hash of the content with that of the metadata a user writes. Not the age: it orders objects, see
/// [`super::Resources::order`].
pub(super) fn with_meta(meta: &ObjectMeta, content: u64) -> u64 {
    let mut hash = Fnv(content);
    hash.text(&meta.namespace);
    hash.text(&meta.name);
    hash.byte(b'l');
    for (key, value) in &meta.labels {
        hash.text(key);
        hash.text(value);
    }
    hash.byte(b'a');
    for (key, value) in &meta.annotations {
        hash.text(key);
        hash.text(value);
    }
    mix(hash.0)
}

/// Hash of names in their order.
pub(super) fn of_names<'n>(names: impl IntoIterator<Item = (&'n str, &'n str)>) -> u64 {
    let mut hash = Fnv::default();
    for (namespace, name) in names {
        hash.text(namespace);
        hash.text(name);
    }
    hash.0
}

/// Hash of several orders.
pub(super) fn of_order(orders: [u64; 7]) -> u64 {
    let mut hash = Fnv::default();
    orders.hash(&mut hash);
    hash.0
}

fn hash_entries(hash: &mut Fnv, entries: &Map<String, Value>) {
    let mut entries: Vec<(&String, &Value)> = entries.iter().collect();
    // serde_json keeps keys sorted or in the order of the file, as other crates of the build want it.
    entries.sort_unstable_by_key(|(key, _)| *key);
    hash.byte(b'{');
    for (key, value) in entries {
        hash.text(key);
        hash_value(hash, value);
    }
    hash.byte(b'}');
}

fn hash_value(hash: &mut Fnv, value: &Value) {
    match value {
        Value::Null => hash.byte(b'n'),
        Value::Bool(value) => hash.byte(if *value { b't' } else { b'f' }),
        Value::Number(number) => {
            hash.byte(b'#');
            hash.text(&number.to_string());
        }
        Value::String(text) => {
            hash.byte(b'"');
            hash.text(text);
        }
        Value::Array(items) => {
            hash.byte(b'[');
            for item in items {
                hash_value(hash, item);
            }
            hash.byte(b']');
        }
        Value::Object(entries) => hash_entries(hash, entries),
    }
}

/// FNV-1a: std's hashers may differ between compilers, and two gateways should agree.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.byte(byte);
        }
        // No UTF-8 text holds this byte, so neighbours cannot run together.
        self.byte(0xff);
    }
}

/// Numbers are hashed alike on machines of either byte order and of any word size.
impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write(&(number as u64).to_le_bytes());
    }

    fn write_isize(&mut self, number: isize) {
        self.write(&(number as i64).to_le_bytes());
    }
}

/// Spreads the bits (splitmix64), because digests of objects are added up.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
