//! Which page answers which request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use tokio::sync::Semaphore;

use super::{
    Application,
    ask::{Told, ask},
    asked::Probes,
    merged::{Target, collect},
};
use crate::{
    admin::{Admin, Readiness, metrics_text},
    control_plane::serve::{Answer, Peer},
    grpc::server::Reply,
    telemetry::exposition::Format,
};

/// What is needed to answer.
pub(super) struct Desk {
    pub(super) probes: Probes,
    pub(super) targets: Vec<Target>,
    pub(super) application: Application,
    pub(super) admin: Arc<Admin>,
    /// Who asks for metrics has all of them held in memory: few at a time.
    pub(super) scrapes: Semaphore,
}

/// Answers with metrics that are put together at a time.
pub(super) const SCRAPES: usize = 2;

const TEXT: &str = "text/plain; charset=utf-8";

impl Answer for Desk {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Reply {
        let (head, _) = request.into_parts();
        let path = head.uri.path();
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        match path {
            "/quitquitquit" if head.method != Method::POST => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
            // Whoever shares the pod: a job whose work is done.
            "/quitquitquit" if peer.address.ip().is_loopback() => {
                self.admin.view.quit();
                text(StatusCode::OK, "draining, then ending\n")
            }
            "/quitquitquit" => text(StatusCode::FORBIDDEN, "only the pod itself may end its proxy\n"),
            _ if !reads => text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n"),
            "/healthz/ready" => match self.admin.view.readiness() {
                Readiness::Ready => text(StatusCode::OK, "ready\n"),
                Readiness::ReadyBut(why) => text(StatusCode::OK, format!("ready; {why}\n")),
                Readiness::NotReady(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            },
            "/stats/prometheus" | "/metrics" => {
                // It does not fail: nobody closes it.
                let _one = self.scrapes.acquire().await.ok();
                // What applications tell is text, and nothing else can stand behind it.
                let alone = self.targets.is_empty();
                let format = if alone { Format::wanted(&head.headers) } else { Format::Text };
                let own = metrics_text(&self.admin, format);
                let all = match alone {
                    true => own,
                    false => collect(own, &self.targets, self.application, &head.headers).await,
                };
                reply(StatusCode::OK, format.content_type(), all.into())
            }
            _ => match self.probes.get(path) {
                Some(probe) => {
                    let Told { status, body } = ask(probe, self.application, &head.headers).await;
                    reply(status, TEXT, body)
                }
                None => {
                    let known: String = self.probes.keys().map(|path| format!("  {path}\n")).collect();
                    text(StatusCode::BAD_REQUEST, format!("there is no such probe; there are:\n{known}"))
                }
            },
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, TEXT, body.into())
}

fn reply(status: StatusCode, kind: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
