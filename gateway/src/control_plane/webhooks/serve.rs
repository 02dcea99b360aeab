//! Which page answers which question.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use routing::injection::admission::{self, Outcome};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::{Webhooks, validation};
use crate::{
    control_plane::serve::{Answer, Peer},
    grpc::server::{Reply, plain},
    telemetry::injection::Pod,
};

/// Largest question: an API server takes objects of 3 MiB, and may send the old one beside the new.
const LARGEST: usize = 8 << 20;
/// For a question to be there, and before that for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

impl Answer for Webhooks {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, _: Peer) -> Reply {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let injects = path == "/inject" || path.starts_with("/inject/");
        if path == "/ready" {
            return plain(StatusCode::OK, "ready\n");
        }
        if !injects && path != "/validate" {
            return plain(StatusCode::NOT_FOUND, "there are POST /inject and POST /validate\n");
        }
        if head.method != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
        }
        // Until it is answered: a question is held several times over, as bytes and as what they say.
        let Ok(Ok(_place)) = timeout(PATIENCE, self.places.acquire()).await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many questions at once; ask again\n");
        };
        let question = match timeout(PATIENCE, Limited::new(body, LARGEST).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the question is too long, or ended early\n"),
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the question did not come in time\n"),
        };
        let this = Arc::clone(&self);
        let answered = tokio::task::spawn_blocking(move || {
            let question: Value =
                serde_json::from_slice(&question).map_err(|error| format!("it is no JSON: {error}"))?;
            if injects { this.inject(&question, &path) } else { this.validate(&question) }
        });
        match answered.await {
            Ok(Ok(review)) => json(&review),
            Ok(Err(why)) => bad(&why),
            Err(error) => {
                warn!(%error, "a question could not be answered");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the question could not be answered\n")
            }
        }
    }
}

impl Webhooks {
    fn inject(&self, question: &Value, path: &str) -> Result<Value, String> {
        let begin = Instant::now();
        let settings = Arc::clone(&self.settings.borrow());
        let answered = admission::parameters(path).and_then(|it| admission::answer(question, &settings, &it));
        let became = match answered.as_ref().map(|answer| &answer.outcome) {
            Ok(Outcome::Injected) => Pod::Injected,
            Ok(Outcome::Skipped(_)) => Pod::Skipped,
            Ok(Outcome::Refused(_)) | Err(_) => Pod::Failed,
        };
        self.metrics.injection.pod(became, begin.elapsed().as_secs_f64());
        let answer = answered?;
        match &answer.outcome {
            Outcome::Injected => info!(pod = answer.pod, "a pod gets its sidecar"),
            Outcome::Skipped(why) => debug!(pod = answer.pod, why, "a pod gets no sidecar"),
            Outcome::Refused(why) => warn!(pod = answer.pod, why, "a pod is refused"),
        }
        for warning in &answer.warnings {
            info!(pod = answer.pod, "{warning}");
        }
        Ok(answer.review)
    }

    fn validate(&self, question: &Value) -> Result<Value, String> {
        let judged = validation::judge(question)?;
        if let Some(kind) = judged.kind {
            self.metrics.injection.validated(kind, judged.allowed);
            if !judged.allowed {
                info!(object = judged.object, kind, "an object is refused");
            }
        }
        Ok(judged.review)
    }
}

fn json(review: &Value) -> Reply {
    reply(StatusCode::OK, "application/json", review.to_string())
}

fn bad(why: &str) -> Reply {
    reply(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", format!("{why}\n"))
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
