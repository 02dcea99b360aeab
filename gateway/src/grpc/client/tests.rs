use std::convert::Infallible;

use http::Response;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{server::conn::http2, service::service_fn};
use tokio::io::duplex;

use super::*;
use crate::grpc::{
    messages::istio_ca::{CREATE_CERTIFICATE, IstioCertificateRequest as Question, IstioCertificateResponse as Answer},
    server::{self, Limits},
    status::{Code, Status},
};

const LIMIT: (Duration, usize) = (Duration::from_secs(5), 1024);

fn question(csr: &str) -> Question {
    Question { csr: csr.into(), ..Question::default() }
}

fn words(text: &str) -> Answer {
    Answer { cert_chain: vec![text.into()] }
}

/// A peer on the other end of a pipe that answers by our own server.
async fn served() -> Channel {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(async |request| {
            let limits = Limits { message: 4096, time: LIMIT.0 };
            let admit = async |metadata: &HeaderMap| Ok(metadata.clone());
            let reply = server::unary(request, limits, admit, async |asked: Question, metadata: HeaderMap| match asked
                .csr
                .as_str()
            {
                "no" => Err(Status::new(Code::Unauthenticated, "request authenticate failure\n")),
                "who" => Ok(words(metadata["authorization"].to_str().expect("is text"))),
                "much" => Ok(words(&"x".repeat(2000))),
                "never" => std::future::pending().await,
                other => Ok(words(other)),
            });
            Ok::<_, Infallible>(reply.await)
        });
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service).await.ok();
    });
    Channel::over(near, ("http", "ca.example:1")).await.expect("HTTP/2 begins")
}

/// A peer that answers everything with these bytes and trailers.
async fn scripted(status: u16, kind: &'static str, body: Vec<u8>, trailers: &'static [(&str, &str)]) -> Channel {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(|_| {
            let (body, mut last) = (body.clone(), HeaderMap::new());
            trailers.iter().for_each(|(name, value)| drop(last.insert(*name, HeaderValue::from_static(value))));
            let reply = Full::new(Bytes::from(body));
            let reply = reply.with_trailers(async { (!last.is_empty()).then_some(Ok(last)) });
            let reply = Response::builder().status(status).header("content-type", kind).body(reply);
            std::future::ready(Ok::<_, Infallible>(reply.expect("is an answer")))
        });
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service).await.ok();
    });
    Channel::over(near, ("http", "ca.example:1")).await.expect("HTTP/2 begins")
}

async fn ask(channel: &mut Channel, csr: &str) -> Result<Answer, Failure> {
    let metadata = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"))]);
    channel.unary(CREATE_CERTIFICATE, metadata, &question(csr), LIMIT).await
}

#[tokio::test]
async fn a_message_goes_there_and_back() {
    let mut channel = served().await;
    assert_eq!(ask(&mut channel, "hello").await, Ok(words("hello")));
    assert_eq!(ask(&mut channel, "who").await, Ok(words("Bearer x")));
}

#[tokio::test]
async fn a_no_is_told_in_the_peers_words() {
    let mut channel = served().await;
    let failure = ask(&mut channel, "no").await.unwrap_err();
    assert_eq!(failure, Failure::Status(16, "request authenticate failure\n".into()));
    assert_eq!(failure.to_string(), "UNAUTHENTICATED: request authenticate failure\\n");
}

#[tokio::test]
async fn what_is_too_much_or_never_comes_is_given_up() {
    let mut channel = served().await;
    assert!(matches!(ask(&mut channel, "much").await, Err(Failure::Malformed(_))));
    let limit = Duration::from_millis(50);
    let question = question("never");
    let asked = channel.unary::<Answer>(CREATE_CERTIFICATE, HeaderMap::new(), &question, (limit, 1024));
    assert_eq!(asked.await, Err(Failure::Silent(limit)));
}

#[tokio::test]
async fn what_speaks_something_else_is_told() {
    const GRPC: &str = "application/grpc";
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];
    const NONE: &[(&str, &str)] = &[];
    let message = frame(&words("a"));
    let cases = [
        (503, GRPC, vec![], OK, "it answers with 503, and not by gRPC"),
        (200, "text/html", vec![], OK, "it answers with 200, and not by gRPC"),
        (200, GRPC, vec![], OK, "an answer of gRPC without a message"),
        (200, GRPC, message.clone(), NONE, "an answer of gRPC without a status"),
        (200, GRPC, message[..4].to_vec(), OK, "an answer of gRPC that ends in the middle of a message"),
        (200, GRPC, [&message[..], &message].concat(), OK, "several answers where one is expected"),
        (200, GRPC, vec![1, 0, 0, 0, 0], OK, "an answer that is compressed, which nobody asked for"),
        (200, GRPC, vec![0, 0, 0, 0, 1, 0xff], OK, "a message that cannot be read"),
    ];
    for (status, kind, body, trailers, told) in cases {
        let failure = ask(&mut scripted(status, kind, body, trailers).await, "x").await.unwrap_err();
        assert_eq!(failure.to_string(), told);
    }
}

#[tokio::test]
async fn a_stream_gives_message_after_message_however_they_are_cut() {
    let (near, far) = duplex(64 * 1024);
    let (tell, told) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        let told = std::sync::Mutex::new(Some(told));
        let service = service_fn(|_| {
            let mut told = told.lock().expect("no panic").take().expect("one call");
            let parts = futures::stream::poll_fn(move |cx| told.poll_recv(cx));
            let parts = futures::StreamExt::map(parts, |part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
            let reply = Response::builder().header("content-type", "application/grpc+proto");
            std::future::ready(Ok::<_, Infallible>(reply.body(StreamBody::new(parts)).expect("is an answer")))
        });
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service).await.ok();
    });
    let mut channel = Channel::over(near, ("http", "localhost")).await.expect("HTTP/2 begins");
    let both = [frame(&words("one")), frame(&words("two"))].concat();
    let mut call = channel.call("/a/b", HeaderMap::new(), &question("x"), Says::Once(100)).await.expect("begins");
    for part in both.chunks(3) {
        tell.send(part.to_vec()).expect("is heard");
    }
    assert_eq!(call.hear().await, Ok(Some(words("one"))));
    assert_eq!(call.hear().await, Ok(Some(words("two"))));
    drop(tell);
    assert_eq!(call.hear::<Answer>().await, Err(Failure::Malformed("an answer of gRPC without a status")));
}
