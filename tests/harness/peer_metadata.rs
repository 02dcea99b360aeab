//! What Istio's proxies tell each other about their workloads, byte by byte: `google.protobuf.Struct` in a header, and before the
//! first byte of a connection that carries no HTTP.

use std::{collections::BTreeMap, io};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The protocol of the exchange (ALPN).
pub const PROTOCOL: &str = "istio-peer-exchange";

/// What is told, by key; `LABELS.app` is `app` within `LABELS`.
pub type Metadata = BTreeMap<String, String>;

/// What a proxy of this workload in namespace `shop` tells.
pub fn of(workload: &str) -> Metadata {
    let app = workload.rsplit_once('-').map_or(workload, |(app, _)| app);
    let told = [
        ("NAME", workload),
        ("NAMESPACE", "shop"),
        ("WORKLOAD_NAME", workload),
        ("CLUSTER_ID", "west"),
        ("OWNER", "kubernetes://apis/apps/v1/namespaces/shop/deployments/any"),
        ("LABELS.app", app),
        ("LABELS.version", "v7"),
        ("LABELS.service.istio.io/canonical-name", app),
        ("LABELS.service.istio.io/canonical-revision", "v7"),
    ];
    told.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// As the header `x-envoy-peer-metadata` has it.
pub fn header(told: &Metadata) -> String {
    BASE64_STANDARD.encode(structure(told))
}

/// What a header says; panics when it is no description.
pub fn read_header(value: &str) -> Metadata {
    read(&BASE64_STANDARD.decode(value).expect("base64"))
}

/// As it stands before a connection's own bytes.
pub fn announcement(told: &Metadata) -> Vec<u8> {
    let both = [
        entry("x-envoy-peer-metadata", &field(5, &structure(told))),
        entry("x-envoy-peer-metadata-id", &field(3, b"sidecar~10.0.0.7~peer.shop~shop.svc.cluster.local")),
    ];
    let any = [field(1, b"type.googleapis.com/google.protobuf.Struct"), field(2, &both.concat())].concat();
    let length = u32::try_from(any.len()).expect("it is short");
    [&0x3d23_0467_u32.to_be_bytes()[..], &length.to_be_bytes(), &any].concat()
}

/// Says that it is this workload, and hears who the other side is.
///
/// # Errors
/// The stream's.
pub async fn meet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), workload: &str) -> io::Result<Metadata> {
    stream.write_all(&announcement(&of(workload))).await?;
    stream.flush().await?;
    read_announcement(stream).await
}

/// Reads an announcement, and nothing behind it; panics when something else comes.
///
/// # Errors
/// The stream's.
pub async fn read_announcement(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Metadata> {
    assert_eq!(stream.read_u32().await?, 0x3d23_0467, "the magic number");
    let mut any = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut any).await?;
    let both = fields(&any).into_iter().find(|(number, _)| *number == 2).expect("a value").1;
    let told = members(both).into_iter().find(|(key, _)| key == "x-envoy-peer-metadata").expect("a description").1;
    Ok(read(fields(told)[0].1))
}

fn structure(told: &Metadata) -> Vec<u8> {
    let (labels, own): (Vec<_>, Vec<_>) = told.iter().partition(|(key, _)| key.starts_with("LABELS."));
    let text = |key: &str, value: &String| entry(key, &field(3, value.as_bytes()));
    let mut bytes: Vec<u8> = own.iter().flat_map(|(key, value)| text(key, value)).collect();
    let labels: Vec<u8> = labels.iter().flat_map(|(key, value)| text(&key["LABELS.".len()..], value)).collect();
    bytes.extend(entry("LABELS", &field(5, &labels)));
    bytes
}

fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        out.push((length % 128) as u8 | 128);
        length /= 128;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

fn read(bytes: &[u8]) -> Metadata {
    let mut told = Metadata::new();
    for (key, value) in members(bytes) {
        match fields(value)[0] {
            (3, text) => drop(told.insert(key, String::from_utf8(text.to_vec()).expect("text"))),
            (5, inner) => told.extend(read(inner).into_iter().map(|(name, text)| (format!("{key}.{name}"), text))),
            (number, _) => panic!("{key} is of kind {number}"),
        }
    }
    told
}

/// Keys and values of a structure.
fn members(bytes: &[u8]) -> Vec<(String, &[u8])> {
    let pairs = fields(bytes).into_iter().map(|(_, entry)| fields(entry));
    pairs.map(|pair| (String::from_utf8(pair[0].1.to_vec()).expect("a key is text"), pair[1].1)).collect()
}

/// The fields of a message, all of which have lengths.
fn fields(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let [tag, rest @ ..] = bytes {
        assert_eq!(tag & 7, 2, "a field with a length");
        let (mut length, mut shift, mut at) = (0_usize, 0, 0);
        loop {
            length |= usize::from(rest[at] & 127) << shift;
            (at, shift) = (at + 1, shift + 7);
            if rest[at - 1] < 128 {
                break;
            }
        }
        found.push((tag >> 3, &rest[at..at + length]));
        bytes = &rest[at + length..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let told = of("reviews-v1");
        assert_eq!(read_header(&header(&told)), told);
        let mut bytes = &announcement(&told)[..];
        assert_eq!(read_announcement(&mut bytes).await.unwrap(), told);
        assert!(bytes.is_empty());
    }
}
