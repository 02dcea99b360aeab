//! The beginning of a body, held back while somebody is asked about its request.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use routing::external::Body;
use tokio::time::Instant;

use crate::http::{
    desk::Desk,
    exchange::Exchange,
    failure::Failure,
    flow::{Piece, Sink as _, Source as _},
    forward::client,
    head::{Head, Length},
    limits::{BODY, REPLAY_FREE, STREAM_IDLE},
    name::Name,
    side::Down,
};

/// See the module.
pub(crate) struct Held {
    desk: Rc<Desk>,
    bytes: Vec<u8>,
    /// Room of [`crate::live::Live::held`] that it takes.
    taken: usize,
    /// The same, of what is made of it for who is asked.
    copies: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.desk.live.held.give_back(self.taken + self.copies);
    }
}

impl Held {
    /// What of it may be shown.
    pub(crate) fn shown(&self, most: usize) -> &[u8] {
        &self.bytes[..self.bytes.len().min(most)]
    }

    /// Whether that is not all.
    pub(super) fn is_partial(&self, most: usize, done: bool) -> bool {
        !done || self.bytes.len() > most
    }

    /// Room for a question about it: a message that holds it, and the bytes of that message.
    fn reserve(&mut self, most: usize) -> Result<(), Failure> {
        let shown = self.shown(most).len();
        if shown > REPLAY_FREE {
            if !self.desk.live.held.take(2 * shown) {
                return Err(Failure::Overloaded);
            }
            self.copies = 2 * shown;
        }
        Ok(())
    }

    /// Nobody is asked any more.
    pub(super) fn was_shown(&mut self) {
        self.desk.live.held.give_back(std::mem::take(&mut self.copies));
    }

    /// What was held, and the room that it takes: who has it gives that back.
    pub(crate) fn release(mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.taken))
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let size = self.bytes.len() + bytes.len();
        let wanted = size.next_power_of_two();
        if size > REPLAY_FREE && wanted > self.taken {
            if !self.desk.live.held.take(wanted - self.taken) {
                return Err(Failure::Overloaded);
            }
            self.taken = wanted;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Holds a body back, as far as it is shown, beside what is held of it already. `None`: there is none.
///
/// # Errors
/// [`Failure`]: it is too large, does not come, or is against the rules.
pub(super) async fn hold(
    desk: &Rc<Desk>,
    exchange: &mut Exchange,
    request: &mut Head,
    down: &mut Down<'_>,
    terms: Body,
) -> Result<Option<Held>, Failure> {
    if request.upgrade.is_some() || matches!(request.length, Length::Empty | Length::Exact(0)) {
        return Ok(None);
    }
    let too_long = |size: u64| size > u64::try_from(terms.most).unwrap_or(u64::MAX);
    if matches!(request.length, Length::Exact(size) if too_long(size) && !terms.partial) {
        return Err(Failure::BodyTooLarge);
    }
    if request.has(Name::Expect) {
        // Whoever waits to be told sends nothing else.
        let mut go_on = Head::default();
        go_on.status = 100;
        down.send_interim(&go_on);
        request.remove(Name::Expect);
    }
    let mut held = match exchange.held.take() {
        Some(held) => *held,
        None => Held { desk: Rc::clone(desk), bytes: Vec::new(), taken: 0, copies: 0 },
    };
    let before = held.bytes.len();
    let mut last = Instant::now();
    poll_fn(|cx| {
        let before = held.bytes.len();
        let polled = poll(&mut held, exchange, down, terms, cx);
        if polled.is_ready() {
            return polled;
        }
        if held.bytes.len() != before {
            last = Instant::now();
        }
        let limit = if down.is_h2() { STREAM_IDLE } else { BODY };
        down.deadline().set(Some(last + limit));
        down.deadline().poll(cx).map(|()| Err(Failure::BodyTimeout))
    })
    .await?;
    held.reserve(terms.most)?;
    exchange.request.bytes = held.bytes.len() as u64;
    // What is held does not pass where the rest is looked at.
    if let Some(messages) = &mut exchange.request.messages {
        messages.see(&held.bytes[before..]);
    }
    Ok(Some(held))
}

fn poll(
    held: &mut Held,
    exchange: &mut Exchange,
    down: &mut Down<'_>,
    terms: Body,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    let _ = down.poll_flush(cx);
    if held.bytes.len() > terms.most && !terms.partial {
        return Poll::Ready(Err(Failure::BodyTooLarge));
    }
    // Whoever was asked before has been shown as much.
    if exchange.request.done || held.bytes.len() > terms.most {
        return Poll::Ready(Ok(()));
    }
    loop {
        match down.poll_data(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(client(&broken))),
            Poll::Ready(Ok(Piece::End)) => {
                exchange.request.done = true;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Ok(Piece::Data(count))) => {
                let room = terms.most - held.bytes.len();
                if count > room && !terms.partial {
                    return Poll::Ready(Err(Failure::BodyTooLarge));
                }
                // One byte beyond what is shown tells that there is more.
                if room == 0 {
                    return Poll::Ready(Ok(()));
                }
                let mut added = Ok(());
                let given = down.give(count.min(room), |bytes| {
                    added = held.add(bytes);
                    Ok(())
                });
                if let Err(broken) = given {
                    return Poll::Ready(Err(client(&broken)));
                }
                if let Err(failure) = added {
                    return Poll::Ready(Err(failure));
                }
            }
        }
    }
}
