//! The page of a whole mesh: `sluice dashboard`, and what `sluice demo` serves. It asks every proxy what its own page would show,
//! and only reads: nothing that is asked of it changes a proxy.

mod ask;
mod find;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use http::{Method, Request, StatusCode, header::ALLOW};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::admin::{
    Pages,
    answers::{self, Reply},
    serve_pages,
};

pub(crate) use ask::Target;
pub(crate) use find::{Mesh, demos};

/// Longest wait for one proxy.
const ANSWER: Duration = Duration::from_secs(4);
/// Ports that are tried when none was chosen.
const PORTS: std::ops::RangeInclusive<u16> = 15100..=15109;

/// A page that is bound and not yet served.
pub(crate) struct Dashboard {
    listener: TcpListener,
    mesh: Mesh,
}

impl Dashboard {
    /// Binds the loopback address, at the port that was chosen or at the first that is free of some.
    ///
    /// # Errors
    /// The port is taken.
    pub(crate) async fn bind(mesh: Mesh, port: Option<u16>) -> Result<Self> {
        let bind = async |port: u16| TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await;
        if let Some(port) = port {
            let listener = bind(port).await;
            let listener = listener
                .with_context(|| format!("port {port} of 127.0.0.1 cannot be bound; choose another with --port"))?;
            return Ok(Self { listener, mesh });
        }
        for port in PORTS {
            if let Ok(listener) = bind(port).await {
                return Ok(Self { listener, mesh });
            }
        }
        let listener = bind(0).await.context("no port of 127.0.0.1 can be bound")?;
        Ok(Self { listener, mesh })
    }

    /// Where it is.
    ///
    /// # Errors
    /// The system does not know.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("reading the address of the page")
    }

    /// Serves until it is dropped, or `stop` becomes true.
    pub(crate) async fn serve(self, stop: watch::Receiver<bool>) {
        serve_pages(self.listener, Arc::new(Gathering(self.mesh)), stop).await;
    }
}

/// Answers by asking.
struct Gathering(Mesh);

impl Pages for Gathering {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        if let Some(refused) = answers::refused(&request) {
            return refused;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut reply =
                answers::text(StatusCode::METHOD_NOT_ALLOWED, "the page of a mesh changes nothing: use GET\n");
            reply.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET"));
            return reply;
        }
        let query = request.uri().query().unwrap_or_default();
        match request.uri().path() {
            "/overview" => answers::tagged(
                &request,
                answers::json(&json!({"schema": answers::SCHEMA, "proxies": self.overview().await})),
            ),
            path @ ("/routes" | "/explain") => {
                let reply = self.of_one(path, query).await;
                answers::tagged(&request, reply)
            }
            "/help" => answers::text(StatusCode::OK, HELP),
            path => answers::file(&request, path),
        }
    }
}

const HELP: &str = "\
The page of a mesh; a browser gets a page to look at

GET  /overview  what every proxy tells of itself (JSON)
GET  /routes    the routes of one (JSON): ?proxy=TARGET&q=TEXT
GET  /explain   what would happen to a request at one (JSON): ?proxy=TARGET&port=443&host=a.example&path=/x

Every proxy has more: GET /help at its own admin address.
";

impl Gathering {
    /// What every proxy tells; of those that tell nothing, why.
    async fn overview(&self) -> Vec<Value> {
        let targets = match self.0.targets().await {
            Ok(targets) => targets,
            Err(error) => return vec![json!({"name": "the API server", "unreachable": format!("{error:#}")})],
        };
        let asked = targets.iter().map(|target| async {
            let told = timeout(ANSWER, self.0.ask(target, "/overview")).await;
            let told =
                told.map_err(|_| anyhow::anyhow!("no answer within {} s", ANSWER.as_secs())).and_then(|told| told);
            let mut proxy = match told.and_then(|(status, body)| of_body(status, &body)) {
                Ok(proxy) => proxy,
                Err(error) => json!({"name": target.name, "unreachable": format!("{error:#}")}),
            };
            proxy["target"] = target.id().into();
            proxy
        });
        join_all(asked).await
    }

    /// What one proxy answers.
    async fn of_one(&self, path: &str, query: &str) -> Reply {
        let wanted = answers::parameter(query, "proxy").unwrap_or_default();
        let targets = self.0.targets().await.unwrap_or_default();
        let Some(target) = targets.into_iter().find(|target| target.id() == wanted) else {
            return answers::text(StatusCode::NOT_FOUND, "there is no such proxy; /overview names them\n");
        };
        match timeout(ANSWER, self.0.ask(&target, &format!("{path}?{query}"))).await {
            Ok(Ok((status, body))) if status == StatusCode::OK => answers::raw_json(body),
            Ok(Ok((status, body))) => answers::text(status, body),
            Ok(Err(error)) => answers::text(StatusCode::BAD_GATEWAY, format!("{error:#}\n")),
            Err(_) => answers::text(StatusCode::GATEWAY_TIMEOUT, "the proxy does not answer\n"),
        }
    }
}

/// The proxy that an overview is about.
fn of_body(status: StatusCode, body: &[u8]) -> Result<Value> {
    anyhow::ensure!(status == StatusCode::OK, "it answers {status}; is it as new as this program?");
    let mut told: Value = serde_json::from_slice(body).context("what it answers is no JSON")?;
    let schema = told["schema"].as_u64();
    anyhow::ensure!(
        schema == Some(u64::from(answers::SCHEMA)),
        "it tells by schema {schema:?}, and this program knows {}",
        answers::SCHEMA
    );
    let first = told["proxies"].get_mut(0).map(Value::take).context("it tells of no proxy")?;
    // Whoever runs a pod says what it answers.
    let whole =
        first["name"].is_string() && first["traffic"]["edges"].is_array() && first["traffic"]["bounds"].is_array();
    anyhow::ensure!(whole, "what it tells is no proxy");
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_is_shown() {
        let told = |text: &str| of_body(StatusCode::OK, text.as_bytes()).map_err(|error| error.to_string());
        let whole = r#"{"schema": 1, "proxies": [{"name": "a", "traffic": {"edges": [], "bounds": []}}]}"#;
        assert_eq!(told(whole).unwrap()["name"], "a");
        for strange in [
            r#"["x"]"#,
            r#"[{"name": "a"}]"#,
            r#"[{"name": 7, "traffic": {"edges": [], "bounds": []}}]"#,
            "[[]]",
            "[null]",
        ] {
            let error = told(&format!(r#"{{"schema": 1, "proxies": {strange}}}"#)).unwrap_err();
            assert!(error.contains("no proxy"), "{strange}: {error}");
        }
        assert!(told(r#"{"schema": 9, "proxies": []}"#).unwrap_err().contains("schema Some(9)"));
        assert!(told(r#"{"schema": 1, "proxies": []}"#).unwrap_err().contains("no proxy"));
        assert!(told("oops").unwrap_err().contains("no JSON"));
        assert!(of_body(StatusCode::NOT_FOUND, b"").unwrap_err().to_string().contains("404"));
    }
}
