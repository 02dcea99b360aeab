//! A hash of content that does not depend on layout.

use serde_json::{Map, Value};

/// Hash of an object: everything but what Kubernetes changes by itself. A Pod's status holds its address, so it counts.
pub(super) fn of_object(kind: &str, namespace: &str, object: &Value) -> u64 {
    let mut hash = Fnv::default();
    hash.text(kind);
    // As read, because a missing namespace and `default` are the same.
    hash.text(namespace);
    if let Some(Value::Object(metadata)) = object.get("metadata") {
        hash_entries(&mut hash, metadata, &VOLATILE);
    }
    if let Value::Object(entries) = object {
        let apart: &[&str] = if kind == "Pod" { &APART[1..] } else { &APART };
        hash_entries(&mut hash, entries, apart);
    }
    mix(hash.0)
}

/// Fields of an object that are hashed by themselves or not at all.
const APART: [&str; 4] = ["status", "apiVersion", "kind", "metadata"];
/// Keys of `metadata` that change without a change of meaning, and the namespace.
const VOLATILE: [&str; 6] = ["resourceVersion", "managedFields", "generation", "uid", "selfLink", "namespace"];

fn hash_entries(hash: &mut Fnv, entries: &Map<String, Value>, skip: &[&str]) {
    let mut entries: Vec<(&String, &Value)> = entries.iter().filter(|(key, _)| !skip.contains(&key.as_str())).collect();
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
        Value::Object(entries) => hash_entries(hash, entries, &[]),
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

/// Spreads the bits (splitmix64), because digests of objects are added up.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
