//! WebSockets, whichever HTTP version each side speaks: between HTTP/1.1 and HTTP/2 (RFC 8441) the gateway translates.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use h2::ext::Protocol;
use harness::{
    endpoint::Call,
    eventually::eventually,
    mesh::{HOST, Mesh},
    message::{Answer, Ask, COMBINATIONS, Version},
    origin::Origin,
    talk::{self, Socket},
};
use http::Request;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::versions::{Versions, addresses};

/// What an endpoint's WebSocket came to.
#[derive(Debug, Eq, PartialEq)]
enum End {
    /// A close frame with this code.
    Closed(u16),
    /// The bytes below ended.
    Gone,
}

/// Echoes; `close` makes it close with 4002, `cut` makes it end without a word. Tells how each WebSocket came to its end.
async fn echo(mut socket: Socket, ends: UnboundedSender<End>) {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text == "close" => {
                socket.close(Some(frame(4002))).await.unwrap_or_default()
            }
            Some(Ok(Message::Text(text))) if text == "cut" => return,
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                socket.send(message).await.unwrap_or_default()
            }
            Some(Ok(Message::Close(frame))) => {
                drop(ends.send(End::Closed(frame.map_or(1005, |frame| frame.code.into()))))
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return drop(ends.send(End::Gone)),
        }
    }
}

fn frame(code: u16) -> CloseFrame {
    CloseFrame { code: CloseCode::from(code), reason: "as agreed".into() }
}

struct Scene {
    versions: Versions,
    ends: UnboundedReceiver<End>,
}

impl Scene {
    async fn stand() -> Self {
        let (sender, ends) = unbounded_channel();
        let sender = Arc::new(sender);
        let play = move |call: Call| {
            let ends = UnboundedSender::clone(&sender);
            async move {
                if call.path.contains("/refused") {
                    return call.answer(Answer::new(403, "not for you").header("x-why", "members only")).await;
                }
                echo(call.accept().await, ends).await;
            }
        };
        Self { versions: Versions::play(play).await, ends }
    }

    async fn open(&self, combination: (Version, Version)) -> Socket {
        self.versions.upgrade(combination, "/live").await.unwrap_or_else(|answer| panic!("{combination:?}: {answer:?}"))
    }

    async fn end(&mut self) -> Option<End> {
        timeout(SOON, self.ends.recv()).await.expect("the endpoint's WebSocket ends")
    }
}

/// The next message; `None` = the socket has ended, cleanly or not.
async fn next(socket: &mut Socket) -> Option<Message> {
    timeout(SOON, socket.next()).await.expect("something comes")?.ok()
}

#[tokio::test]
async fn websockets_echo_both_ways_in_all_combinations_of_http_versions() {
    let scene = Scene::stand().await;
    let large = vec![7; 300_000];

    for combination in COMBINATIONS {
        let mut socket = scene.open(combination).await;
        for text in ["first", "second"] {
            socket.send(Message::text(text)).await.expect("sent");
            assert_eq!(next(&mut socket).await, Some(Message::text(text)), "{combination:?}");
        }
        let (mut sink, mut stream) = socket.split();
        let send = async {
            for _ in 0..5 {
                sink.send(Message::binary(large.clone())).await.expect("sent");
            }
        };
        let receive = async {
            for number in 0..5 {
                let message = timeout(SOON, stream.next()).await.expect("something comes");
                let whole = matches!(&message, Some(Ok(Message::Binary(bytes))) if *bytes == large);
                assert!(whole, "{combination:?}: message {number}");
            }
        };
        tokio::join!(send, receive);
    }
}

