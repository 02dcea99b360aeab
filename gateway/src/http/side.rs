//! The two sides of an exchange, whatever protocol each of them speaks.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    flow::{Broken, Piece, Sink, Source},
    h1, h2,
    head::Head,
    wire::Wire,
};
use crate::{
    live::Live,
    net::{deadline::Deadline, facts::Facts},
};

/// Towards the client.
pub(crate) enum Down<'a> {
    /// HTTP/1.1.
    H1(&'a mut h1::server::Server),
    /// HTTP/2.
    H2(&'a mut h2::server::Stream),
}

/// Towards the endpoint.
pub(crate) enum Up {
    /// HTTP/1.1.
    H1(Box<h1::client::Client>),
    /// HTTP/2.
    H2(Box<h2::client::Stream>),
}

/// Calls the same method of whichever side it is.
macro_rules! each {
    ($side:expr, $kind:ident, $it:ident => $call:expr) => {
        match $side {
            $kind::H1($it) => $call,
            $kind::H2($it) => $call,
        }
    };
}

impl Down<'_> {
    /// What is known of the client's connection.
    pub(crate) fn facts(&self) -> &Rc<Facts> {
        each!(self, Down, it => &it.facts)
    }

    /// Reached by whatever waits.
    pub(crate) fn deadline(&mut self) -> &mut Deadline {
        each!(self, Down, it => &mut it.deadline)
    }

    /// True for HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// Sends the head of the answer; `close`: it is the connection's last one. Nothing but HTTP/1.1 says so in a head.
    pub(crate) fn send_head(&mut self, head: &Head, close: bool, empty: bool) -> Result<(), Broken> {
        match self {
            Self::H1(it) => {
                it.send_head(head, close);
                Ok(())
            }
            Self::H2(it) => it.send_head(head, empty),
        }
    }

    /// Waits until the head of an answer can go out: HTTP/2 has many of them.
    pub(crate) fn poll_head_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H1(_) => Poll::Ready(()),
            Self::H2(it) => it.poll_head_room(cx),
        }
    }

    /// Whether it has turned out during this request that it is the connection's last one. HTTP/2 says so to the connection.
    pub(crate) fn is_last(&mut self, live: &Live) -> bool {
        match self {
            Self::H1(it) => it.is_last(live),
            Self::H2(_) => false,
        }
    }

    /// An answer before the answer (1xx).
    pub(crate) fn send_interim(&mut self, head: &Head) {
        each!(self, Down, it => it.send_interim(head));
    }

    /// Ready when the client has gone.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        each!(self, Down, it => it.poll_gone(cx))
    }

    /// Whether the request was read to its end.
    pub(crate) fn is_read(&self) -> bool {
        each!(self, Down, it => it.is_read())
    }

    /// The end of an answer of our own; on HTTP/2 an empty one has ended with its head.
    pub(crate) fn end_reply(&mut self, empty: bool) -> Result<(), Broken> {
        match self {
            Self::H1(it) => it.end(None),
            Self::H2(it) if !empty => it.end(None),
            Self::H2(_) => Ok(()),
        }
    }

    /// The answer ends before its end, and the client is to see that: HTTP/1.1 closes the connection, which its caller does.
    pub(crate) fn abort(&mut self, fault: bool) {
        if let Self::H2(it) = self {
            it.abort(fault);
        }
    }

    /// What the request and its answer have moved.
    pub(crate) fn wire(&self) -> Wire {
        match self {
            Self::H1(it) => it.wire,
            Self::H2(it) => it.wire(),
        }
    }

    /// Bytes of the answer that the client's socket has not taken; on HTTP/2 they are the connection's business.
    pub(crate) fn unsent(&self) -> usize {
        match self {
            Self::H1(it) => it.unsent(),
            Self::H2(_) => 0,
        }
    }
}

impl Up {
    /// What is known of the endpoint's connection.
    pub(crate) fn facts(&self) -> &Rc<Facts> {
        each!(self, Up, it => &it.facts)
    }

    /// What the request and its answer have moved.
    pub(crate) fn wire(&self) -> Wire {
        match self {
            Self::H1(it) => it.wire,
            Self::H2(it) => it.wire(),
        }
    }

    /// Why the endpoint ended the connection, when its TLS said so.
    pub(crate) fn alert(&self) -> Option<&str> {
        match self {
            Self::H1(it) => it.alert.as_deref(),
            Self::H2(_) => None,
        }
    }

    /// Sends the head of the request; `close`: the endpoint may end the connection behind its answer.
    pub(crate) fn send_head(&mut self, head: &Head, close: bool) -> Result<(), Broken> {
        match self {
            Self::H1(it) => {
                it.send_head(head, close);
                Ok(())
            }
            Self::H2(it) => it.send_head(head),
        }
    }

    /// Waits for the next head of the answer.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, head: &mut Head) -> Poll<Result<(), Broken>> {
        each!(self, Up, it => it.poll_head(cx, head))
    }
}

macro_rules! both_ways {
    ($kind:ident $(<$life:lifetime>)?) => {
        impl Source for $kind $(<$life>)? {
            fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
                each!(self, $kind, it => it.poll_data(cx))
            }

            fn give(
                &mut self,
                count: usize,
                to: impl FnOnce(&[u8]) -> Result<(), Broken>,
            ) -> Result<(), Broken> {
                each!(self, $kind, it => it.give(count, to))
            }

            fn trailers(&self) -> Option<&Head> {
                each!(self, $kind, it => it.trailers())
            }
        }

        impl Sink for $kind $(<$life>)? {
            fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Broken>> {
                each!(self, $kind, it => it.poll_room(cx, want))
            }

            fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
                each!(self, $kind, it => it.send(bytes))
            }

            fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
                each!(self, $kind, it => it.end(trailers))
            }

            fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
                each!(self, $kind, it => it.poll_flush(cx))
            }
        }
    };
}

both_ways!(Down<'_>);
both_ways!(Up);
