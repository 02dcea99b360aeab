//! One HTTP/2 stream to an upstream, as pingora's proxy drives it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest, UniqueIDType,
        http::{
            custom::{BodyWrite, CustomMessageWrite, client::Session},
            v2::{client::Http2Session, write_body},
        },
        l4::socket::SocketAddr,
        raw_connect::ProxyDigest,
    },
};
use tokio::time::timeout_at;

use crate::net::facts::Facts;

/// See the module.
pub(crate) struct H2Session {
    stream: Http2Session,
    facts: Arc<Facts>,
    /// Facts of this stream alone: its deadline is not its neighbours'.
    digest: Digest,
    own: Arc<Facts>,
    ended: bool,
}

impl H2Session {
    /// A stream of a connection with these facts.
    pub(crate) fn new(stream: Http2Session, facts: Arc<Facts>) -> Self {
        let own = Arc::new(facts.of_stream());
        let response = Box::new(ResponseHeader::build(200, Some(0)).expect("200 is a status"));
        let digest = Digest {
            proxy_digest: Some(Arc::new(ProxyDigest::new(response, Some(Box::new(Arc::clone(&own)))))),
            ..Digest::default()
        };
        Self { stream, facts, digest, own, ended: false }
    }

    /// Waits for `work`, not longer than the request's deadline.
    async fn within<T>(own: &Facts, work: impl Future<Output = Result<T>>) -> Result<T> {
        match own.deadline.get() {
            None => work.await,
            Some(at) => timeout_at(at, work)
                .await
                .unwrap_or_else(|_| Err(Error::explain(ErrorType::ReadTimedout, "the request's deadline passed"))),
        }
    }
}

/// What must not be forwarded on HTTP/2 (RFC 9113 section 8.2.2); `te` may only say `trailers`.
fn normalise(request: &mut RequestHeader) -> Result<()> {
    let nominated: Vec<String> = request
        .headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "te")
        .collect();
    for name in nominated {
        request.remove_header(name.as_str());
    }
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"] {
        request.remove_header(name);
    }
    let trailers = request
        .headers
        .get_all(http::header::TE)
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.split(',').any(|one| one.trim() == "trailers")));
    request.remove_header(&http::header::TE);
    if trailers {
        request.insert_header(http::header::TE, "trailers")?;
    }
    set_target(request)?;
    request.set_version(http::Version::HTTP_2);
    Ok(())
}

/// HTTP/2 names scheme, authority and path apart; an HTTP/1.1 head has the authority in Host.
fn set_target(request: &mut RequestHeader) -> Result<()> {
    let scheme = request.headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let scheme = if scheme == Some("https") { "https" } else { "http" };
    let authority = match (request.headers.get(http::header::HOST), request.uri.authority()) {
        (Some(host), _) => host.as_bytes().to_vec(),
        (None, Some(authority)) => authority.as_str().as_bytes().to_vec(),
        (None, None) => return Err(Error::explain(ErrorType::InvalidHTTPHeader, "the request has no host")),
    };
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let uri = http::Uri::builder().scheme(scheme).authority(authority.as_slice()).path_and_query(path).build();
    request.set_uri(uri.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "the host is malformed", error))?);
    request.remove_header(&http::header::HOST);
    Ok(())
}

#[async_trait]
impl Session for H2Session {
    async fn write_request_header(&mut self, mut request: Box<RequestHeader>, end: bool) -> Result<()> {
        normalise(&mut request)?;
        self.ended = end;
        self.stream.write_request_header(request, end)
    }

    async fn write_request_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.ended |= end;
        self.stream.write_request_body(data, end).await
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        self.ended = true;
        self.stream.finish_request_body()
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.stream.read_timeout = timeout;
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.stream.write_timeout = timeout;
    }

    async fn read_response_header(&mut self) -> Result<()> {
        Self::within(&self.own, self.stream.read_response_header()).await
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        Self::within(&self.own, self.stream.read_response_body()).await
    }

    fn response_finished(&self) -> bool {
        self.stream.response_finished()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.stream.shutdown();
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.stream.response_header()
    }

    fn was_upgraded(&self) -> bool {
        false
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Self::within(&self.own, self.stream.read_trailers()).await
    }

    fn fd(&self) -> UniqueIDType {
        self.facts.fd
    }

    async fn check_response_end_or_error(&mut self, _: bool) -> Result<bool> {
        self.stream.check_response_end_or_error()
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        let stream = self.stream.take_request_body_writer();
        Some(Box::new(Body { stream, ended: self.ended }))
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(futures::stream::empty()))
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}

/// The request body's way out, held apart so that both directions can move at once.
struct Body {
    stream: Option<h2::SendStream<Bytes>>,
    ended: bool,
}

impl Body {
    fn stream(&mut self) -> Result<&mut h2::SendStream<Bytes>> {
        self.stream.as_mut().ok_or_else(|| Error::explain(ErrorType::WriteError, "the request head was not sent"))
    }
}

#[async_trait]
impl BodyWrite for Body {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        if self.ended {
            data.clear();
            return Ok(());
        }
        let all = data.split_to(data.len());
        write_body(self.stream()?, all, false, None).await
    }

    async fn finish(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        write_body(self.stream()?, Bytes::new(), true, None).await
    }

    /// The body was not finished: tell the endpoint, so that it does not wait for the rest.
    async fn cleanup(&mut self) -> Result<()> {
        if !self.ended {
            self.ended = true;
            self.stream()?.send_reset(h2::Reason::CANCEL);
        }
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}
