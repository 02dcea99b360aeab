//! Bytes of one request or answer as connections carry them, below TLS: heads, framing and content.

/// See the module.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wire {
    /// To the other side.
    pub(crate) sent: u64,
    /// From it.
    pub(crate) received: u64,
    /// Of [`Self::sent`] what was heads and trailers.
    pub(crate) sent_heads: u64,
    /// The same of [`Self::received`].
    pub(crate) received_heads: u64,
}

/// What the connections of one request have moved for it.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// The client's.
    pub(crate) down: Wire,
    /// Those to endpoints.
    pub(crate) up: Wire,
}

impl Wire {
    /// So much of a head was sent.
    pub(super) fn send_head(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.sent_heads += bytes as u64;
    }

    /// So much of a head has come.
    pub(super) fn receive_head(&mut self, bytes: usize) {
        self.received += bytes as u64;
        self.received_heads += bytes as u64;
    }

    /// What another try has moved as well.
    pub(super) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.sent_heads += other.sent_heads;
        self.received_heads += other.received_heads;
    }
}
