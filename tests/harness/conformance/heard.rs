//! What a client heard in a step.

use std::time::Duration;

use http::HeaderMap;
use tls::identity::PeerIdentity;

use crate::{grpc::Outcome, message::values, reply::Reply};

/// One answer, or why there was none.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) trailers: HeaderMap,
    pub(super) grpc: Option<u16>,
    pub(super) grpc_message: String,
    /// Why there is no answer.
    pub(super) failure: Option<String>,
    pub(super) session: Session,
    pub(super) took: Duration,
}

/// What the handshake told.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// DNS and URI names of the server's certificate.
    pub(super) certificate: Vec<String>,
    pub(super) alpn: Vec<String>,
}

impl Session {
    /// Of a handshake that is done.
    pub(super) fn of(stream: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>) -> Self {
        let (_, session) = stream.get_ref();
        let identity = session.peer_certificates().and_then(|chain| PeerIdentity::from_der(chain.first()?).ok());
        let certificate = identity.map(|identity| {
            let names = identity.dns_sans.iter().map(ToString::to_string);
            names.chain(identity.uri_sans.iter().map(ToString::to_string)).collect()
        });
        let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Self { certificate: certificate.unwrap_or_default(), alpn: alpn.into_iter().collect() }
    }
}

impl Heard {
    /// No answer.
    pub(super) fn nothing(why: impl ToString) -> Self {
        Self { failure: Some(why.to_string()), ..Self::default() }
    }

    /// What a comparison with other answers of the same step shows.
    pub(super) fn line(&self) -> String {
        match &self.failure {
            Some(failure) => format!("no answer: {failure}"),
            None => format!("status {}, body `{}`", self.status, self.body.chars().take(200).collect::<String>()),
        }
    }

    /// The values of a header.
    pub(super) fn header(&self, name: &str) -> Vec<String> {
        values(&self.headers, name)
    }
}

impl From<Reply> for Heard {
    fn from(reply: Reply) -> Self {
        let body = reply.text();
        let said = |name: &str| values(&reply.trailers, name).into_iter().chain(values(&reply.headers, name)).next();
        Self {
            status: reply.code(),
            body,
            grpc: said("grpc-status").and_then(|status| status.parse().ok()),
            grpc_message: said("grpc-message").unwrap_or_default(),
            headers: reply.headers,
            trailers: reply.trailers,
            ..Self::default()
        }
    }
}

impl From<Outcome> for Heard {
    fn from(outcome: Outcome) -> Self {
        Self {
            status: outcome.http_status,
            body: outcome.messages.iter().map(|message| String::from_utf8_lossy(message)).collect(),
            grpc: outcome.status,
            grpc_message: outcome.message,
            headers: outcome.headers,
            trailers: outcome.trailers,
            ..Self::default()
        }
    }
}
