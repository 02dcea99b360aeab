//! An API server as plain HTTP shows it.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    client::{Client, Connection, Failure, request, with_body},
    eventually::SOON,
    reply::Reply,
};

/// A client with a bearer token.
#[derive(Clone)]
pub struct Rest {
    client: Client,
    url: String,
    token: String,
}

impl Rest {
    /// `url` is the scheme, host and port that requests are written with.
    pub fn new(client: Client, url: &str, token: &str) -> Self {
        Self { client, url: url.to_owned(), token: token.to_owned() }
    }

    /// The connection's side of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Scheme, host and port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request with JSON (or, for patches, what `media` says).
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn send(&self, method: &str, path: &str, (media, body): (&str, &Value)) -> Result<Reply, Failure> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.client.send(self.request(method, path, media, body)).await
    }

    /// As [`Rest::send`]; panics without an answer.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.patch_as(method, path, "application/json", body).await
    }

    /// With this Content-Type.
    pub async fn patch_as(&self, method: &str, path: &str, media: &str, body: &Value) -> Reply {
        let sent = self.send(method, path, (media, body)).await;
        sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &Value::Null).await
    }

    /// Opens a watch; panics when the server does not answer 200.
    pub async fn watch(&self, path: &str) -> Events {
        let mut connection = self.client.connect("localhost").await.expect("the API server can be reached");
        let opened = connection.open(self.request("GET", path, "application/json", Bytes::new())).await;
        let response = opened.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert_eq!(response.status(), 200, "GET {path}");
        Events { body: response.into_body(), read: Vec::new(), _connection: connection }
    }

    fn request(&self, method: &str, path: &str, media: &str, body: Bytes) -> Request<Full<Bytes>> {
        let head = request(method, &format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", media)
            .header("accept", "application/json")
            .header("user-agent", "story/1");
        with_body(head, body)
    }
}

/// The events of an open watch.
pub struct Events {
    body: Incoming,
    read: Vec<u8>,
    _connection: Connection,
}

impl Events {
    /// The next event; `None` = the stream ended. Panics when neither happens soon.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event is JSON"));
            }
            let frame = timeout(SOON, self.body.frame()).await.expect("an event comes soon")?;
            self.read.extend_from_slice(&frame.ok()?.into_data().unwrap_or_default());
        }
    }

    /// Type and name of the next event.
    pub async fn told(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
