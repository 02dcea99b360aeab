//! The fields that are the same on every message of a connection between proxies: what they tell of their workloads. The peer keeps
//! them in its table, and they are sent once (RFC 7541 section 6.2.1) instead of some 500 bytes with every message.

use super::{ENTRY, STATIC, TABLE, write_field, write_integer, write_string};
use crate::http::name::Name;

/// New values before nothing is kept any more: whoever changes them with each message would only fill tables.
const MOST_NEW: u8 = 16;

/// What the peer of one connection keeps of what we have sent.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Oldest first.
    entries: Vec<(Name, Box<[u8]>)>,
    size: usize,
    new: u8,
}

impl Kept {
    /// The peer does not want its table used: nothing is kept from now on, and what was is forgotten.
    pub(crate) fn stop(&mut self) {
        *self = Self { new: MOST_NEW, ..Self::default() };
    }

    /// Writes a field, by its number in the peer's table where it has one.
    pub(crate) fn write(&mut self, known: Name, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if !matches!(known, Name::XEnvoyPeerMetadata | Name::XEnvoyPeerMetadataId) {
            return write_field(known, name, value, out);
        }
        if let Some(at) = self.entries.iter().position(|(name, kept)| *name == known && **kept == *value) {
            // The newest is the first behind the static table (RFC 7541 section 2.3.3).
            return write_integer(STATIC.len() + self.entries.len() - at, 7, 0x80, out);
        }
        let size = name.len() + value.len() + ENTRY;
        if size > TABLE || self.new >= MOST_NEW {
            return write_field(known, name, value, out);
        }
        self.new += 1;
        while self.size + size > TABLE {
            let (name, value) = self.entries.remove(0);
            self.size -= name.text().len() + value.len() + ENTRY;
        }
        self.entries.push((known, value.into()));
        self.size += size;
        out.push(0x40);
        write_integer(name.len(), 7, 0, out);
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        write_string(value, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Decoder, *};

    fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut fields = Vec::new();
        let take = |name: &[u8], value: &[u8]| fields.push((String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
        decoder.decode(block, take).unwrap();
        fields
    }

    #[test]
    fn what_stays_the_same_is_two_bytes_the_second_time() {
        let (mut kept, mut decoder) = (Kept::default(), Decoder::default());
        let mut lengths = Vec::new();
        for _ in 0..3 {
            let mut block = Vec::new();
            kept.write(Name::XEnvoyPeerMetadata, b"X-Envoy-Peer-Metadata", &[b'm'; 400], &mut block);
            kept.write(Name::XEnvoyPeerMetadataId, b"x-envoy-peer-metadata-id", b"sidecar~1~2~3", &mut block);
            let fields = read(&mut decoder, &block);
            assert_eq!(fields[0], ("x-envoy-peer-metadata".to_owned(), vec![b'm'; 400]));
            assert_eq!(fields[1], ("x-envoy-peer-metadata-id".to_owned(), b"sidecar~1~2~3".to_vec()));
            lengths.push(block.len());
        }
        assert!(lengths[0] > 460);
        assert_eq!(lengths[1..], [2, 2]);
    }

    #[test]
    fn a_peer_without_a_table_gets_everything_whole() {
        let mut kept = Kept::default();
        let mut block = Vec::new();
        kept.write(Name::XEnvoyPeerMetadata, b"x-envoy-peer-metadata", b"mm", &mut block);
        kept.stop();
        for _ in 0..2 {
            block.clear();
            kept.write(Name::XEnvoyPeerMetadata, b"x-envoy-peer-metadata", b"mm", &mut block);
            assert_eq!(block[0], 0, "a literal that nobody keeps");
        }
    }

    proptest! {
        /// Whatever is written, in whatever order and size, the peer reads just that.
        #[test]
        fn the_peers_table_stays_in_step(written in prop::collection::vec((0..3_u8, 0..9_u8, 0..2200_usize), 0..60)) {
            let (mut kept, mut decoder) = (Kept::default(), Decoder::default());
            for (which, letter, length) in written {
                let known = [Name::XEnvoyPeerMetadata, Name::XEnvoyPeerMetadataId, Name::UserAgent][usize::from(which)];
                let value = vec![b'a' + letter; length * usize::from(letter) / 8];
                let mut block = Vec::new();
                kept.write(known, known.text().as_bytes(), &value, &mut block);
                prop_assert_eq!(read(&mut decoder, &block), vec![(known.text().to_owned(), value)]);
            }
        }
    }
}
