//! Which page answers which request.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::{Admin, Figures, Readiness};

/// Which pages a server has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// `/healthz/ready`.
    Status,
    /// `/stats/prometheus`.
    Stats,
    /// All pages.
    Admin,
}

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = "\
Sluice admin pages

GET  /ready             whether traffic should be sent here
GET  /config_dump       what is installed, and what was wrong with it (JSON)
GET  /clusters          every cluster with its endpoints
GET  /certs             certificates and when they end (JSON)
GET  /stats/prometheus  metrics
GET  /logging           the log filter
POST /logging?level=L   changes it: error, warn, info, debug, trace, or a list such as info,sluice::net=debug
POST /drain             stop accepting, finish what is open
POST /quitquitquit      drain and end
";

/// Answers a request. Request bodies are not read.
pub(crate) fn answer<B>(kind: Kind, request: &Request<B>, admin: &Admin) -> Reply {
    let path = request.uri().path();
    let known = match kind {
        Kind::Status => matches!(path, "/healthz/ready"),
        Kind::Stats => matches!(path, "/stats/prometheus" | "/metrics"),
        Kind::Admin => true,
    };
    if !known {
        return not_found(kind);
    }
    let changes = match path {
        "/drain" | "/quitquitquit" => true,
        "/logging" => request.uri().query().is_some(),
        _ => false,
    };
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if changes != (request.method() == Method::POST) || !(changes || reading) {
        let right = if changes { "POST" } else { "GET" };
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {right} for {path}\n"));
        reply.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(right));
        return reply;
    }
    page(kind, request, admin)
}

fn page<B>(kind: Kind, request: &Request<B>, admin: &Admin) -> Reply {
    match request.uri().path() {
        "/healthz/ready" | "/ready" => match admin.view.readiness() {
            Readiness::Ready => text(StatusCode::OK, "ready\n"),
            Readiness::ReadyBut(what) => text(StatusCode::OK, format!("ready, but {what}\n")),
            Readiness::NotReady(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/stats/prometheus" | "/metrics" => reply(StatusCode::OK, PROMETHEUS, figures(admin)),
        "/" => text(StatusCode::OK, INDEX),
        "/config_dump" => json(&admin.view.config_dump()),
        "/certs" => json(&admin.view.certificates()),
        "/clusters" => text(StatusCode::OK, admin.view.clusters()),
        "/logging" => logging(request.uri().query(), admin),
        "/drain" => {
            admin.view.drain();
            text(StatusCode::OK, "draining\n")
        }
        "/quitquitquit" => {
            admin.view.quit();
            text(StatusCode::OK, "draining, then ending\n")
        }
        _ => not_found(kind),
    }
}

pub(crate) fn figures(admin: &Admin) -> String {
    match &admin.figures {
        Figures::Proxy(metrics) => {
            metrics.set_limits(admin.view.limits());
            metrics.set_rate_limits(admin.view.rate_limits());
            metrics.set_ejected(admin.view.ejected());
            metrics.render()
        }
        Figures::Ca(metrics) => metrics.render(),
    }
}

fn logging(query: Option<&str>, admin: &Admin) -> Reply {
    let Some(log) = &admin.log else {
        return text(StatusCode::NOT_IMPLEMENTED, "the log filter cannot be changed in this process\n");
    };
    let Some(query) = query else {
        return text(StatusCode::OK, format!("{}\n", log.current()));
    };
    let level = query.split('&').find_map(|pair| pair.strip_prefix("level="));
    let decoded = level.map(|it| percent_encoding::percent_decode_str(it).decode_utf8_lossy());
    match decoded.ok_or_else(|| "write ?level=, as in /logging?level=debug".to_owned()).and_then(|it| log.set(&it)) {
        Ok(()) => text(StatusCode::OK, format!("{}\n", log.current())),
        Err(sentence) => text(StatusCode::BAD_REQUEST, format!("{sentence}\n")),
    }
}

fn not_found(kind: Kind) -> Reply {
    let there = match kind {
        Kind::Status => "GET /healthz/ready",
        Kind::Stats => "GET /stats/prometheus",
        Kind::Admin => "GET / for the list of pages",
    };
    text(StatusCode::NOT_FOUND, format!("there is no such page; try {there}\n"))
}

fn json(value: &serde_json::Value) -> Reply {
    reply(StatusCode::OK, JSON, format!("{value:#}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, TEXT, body)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    reply.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    reply
}
