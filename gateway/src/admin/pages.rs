//! Which page answers which request.

use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::json;

use super::{
    Admin, Figures, Readiness,
    answers::{Reply, file, json, parameter, refused, refused_stranger, reply, short_json, tagged, text},
    page,
    schema::{Answer, overview::Overview, process::Version},
    tell::{self, asked::question},
};
use crate::telemetry::{exposition::Format, told::Family};

mod logging;

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

const INDEX: &str = "\
Sluice admin pages; a browser gets a page to look at

GET  /ready             whether traffic should be sent here
GET  /server_info       version, state, uptime, memory (JSON)
GET  /version           version of the binary (JSON)
GET  /memory            memory and CPU time (JSON)
GET  /config_dump       what is installed, and what was wrong with it (JSON)
GET  /listeners         where connections are taken; ?format=json
GET  /routes            which request goes where, with counts (JSON); ?q=TEXT: those with this text, ?from=N: from this on
GET  /problems          what is wrong with the configuration (JSON); ?q=TEXT, ?from=N
GET  /clusters          every cluster with its endpoints; ?format=json
GET  /certs             certificates and when they end (JSON)
GET  /overview          what the page shows (JSON)
GET  /explain           what would happen to a request (JSON): ?port=443&host=a.example&path=/x&method=GET&header=NAME:VALUE,
                        side=gateway|inbound|outbound, peer=SPIFFE-ID, client=IP, address=IP,
                        claims=JSON
GET  /stats             metrics; ?format=json
GET  /stats/prometheus  metrics
GET  /logging           the log filter; ?format=json: the level of every component
POST /logging?level=L   changes it: error, warn, info, debug, trace, or a list such as info,sluice::net=debug
POST /logging?NAME=L    changes one component: http, upstream, connection, tls, config...; ?paths=NAME:L,NAME:L several
POST /drain             stop accepting, finish what is open
POST /quitquitquit      drain and end
";

/// Answers a request. Request bodies are not read.
pub(crate) fn answer<B>(kind: Kind, request: &Request<B>, admin: &Admin) -> Reply {
    if kind == Kind::Admin
        && let Some(refused) = refused(request).or_else(|| refused_stranger(request, admin.peers))
    {
        return refused;
    }
    let path = request.uri().path();
    let known = match kind {
        Kind::Status => matches!(path, "/healthz/ready"),
        // What Kiali asks a control plane for, beside its metrics.
        Kind::Stats => match &admin.figures {
            Figures::Ca(_) => matches!(path, "/stats/prometheus" | "/metrics" | "/version" | "/debug/syncz"),
            Figures::Proxy(_) => matches!(path, "/stats/prometheus" | "/metrics"),
        },
        Kind::Admin => true,
    };
    if !known {
        return not_found(kind);
    }
    let changes = match path {
        "/drain" | "/quitquitquit" => true,
        "/logging" => !matches!(request.uri().query(), None | Some("" | "format=json")),
        _ => false,
    };
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if changes != (request.method() == Method::POST) || !(changes || reading) {
        let right = if changes { "POST" } else { "GET" };
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {right} for {path}\n"));
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(right));
        return reply;
    }
    page(kind, request, admin)
}

