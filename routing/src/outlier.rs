//! Which endpoints are ejected and for how long (Istio `outlierDetection`), as Envoy decides it. The moments are the caller's.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Istio `OutlierDetection`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Outliers {
    /// So many answers of 500 and above in a row; `None` = they do not count.
    pub server_errors: Option<u32>,
    /// So many of 502, 503, 504 in a row; `None` = they do not count.
    pub gateway_errors: Option<u32>,
    /// So many failures in a row that are not answers; only with [`Self::split`].
    pub local_failures: Option<u32>,
    /// Failures to connect, timeouts and broken connections are counted apart from answers.
    pub split: bool,
    /// Between looks at who may come back.
    pub interval: Duration,
    /// How long the first ejection is.
    pub base: Duration,
    /// Percent of the endpoints that may be out at once.
    pub max_percent: u32,
    /// Percent of the endpoints below which it does not matter who is out; 0 = it always matters.
    pub min_health_percent: u32,
    /// Which statuses count as errors; empty = 500 and above.
    pub codes: Box<[u16]>,
}

impl Outliers {
    /// Envoy's bound of an ejection's length.
    pub const LONGEST: Duration = Duration::from_secs(300);
}

/// What came of a try at an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It answered with this HTTP status.
    Status(u16),
    /// It answered with this gRPC status.
    Grpc(u16),
    /// A connection that is not looked into was made.
    Connected,
    /// No connection could be made, or it broke before an answer.
    Failed,
    /// It took too long.
    TimedOut,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// `consecutive5xxErrors`.
    ServerErrors(u32),
    /// `consecutiveGatewayErrors`.
    GatewayErrors(u32),
    /// `consecutiveLocalOriginFailures`.
    LocalFailures(u32),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ServerErrors(count) => write!(f, "consecutive5xxErrors: {count} in a row"),
            Self::GatewayErrors(count) => write!(f, "consecutiveGatewayErrors: {count} in a row"),
            Self::LocalFailures(count) => write!(f, "consecutiveLocalOriginFailures: {count} in a row"),
        }
    }
}

/// Envoy's HTTP status for a gRPC status.
pub const fn status_of_grpc(status: u16) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// What an endpoint did last, of every worker, without a lock.
#[derive(Debug, Default)]
pub struct Tally {
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
}

impl Tally {
    /// Counts an outcome. Says why the endpoint has to be ejected when it has come to that; its count begins anew then.
    pub fn note(&self, outliers: &Outliers, outcome: Outcome) -> Option<Why> {
        let status = match outcome {
            Outcome::Status(status) => outliers.judge(status),
            Outcome::Grpc(status) => outliers.judge(status_of_grpc(status)),
            Outcome::Connected | Outcome::Failed | Outcome::TimedOut if outliers.split => {
                let failed = outcome != Outcome::Connected;
                return self.count(&self.local_failures, failed, outliers.local_failures).map(Why::LocalFailures);
            }
            Outcome::Connected => 200,
            Outcome::Failed => 503,
            Outcome::TimedOut => 504,
        };
        if outliers.split {
            // There was a connection.
            clear(&self.local_failures);
        }
        let gateway = self.count(&self.gateway_errors, (502..=504).contains(&status), outliers.gateway_errors);
        let server = self.count(&self.server_errors, status >= 500, outliers.server_errors);
        gateway.map(Why::GatewayErrors).or(server.map(Why::ServerErrors))
    }

    #[expect(clippy::unused_self, reason = "the counter is one of its own")]
    fn count(&self, counter: &AtomicU32, failed: bool, threshold: Option<u32>) -> Option<u32> {
        if !failed {
            clear(counter);
            return None;
        }
        let threshold = threshold?;
        let reached = counter.fetch_add(1, Ordering::Relaxed) + 1 >= threshold;
        // Of several that count beyond the threshold at once, one says so.
        (reached && counter.swap(0, Ordering::Relaxed) >= threshold).then_some(threshold)
    }
}

/// Endpoints that are well do not write to memory that all workers share.
fn clear(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

impl Outliers {
    /// What a status counts as.
    fn judge(&self, status: u16) -> u16 {
        match (self.codes.is_empty(), self.codes.contains(&status)) {
            (true, _) => status,
            (false, true) => status.max(500),
            (false, false) => 200,
        }
    }
}

/// What becomes of an endpoint that has to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is out for so long.
    Ejected(Duration),
    /// It was out.
    Already,
    /// As many as may be are out.
    TooMany,
}

/// Who of a cluster is out, and how often everyone was.
#[derive(Debug, Default)]
pub struct Ejections {
    known: HashMap<SocketAddr, Past>,
    active: usize,
}

#[derive(Debug, Default)]
struct Past {
    /// Since when it is out.
    since: Option<Instant>,
    /// How many times as long as the first its ejection is.
    times: u32,
}

impl Ejections {
    /// Whether an endpoint is out.
    pub fn is_out(&self, address: SocketAddr) -> bool {
        self.known.get(&address).is_some_and(|past| past.since.is_some())
    }

    /// How many are out.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Ejects one of `count` endpoints, if so many may be out.
    pub fn eject(&mut self, outliers: &Outliers, address: SocketAddr, count: usize, now: Instant) -> Verdict {
        if self.is_out(address) {
            return Verdict::Already;
        }
        if (self.active + 1) * 100 > outliers.max_percent as usize * count {
            return Verdict::TooMany;
        }
        let past = self.known.entry(address).or_default();
        past.since = Some(now);
        let longest = Outliers::LONGEST.max(outliers.base);
        if outliers.base.saturating_mul(past.times) < longest {
            past.times += 1;
        }
        self.active += 1;
        Verdict::Ejected(past.length(outliers))
    }

    /// The look after an interval: who comes back. Whoever was well for a whole interval is ejected for a shorter time later.
    pub fn look(&mut self, outliers: &Outliers, now: Instant) -> Vec<SocketAddr> {
        let mut back = Vec::new();
        for (address, past) in &mut self.known {
            match past.since {
                None => past.times = past.times.saturating_sub(1),
                Some(since) if now.saturating_duration_since(since) >= past.length(outliers) => {
                    past.since = None;
                    back.push(*address);
                }
                Some(_) => {}
            }
        }
        self.active -= back.len();
        self.known.retain(|_, past| past.since.is_some() || past.times > 0);
        back.sort_unstable();
        back
    }

    /// Forgets endpoints that are no more.
    pub fn retain(&mut self, exists: impl Fn(SocketAddr) -> bool) {
        self.known.retain(|address, _| exists(*address));
        self.active = self.known.values().filter(|past| past.since.is_some()).count();
    }

    /// Whether there is anything that time changes.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl Past {
    fn length(&self, outliers: &Outliers) -> Duration {
        outliers.base.saturating_mul(self.times).min(Outliers::LONGEST.max(outliers.base))
    }
}

#[cfg(test)]
mod tests;
