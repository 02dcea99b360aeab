//! One stream towards an endpoint that speaks HTTP/2.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use tokio::time::timeout;

use super::{
    convert,
    server::{Receive, Send, broken, is_empty},
    wire::Wire,
};
use crate::{
    http::{
        flow::{Broken, Piece, Sink, Source},
        head::{Head, Length, Upgrade},
        limits::{CLOSE, CONNECTION_WINDOW, HEAD_BYTES, PING, PONG, STREAM_SEND, STREAM_WINDOW, STREAMS},
    },
    net::{deadline::Deadline, facts::Facts},
};

/// See the module.
pub(crate) struct Stream {
    /// What is known of its connection.
    pub(crate) facts: Rc<Facts>,
    connection: SendRequest<Bytes>,
    response: Option<ResponseFuture>,
    receive: Option<Receive>,
    send: Send,
    upgrade: bool,
    /// HEAD: there is no body whatever the head says.
    bodiless: bool,
    /// Keeps its connection from being taken for an idle one.
    _hold: Rc<()>,
}

impl Stream {
    /// A stream that is still to be opened.
    pub(crate) fn new(facts: Rc<Facts>, connection: SendRequest<Bytes>, hold: Rc<()>) -> Self {
        Self {
            facts,
            connection,
            response: None,
            receive: None,
            send: Send::default(),
            upgrade: false,
            bodiless: false,
            _hold: hold,
        }
    }

    /// Sends the head of a request.
    pub(crate) fn send_head(&mut self, head: &Head) -> Result<(), Broken> {
        let request = convert::to_request(head).map_err(Broken::Malformed)?;
        self.upgrade = head.upgrade.is_some();
        self.bodiless = head.method() == "HEAD";
        if self.upgrade && !self.connection.is_extended_connect_protocol_enabled() {
            return Err(Broken::Malformed("the endpoint takes no WebSocket over HTTP/2 (RFC 8441)"));
        }
        let ended = is_empty(head) && !self.upgrade;
        let (response, stream) =
            self.connection.send_request(request, ended).map_err(|error| match broken(&error) {
                Broken::Closed { .. } => Broken::Reset { unseen: true },
                other => other,
            })?;
        self.response = Some(response);
        self.send = Send::new(stream, ended);
        Ok(())
    }

    /// Waits for the next head of the answer: interim ones first.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, head: &mut Head) -> Poll<Result<(), Broken>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(Broken::Malformed("an answer before the request")));
        };
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            let (parts, ()) = interim.into_parts();
            return Poll::Ready(convert::response(&parts, true, true, head).map_err(Broken::Malformed));
        }
        let answer = ready!(std::pin::Pin::new(response).poll(cx)).map_err(|error| broken(&error))?;
        let (parts, body) = answer.into_parts();
        let receive = Receive::new(body);
        let read = convert::response(&parts, receive.is_ended(), self.bodiless, head);
        self.bodiless = head.length == Length::Empty;
        self.receive = Some(receive);
        self.response = None;
        if self.upgrade && head.status == 200 {
            self.bodiless = false;
            head.upgrade = Some(Upgrade::WebSocket);
            head.status = 101;
        }
        Poll::Ready(read.map_err(Broken::Malformed))
    }
}

/// A connection that many requests share.
pub(crate) struct Connection {
    facts: Rc<Facts>,
    requests: SendRequest<Bytes>,
    /// One more than there are streams.
    streams: Rc<()>,
    /// Requests that it may still take (Istio `maxRequestsPerConnection`).
    left: u32,
    /// Its driver has ended, or it takes no new streams.
    dead: Rc<Cell<bool>>,
}

impl Connection {
    /// Begins HTTP/2 on a connection and lets its driver run beside the caller.
    ///
    /// # Errors
    /// What the endpoint got wrong.
    pub(crate) async fn open(
        connection: crate::net::connection::Connection,
        limit: Option<u32>,
    ) -> Result<Self, h2::Error> {
        let wire = Wire::new(connection.stream, false);
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES as u32)
            .max_send_buffer_size(STREAM_SEND);
        let (requests, mut driver) = builder.handshake::<_, Bytes>(wire.clone()).await?;
        // What it says first are its settings: how many streams it takes, and whether WebSocket (RFC 8441).
        poll_fn(|cx| {
            if let Poll::Ready(end) = std::pin::Pin::new(&mut driver).poll(cx) {
                return Poll::Ready(end.and(Err(h2::Reason::PROTOCOL_ERROR.into())));
            }
            match wire.poll_flush_all(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(Err(h2::Reason::CONNECT_ERROR.into())),
                _ if wire.has_heard() => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await?;
        let (streams, dead) = (Rc::new(()), Rc::new(Cell::new(false)));
        tokio::task::spawn_local(drive(driver, wire, Rc::clone(&dead), Rc::downgrade(&streams)));
        Ok(Self { facts: connection.facts, requests, streams, left: limit.unwrap_or(u32::MAX), dead })
    }

    /// A stream, when there is room for one.
    pub(crate) fn stream(&mut self) -> Option<Stream> {
        let room = self.requests.current_max_send_streams().min(STREAMS as usize);
        if self.dead.get() || self.left == 0 || Rc::strong_count(&self.streams) > room {
            return None;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match self.requests.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.dead.set(true);
                return None;
            }
            Poll::Pending => return None,
        }
        self.left -= 1;
        Some(Stream::new(Rc::clone(&self.facts), self.requests.clone(), Rc::clone(&self.streams)))
    }

    /// Whether it can serve nobody any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get() || (self.left == 0 && !self.is_busy())
    }

    /// Whether streams are on it.
    pub(crate) fn is_busy(&self) -> bool {
        Rc::strong_count(&self.streams) > 1
    }
}

/// Reads and writes an endpoint's connection until it ends. An endpoint that does not answer a PING in time is gone.
async fn drive(mut driver: h2::client::Connection<Wire, Bytes>, wire: Wire, dead: Rc<Cell<bool>>, streams: Weak<()>) {
    let mut ping = driver.ping_pong();
    let mut deadline = Deadline::default();
    deadline.arm(PING);
    let mut asked = false;
    poll_fn(|cx| {
        loop {
            if std::pin::Pin::new(&mut driver).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Poll::Ready(Err(_)) = wire.poll_flush_all(cx) {
                return Poll::Ready(());
            }
            let Some(ping) = &mut ping else { return Poll::Pending };
            if asked && ping.poll_pong(cx).is_ready() {
                asked = false;
                deadline.arm(PING);
            }
            if deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if asked {
                return Poll::Ready(());
            }
            // Without requests nobody needs to know.
            asked = streams.strong_count() > usize::from(!dead.get()) && ping.send_ping(h2::Ping::opaque()).is_ok();
            deadline.arm(if asked { PONG } else { PING });
        }
    })
    .await;
    dead.set(true);
    let _ = timeout(CLOSE, poll_fn(|cx| wire.poll_flush_all(cx))).await;
}

impl Source for Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let Some(receive) = &mut self.receive else { return Poll::Pending };
        match ready!(receive.poll_data(cx)) {
            Ok(Piece::Data) if self.bodiless => Poll::Ready(Err(Broken::Malformed("a body where there can be none"))),
            piece => Poll::Ready(piece),
        }
    }

    fn data(&self) -> &[u8] {
        self.receive.as_ref().map_or(&[], Receive::data)
    }

    fn took(&mut self, count: usize) {
        if let Some(receive) = &mut self.receive {
            receive.took(count);
        }
    }

    fn trailers(&self) -> Option<&Head> {
        self.receive.as_ref()?.trailers()
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
