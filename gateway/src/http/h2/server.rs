//! One stream of a client that speaks HTTP/2.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};

use super::convert;
use crate::{
    http::{
        flow::{Broken, Piece, Sink, Source},
        head::{Head, Length},
        limits::STREAM_SEND,
    },
    net::{deadline::Deadline, facts::Facts},
};

/// See the module.
pub(crate) struct Stream {
    /// What is known of its connection.
    pub(crate) facts: Rc<Facts>,
    /// Reached by whatever waits on this stream.
    pub(crate) deadline: Deadline,
    receive: Receive,
    respond: SendResponse<Bytes>,
    send: Send,
}

impl Stream {
    pub(crate) fn new(facts: Rc<Facts>, body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let (receive, send) = (Receive::new(body), Send::default());
        Self { facts, deadline: Deadline::default(), receive, respond, send }
    }

    /// Sends the head of the answer; `empty`: and its end.
    pub(crate) fn send_head(&mut self, head: &Head, empty: bool) -> Result<(), Broken> {
        let ended = empty && head.upgrade.is_none();
        let stream = self.respond.send_response(convert::to_response(head), ended).map_err(|error| broken(&error))?;
        self.send = Send { stream: Some(stream), held: Bytes::new(), ended };
        Ok(())
    }

    /// An answer before the answer.
    pub(crate) fn send_interim(&mut self, head: &Head) {
        // A client that has gone is noticed by whoever waits for it.
        let _ = self.respond.send_informational(convert::to_response(head));
    }

    /// Ready when the client has reset the stream.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send.stream {
            Some(stream) => stream.poll_reset(cx).map(drop),
            None => self.respond.poll_reset(cx).map(drop),
        }
    }

    /// Whether the request was read to its end.
    pub(crate) fn is_read(&self) -> bool {
        self.receive.ended
    }

    /// Ends the stream before its end: the answer is not whole, or the client broke the rules.
    pub(crate) fn reset(&mut self, reason: Reason) {
        match &mut self.send.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

impl Source for Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        self.receive.poll_data(cx)
    }

    fn data(&self) -> &[u8] {
        &self.receive.chunk
    }

    fn took(&mut self, count: usize) {
        self.receive.took(count);
    }

    fn trailers(&self) -> Option<&Head> {
        self.receive.trailers.as_deref()
    }
}

impl Sink for Stream {
    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Broken>> {
        self.send.poll_room(cx, want)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.send.send(bytes)
    }

    fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
        self.send.end(trailers)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(self.send.release())
    }
}

/// What comes on a stream, of either side.
pub(super) struct Receive {
    body: RecvStream,
    chunk: Bytes,
    ended: bool,
    trailers: Option<Box<Head>>,
}

impl Receive {
    pub(super) fn new(body: RecvStream) -> Self {
        let ended = body.is_end_stream();
        Self { body, chunk: Bytes::new(), ended, trailers: None }
    }

    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        while self.chunk.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(Piece::End));
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => {
                    let trailers = ready!(self.body.poll_trailers(cx)).map_err(|error| broken(&error))?;
                    self.trailers = trailers.as_ref().map(convert::trailers);
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(Piece::Data))
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.chunk
    }

    pub(super) fn took(&mut self, count: usize) {
        self.chunk.advance(count);
        // Fails only when more is given back than came.
        let _ = self.body.flow_control().release_capacity(count);
    }

    pub(super) fn trailers(&self) -> Option<&Head> {
        self.trailers.as_deref()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }
}

/// What goes out on a stream, of either side. The last bytes wait for what comes next, so that the end can go with them.
#[derive(Default)]
pub(super) struct Send {
    stream: Option<SendStream<Bytes>>,
    held: Bytes,
    ended: bool,
}

impl Send {
    pub(super) fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self { stream: Some(stream), held: Bytes::new(), ended }
    }

    fn stream(&mut self) -> Result<&mut SendStream<Bytes>, Broken> {
        self.stream.as_mut().ok_or(Broken::Malformed("a body before its head"))
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Broken>> {
        let held = self.held.len();
        let ended = self.ended;
        let stream = self.stream()?;
        if ended {
            // Nobody wants the rest: it is read and dropped, as a HEAD's would be.
            return Poll::Ready(Ok(STREAM_SEND));
        }
        let want = held + want.clamp(1, STREAM_SEND);
        if stream.capacity() < want {
            stream.reserve_capacity(want);
        }
        while stream.capacity() <= held {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => return Poll::Ready(Err(Broken::Closed { untouched: false })),
            }
        }
        Poll::Ready(Ok((stream.capacity() - held).min(STREAM_SEND)))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.ended || bytes.is_empty() {
            return Ok(());
        }
        self.release()?;
        self.held = Bytes::copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn release(&mut self) -> Result<(), Broken> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.stream()?.send_data(held, false).map_err(|error| broken(&error))
    }

    pub(super) fn end(&mut self, trailers: Option<&Head>) -> Result<(), Broken> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        let sent = match trailers {
            Some(trailers) => {
                self.release()?;
                self.stream()?.send_trailers(convert::map(trailers))
            }
            None => {
                let held = std::mem::take(&mut self.held);
                self.stream()?.send_data(held, true)
            }
        };
        sent.map_err(|error| broken(&error))
    }
}

/// What an error of the `h2` crate means for the exchange.
pub(super) fn broken(error: &h2::Error) -> Broken {
    if error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM) {
        let unseen = error.reason() == Some(Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR));
        return Broken::Reset { unseen };
    }
    if error.is_reset() {
        return Broken::Reset { unseen: false };
    }
    if error.is_io() {
        return Broken::Closed { untouched: false };
    }
    Broken::Malformed("it broke the rules of HTTP/2")
}

/// Whether an answer has no body at all.
pub(crate) fn is_empty(head: &Head) -> bool {
    matches!(head.length, Length::Empty | Length::Exact(0))
}
