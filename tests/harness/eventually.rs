//! Waiting for something to become true.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Long enough for anything that happens at once on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);

/// Asks `condition` again and again until it is true; panics with `what` after [`SOON`]. Gives the time it took.
pub async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) -> Duration {
    within(SOON, what, condition).await
}

/// As [`eventually`], with a deadline of its own.
pub async fn within(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        sleep(STEP).await;
    }
    start.elapsed()
}

const STEP: Duration = Duration::from_millis(15);
