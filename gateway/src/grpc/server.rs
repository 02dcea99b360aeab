//! Answering calls: one message there, one back.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Body;
use prost::Message;

use super::{
    frame::{self, Broken, PREFIX},
    status::{Code, Status, escape},
    timeout,
};

/// An answer, of this and of what else is served on the same listener.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>;

/// How much of whoever asks is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a message.
    pub(crate) message: usize,
    /// From the request's head to its answer; the client's own `grpc-timeout` may be shorter.
    pub(crate) time: Duration,
}

/// Has the call admitted by its metadata, reads the message, has it answered, and writes the answer. Of whoever is not admitted
/// nothing is read.
pub(crate) async fn unary<Q: Message + Default, A: Message, C>(
    request: Request<impl Body<Data = Bytes> + Unpin>,
    limits: Limits,
    admit: impl AsyncFnOnce(&HeaderMap) -> Result<C, Status>,
    answer: impl AsyncFnOnce(Q, C) -> Result<A, Status>,
) -> Reply {
    if let Some(refusal) = not_grpc(request.method(), request.headers()) {
        return refusal;
    }
    let (head, body) = request.into_parts();
    let patience = head.headers.get("grpc-timeout").and_then(|it| timeout::read(it.to_str().ok()?));
    let patience = patience.map_or(limits.time, |it| it.min(limits.time));
    let answered = tokio::time::timeout(patience, async {
        let admitted = admit(&head.headers).await?;
        drop(head);
        let question = read(body, limits.message).await?;
        answer(question, admitted).await
    });
    match answered.await {
        Ok(Ok(message)) => success(&message),
        Ok(Err(status)) => failure(&status),
        Err(_) => failure(&Status::new(Code::DeadlineExceeded, "there was no answer in time")),
    }
}

/// What a request is answered with that is no call of gRPC.
fn not_grpc(method: &Method, headers: &HeaderMap) -> Option<Reply> {
    let grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
    let (status, words) = if method != Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "calls of gRPC are POST requests\n")
    } else if !headers.get(header::CONTENT_TYPE).is_some_and(grpc) {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "calls of gRPC have the content type application/grpc\n")
    } else {
        return None;
    };
    Some(plain(status, words))
}

/// An answer without gRPC.
pub(crate) fn plain(status: StatusCode, words: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(words.as_bytes())).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

async fn read<Q: Message + Default>(mut body: impl Body<Data = Bytes> + Unpin, most: usize) -> Result<Q, Status> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Whoever has gone reads no answer; the words are for the log.
        let frame = frame.map_err(|_| Status::new(Code::Internal, "the request ended in its middle"))?;
        let Some(data) = frame.data_ref() else { continue };
        held.extend_from_slice(data);
        let length = frame::length(&held).map_err(broken)?.unwrap_or(0).max(held.len().saturating_sub(PREFIX));
        if length > most {
            let words = format!("a message of {length} bytes; at most {most} are taken");
            return Err(Status::new(Code::ResourceExhausted, words));
        }
    }
    frame::unframe(&held).map_err(broken)
}

fn broken(why: Broken) -> Status {
    match why {
        Broken::Missing => Status::new(Code::Internal, "a call without a message"),
        Broken::Compressed => {
            Status::new(Code::Unimplemented, "the message is compressed; grpc-accept-encoding says what is taken")
        }
        Broken::NotOne => Status::new(Code::Internal, "the body is not one message"),
        Broken::Unreadable => Status::new(Code::Internal, "the message cannot be read"),
    }
}

fn success(message: &impl Message) -> Reply {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(frame::frame(message)));
    grpc(Response::new(body.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync()))
}

/// An answer that has no message: its status stands in the head.
pub(crate) fn failure(status: &Status) -> Reply {
    let mut reply = grpc(Response::new(Full::new(Bytes::new()).boxed_unsync()));
    let headers = reply.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(status.code as u16));
    // Escaped words are printable.
    if let Ok(words) = HeaderValue::from_str(&escape(status.message.as_bytes())) {
        headers.insert("grpc-message", words);
    }
    if status.code == Code::Unimplemented {
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    }
    reply
}

