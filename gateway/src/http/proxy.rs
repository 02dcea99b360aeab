//! pingora's hooks, in the order in which it calls them. Each one calls a function that does one thing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::Digest,
    proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session},
    upstreams::peer::HttpPeer,
};

use super::{
    admit::{self, Admitted},
    attempt,
    exchange::Exchange,
    forward, record, reply,
};
use crate::{drain::Drain, live::Live, net::connection::facts_of, telemetry::Telemetry};

/// Longest wait for the rest of a request body that nobody wants any more.
const REST_OF_BODY: std::time::Duration = std::time::Duration::from_secs(5);

/// The only implementation of pingora's proxy trait.
pub(crate) struct SluiceProxy {
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    drain: Arc<Drain>,
}

impl SluiceProxy {
    /// One per worker.
    pub(crate) fn new(live: Arc<Live>, telemetry: Arc<Telemetry>, drain: Arc<Drain>) -> Self {
        Self { live, telemetry, drain }
    }

    async fn admit(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let admitted = admit::check_head(exchange, session)
            .and_then(|()| admit::normalise_path(session))
            .and_then(|()| match admit::challenge(exchange, session, &self.live.challenges) {
                Some(answer) => Ok(Admitted::Challenge(answer)),
                None => admit::route(exchange, session),
            });
        match admitted {
            Ok(Admitted::Challenge(answer)) => reply::challenge(exchange, session, &answer).await?,
            Ok(Admitted::Forward) => return Ok(false),
            Ok(Admitted::ToHttps) => reply::to_https(exchange, session).await?,
            Ok(Admitted::Answer(rule)) => reply::rule(exchange, session, &rule).await?,
            Err(failure) => reply::failure(exchange, session, failure).await?,
        }
        Ok(true)
    }
}

#[async_trait]
impl ProxyHttp for SluiceProxy {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new(self.live.pin())
    }

    /// None: compression and the like are not what this proxy is for.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
        exchange.facts = facts_of(session.downstream_session.digest()).cloned();
        session.downstream_session.set_total_drain_timeout(Some(REST_OF_BODY));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        self.admit(session, exchange).await
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        attempt::back_off(exchange).await;
        attempt::next_peer(exchange, session).map_err(|failure| {
            exchange.failure = Some(failure);
            Error::new(ErrorType::ConnectNoRoute)
        })
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        digest: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let body_done = session.as_mut().is_body_done();
        attempt::connected(exchange, facts_of(digest), body_done);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        forward::request(exchange, request)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if end_of_stream {
            attempt::start_deadlines(exchange);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS && !exchange.upgrade {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "it switched protocols without being asked");
        }
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        exchange.service_time = exchange.sent.map(|sent| sent.elapsed());
        exchange.grpc_status = record::grpc_status(&response.headers).or(exchange.grpc_status);
        let replayable = !session.as_ref().retry_buffer_truncated();
        if replayable && attempt::wants_other_answer(exchange, response.status.as_u16(), exchange.grpc_status) {
            return Error::e_explain(attempt::RETRY_STATUS, "the route retries this status");
        }
        exchange.failure = None;
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        if self.drain.draining() {
            session.set_keepalive(None);
        }
        exchange.responding = true;
        forward::response(exchange, response)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.grpc_status = record::grpc_status(trailers).or(exchange.grpc_status);
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        attempt::connect_failed(exchange, &mut error);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        attempt::broke(exchange, session, &mut error, reused);
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
        let failure = exchange.failure.take().unwrap_or_else(|| attempt::unexplained(error));
        let status = failure.answer().status;
        // An error here means that the client is gone, which the log line will show.
        let _ = reply::failure(exchange, session, failure).await;
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Exchange) {
        record::finish(&self.telemetry, exchange, session);
        exchange.release_upstream();
    }

    /// The access log has it, with reason.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
