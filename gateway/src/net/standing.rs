//! Whether a connection may go on: its listener may close, and the rule that let it in may give way to another one.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use routing::inbound::MtlsMode;
use tokio::{sync::watch, time::sleep};

use super::{
    facts::{Arrival, Facts},
    listen::{Door, Standing},
};
use crate::live::{ClientPolicy, Installed, Live};

/// A number for what is asked of those who come in through a door.
pub(crate) fn rules(installed: &Installed, door: Door) -> u64 {
    match door {
        Door::Gateway { bind, port } => {
            installed.listener(bind, port).map_or(0, |(listener, front)| front.digest(listener))
        }
        Door::Inbound { .. } => {
            let mut digest = DefaultHasher::new();
            if let Some(inbound) = &installed.snapshot.inbound {
                let strict = |mode| mode == MtlsMode::Strict;
                strict(inbound.default_mtls).hash(&mut digest);
                inbound.ports.iter().for_each(|(port, own)| (port, strict(own.mtls)).hash(&mut digest));
            }
            installed.inbound_tls.as_ref().map(|own| own.policy).hash(&mut digest);
            // Few have any, and in whatever order they come.
            installed
                .own_tls
                .iter()
                .map(|(port, own)| u64::from(*port) ^ own.policy.0 << 16)
                .fold(0, u64::wrapping_add)
                .hash(&mut digest);
            digest.finish()
        }
        Door::Outbound | Door::Egress { .. } => 0,
    }
}

/// Whether the rule that let a connection in is still in force. What is stricter now than it was then ends it; so does
/// another CA, since nobody has asked for its certificates. A new certificate of our own changes nothing.
pub(crate) fn holds(installed: &Installed, facts: &Facts) -> bool {
    match facts.arrival {
        Arrival::Gateway { bind, port } => {
            // A listener that is gone closes in its own way.
            let Some((listener, _)) = installed.listener(bind, port) else { return true };
            match (&listener.tls, &facts.tls) {
                (None, None) => true,
                (Some(_), Some(tls)) => {
                    // Nobody comes in for a host that is gone, on a connection that is open neither.
                    installed.server(bind, port, &tls.sni).is_some_and(|server| server.policy == tls.policy)
                }
                _ => false,
            }
        }
        Arrival::Inbound { port, .. } => {
            let Some(inbound) = &installed.snapshot.inbound else { return true };
            if let Some(own) = installed.own_tls.get(&port) {
                return facts.tls.as_ref().is_some_and(|tls| tls.policy == own.policy);
            }
            match &facts.tls {
                // TLS of the application's own is as good as plain text.
                Some(tls) if tls.policy == ClientPolicy::PASSED => inbound.mtls(port) != MtlsMode::Strict,
                Some(tls) => installed.inbound_tls.as_ref().is_some_and(|own| own.policy == tls.policy),
                None => inbound.mtls(port) != MtlsMode::Strict,
            }
        }
        Arrival::Outbound { .. } | Arrival::Upstream => true,
    }
}

/// What a connection has outlived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outlived {
    /// The listener that it came through.
    Listener,
    /// The rule that let it in.
    Rule,
}

impl Outlived {
    /// For people.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Listener => "its listener is closed",
            Self::Rule => "it was opened under another rule",
        }
    }
}

/// For what has no request to end with. Ready when it has gone on for `grace` since its listener closed, or since a rule came
/// into force that its connection would not have met.
pub(crate) async fn overdue(
    live: Arc<Live>,
    facts: Rc<Facts>,
    mut standing: watch::Receiver<Standing>,
    grace: Duration,
) -> Outlived {
    let over = |it: &Standing| (it.closing && !it.patient) || !holds(&live.pin(), &facts);
    let outlived = match standing.wait_for(over).await {
        Ok(it) if it.closing && !it.patient => Outlived::Listener,
        Ok(_) => Outlived::Rule,
        // The process ends, and nobody tells of anything any more.
        Err(_) => std::future::pending().await,
    };
    sleep(grace).await;
    outlived
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_outlives_its_listener_by_more_than_the_grace() {
        let (told, standing) = watch::channel(Standing::default());
        let at = "127.0.0.1:80".parse().unwrap();
        let facts = Rc::new(Facts::new(at, at, Arrival::Gateway { bind: None, port: 80 }));
        let grace = Duration::from_secs(45);
        let mut waiting = Box::pin(overdue(Arc::default(), facts, standing, grace));
        assert!(timeout(Duration::from_secs(3600), &mut waiting).await.is_err(), "it stands");
        let closed = Instant::now();
        told.send_modify(|standing| standing.closing = true);
        // As of a listener that the configuration does not have any more.
        drop(told);
        assert_eq!(waiting.await, Outlived::Listener);
        assert_eq!(closed.elapsed(), grace);
    }
}
