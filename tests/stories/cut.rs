//! What is cut on its way is never taken for something whole, and what is whole is not lost with what follows it.

use std::time::Duration;

use bytes::Bytes;
use harness::{
    endpoint::Call,
    frames::{Frames, code},
    gateway::Proxy,
    mesh::{HOST, Mesh},
    message::{Answer, Ask, COMBINATIONS, Version},
    raw::Raw,
    scripted::Scripted,
    talk, yaml,
};
use http::Request;
use tokio::{sync::mpsc::unbounded_channel, time::timeout};

use crate::versions::Versions;

/// How a client ends in the middle of its upload.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// HTTP/1.1 with a length.
    Length,
    /// HTTP/1.1 in chunks, between two of them.
    Chunks,
    /// HTTP/2: RST_STREAM with CANCEL.
    Reset,
    /// HTTP/2: RST_STREAM with NO_ERROR, which is no end either.
    ResetWithoutError,
    /// HTTP/2: the connection ends.
    Connection,
}

/// Begins an upload to `path`; the endpoint says in time that it has begun.
async fn cut(mesh: &Mesh, how: Cut, path: &str, begun: impl Future<Output = ()>) {
    if let Cut::Length | Cut::Chunks = how {
        let mut raw = Raw::over(mesh.browser().dial(HOST).await.expect("HTTPS works"));
        let rest = match how {
            Cut::Length => "Content-Length: 10\r\n\r\nhalf.",
            _ => "Transfer-Encoding: chunked\r\n\r\n5\r\nhalf.\r\n",
        };
        raw.send(format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{rest}")).await.expect("sent");
        begun.await;
        return;
    }
    let stream = mesh.browser().h2().dial(HOST).await.expect("HTTPS works");
    let (mut sender, driver) = h2::client::handshake(stream).await.expect("HTTP/2 works");
    let driver = tokio::spawn(driver);
    let request = Request::post(format!("https://{HOST}{path}")).body(()).expect("a request");
    let (_answer, mut stream) = sender.send_request(request, false).expect("a stream");
    stream.send_data(Bytes::from_static(b"half."), false).expect("the stream is open");
    begun.await;
    match how {
        Cut::Reset => stream.send_reset(h2::Reason::CANCEL),
        Cut::ResetWithoutError => stream.send_reset(h2::Reason::NO_ERROR),
        _ => driver.abort(),
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_is_never_taken_for_a_whole_one() {
    let (begin, mut begun) = unbounded_channel();
    let (end, mut ended) = unbounded_channel();
    let versions = Versions::play(move |mut call: Call| {
        let (begin, end) = (begin.clone(), end.clone());
        async move {
            begin.send(()).ok();
            end.send(call.read_whole().await.map(|(body, _)| body).map_err(|error| error.to_string())).ok();
        }
    })
    .await;

    for path in ["/one", "/two"] {
        for how in [Cut::Length, Cut::Chunks, Cut::Reset, Cut::ResetWithoutError, Cut::Connection] {
            let beginning = async { timeout(SOON, begun.recv()).await.expect("the upload begins").unwrap_or_default() };
            cut(&versions.mesh, how, path, beginning).await;
            let read = timeout(SOON, ended.recv()).await.expect("the endpoint notices").expect("it says so");
            assert!(read.is_err(), "{how:?} to {path}: {read:?}");
        }
    }
}

/// A gateway in front of an endpoint that plays this for each connection.
async fn behind<F>(protocol: &str, script: impl Fn(Raw) -> F + Send + 'static) -> (Mesh, Proxy, Scripted)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, protocol)]));
    let server = Scripted::start(mesh.workload("reviews").declare(), script).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    (mesh, gateway, server)
}

#[tokio::test]
async fn an_answer_over_http2_that_is_cut_is_never_taken_for_a_whole_one() {
    for reset in [Some(code::INTERNAL_ERROR), Some(code::CANCEL), Some(code::NO_ERROR), None] {
        let (mesh, _gateway, _server) = behind("http2", move |raw: Raw| async move {
            let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
            while let Ok(stream) = frames.request().await {
                frames.begin_answer(stream, "half.", false).await.ok();
                match reset {
                    Some(code) => frames.reset(stream, code).await.unwrap_or_default(),
                    None => return,
                }
            }
        })
        .await;
        for version in [Version::One, Version::Two] {
            let answer = timeout(SOON / 2, talk::talk(&mesh.browser(), version, HOST, Ask::get("/"))).await;
            let answer = answer.unwrap_or_else(|_| panic!("{version:?}, {reset:?}: the client is not told"));
            let whole = answer.as_ref().is_ok_and(|answer| answer.status == 200 && answer.cut.is_empty());
            assert!(!whole, "{version:?}, {reset:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_whole_answer_over_http2_survives_the_reset_behind_it() {
    for reset in [code::NO_ERROR, code::CANCEL] {
        let (mesh, _gateway, _server) = behind("http2", move |raw: Raw| async move {
            let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
            // It waits for the head of a request only: of the upload it wants nothing.
            while let Ok(frame) = frames.next().await {
                if frame.kind == harness::frames::kind::HEADERS {
                    frames.begin_answer(frame.stream, "the whole answer", true).await.ok();
                    frames.reset(frame.stream, reset).await.ok();
                }
            }
        })
        .await;
        for version in [Version::One, Version::Two] {
            let ask = Ask { times: 200, ..Ask::post("/", vec![b'x'; 16 * 1024]) };
            let answer = talk::talk(&mesh.browser(), version, HOST, ask).await.expect("an answer");
            let seen = (answer.status, answer.text(), answer.cut.as_str());
            assert_eq!(seen, (200, "the whole answer".to_owned(), ""), "{version:?}, {reset}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_answers_an_upload_and_resets_its_connection_is_heard() {
    let (mesh, _gateway, _server) = behind("http", async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        // Closing with bytes unread resets the connection.
        raw.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much").await.ok();
    })
    .await;

    for number in 0..10 {
        for version in [Version::One, Version::Two] {
            let ask = Ask { times: 100, ..Ask::post("/", vec![b'x'; 16 * 1024]) };
            let answer = talk::talk(&mesh.browser(), version, HOST, ask).await.expect("an answer");
            let seen = (answer.status, answer.text(), answer.cut.as_str());
            assert_eq!(seen, (413, "too much".to_owned(), ""), "{version:?}, {number}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_up_in_the_middle_of_an_upload_is_a_503() {
    let versions = Versions::play(Call::hang_up).await;

    for combination in COMBINATIONS {
        let ask = Ask { times: 100, ..Ask::post("/", vec![b'x'; 16 * 1024]) };
        let answer = versions.answer(combination, ask).await;
        assert!(matches!(answer, Answer { status: 502 | 503, .. }), "{combination:?}: {answer:?}");
        assert_eq!(answer.cut, "", "{combination:?}");
    }
}

const SOON: Duration = Duration::from_secs(15);