#[tokio::test]
async fn a_client_that_closes_its_websocket_closes_the_endpoints() {
    let mut scene = Scene::stand().await;

    for combination in COMBINATIONS {
        let mut socket = scene.open(combination).await;
        socket.close(Some(frame(4001))).await.expect("sent");
        assert_eq!(scene.end().await, Some(End::Closed(4001)), "{combination:?}");
        let reply = next(&mut socket).await;
        assert!(
            matches!(&reply, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 4001),
            "{combination:?}: {reply:?}"
        );
        assert_eq!(next(&mut socket).await, None, "{combination:?}");
        assert_eq!(scene.end().await, Some(End::Gone), "{combination:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_closes_its_websocket_closes_the_clients() {
    let mut scene = Scene::stand().await;

    for combination in COMBINATIONS {
        let mut socket = scene.open(combination).await;
        socket.send(Message::text("close")).await.expect("sent");
        let close = next(&mut socket).await;
        assert!(
            matches!(&close, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 4002),
            "{combination:?}: {close:?}"
        );
        assert_eq!(next(&mut socket).await, None, "{combination:?}");
        assert_eq!(scene.end().await, Some(End::Closed(4002)), "{combination:?}");
        assert_eq!(scene.end().await, Some(End::Gone), "{combination:?}");
    }
}

#[tokio::test]
async fn a_websocket_that_one_side_cuts_ends_for_the_other() {
    let mut scene = Scene::stand().await;

    for combination in COMBINATIONS {
        let mut socket = scene.open(combination).await;
        socket.send(Message::text("cut")).await.expect("sent");
        assert_eq!(next(&mut socket).await, None, "the endpoint cut it, {combination:?}");

        let mut socket = scene.open(combination).await;
        socket.send(Message::text("there")).await.expect("sent");
        assert_eq!(next(&mut socket).await, Some(Message::text("there")), "{combination:?}");
        drop(socket);
        assert_eq!(scene.end().await, Some(End::Gone), "the client cut it, {combination:?}");
    }
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let scene = Scene::stand().await;

    for combination in COMBINATIONS {
        let refused = scene.versions.upgrade(combination, "/refused").await;
        let answer = refused.err().unwrap_or_else(|| panic!("{combination:?}: an upgrade"));
        assert_eq!((answer.status, answer.text().as_str()), (403, "not for you"), "{combination:?}");
        assert_eq!(answer.headers["x-why"], "members only", "{combination:?}");
    }
    let log = scene.versions.gateway.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn an_endpoint_of_http2_that_takes_no_websockets_is_a_5xx_for_an_upgrade_alone() {
    let mesh = Mesh::with_edge();
    let [_, two] = addresses(&mesh);
    let origin = Origin::plain(two).await;
    let versions = Versions::stand(mesh).await;

    for client in [Version::One, Version::Two] {
        let refused = versions.upgrade((client, Version::Two), "/live").await;
        let answer = refused.err().unwrap_or_else(|| panic!("{client:?}: an upgrade"));
        assert!((500..600).contains(&answer.status), "{client:?}: {answer:?}");
        assert_eq!(versions.answer((client, Version::Two), Ask::get("/")).await.status, 200, "{client:?}");
    }
    assert_eq!(origin.requests().len(), 2, "no upgrade has reached it");
}

#[tokio::test]
async fn an_extended_connect_for_another_protocol_is_refused() {
    let scene = Scene::stand().await;
    let mut sender = talk::open(&scene.versions.mesh.browser(), HOST).await.expect("HTTP/2 works");
    eventually("RFC 8441 is offered", async || sender.is_extended_connect_protocol_enabled()).await;

    for path in ["/one/live", "/two/live"] {
        let request = Request::connect(format!("https://{HOST}{path}")).extension(Protocol::from_static("connect-udp"));
        let request = request.body(()).expect("a request");
        sender = sender.ready().await.expect("the connection is open");
        let (answer, _stream) = sender.send_request(request, false).expect("a stream");
        let answer = timeout(SOON, answer).await.expect("something comes");
        let refused =
            answer.as_ref().map_or(true, |answer| answer.status().is_client_error() || answer.status() == 501);
        assert!(refused, "{path}: {answer:?}");
    }
}

const SOON: Duration = Duration::from_secs(15);
