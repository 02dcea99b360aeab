//! gRPC echo without a protobuf library: messages are opaque behind their five-byte prefix (gRPC over HTTP/2,
//! "Length-Prefixed-Message"), so sending a request's bytes back is a correct echo of any message type.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, future, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};

use super::{Body, CHUNK_INTERVAL, full};

/// Whether a request is gRPC.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers one call.
///
/// `Unary` echoes the message, `ServerStream` sends it [`REPEATS`] times, `BidiStream` echoes each as it arrives, `Fail`
/// answers with trailers only.
pub(crate) async fn answer(request: Request<Incoming>) -> Response<Body> {
    let method = request.uri().path().strip_prefix("/echo.Echo/").map(str::to_owned);
    let body = request.into_body();
    match method.as_deref() {
        Some("Unary") => match body.collect().await {
            Ok(message) => messages(stream::iter([Ok(Frame::data(message.to_bytes()))])),
            Err(_) => trailers_only(INTERNAL, "the request ended early"),
        },
        Some("ServerStream") => match body.collect().await {
            Ok(message) => messages(repeated(message.to_bytes())),
            Err(_) => trailers_only(INTERNAL, "the request ended early"),
        },
        Some("BidiStream") => messages(arriving(body)),
        Some("Fail") => trailers_only(PERMISSION_DENIED, "asked to fail"),
        _ => trailers_only(
            UNIMPLEMENTED,
            "the echo application knows echo.Echo/Unary, ServerStream, BidiStream and Fail",
        ),
    }
}

fn repeated(message: Bytes) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static {
    stream::iter(0..REPEATS).then(move |number| {
        let message = message.clone();
        async move {
            if number > 0 {
                tokio::time::sleep(CHUNK_INTERVAL).await;
            }
            Ok(Frame::data(message))
        }
    })
}

fn arriving(body: Incoming) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static {
    BodyStream::new(body)
        .map(|frame| frame.map_err(io::Error::other))
        // The client's own trailers end here: ours follow.
        .filter(|frame| future::ready(frame.as_ref().map_or(true, Frame::is_data)))
}

fn messages(frames: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let ending = stream::once(future::ready(Ok(Frame::trailers(trailers))));
    let mut response = Response::new(StreamBody::new(frames.chain(ending)).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn trailers_only(status: &'static str, message: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

/// Messages of one `ServerStream` call.
const REPEATS: usize = 5;

/// gRPC status codes by name.
const PERMISSION_DENIED: &str = "7";
const UNIMPLEMENTED: &str = "12";
const INTERNAL: &str = "13";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_good_status_follows_the_last_message() {
        let message = || Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi")));
        let body = messages(stream::iter([message(), message()])).into_body();

        let collected = body.collect().await.unwrap();

        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes().len(), 2 * 7);
    }

    #[test]
    fn a_failure_carries_its_status_in_the_head() {
        let response = trailers_only(PERMISSION_DENIED, "no");
        assert_eq!(response.headers()["grpc-status"], "7");
    }

    #[test]
    fn content_types_of_grpc_with_a_codec_count() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        assert!(wanted(&headers));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(!wanted(&headers));
    }
}
