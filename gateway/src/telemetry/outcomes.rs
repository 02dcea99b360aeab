//! What retries and copies of requests come to, as their metrics tell it.

/// What came of a retry, or of the wish for one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retry {
    /// It began.
    Begun,
    /// It got an answer that needs no further one.
    Helped,
    /// There was none: `attempts` are used up.
    Exhausted,
    /// There was none: the cluster's budget is used up.
    Overflow,
    /// There was none: more of the body had been sent than is kept.
    TooLarge,
}

/// What became of a copy of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mirroring {
    /// It was sent and answered.
    Answered,
    /// There was no connection, or no whole answer.
    Failed,
    /// It took too long.
    TimedOut,
    /// Dropped: the cluster has no endpoint, or no room for a request (`connectionPool`).
    NoEndpoint,
    /// Dropped: the cluster has too many of them on their way.
    TooMany,
    /// Dropped: the body is too large.
    TooLarge,
    /// Dropped: all bodies together are too large.
    NoRoom,
    /// Dropped: the request has ended before it was whole.
    Incomplete,
}

/// What somebody outside says who is asked about a request or a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// It may go on.
    Allowed,
    /// It may not.
    Denied,
    /// Nothing, and it is denied.
    Failed,
    /// Nothing, and it goes on.
    Open,
    /// The client did not wait.
    Gone,
}

/// What a policy said, other than that somebody may come in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// He may not.
    Denied,
    /// It is only told (AUDIT).
    Audited,
    /// He might not, by a policy that is only tried.
    TriedDenied,
    /// He might, by a policy that is only tried.
    TriedAllowed,
}

impl Verdict {
    /// As metrics and the log have it.
    pub(super) const fn name(self) -> &'static str {
        VERDICT_NAMES[self as usize]
    }
}

/// In the order of [`Verdict`].
pub(super) const VERDICT_NAMES: [&str; 4] = ["denied", "audited", "dry_run_denied", "dry_run_allowed"];
/// In the order of [`Asked`].
pub(super) const ASKED_RESULTS: [&str; 5] = ["allowed", "denied", "error", "failed_open", "abandoned"];
/// In the order of [`Retry`].
pub(super) const RETRY_RESULTS: [&str; 5] = ["begun", "helped", "exhausted", "over_budget", "body_too_large"];
/// In the order of [`Mirroring`].
pub(super) const MIRROR_RESULTS: [&str; 8] =
    ["answered", "failed", "timeout", "no_endpoint", "in_flight", "body_too_large", "memory", "incomplete"];
