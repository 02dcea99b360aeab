//! The page of a whole mesh: `sluice dashboard`, and what `sluice demo` serves. It asks every proxy what its own page would show,
//! and only reads: nothing that is asked of it changes a proxy.

mod ask;
mod find;
mod gather;
mod inside;
mod roster;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use http::{Method, Request, StatusCode, header::ALLOW};
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::watch};

use self::gather::Gathering;
use crate::admin::{
    Pages,
    answers::{self, Reply},
    serve_pages,
};

pub(crate) use ask::Target;
pub(crate) use find::{Mesh, demos};
pub(crate) use roster::Roster;

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
        serve_pages(self.listener, Arc::new(Gathering::new(self.mesh)), stop).await;
    }
}

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
            "/overview" => answers::tagged(&request, answers::raw_json(self.overview().await)),
            path @ ("/routes" | "/problems" | "/explain") => {
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
GET  /routes    the routes of one (JSON): ?proxy=TARGET&q=TEXT&from=N
GET  /problems  what is wrong with the configuration of one (JSON): ?proxy=TARGET&q=TEXT&from=N
GET  /explain   what would happen to a request at one (JSON): ?proxy=TARGET&port=443&host=a.example&path=/x

Every proxy has more: GET /help at its own admin address.
";
