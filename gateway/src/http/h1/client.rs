//! The side towards an endpoint that speaks HTTP/1.1.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use tls::stream::Stream;
use tokio::net::TcpStream;

use super::{
    body::Body,
    read::{self, After, Asked, Scan},
    server::{poll_body, poll_flush, poll_room, send, write_head},
    write::{self, Framing},
};
use crate::{
    http::{
        flow::{Broken, Piece, Sink, Source},
        head::{Head, Upgrade},
        wire::Wire,
    },
    net::{connection::Connection, facts::Facts},
    upstream::terms::Terms,
};

/// What is said of an endpoint that answers plain HTTP with TLS.
pub(crate) const SPEAKS_TLS: &str =
    "the endpoint speaks TLS, and plain HTTP was sent to it: a DestinationRule's tls says so";

/// Whether an endpoint has answered with a record of TLS: an alert, as a rule (RFC 8446 section 5.1).
pub(crate) fn tls_record(answer: &[u8]) -> bool {
    matches!(answer, [0x15 | 0x16, 3, ..])
}

/// One connection, with the request that is on it.
pub(crate) struct Client {
    stream: Stream<TcpStream>,
    /// What is known of it.
    pub(crate) facts: Rc<Facts>,
    /// Requests that it has carried, this one included.
    pub(crate) requests: u32,
    scan: Scan,
    asked: Asked,
    /// A byte of the answer has come.
    answered: bool,
    /// The response's.
    body: Body,
    ready: usize,
    /// The request's.
    framing: Framing,
    /// The request was sent to its end.
    sent: bool,
    after: After,
    tunnel: bool,
    ending: bool,
    /// What the request and its answer have moved.
    pub(crate) wire: Wire,
    /// Why the endpoint ended it, when its TLS said so: in TLS 1.3 a certificate of ours is refused after the handshake.
    pub(crate) alert: Option<Box<str>>,
    /// What it is held to. After the stream: what is counted is counted until that is closed.
    pub(crate) terms: Option<Box<Terms>>,
}

impl Client {
    /// A fresh connection.
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            stream: connection.stream,
            facts: connection.facts,
            requests: 0,
            scan: Scan::default(),
            asked: Asked { head: false, upgrade: false },
            answered: false,
            body: Body::default(),
            ready: 0,
            framing: Framing::default(),
            sent: false,
            after: After::default(),
            tunnel: false,
            ending: false,
            wire: Wire::default(),
            alert: None,
            terms: None,
        }
    }

    /// It was kept, and serves again.
    pub(crate) fn resume(&mut self) {
        if let Some(terms) = &self.terms {
            terms.resume();
        }
    }

    /// Whether it can take a request: an idle endpoint that says something, or ends, cannot, nor one whose terms are over.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.stream.input().is_empty()
            && !self.terms.as_ref().is_some_and(|terms| terms.are_over())
            && self.stream.poll_fill(cx).is_pending()
    }

    /// Sends a request head with the next flush; `close` asks the endpoint to end the connection behind its answer.
    pub(crate) fn send_head(&mut self, head: &Head, close: bool) {
        self.requests += 1;
        self.scan = Scan::default();
        self.asked = Asked { head: head.method() == "HEAD", upgrade: head.upgrade.is_some() };
        (self.answered, self.sent, self.ready) = (false, false, 0);
        self.after = After::default();
        self.body = Body::default();
        self.wire = Wire::default();
        self.framing = write_head(&mut self.stream, &mut self.wire, |out| write::request(head, close, out));
    }

    /// Waits for the next head of the answer: interim ones first, the last one has a status from 200, or 101.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, head: &mut Head) -> Poll<Result<(), Broken>> {
        loop {
            let found = self.scan.end(self.stream.input());
            let found = found.map_err(|_| Broken::Malformed("the response head has a bare LF or is too large"))?;
            if let Some(end) = found {
                self.answered = true;
                let after = read::response(&self.stream.input()[..end], self.asked, head).map_err(Broken::Malformed)?;
                self.stream.consume(end);
                self.wire.receive_head(end);
                self.scan = Scan::default();
                if head.status >= 200 || head.status == 101 {
                    self.after = after;
                    self.body = if after.until_close { Body::until_close() } else { Body::new(head.length) };
                    self.tunnel = head.upgrade == Some(Upgrade::WebSocket);
                }
                return Poll::Ready(Ok(()));
            }
            let input = self.stream.input();
            if !read::may_begin_answer(input) {
                let why = match tls_record(input) {
                    true => SPEAKS_TLS,
                    false => "the response does not begin like one of HTTP/1",
                };
                return Poll::Ready(Err(Broken::Malformed(why)));
            }
            self.answered |= !input.is_empty();
            match ready!(self.stream.poll_fill(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Err(Broken::Closed { untouched: !self.answered })),
                Err(error) => {
                    self.alert = tls::Error::of_io(&error).map(|error| error.to_string().into());
                    return Poll::Ready(Err(Broken::Closed { untouched: !self.answered }));
                }
            }
        }
    }

    /// Whether it can be kept for another request.
    pub(crate) fn is_reusable(&self) -> bool {
        self.after.keep && self.sent && self.body.is_done() && self.stream.unsent() == 0
    }
}

impl Source for Client {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        poll_body(&mut self.stream, &mut self.body, &mut self.ready, &mut self.wire, cx)
    }

    fn give(&mut self, count: usize, to: impl FnOnce(&[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        to(&self.stream.input()[..count])?;
        self.stream.consume(count);
        self.wire.received += count as u64;
        self.body.took(count);
        self.ready -= count;
        Ok(())
    }

    fn trailers(&self) -> Option<&Head> {
        self.body.trailers.as_deref()
    }
}

impl Sink for Client {
    fn poll_room(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<usize, Broken>> {
        poll_room(&mut self.stream, cx)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        send(&mut self.stream, bytes, self.framing, &mut self.wire)
    }

    fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
        write_head(&mut self.stream, &mut self.wire, |out| write::end(trailers, self.framing, out));
        self.sent = true;
        self.ending = self.tunnel;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        poll_flush(&mut self.stream, self.ending, cx)
    }
}
