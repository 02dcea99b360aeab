//! The description itself: `google.protobuf.Struct`, with the keys that Istio's proxies read, as messages with its public field
//! numbers.

use std::{collections::BTreeMap, sync::Arc};

use prost::{Message, Oneof};
use routing::snapshot::Workload;

/// `google.protobuf.Struct`. Sorted, so that equal content has equal bytes.
#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`, as far as it is of use here.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "3, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Struct),
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";

/// The header of the description, and its key in what is said before connections without HTTP.
const METADATA: &str = "x-envoy-peer-metadata";
/// The same of the proxy's name.
const METADATA_ID: &str = "x-envoy-peer-metadata-id";

const SERVICE: &str = "service.istio.io/canonical-name";
const REVISION: &str = "service.istio.io/canonical-revision";

/// Longer names are none: Kubernetes has none that are longer.
const LONGEST_NAME: usize = 253;

/// Why nothing is learned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Broken;

impl Struct {
    fn of<'a>(fields: impl IntoIterator<Item = (&'a str, Option<Kind>)>) -> Self {
        let given = fields.into_iter().filter_map(|(key, kind)| Some((key.to_owned(), Value { kind: Some(kind?) })));
        Self { fields: given.collect() }
    }

    fn kind(&self, key: &str) -> Option<&Kind> {
        self.fields.get(key)?.kind.as_ref()
    }

    /// What is not there is empty.
    ///
    /// # Errors
    /// No name.
    fn name(&self, key: &str) -> Result<Arc<str>, Broken> {
        match self.kind(key) {
            None => Ok(Arc::default()),
            Some(Kind::Text(text)) if text.len() <= LONGEST_NAME && !text.contains(char::is_control) => {
                Ok(text.as_str().into())
            }
            Some(_) => Err(Broken),
        }
    }
}

fn text(text: &str) -> Option<Kind> {
    (!text.is_empty()).then(|| Kind::Text(text.to_owned()))
}

/// A workload of a cluster, and the name of its pod.
fn describe(workload: &Workload, pod: &str, cluster: &str) -> Struct {
    let labels = Struct::of([
        (SERVICE, text(&workload.canonical_service)),
        (REVISION, text(&workload.canonical_revision)),
        ("app", text(&workload.app)),
        ("version", text(&workload.version)),
    ]);
    Struct::of([
        ("NAME", text(pod)),
        ("NAMESPACE", text(&workload.namespace)),
        ("WORKLOAD_NAME", text(&workload.name)),
        ("CLUSTER_ID", text(cluster)),
        ("IDENTITY", text(&workload.principal)),
        ("LABELS", Some(Kind::Struct(labels))),
    ])
}

/// As a header holds it, before base64.
pub(super) fn encode(workload: &Workload, pod: &str, cluster: &str) -> Vec<u8> {
    describe(workload, pod, cluster).encode_to_vec()
}

/// As it is said before a connection's own bytes, with the name of the proxy.
pub(super) fn encode_any(workload: &Workload, (pod, node): (&str, &str), cluster: &str) -> Vec<u8> {
    let described = Kind::Struct(describe(workload, pod, cluster));
    let both = Struct::of([(METADATA, Some(described)), (METADATA_ID, text(node))]);
    Any { type_url: STRUCT.to_owned(), value: both.encode_to_vec() }.encode_to_vec()
}

/// The workload that a header describes. Who it has proven to be is not in it.
///
/// # Errors
/// [`Broken`].
pub(super) fn decode(bytes: &[u8]) -> Result<Workload, Broken> {
    workload(&Struct::decode(bytes).map_err(|_| Broken)?)
}

/// The workload that is described before a connection's own bytes.
///
/// # Errors
/// [`Broken`].
pub(super) fn decode_any(bytes: &[u8]) -> Result<Workload, Broken> {
    let any = Any::decode(bytes).map_err(|_| Broken)?;
    if any.type_url != STRUCT {
        return Err(Broken);
    }
    match Struct::decode(&*any.value).map_err(|_| Broken)?.kind(METADATA) {
        Some(Kind::Struct(described)) => workload(described),
        _ => Err(Broken),
    }
}

