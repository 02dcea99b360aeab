//! How many gRPC messages pass in one direction: each begins with five bytes, of which four say how long it is.

/// Counts the messages of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages {
    /// Bytes of the current message that are still to come.
    left: u32,
    /// What has come of a beginning.
    beginning: [u8; 5],
    have: u8,
    /// Messages that have begun and were not told of yet.
    untold: u64,
}

impl Messages {
    /// Looks at bytes that pass.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = bytes.len().min(self.left as usize);
                self.left -= skipped as u32;
                bytes = &bytes[skipped..];
                continue;
            }
            let have = usize::from(self.have);
            let more = bytes.len().min(self.beginning.len() - have);
            self.beginning[have..have + more].copy_from_slice(&bytes[..more]);
            self.have += more as u8;
            bytes = &bytes[more..];
            if usize::from(self.have) == self.beginning.len() {
                let [_, length @ ..] = self.beginning;
                (self.left, self.have) = (u32::from_be_bytes(length), 0);
                self.untold += 1;
            }
        }
    }

    /// How many have begun since this was asked last.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// Whether there is something to tell.
    pub(crate) fn any(&self) -> bool {
        self.untold > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(sizes: &[usize]) -> Vec<u8> {
        let message = |size: &usize| {
            let mut bytes = vec![1];
            bytes.extend((*size as u32).to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xff, *size));
            bytes
        };
        sizes.iter().flat_map(message).collect()
    }

    proptest! {
        #[test]
        fn messages_are_counted_however_the_bytes_come(
            sizes in proptest::collection::vec(0_usize..40, 0..20), step in 1_usize..70,
        ) {
            let mut messages = Messages::default();
            stream(&sizes).chunks(step).for_each(|part| messages.see(part));
            prop_assert_eq!(messages.take(), sizes.len() as u64);
            prop_assert_eq!(messages.take(), 0);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..9) {
            let mut messages = Messages::default();
            bytes.chunks(step).for_each(|part| messages.see(part));
            prop_assert!(messages.take() <= bytes.len() as u64 / 5);
        }
    }
}
