//! What is known of a connection. It travels with the stream and is read by every request on it.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
};

use http::HeaderValue;
use routing::snapshot::ClientAuth;

use super::{
    deadline::Deadline,
    framing::{ChunkedBody, HeadScan, Malformed},
};

/// Facts of one connection, downstream or upstream.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The socket, for as long as the connection lives.
    pub(crate) fd: RawFd,
    /// The other side.
    pub(crate) remote: SocketAddr,
    /// Our side.
    pub(crate) local: SocketAddr,
    /// The other side's IP address as a header value, made once.
    pub(crate) remote_ip: HeaderValue,
    /// Through which door it came.
    pub(crate) arrival: Arrival,
    /// `None` on plain text.
    pub(crate) tls: Option<TlsFacts>,
    /// Downstream: until the request head is complete. Upstream: until the response is.
    pub(crate) deadline: Deadline,
    /// Requests served on it.
    pub(crate) requests: AtomicU64,
    /// Upstream: a request is on it.
    pub(crate) busy: AtomicBool,
    /// Downstream HTTP/2: what is written waits, because more is coming. See `http::serve`.
    pub(crate) corked: AtomicBool,
    /// Strictness of HTTP/1.1 framing on a downstream connection.
    pub(crate) framing: Mutex<Framing>,
}

/// What is being read on a downstream HTTP/1.1 connection.
#[derive(Debug, Default)]
pub(crate) enum Framing {
    /// Nothing that needs a look.
    #[default]
    Off,
    /// A request head.
    Head(HeadScan),
    /// A chunked body.
    Chunked(ChunkedBody),
}

/// Through which door a connection came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    /// A gateway's listener, as the Gateway names it.
    Gateway {
        /// Istio `Server.bind`.
        bind: Option<IpAddr>,
        /// Istio `Server.port.number`.
        port: u16,
    },
    /// A sidecar's inbound side.
    Inbound {
        /// The workload's port.
        port: u16,
        /// Where the application listens.
        application: SocketAddr,
    },
    /// A sidecar's outbound side.
    Outbound {
        /// Where the application meant to go, when its connection was captured.
        original: Option<SocketAddr>,
    },
    /// We made it.
    Upstream,
}

/// What TLS said.
#[derive(Debug, Default)]
pub(crate) struct TlsFacts {
    /// SNI, lower-case; empty = none.
    pub(crate) sni: Arc<str>,
    /// SPIFFE id of the other side; empty = none.
    pub(crate) peer: Arc<str>,
    /// Our own SPIFFE id on this connection; empty = none.
    pub(crate) own: Arc<str>,
    /// What our side demanded of the client, and got.
    pub(crate) demanded: Option<ClientAuth>,
    /// Our element of `x-forwarded-client-cert`; `None` when the client showed no certificate.
    pub(crate) client_certificate: Option<HeaderValue>,
}

impl Facts {
    /// Facts of a fresh connection.
    pub(crate) fn new(fd: RawFd, remote: SocketAddr, local: SocketAddr, arrival: Arrival) -> Self {
        let remote_ip = HeaderValue::try_from(remote.ip().to_canonical().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self {
            fd,
            remote,
            local,
            remote_ip,
            arrival,
            tls: None,
            deadline: Deadline::default(),
            requests: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            corked: AtomicBool::new(false),
            framing: Mutex::default(),
        }
    }

    /// The same facts for one HTTP/2 stream, whose deadline is its own.
    pub(crate) fn of_stream(&self) -> Self {
        let tls = |tls: &TlsFacts| TlsFacts {
            sni: Arc::clone(&tls.sni),
            peer: Arc::clone(&tls.peer),
            own: Arc::clone(&tls.own),
            demanded: None,
            client_certificate: None,
        };
        Self {
            fd: self.fd,
            remote: self.remote,
            local: self.local,
            remote_ip: self.remote_ip.clone(),
            arrival: self.arrival,
            tls: self.tls.as_ref().map(tls),
            deadline: Deadline::default(),
            requests: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            corked: AtomicBool::new(false),
            framing: Mutex::default(),
        }
    }

    /// The framing state; only the connection and its one request touch it, never at the same time.
    pub(crate) fn framing(&self) -> MutexGuard<'_, Framing> {
        self.framing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head is read. A chunked body is watched from its first byte, which may have come with the head.
    ///
    /// # Errors
    /// [`Malformed`]: what has come already breaks the rules.
    pub(crate) fn end_head(&self, chunked: bool) -> Result<(), Malformed> {
        self.deadline.disarm();
        let mut framing = self.framing();
        let behind = match &mut *framing {
            Framing::Head(scan) => scan.take_behind(),
            Framing::Off | Framing::Chunked(_) => Vec::new(),
        };
        *framing = Framing::Off;
        if chunked {
            let mut body = ChunkedBody::default();
            body.feed(&behind)?;
            *framing = Framing::Chunked(body);
        }
        Ok(())
    }

    /// SPIFFE id of the other side; empty = none.
    pub(crate) fn peer(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.peer)
    }

    /// Our own SPIFFE id on this connection; empty = none.
    pub(crate) fn own(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.own)
    }

    /// SNI; empty = none.
    pub(crate) fn sni(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.sni)
    }
}