fn workload(told: &Struct) -> Result<Workload, Broken> {
    let labels = match told.kind("LABELS") {
        Some(Kind::Struct(labels)) => labels,
        Some(Kind::Text(_)) => return Err(Broken),
        None => &Struct::default(),
    };
    let told = Workload {
        name: told.name("WORKLOAD_NAME")?,
        namespace: told.name("NAMESPACE")?,
        cluster: told.name("CLUSTER_ID")?,
        canonical_service: labels.name(SERVICE)?,
        canonical_revision: labels.name(REVISION)?,
        app: labels.name("app")?,
        version: labels.name("version")?,
        principal: Arc::default(),
    };
    // Nobody is described by nothing.
    if told == Workload::default() { Err(Broken) } else { Ok(told) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ratings() -> Workload {
        Workload {
            name: "ratings-v1".into(),
            namespace: "shop".into(),
            cluster: Arc::default(),
            canonical_service: "ratings".into(),
            canonical_revision: "v1".into(),
            app: "ratings".into(),
            version: Arc::default(),
            principal: "spiffe://cluster.local/ns/shop/sa/ratings".into(),
        }
    }

    /// What a reader sees of it: who it proves to be comes from elsewhere.
    fn seen() -> Workload {
        Workload { cluster: "Kubernetes".into(), principal: Arc::default(), ..ratings() }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(decode(&encode(&ratings(), "ratings-v1-abc", "Kubernetes")), Ok(seen()));
        let said = encode_any(&ratings(), ("ratings-v1-abc", "sidecar~10.0.0.1~a.shop~x"), "Kubernetes");
        assert_eq!(decode_any(&said), Ok(seen()));
    }

    #[test]
    fn the_bytes_are_those_of_the_public_messages() {
        let workload = Workload { name: "w".into(), ..Workload::default() };
        // fields { key: "LABELS" value { struct_value {} } } fields { key: "WORKLOAD_NAME" value { string_value: "w" } }
        let expected =
            [&b"\x0a\x0c\x0a\x06LABELS\x12\x02\x2a\x00"[..], &b"\x0a\x14\x0a\x0dWORKLOAD_NAME\x12\x03\x1a\x01w"[..]];
        assert_eq!(encode(&workload, "", ""), expected.concat());
    }

    #[test]
    fn what_other_proxies_say_beside_is_passed_over() {
        // Numbers, lists and keys of other versions.
        let mut bytes = encode(&ratings(), "pod", "Kubernetes");
        bytes.extend(b"\x0a\x0f\x0a\x02ID\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf0\x3f");
        assert_eq!(decode(&bytes), Ok(seen()));
    }

    #[test]
    fn what_is_no_description_teaches_nothing() {
        let named = |name: &str| encode(&Workload { name: name.into(), ..Workload::default() }, "", "");
        for broken in [&b""[..], b"\xff", b"\x0a\x7f\x00", &named(&"x".repeat(254)), &named("a\nb")] {
            assert_eq!(decode(broken), Err(Broken), "{broken:?}");
        }
        assert!(decode(&named(&"x".repeat(253))).is_ok());
        let other = Any { type_url: "type.googleapis.com/x".to_owned(), value: encode(&ratings(), "", "") };
        assert_eq!(decode_any(&other.encode_to_vec()), Err(Broken));
        // A description where one with its name is expected.
        let bare = Any { type_url: STRUCT.to_owned(), value: encode(&ratings(), "", "") };
        assert_eq!(decode_any(&bare.encode_to_vec()), Err(Broken));
    }

    #[test]
    fn nesting_without_end_is_refused_and_not_followed() {
        let mut bytes = Vec::new();
        for _ in 0..400 {
            let mut outer = vec![0x2a];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.extend(&bytes);
            let mut entry = b"\x0a\x01x\x12".to_vec();
            prost::encoding::encode_varint(outer.len() as u64, &mut entry);
            entry.extend(&outer);
            bytes = vec![0x0a];
            prost::encoding::encode_varint(entry.len() as u64, &mut bytes);
            bytes.extend(&entry);
        }
        assert_eq!(decode(&bytes), Err(Broken));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_description_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode(&bytes), decode_any(&bytes));
        }

        #[test]
        fn a_description_that_is_cut_off_is_none_or_a_shorter_one(at in 0..150_usize) {
            let bytes = encode(&ratings(), "pod", "Kubernetes");
            if let Ok(told) = decode(&bytes[..at.min(bytes.len())]) {
                prop_assert!(told.name.is_empty() || told.name == ratings().name);
            }
        }
    }
}