fn page<B>(kind: Kind, request: &Request<B>, admin: &Admin) -> Reply {
    let view = &admin.view;
    let query = request.uri().query().unwrap_or_default();
    let wants_json = parameter(query, "format").is_some_and(|format| format == "json");
    match request.uri().path() {
        "/healthz/ready" | "/ready" => match view.readiness() {
            Readiness::Ready => text(StatusCode::OK, "ready\n"),
            Readiness::ReadyBut(what) => text(StatusCode::OK, format!("ready, but {what}\n")),
            Readiness::NotReady(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/stats" if wants_json => json(&Answer::new(json!({"stats": families(admin)}))),
        "/stats/prometheus" | "/metrics" | "/stats" => {
            let format = Format::wanted(request.headers());
            reply(StatusCode::OK, format.content_type(), figures(admin, format))
        }
        // Proxies read the configuration themselves: none is synchronised.
        "/debug/syncz" if kind == Kind::Stats => json(&json!([])),
        "/" if !page::is_browser(request.headers()) => text(StatusCode::OK, INDEX),
        "/help" => text(StatusCode::OK, INDEX),
        "/config_dump" => json(&view.config_dump()),
        "/certs" => json(&view.certificates()),
        "/clusters" if wants_json => json(&Answer::new(view.cluster_list())),
        "/clusters" => text(StatusCode::OK, view.clusters()),
        "/listeners" if wants_json => json(&Answer::new(view.listeners())),
        "/listeners" => text(StatusCode::OK, listeners(admin)),
        "/server_info" => json(&Answer::new(tell::server_info(&view.readiness()))),
        "/version" => json(&Answer::new(Version { version: env!("CARGO_PKG_VERSION") })),
        "/memory" => json(&Answer::new(tell::memory())),
        "/overview" => tagged(request, short_json(&Answer::new(overview(admin)))),
        "/routes" => {
            let (wanted, from) = part(query);
            tagged(request, json(&Answer::new(view.routes(&wanted, from))))
        }
        "/problems" => {
            let (wanted, from) = part(query);
            tagged(request, json(&Answer::new(view.problems(&wanted, from))))
        }
        "/explain" => explain(query, admin),
        "/logging" => logging::answer(request.uri().query(), admin.log.as_ref()),
        "/drain" => {
            view.drain();
            text(StatusCode::OK, "draining\n")
        }
        "/quitquitquit" => {
            view.quit();
            text(StatusCode::OK, "draining, then ending\n")
        }
        path if kind == Kind::Admin => file(request, path),
        _ => not_found(kind),
    }
}

/// What is searched for, and how much of it is known already.
fn part(query: &str) -> (String, usize) {
    let from = parameter(query, "from").and_then(|from| from.parse().ok());
    (parameter(query, "q").unwrap_or_default(), from.unwrap_or_default())
}

/// What the page shows of this process.
fn overview(admin: &Admin) -> Overview {
    let mut proxy = admin.view.summary();
    let families = families(admin);
    tell::count(&mut proxy, &families);
    if let Figures::Ca(metrics) = &admin.figures {
        proxy.control = Some(tell::control(&families, &metrics.holders));
    }
    Overview { proxies: vec![proxy], left_out: 0, notes: Vec::new() }
}

fn families(admin: &Admin) -> Vec<Family> {
    match &admin.figures {
        Figures::Proxy(metrics) => {
            look(admin);
            metrics.told()
        }
        Figures::Ca(metrics) => metrics.told(),
    }
}

/// Takes over what is counted elsewhere.
fn look(admin: &Admin) {
    if let Figures::Proxy(metrics) = &admin.figures {
        metrics.set_limits(admin.view.limits());
        metrics.set_rate_limits(admin.view.rate_limits());
        metrics.set_ejected(admin.view.ejected());
    }
}

pub(crate) fn figures(admin: &Admin, format: Format) -> String {
    look(admin);
    match &admin.figures {
        Figures::Proxy(metrics) => metrics.render(format),
        Figures::Ca(metrics) => metrics.render(format),
    }
}

fn listeners(admin: &Admin) -> String {
    let told = admin.view.listeners();
    let line = |it: &super::schema::listeners::Listener| {
        let bound = it.bound.as_deref().unwrap_or("-");
        format!("{}::{} bound={bound} tls={} protocol={} hosts={}\n", it.side, it.port, it.tls, it.protocol, it.hosts)
    };
    let failures = told.failures.iter().map(|why| format!("not bound: {why}\n"));
    told.listeners.iter().map(line).chain(failures).collect()
}

fn explain(query: &str, admin: &Admin) -> Reply {
    match question(query).map(|question| admin.view.explain(&question)) {
        Ok(Some(explanation)) => json(&Answer::new(explanation)),
        Ok(None) => text(StatusCode::NOT_FOUND, "this process serves no requests\n"),
        Err(sentence) => text(StatusCode::BAD_REQUEST, format!("{sentence}\n")),
    }
}

fn not_found(kind: Kind) -> Reply {
    let there = match kind {
        Kind::Status => "GET /healthz/ready",
        Kind::Stats => "GET /stats/prometheus",
        Kind::Admin => "GET /help",
    };
    text(StatusCode::NOT_FOUND, format!("there is no such page; try {there}\n"))
}
