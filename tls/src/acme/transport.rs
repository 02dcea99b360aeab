//! HTTPS to a CA: bounded in time and size, without redirects, and with error answers told as what they are.

use std::cell::Cell;
use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri, response};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use super::error::{BAD_NONCE, Error, Problem};
use crate::provider;
use crate::verify::ServerVerifier;

/// One CA's connections; cheap to clone.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    directory: Uri,
}

impl Transport {
    pub(super) fn new(directory: Uri, verifier: ServerVerifier) -> Result<Self, Error> {
        let config = ClientConfig::builder_with_provider(Arc::clone(provider::provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| Error::Roots(Box::new(crate::Error::Config(error))))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        // HTTP/1.1 only: a request that ran out of time takes its connection with it, a dead HTTP/2 one would be kept.
        let https = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(https.wrap_connector(tcp));
        Ok(Self { client, directory })
    }

    async fn exchange(&self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        name_ourselves(request.headers_mut());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let host = host(&uri);
        let (mut parts, body) = match tokio::time::timeout(DEADLINE, self.send(request, &host)).await {
            Ok(answer) => answer?,
            Err(_) => {
                let why = format!("no answer within {} seconds", DEADLINE.as_secs());
                return Err(Error::Unreachable { host, why });
            }
        };
        let wait = retry_after(&parts.headers, SystemTime::now());
        state_wait(&mut parts.headers, &method, wait);
        let _ = WAIT.try_with(|cell| cell.set(wait));
        if parts.status.is_success() {
            if method == Method::HEAD {
                parts.status = StatusCode::OK; // newNonce may answer 204 (RFC 8555 section 7.2)
            }
            if uri == self.directory {
                check_directory(&body).map_err(|what| Error::Protocol { host, what })?;
            }
            return Ok(BytesResponse { parts, body: Box::new(body) });
        }
        refused(parts, &body, host, wait)
    }

    async fn send(&self, request: Request<BodyWrapper<Bytes>>, host: &str) -> Result<(response::Parts, Bytes), Error> {
        let answer = self.client.request(request).await.map_err(|error| unreachable(&error, host))?;
        let (parts, body) = answer.into_parts();
        match Limited::new(body, LARGEST).collect().await {
            Ok(body) => Ok((parts, body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let what = format!("its answer is larger than {LARGEST} bytes");
                Err(Error::Protocol { host: host.to_owned(), what })
            }
            Err(error) => Err(unreachable(&*error, host)),
        }
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let transport = self.clone();
        Box::pin(async move {
            transport.exchange(request).await.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}

/// The attempts at one call: it is made again while its answer is that a nonce was rejected, which means that nothing
/// happened. instant-acme repeats a request three times by itself.
pub(super) struct Attempts<'a> {
    host: &'a str,
    left: u32,
}

impl<'a> Attempts<'a> {
    /// At a call to the CA on this host.
    pub(super) fn at(host: &'a str) -> Self {
        Self { host, left: ATTEMPTS }
    }

    /// Makes the call: its result and what the last answer asked to wait; `None` when it is to be made again.
    pub(super) async fn make<T>(
        &mut self,
        call: impl Future<Output = Result<T, instant_acme::Error>>,
    ) -> Result<Option<(T, Option<Duration>)>, Error> {
        let noted = WAIT.scope(Cell::new(None), async { (call.await, WAIT.with(Cell::get)) });
        let error = match noted.await {
            (Ok(value), wait) => return Ok(Some((value, wait))),
            (Err(error), wait) => Error::from_acme(error, self.host, wait),
        };
        self.left -= 1;
        if self.left > 0 && error.problem().is_some_and(|problem| problem.kind == BAD_NONCE) {
            return Ok(None);
        }
        Err(error)
    }
}

tokio::task_local! {
    /// What the last answer of this call asked to wait: instant-acme does not hand it on.
    static WAIT: Cell<Option<Duration>>;
}

/// For one request and its answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// For all addresses of the CA together.
const CONNECT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
const LARGEST: usize = 1024 * 1024;
/// Of three requests each.
const ATTEMPTS: u32 = 16;
/// Longer waits are an error of the CA, and would overflow times.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 86_400);
/// When a CA does not say how long its renewal information is good for (RFC 9773 section 4.3).
const RENEWAL_WAIT: Duration = Duration::from_secs(6 * 3600);

/// Host and port of a URL, as it stands there.
pub(super) fn host(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, |authority| authority.as_str().to_owned())
}

fn name_ourselves(headers: &mut HeaderMap) {
    let library = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = format!("sluice/{} {library}", env!("CARGO_PKG_VERSION"));
    if let Ok(value) = HeaderValue::from_str(name.trim_end()) {
        headers.insert(USER_AGENT, value);
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3); `None` when missing or malformed.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if text.is_empty() {
        return None;
    }
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// What instant-acme adds to the clock must be a sane number, and renewal information must have one.
fn state_wait(headers: &mut HeaderMap, method: &Method, wait: Option<Duration>) {
    let wait = if method == Method::GET { wait.or(Some(RENEWAL_WAIT)) } else { wait };
    match wait {
        Some(wait) => headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs())),
        None => headers.remove(RETRY_AFTER),
    };
}

/// instant-acme asks these URLs without looking whether they are some.
fn check_directory(body: &[u8]) -> Result<(), String> {
    let directory: Value = serde_json::from_slice(body).map_err(|_| "its directory is not JSON".to_owned())?;
    for name in ["newNonce", "newAccount", "newOrder"] {
        let url = directory[name].as_str().ok_or_else(|| format!("its directory has no {name}"))?;
        if !is_https(url) {
            return Err(format!("{name} in its directory is not an https URL"));
        }
    }
    Ok(())
}

/// An https URL with a host.
pub(super) fn is_https(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|it| !it.is_empty()))
}

