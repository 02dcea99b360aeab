//! Bytes before HTTP: listening, the first look at a connection, and the stream type that everything else reads from.

pub(crate) mod accept;
pub(crate) mod coalescing;
pub(crate) mod connection;
pub(crate) mod course;
pub(crate) mod deadline;
pub(crate) mod everywhere;
pub(crate) mod exchange;
pub(crate) mod facts;
pub(crate) mod holder;
mod inbound;
pub(crate) mod listen;
pub(crate) mod original_dst;
mod outbound;
pub(crate) mod own_ports;
mod plain_http;
mod proxy_header;
pub(crate) mod shelf;
pub(crate) mod sniff;
pub(crate) mod standing;
pub(crate) mod told;
mod unserved;
