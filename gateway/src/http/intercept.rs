//! What comes before a request goes anywhere: faults on purpose, then preflights. Nothing is chosen for it yet, so a request
//! that waits here takes no place at an endpoint and none of what its cluster has room for.

use std::sync::Arc;

use routing::{
    cors::Verdict,
    rule::{Action, Rule},
};
use tokio::time::{Instant, sleep_until};

use super::{
    admit::{self, Admitted, view},
    exchange::{Exchange, Target},
    failure::Failure,
    forward::unless_gone,
    head::Head,
    side::Down,
};

/// Holds a request back, fails it, or answers it for a page, as its rule says; else does what the rule says besides.
///
/// # Errors
/// [`Failure`], answered by the proxy.
pub(crate) async fn intercept(
    exchange: &mut Exchange,
    request: &Head,
    down: &mut Down<'_>,
    rule: &Arc<Rule>,
) -> Result<Admitted, Failure> {
    if let Some(fault) = &rule.fault {
        let injected = fault.inject(|| fastrand::u32(..));
        if let Some(time) = injected.delay {
            destine(exchange, rule);
            let end = Instant::now() + time;
            exchange.delayed = Some(end);
            wait(down, end).await?;
        }
        if let Some(error) = injected.abort {
            destine(exchange, rule);
            return Err(Failure::Abort(error));
        }
    }
    if let Some(cors) = &rule.cors {
        match cors.judge(&view(request, exchange.scheme(), 0)) {
            Verdict::Pass => {}
            Verdict::Mark => exchange.cross_origin = true,
            verdict @ (Verdict::Answer | Verdict::Ignore) => {
                destine(exchange, rule);
                return Ok(Admitted::Preflight(Arc::clone(rule), verdict == Verdict::Answer));
            }
        }
    }
    admit::follow(exchange, request, rule)
}

/// As long as the client is there.
async fn wait(down: &mut Down<'_>, end: Instant) -> Result<(), Failure> {
    unless_gone(down, sleep_until(end)).await
}

/// Where the request would have gone, for the log and the metrics: with one destination there is no other.
fn destine(exchange: &mut Exchange, rule: &Rule) {
    let Action::Route(destinations) = &rule.action else { return };
    if exchange.target.is_some() {
        return;
    }
    let chosen = destinations.pick(fastrand::u32(..));
    let destination = destinations.all.iter().position(|one| std::ptr::eq(one, chosen)).unwrap_or_default();
    if let Some(cluster) = chosen.cluster {
        let upstream = Arc::clone(exchange.installed.upstream(cluster));
        exchange.target = Some(Target::Cluster { upstream, destination, picked: None });
    }
}
