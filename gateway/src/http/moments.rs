//! When what happened to a request, for those who want it told.

use routing::template::Moment;
use tokio::time::Instant;

use super::{
    exchange::Exchange,
    head::{Head, Length},
};
use crate::net::facts::Made;

/// Nanoseconds from one point to another, which may be earlier.
pub(crate) fn between(from: Instant, to: Instant) -> i64 {
    let whole = |nanoseconds: u128| i64::try_from(nanoseconds).unwrap_or(i64::MAX);
    match to.checked_duration_since(from) {
        Some(later) => whole(later.as_nanos()),
        None => -whole(from.duration_since(to).as_nanos()),
    }
}

/// When a connection came about.
pub(crate) fn of_connection(made: Option<Made>, moment: Moment) -> Option<Instant> {
    let made = made?;
    match moment {
        Moment::ConnectBegun => Some(made.begun),
        Moment::Connected => Some(made.connected),
        Moment::Shaken => made.shaken,
        _ => None,
    }
}

/// When something happened to a request that is over, in nanoseconds since it began.
pub(super) fn of(exchange: &Exchange, request: &Head, moment: Moment) -> Option<i64> {
    let (asked, answer) = (exchange.request.clock.as_deref(), exchange.response.clock.as_deref());
    let forwarded = exchange.answered;
    let bodiless = matches!(request.length, Length::Empty | Length::Exact(0));
    let at = match moment {
        Moment::RequestBegun => Some(exchange.started),
        Moment::RequestRead if bodiless => Some(exchange.started),
        Moment::RequestRead => asked?.came,
        Moment::SendBegun => exchange.sent,
        Moment::Sent => asked?.passed,
        Moment::Answered => forwarded,
        // Of an answer of our own there is nothing to be read.
        Moment::AnswerBody => answer?.first.filter(|_| forwarded.is_some()),
        Moment::AnswerRead => answer?.passed.filter(|_| forwarded.is_some()),
        // An answer goes on as soon as its head is there.
        Moment::ReplyBegun => forwarded.or(answer?.first),
        Moment::Replied => (exchange.status != 0).then(Instant::now),
        Moment::ConnectBegun | Moment::Connected | Moment::Shaken => {
            of_connection(exchange.upstream.as_ref()?.made, moment)
        }
        Moment::ClientConnected | Moment::ClientDisconnected => None,
    };
    Some(between(exchange.started, at?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_came_before_is_told_as_such() {
        let now = Instant::now();
        let later = now + Duration::from_micros(1500);
        assert_eq!((between(now, later), between(later, now), between(now, now)), (1_500_000, -1_500_000, 0));
    }
}
