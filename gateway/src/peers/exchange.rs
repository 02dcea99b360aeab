//! The exchange before the first byte of a connection that carries no HTTP: both sides that have agreed on the protocol
//! `istio-peer-exchange` say who they are, neither waits for the other one to begin.

use std::{future::poll_fn, sync::Arc};

use tls::stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Claim, Heard, Own, Peers};

/// The protocol's name (ALPN).
pub(crate) const PROTOCOL: &[u8] = b"istio-peer-exchange";

/// How each announcement begins.
const MAGIC: [u8; 4] = 0x3d23_0467_u32.to_be_bytes();
/// The magic number and the length of what follows.
const HEADER: usize = 8;
/// Longest announcement that is waited for.
const LONGEST: usize = 16 * 1024;

/// What first bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum First {
    /// The beginning of an announcement.
    Unfinished,
    /// An announcement, which ends there.
    Whole(usize),
    /// Bytes of the connection's own: nothing is announced.
    None,
    /// An announcement that is longer than anybody's.
    TooLong,
}

/// What first bytes are.
pub(crate) fn first(bytes: &[u8]) -> First {
    let begun = bytes.len().min(MAGIC.len());
    if bytes[..begun] != MAGIC[..begun] {
        return First::None;
    }
    let Some(length) = bytes.get(MAGIC.len()..HEADER) else { return First::Unfinished };
    let length = length.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
    match HEADER + length {
        _ if length > LONGEST => First::TooLong,
        end if bytes.len() < end => First::Unfinished,
        end => First::Whole(end),
    }
}

/// An announcement of this.
pub(super) fn frame(said: &[u8]) -> Vec<u8> {
    // What a proxy says of itself has a few hundred bytes.
    let length = u32::try_from(said.len()).unwrap_or(u32::MAX);
    [&MAGIC[..], &length.to_be_bytes(), said].concat()
}

/// Whether this was agreed on.
pub(crate) fn is_agreed<IO>(stream: &Stream<IO>) -> bool {
    stream.alpn() == Some(PROTOCOL)
}

/// The side of whoever was connected to: says who we are at once, since a client may wait for that, and hears who the client
/// is. One that begins with something else is unknown, and nothing is taken of what it sends. Without a deadline of its own.
///
/// # Errors
/// Why the connection cannot go on, in words.
pub(crate) async fn as_server<IO: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Stream<IO>,
    own: Option<&Own>,
) -> Result<Option<usize>, String> {
    if let Some(own) = own {
        stream.out().push(own.announcement());
        poll_fn(|cx| stream.poll_flush_all(cx)).await.map_err(|error| error.to_string())?;
    }
    loop {
        match first(stream.input()) {
            First::Whole(end) => return Ok(Some(end)),
            First::TooLong => return Err(format!("the client's announcement is longer than {LONGEST} bytes")),
            First::None => return Ok(None),
            First::Unfinished => {
                if !poll_fn(|cx| stream.poll_fill(cx)).await.map_err(|error| error.to_string())? {
                    return Ok(None);
                }
            }
        }
    }
}

/// Takes an announcement of this length, its header included, from a client with this identity.
pub(crate) fn take<IO: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Stream<IO>,
    end: usize,
    (peers, principal): (&Peers, &Arc<str>),
    heard: &Heard,
) -> Claim {
    let said = stream.input().get(HEADER..end).unwrap_or_default();
    let (claim, workload) = peers.of_bytes(principal, said);
    stream.consume(end);
    heard.said(workload);
    claim
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use routing::snapshot::Workload;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::peers::own::Kind;

    fn own(name: &str) -> Own {
        let workload = Workload { name: name.into(), namespace: "shop".into(), ..Workload::default() };
        Own::new(Kind::Sidecar, &workload, "pod", IpAddr::from([10, 0, 0, 1]))
    }

    #[test]
    fn first_bytes_are_told_apart_as_soon_as_they_can_be() {
        assert_eq!(first(b""), First::Unfinished);
        assert_eq!(first(b"GET"), First::None);
        assert_eq!(first(b"\x3d"), First::Unfinished);
        assert_eq!(first(b"\x3d\x23x"), First::None);
        assert_eq!(first(b"\x3d\x23\x04\x67\0\0\0\x02a"), First::Unfinished);
        assert_eq!(first(b"\x3d\x23\x04\x67\0\0\0\x02abc"), First::Whole(10));
        assert_eq!(first(b"\x3d\x23\x04\x67\0\0\0\0"), First::Whole(8));
        assert_eq!(first(b"\x3d\x23\x04\x67\xff\xff\xff\xff"), First::TooLong);
        assert_eq!(first(b"\x3d\x23\x04\x67\0\0\x40\x01"), First::TooLong);
    }

    /// What a server makes of what a client sends in one piece, and what is left of it.
    async fn serve(sent: &[u8]) -> (Result<Option<usize>, String>, Vec<u8>) {
        let (near, mut far) = duplex(64 * 1024);
        far.write_all(sent).await.unwrap();
        far.shutdown().await.unwrap();
        let mut stream = Stream::new(near);
        let found = as_server(&mut stream, Some(&own("db"))).await;
        let mut said = vec![0; own("db").announcement().len()];
        far.read_exact(&mut said).await.unwrap();
        assert_eq!(said, own("db").announcement(), "it says who it is, whatever the client sends");
        (found, stream.input().to_vec())
    }

    #[tokio::test]
    async fn a_server_hears_who_its_client_is_and_leaves_the_rest() {
        let sent = [own("web").announcement(), b"hello"].concat();
        let (found, input) = serve(&sent).await;
        assert_eq!((found, &input), (Ok(Some(sent.len() - 5)), &sent));
        let (peers, heard, principal) = (Peers::default(), Heard::default(), "spiffe://td/ns/shop/sa/web".into());
        let (near, mut far) = duplex(64 * 1024);
        far.write_all(&sent).await.unwrap();
        let mut stream = Stream::new(near);
        poll_fn(|cx| stream.poll_fill(cx)).await.unwrap();
        let claim = take(&mut stream, sent.len() - 5, (&peers, &principal), &heard);
        assert_eq!((claim, stream.input()), (Claim::Known, &b"hello"[..]));
        assert_eq!(&*heard.workload().unwrap().name, "web");
    }

    #[tokio::test]
    async fn a_client_that_announces_nothing_is_unknown_and_loses_nothing() {
        for sent in [&b"hello"[..], b"\x3d\x23", b""] {
            assert_eq!(serve(sent).await, (Ok(None), sent.to_vec()));
        }
        assert!(serve(b"\x3d\x23\x04\x67\x7f\0\0\0hello").await.0.unwrap_err().contains("longer than"));
    }

    proptest! {
        #[test]
        fn an_announcement_is_found_in_whatever_pieces_it_comes(said in prop::collection::vec(any::<u8>(), 0..300), at in 0..400_usize) {
            let whole = frame(&said);
            let at = at.min(whole.len());
            let expected = if at == whole.len() { First::Whole(at) } else { First::Unfinished };
            prop_assert_eq!(first(&whole[..at]), expected);
        }
    }
}