/// An answer that is no success: an error of ours, except for a rejected nonce, which instant-acme repeats by itself.
fn refused(parts: response::Parts, body: &[u8], host: String, wait: Option<Duration>) -> Result<BytesResponse, Error> {
    if parts.status.is_redirection() {
        let to = parts.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
        let what = format!("it redirects to {}, which is not followed", super::error::clean(to));
        return Err(Error::Protocol { host, what });
    }
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let problem = Problem::read(body, parts.status, content_type);
    if problem.kind == BAD_NONCE && parts.status == StatusCode::BAD_REQUEST {
        let document = json!({"type": format!("urn:ietf:params:acme:error:{BAD_NONCE}"), "detail": problem.detail});
        return Ok(BytesResponse { parts, body: Box::new(Bytes::from(document.to_string())) });
    }
    Err(Error::Refused { host, problem, retry_after: wait })
}

/// Why there is no answer: the innermost cause, or what is wrong with the CA's certificate.
fn unreachable(error: &(dyn StdError + 'static), host: &str) -> Error {
    let host = host.to_owned();
    let mut innermost = error;
    loop {
        let io = innermost.downcast_ref::<io::Error>();
        match io.and_then(crate::Error::of_io) {
            Some(error @ crate::Error::BadPeerCertificate(_)) => {
                let mut why = error.to_string();
                if error.reason() == "UnknownCa" {
                    why.push_str("; the issuer's CA bundle has to hold the root it chains to");
                }
                return Error::Untrusted { host, why };
            }
            Some(error) => return Error::Unreachable { host, why: error.to_string() },
            None => {}
        }
        // `source` of an `io::Error` leaves out the error it was made from.
        let inner = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn StdError + 'static));
        match inner.or_else(|| innermost.source()) {
            Some(next) => innermost = next,
            None => return Error::Unreachable { host, why: super::error::clean(&innermost.to_string()) },
        }
    }
}