fn grpc(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    reply
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::body::Frame;

    use super::*;
    use crate::grpc::messages::istio_ca::{IstioCertificateRequest as Question, IstioCertificateResponse as Answer};

    const LIMITS: Limits = Limits { message: 64, time: Duration::from_secs(5) };

    fn call(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let request = Request::post("/a/b").header("content-type", "application/grpc+proto");
        request.body(Full::new(body.into())).unwrap()
    }

    fn question(csr: &str) -> Vec<u8> {
        frame::frame(&Question { csr: csr.to_owned(), ..Question::default() })
    }

    async fn answered(request: Request<impl Body<Data = Bytes, Error = Infallible> + Unpin>) -> Reply {
        let limits = LIMITS;
        let admit = async |headers: &HeaderMap| match headers.get("authorization") {
            Some(_) => Err(Status::new(Code::Unauthenticated, "not you")),
            None => Ok(()),
        };
        unary(request, limits, admit, async |question: Question, ()| match question.csr.as_str() {
            "slow" => std::future::pending().await,
            "no" => Err(Status::new(Code::Unauthenticated, "no\nway")),
            csr => Ok(Answer { cert_chain: vec![csr.to_owned()] }),
        })
        .await
    }

    fn status(reply: &Reply) -> (&str, &str) {
        let text = |name: &str| reply.headers().get(name).map_or("", |it| it.to_str().unwrap());
        (text("grpc-status"), text("grpc-message"))
    }

    #[tokio::test]
    async fn a_call_is_answered_with_a_message_and_a_status_behind_it() {
        let reply = answered(call(question("x"))).await;
        assert_eq!(reply.headers()["content-type"], "application/grpc");
        let body = reply.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(frame::unframe(&body.to_bytes()), Ok(Answer { cert_chain: vec!["x".into()] }));
    }

    #[tokio::test]
    async fn a_refusal_stands_in_the_head() {
        assert_eq!(status(&answered(call(question("no"))).await), ("16", "no%0Away"));
        let long = answered(call(question(&"a".repeat(100)))).await;
        assert_eq!(status(&long), ("8", "a message of 102 bytes; at most 64 are taken"));
        let compressed = answered(call(vec![1, 0, 0, 0, 0])).await;
        assert_eq!(status(&compressed).0, "12");
        assert_eq!(compressed.headers()["grpc-accept-encoding"], "identity");
        for broken in [vec![], vec![0, 0, 0, 0, 9], [question("a"), question("b")].concat()] {
            assert_eq!(status(&answered(call(broken)).await).0, "13");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_announced_too_long_is_not_waited_for() {
        let begin =
            futures::stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0, 1, 0, 0, 0]))) });
        let body = http_body_util::StreamBody::new(futures::StreamExt::chain(begin, futures::stream::pending()));
        let request = Request::post("/a/b").header("content-type", "application/grpc").body(Box::pin(body)).unwrap();
        assert_eq!(status(&answered(request).await).0, "8");
    }

    #[tokio::test(start_paused = true)]
    async fn of_who_is_not_admitted_no_message_is_read() {
        let read = std::cell::Cell::new(false);
        let body = futures::stream::poll_fn(|_| {
            read.set(true);
            std::task::Poll::Pending::<Option<Result<Frame<Bytes>, Infallible>>>
        });
        let request = Request::post("/a/b").header("content-type", "application/grpc").header("authorization", "x");
        let request = request.body(http_body_util::StreamBody::new(body)).unwrap();
        assert_eq!(status(&answered(request).await), ("16", "not you"));
        assert!(!read.get());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_no_more_patience_is_told() {
        let mut request = call(question("slow"));
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("50m"));
        let begin = tokio::time::Instant::now();
        assert_eq!(status(&answered(request).await).0, "4");
        assert_eq!(begin.elapsed(), Duration::from_millis(50));
        assert_eq!(status(&answered(call(question("slow"))).await).0, "4");
    }

    #[tokio::test]
    async fn what_is_no_call_is_answered_by_http() {
        let get = Request::get("/a/b").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(answered(get).await.status(), StatusCode::METHOD_NOT_ALLOWED);
        let json = Request::post("/a/b").header("content-type", "application/json").body(Full::default()).unwrap();
        assert_eq!(answered(json).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
