//! Istio's standard metrics of connections that carry no HTTP. They count while a connection lives, as its bytes pass.

use std::sync::Arc;

use super::{
    labels::CONNECTION_NAMES,
    metrics::{Definition, row},
    standard::{self, Series},
};

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

/// Where one connection is counted: a series for each group of metrics with the same labels.
#[derive(Clone, Debug)]
pub(crate) struct Traffic(pub(super) Arc<[Arc<Series>]>);

impl Traffic {
    /// It begins.
    pub(crate) fn opened(&self) {
        self.add(standard::OPENED, 1);
    }

    /// It is over.
    pub(crate) fn closed(&self) {
        self.add(standard::CLOSED, 1);
    }

    /// So many bytes came from the client, and went to it.
    pub(crate) fn moved(&self, received: u64, sent: u64) {
        self.add(standard::SENT, sent);
        self.add(standard::RECEIVED, received);
    }

    fn add(&self, metric: usize, count: u64) {
        self.0.iter().for_each(|series| series.add(metric, count));
    }
}
