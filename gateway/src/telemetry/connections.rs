//! Istio's standard metrics of connections that carry no HTTP. They count while a connection lives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{IntCounter, IntCounterVec, Registry};
use tokio::time::Instant;

use super::{
    labels::{self, CONNECTION_NAMES, ConnectionValues},
    metrics::{Definition, options, register, row},
};

/// A set of labels with no open connection that counted nothing for so long goes when a configuration is installed.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) const OPENED: Definition =
    row("istio_tcp_connections_opened_total", "counter", &CONNECTION_NAMES, "Connections that carry no HTTP, opened.");
pub(super) const CLOSED: Definition =
    row("istio_tcp_connections_closed_total", "counter", &CONNECTION_NAMES, "Connections that carry no HTTP, closed.");
pub(super) const SENT: Definition = row(
    "istio_tcp_sent_bytes_total",
    "counter",
    &CONNECTION_NAMES,
    "Bytes sent to clients on connections that carry no HTTP.",
);
pub(super) const RECEIVED: Definition = row(
    "istio_tcp_received_bytes_total",
    "counter",
    &CONNECTION_NAMES,
    "Bytes received from clients on connections that carry no HTTP.",
);

/// The metrics of all of them.
#[derive(Debug)]
pub(super) struct Connections {
    /// As in [`Series`].
    all: [IntCounterVec; 4],
    known: Mutex<HashMap<[String; CONNECTION_NAMES.len()], Known>>,
    most_series: usize,
}

/// A set of labels with what was last counted there, and when that had changed.
type Known = (Arc<Series>, u64, Instant);

/// Opened, closed, sent, received, for one set of labels.
#[derive(Debug)]
struct Series([IntCounter; 4]);

/// Where one connection is counted.
#[derive(Clone, Debug)]
pub(crate) struct Traffic(Arc<Series>);

impl Traffic {
    /// It begins.
    pub(crate) fn opened(&self) {
        self.0.0[0].inc();
    }

    /// It is over.
    pub(crate) fn closed(&self) {
        self.0.0[1].inc();
    }

    /// So many bytes came from the client, and went to it.
    pub(crate) fn moved(&self, received: u64, sent: u64) {
        self.0.0[2].inc_by(sent);
        self.0.0[3].inc_by(received);
    }
}

impl Connections {
    pub(super) fn new(registry: &Registry, most_series: usize) -> Self {
        let all = [&OPENED, &CLOSED, &SENT, &RECEIVED]
            .map(|row| register(registry, IntCounterVec::new(options(row), row.labels)));
        Self { all, known: Mutex::default(), most_series }
    }

    /// Where connections with these labels are counted.
    pub(super) fn traffic(&self, values: &ConnectionValues<'_>) -> Traffic {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = values.each_ref().map(|value| value.to_string());
        if let Some((series, ..)) = known.get(&key) {
            return Traffic(Arc::clone(series));
        }
        if known.len() >= self.most_series {
            return Traffic(Arc::new(self.series(&labels::overflowing_connections())));
        }
        let series = Arc::new(self.series(values));
        known.insert(key, (Arc::clone(&series), 0, Instant::now()));
        Traffic(series)
    }

    fn series(&self, values: &ConnectionValues<'_>) -> Series {
        Series(self.all.each_ref().map(|counter| counter.with_label_values(values)))
    }

    /// Forgets label sets that counted nothing for an hour and that no connection counts in.
    pub(super) fn retire_idle(&self) {
        let now = Instant::now();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|values, (series, counted, since)| {
            let count = series.0.iter().map(IntCounter::get).fold(0, u64::wrapping_add);
            if count != *counted || Arc::strong_count(series) > 1 {
                (*counted, *since) = (count, now);
            }
            let stays = now.duration_since(*since) < IDLE;
            if !stays {
                for counter in &self.all {
                    // They are there: they were made together with this entry.
                    drop(counter.remove_label_values(values));
                }
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(flags: &'static str) -> ConnectionValues<'static> {
        CONNECTION_NAMES.map(|name| if name == "response_flags" { flags.into() } else { "x".into() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_of_labels_goes_an_hour_after_its_last_connection() {
        let connections = Connections::new(&Registry::new(), 2);
        let open = connections.traffic(&values("-"));
        open.opened();
        open.moved(3, 4);
        connections.traffic(&values("UF")).closed();
        connections.traffic(&values("UH")).closed();
        let count = |flags: &'static str| connections.all[1].with_label_values(&values(flags)).get();
        assert_eq!(count("UF"), 1);
        assert_eq!(connections.all[1].with_label_values(&labels::overflowing_connections()).get(), 1, "no room for UH");
        connections.retire_idle();
        tokio::time::advance(2 * IDLE).await;
        connections.retire_idle();
        assert_eq!(count("UF"), 0, "begins anew");
        open.moved(1, 0);
        assert_eq!(connections.all[3].with_label_values(&values("-")).get(), 4, "a connection is still open");
    }
}
