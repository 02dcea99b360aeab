//! Points in the life of a request or connection, between which `COMMON_DURATION` measures, under Envoy's names.

use super::Demands;

/// A point in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The client's connection was received; of bytes alone.
    ClientConnected,
    /// It is over; of bytes alone.
    ClientDisconnected,
    /// The head of the request was there.
    RequestBegun,
    /// All of the request was.
    RequestRead,
    /// Connecting to the endpoint began: of a connection that was kept, some time before the request.
    ConnectBegun,
    /// The endpoint was connected to.
    Connected,
    /// TLS with it was agreed on.
    Shaken,
    /// The request's head was sent to it.
    SendBegun,
    /// All of the request was.
    Sent,
    /// The head of its answer was there.
    Answered,
    /// The first byte of its body was.
    AnswerBody,
    /// All of it was.
    AnswerRead,
    /// The head of the answer went to the client.
    ReplyBegun,
    /// All of it did.
    Replied,
}

const MOMENTS: [(&str, Moment); 14] = [
    ("DS_CX_BEG", Moment::ClientConnected),
    ("DS_CX_END", Moment::ClientDisconnected),
    ("DS_RX_BEG", Moment::RequestBegun),
    ("DS_RX_END", Moment::RequestRead),
    ("US_CX_BEG", Moment::ConnectBegun),
    ("US_CX_END", Moment::Connected),
    ("US_HS_END", Moment::Shaken),
    ("US_TX_BEG", Moment::SendBegun),
    ("US_TX_END", Moment::Sent),
    ("US_RX_BEG", Moment::Answered),
    ("US_RX_BODY_BEG", Moment::AnswerBody),
    ("US_RX_END", Moment::AnswerRead),
    ("DS_TX_BEG", Moment::ReplyBegun),
    ("DS_TX_END", Moment::Replied),
];

impl Moment {
    /// What has to be kept for it.
    const fn demands(self) -> Demands {
        let moments =
            matches!(self, Self::RequestRead | Self::Sent | Self::AnswerBody | Self::AnswerRead | Self::ReplyBegun);
        Demands { moments, trailers: false, wire: false }
    }
}

/// From one point to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Between {
    from: Moment,
    to: Moment,
    /// Nanoseconds that count as one.
    unit: i64,
}

impl Between {
    /// Of `DS_RX_BEG:US_TX_BEG:ms`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (from, to, unit) = (parts.next()?, parts.next()?, parts.next()?);
        let moment = |name: &str| MOMENTS.iter().find(|(known, _)| *known == name).map(|(_, moment)| *moment);
        let unit = match unit {
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        parts.next().is_none().then_some(Self { from: moment(from)?, to: moment(to)?, unit })
    }

    /// What lies between; `moment`: nanoseconds since the beginning.
    pub(super) fn measure(self, moment: impl Fn(Moment) -> Option<i64>) -> Option<i64> {
        Some(moment(self.to)?.saturating_sub(moment(self.from)?) / self.unit)
    }

    /// What has to be kept for it.
    pub(super) const fn demands(self) -> Demands {
        self.from.demands().and(self.to.demands())
    }
}
