//! Keys from where their issuer keeps them: bounded in time and size, without redirects, and from no address that only this
//! machine can reach.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;

use super::keys::Keys;
use crate::client::{Names, system_anchors, system_anchors_and};
use crate::provider;
use crate::verify::ServerVerifier;

/// A set of keys has some kilobytes.
const LARGEST: usize = 1024 * 1024;

/// Whether an address may be asked: whoever writes objects must not make us ask what keeps secrets.
pub type Allows = fn(IpAddr) -> bool;

/// Asks issuers for their keys.
#[derive(Clone)]
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector<Addresses>>, Empty<Bytes>>,
    allows: Allows,
}

impl Fetcher {
    /// With the system's CAs, and those of `more` (PEM) besides.
    ///
    /// # Errors
    /// There are none.
    pub fn new(allows: Allows, more: Option<&[u8]>) -> Result<Self, crate::Error> {
        let anchors = match more {
            None => system_anchors()?,
            Some(more) => system_anchors_and(more)?,
        };
        let verifier = ServerVerifier::new(Some(anchors), false, Names::Host, Vec::new());
        let config = ClientConfig::builder_with_provider(Arc::clone(provider::provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(crate::Error::Config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let mut tcp = HttpConnector::new_with_resolver(Addresses(allows));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        // Asked every few minutes at most: no connection is kept.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.wrap_connector(tcp));
        Ok(Self { client, allows })
    }

    /// The keys at an address.
    ///
    /// # Errors
    /// In words: there is no answer in time, or it holds no keys.
    pub async fn keys(&self, uri: &str, timeout: Duration) -> Result<Keys, String> {
        let body = self.get(uri, timeout).await?;
        Keys::read(&body).map_err(|fault| format!("what {uri} answers is no set of keys: {fault}"))
    }

    /// Where an issuer says that its keys are (OpenID Connect Discovery 1.0 section 4).
    ///
    /// # Errors
    /// As [`Self::keys`].
    pub async fn discover(&self, issuer: &str, timeout: Duration) -> Result<String, String> {
        let uri = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let body = self.get(&uri, timeout).await?;
        let document: Value = serde_json::from_slice(&body).map_err(|_| format!("{uri} answers with no JSON"))?;
        let keys = document.get("jwks_uri").and_then(Value::as_str);
        let keys = keys.ok_or_else(|| format!("{uri} names no jwks_uri"))?;
        // Whoever can say where keys are can say what they are: no weaker than the way to him.
        if uri.starts_with("https:") && !keys.starts_with("https:") {
            return Err(format!("{uri} names keys that are not at https"));
        }
        Ok(keys.to_owned())
    }

    async fn get(&self, text: &str, timeout: Duration) -> Result<Bytes, String> {
        let uri: Uri = text.parse().map_err(|_| format!("{text} is no address"))?;
        let host = uri.host().ok_or_else(|| format!("{text} is no address"))?;
        if let Ok(address) = host.trim_matches(['[', ']']).parse()
            && !(self.allows)(address)
        {
            return Err(format!("{text} is not asked: {}", refused(address)));
        }
        let request = Request::get(&uri)
            .header(USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| format!("{text}: {error}"))?;
        let exchange = async {
            let answer =
                self.client.request(request).await.map_err(|error| format!("{text}: {}", innermost(&error)))?;
            if !answer.status().is_success() {
                return Err(format!("{text} answers with {}", answer.status()));
            }
            let body = Limited::new(answer.into_body(), LARGEST).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| format!("{text}: {error}"))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{text} gives no answer within {timeout:?}")),
        }
    }
}

fn refused(address: IpAddr) -> String {
    format!("{address} is an address that only this machine, its link or its cloud can reach")
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut inner = error;
    loop {
        let io = inner.downcast_ref::<io::Error>();
        if let Some(error) = io.and_then(crate::Error::of_io) {
            return error.to_string();
        }
        let below = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn StdError + 'static));
        match below.or_else(|| inner.source()) {
            Some(next) => inner = next,
            None => return inner.to_string(),
        }
    }
}

/// Names to those of their addresses that may be asked.
#[derive(Clone)]
struct Addresses(Allows);

type Lookup = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

impl tower_service::Service<Name> for Addresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Lookup;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Lookup {
        let allows = self.0;
        Box::pin(async move {
            let all: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = all.iter().copied().filter(|it| allows(it.ip())).collect();
            match (all.first(), allowed.is_empty()) {
                (Some(first), true) => Err(io::Error::other(refused(first.ip()))),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}
