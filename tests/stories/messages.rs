//! Every part of a message arrives in all combinations of HTTP versions: what comes before an answer, behind a body, and
//! instead of one.

use std::time::Duration;

use bytes::Bytes;
use harness::{
    client::get,
    endpoint::Call,
    mesh::{HOST, Mesh, SHOP},
    message::{Answer, Ask, COMBINATIONS, Version, values},
    raw::Raw,
    scripted::Scripted,
    talk,
};
use tokio::sync::mpsc::unbounded_channel;

use crate::versions::Versions;

/// Answers with what came, and with the trailers that came as trailers.
async fn mirror(mut call: Call) {
    let (body, trailers) = call.read().await;
    let mut answer =
        Answer::new(200, body).header("x-content-length", &values(&call.headers, "content-length").concat());
    answer.trailers = trailers;
    call.answer(answer).await;
}

#[tokio::test]
async fn trailers_arrive_in_both_directions() {
    let versions = Versions::play(mirror).await;

    for combination in COMBINATIONS {
        let ask =
            Ask::post("/", "a body").header("te", "trailers").trailer("x-sum", "first").trailer("x-sum", "second");
        let answer = versions.answer(combination, ask).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "a body"), "{combination:?}: {answer:?}");
        assert_eq!(values(&answer.trailers, "x-sum"), ["first", "second"], "{combination:?}: {answer:?}");
    }
}

#[tokio::test]
async fn trailers_arrive_behind_an_empty_body_too() {
    let versions = Versions::play(async |mut call: Call| {
        call.read().await;
        call.answer(Answer::new(200, "").header("content-type", "application/grpc").trailer("grpc-status", "0")).await;
    })
    .await;

    for combination in COMBINATIONS {
        let answer = versions.answer(combination, Ask::post("/", "").header("te", "trailers")).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{combination:?}: {answer:?}");
        let status = [values(&answer.trailers, "grpc-status"), values(&answer.headers, "grpc-status")].concat();
        assert_eq!(status, ["0"], "{combination:?}: {answer:?}");
    }
}

#[tokio::test]
async fn trailers_of_which_none_may_trail_are_still_an_end() {
    let versions = Versions::play(mirror).await;

    for combination in COMBINATIONS {
        let ask = Ask::post("/", "a body").header("te", "trailers").trailer("content-type", "text/plain");
        let answer = versions.answer(combination, ask).await;
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.cut.as_str()),
            (200, "a body", ""),
            "{combination:?}"
        );
        assert!(answer.trailers.is_empty(), "{combination:?}: {answer:?}");
    }
}

#[tokio::test]
async fn bodies_pass_whole_in_both_directions() {
    let versions = Versions::play(mirror).await;
    let megabyte: Bytes = (0..1_000_000_u32).map(|number| (number * 7) as u8 & 0x7f).collect::<Vec<_>>().into();

    for combination in COMBINATIONS {
        let answer = versions.answer(combination, Ask::post("/", megabyte.clone())).await;
        assert!(answer.body == megabyte, "{combination:?}: {} bytes {}", answer.body.len(), answer.cut);
        if combination.0 == Version::One {
            assert_eq!(answer.headers["x-content-length"], "1000000", "{combination:?}");
        }
    }
}

#[tokio::test]
async fn early_hints_arrive_before_the_answer() {
    let versions = Versions::play(async |mut call: Call| {
        call.interim(103, &[("link", "</style.css>; rel=preload"), ("link", "</more.css>; rel=preload")]).await;
        call.interim(103, &[("x-more", "hints")]).await;
        call.answer(Answer::new(200, "at last").header("x-kind", "final")).await;
    })
    .await;

    for combination in COMBINATIONS {
        let answer = versions.answer(combination, Ask::get("/")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "at last"), "{combination:?}: {answer:?}");
        assert_eq!(answer.headers["x-kind"], "final", "{combination:?}");
        let statuses: Vec<u16> = answer.interim.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [103, 103], "{combination:?}: {answer:?}");
        let links = values(&answer.interim[0].1, "link");
        assert_eq!(links, ["</style.css>; rel=preload", "</more.css>; rel=preload"], "{combination:?}");
        assert_eq!(answer.interim[1].1["x-more"], "hints", "{combination:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let versions = Versions::play(async |mut call: Call| {
        if call.headers.get("expect").is_some_and(|expect| expect == "100-continue") {
            call.interim(100, &[]).await;
        }
        mirror(call).await;
    })
    .await;

    for combination in COMBINATIONS {
        let answer = versions.answer(combination, Ask { expects: true, ..Ask::post("/", "when asked") }).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "when asked"), "{combination:?}: {answer:?}");
        let continues = answer.interim.iter().filter(|(status, _)| *status == 100).count();
        assert_eq!(continues, 1, "{combination:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_may_be_refused_instead() {
    let versions = Versions::play(async |call: Call| call.answer(Answer::new(417, "no")).await).await;

    for combination in COMBINATIONS {
        let answer = versions.answer(combination, Ask { expects: true, ..Ask::post("/", "never sent") }).await;
        assert_eq!((answer.status, answer.text().as_str()), (417, "no"), "{combination:?}: {answer:?}");
        assert!(answer.interim.is_empty(), "{combination:?}: {answer:?}");
    }
}

#[tokio::test]
async fn an_answer_during_the_upload_reaches_a_client_that_goes_on_sending() {
    let versions = Versions::play(async |call: Call| call.answer(Answer::new(413, "too much")).await).await;

    for combination in COMBINATIONS {
        let body = Bytes::from(vec![b'x'; 64 * 1024]);
        let answer = versions.answer(combination, Ask { times: 1000, ..Ask::post("/", body) }).await;
        assert_eq!((answer.status, answer.text().as_str()), (413, "too much"), "{combination:?}: {}", answer.cut);
        assert_eq!(answer.cut, "", "{combination:?}");
    }
}

#[tokio::test]
async fn an_early_answer_waits_for_a_client_that_first_sends_everything() {
    let versions = Versions::play(async |call: Call| call.answer(Answer::new(413, "too much")).await).await;

    for path in ["/one", "/two"] {
        let mut raw = Raw::over(versions.mesh.browser().dial(HOST).await.expect("HTTPS works"));
        let head = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 20000000\r\n\r\n");
        raw.send(head).await.expect("sent");
        for megabyte in 1..=20 {
            raw.send(vec![b'x'; 1_000_000])
                .await
                .unwrap_or_else(|error| panic!("{path}: megabyte {megabyte}: {error}"));
        }
        let heard = raw.hear(Duration::from_secs(5)).await;
        assert_eq!(heard.statuses(), [413], "{path}: {heard:?}");
        assert!(heard.text.contains("too much") && heard.closed, "{path}: {heard:?}");
    }
}

#[tokio::test]
async fn an_answer_may_begin_before_the_upload_ends_and_go_on_with_it() {
    let versions = Versions::play(mirror_at_once).await;

    for combination in COMBINATIONS {
        let body = Bytes::from(vec![b'x'; 16 * 1024]);
        let answer = versions.answer(combination, Ask { times: 40, ..Ask::post("/", body) }).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "655360"), "{combination:?}: {}", answer.cut);
    }
}

/// Says 103 when the head is there, then answers with how much it has read.
async fn mirror_at_once(mut call: Call) {
    call.interim(103, &[("x-begun", "yes")]).await;
    let (body, _) = call.read().await;
    call.answer(Answer::new(200, body.len().to_string())).await;
}

#[tokio::test]
async fn answers_without_a_body_stay_without_one_and_keep_their_fields() {
    let versions = Versions::play(async |call: Call| {
        let answer = match &*call.path {
            path if path.ends_with("/204") => Answer::new(204, ""),
            path if path.ends_with("/304") => Answer::new(304, "").header("content-length", "1234"),
            _ => Answer::new(200, "").header("content-length", "1234"),
        };
        call.answer(answer.header("etag", "\"one\"")).await;
    })
    .await;

    for combination in COMBINATIONS {
        for (method, path, status) in
            [("HEAD", "/200", 200), ("GET", "/204", 204), ("HEAD", "/204", 204), ("GET", "/304", 304)]
        {
            let what = format!("{method} {path} {combination:?}");
            let answer = versions.answer(combination, Ask::new(method, path)).await;
            assert_eq!((answer.status, answer.body.len(), answer.cut.as_str()), (status, 0, ""), "{what}: {answer:?}");
            assert_eq!(answer.headers["etag"], "\"one\"", "{what}");
            let length = values(&answer.headers, "content-length");
            assert_eq!(length, if status == 204 { vec![] } else { vec!["1234"] }, "{what}");
            assert!(!answer.headers.contains_key("transfer-encoding"), "{what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_for_the_next_request() {
    let mesh = Mesh::with_edge();
    let server = Scripted::start(mesh.workload("reviews").declare(), async |mut raw: Raw| {
        while let Ok(head) = raw.read_until("\r\n\r\n").await {
            let rest = match head.split(' ').nth(1).unwrap_or_default() {
                "/204" => "204 No Content\r\n\r\n",
                "/304" => "304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
                _ if head.starts_with("HEAD") => "200 OK\r\nContent-Length: 5\r\n\r\n",
                _ => "200 OK\r\nContent-Length: 5\r\n\r\nwhole",
            };
            raw.send(format!("HTTP/1.1 {rest}")).await.ok();
        }
    })
    .await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;

    for browser in [mesh.browser(), mesh.browser().h2()] {
        let before = server.connections();
        let mut connection = browser.connect(HOST).await.expect("HTTPS works");
        for (method, path) in [("HEAD", "/"), ("GET", "/204"), ("GET", "/304"), ("HEAD", "/204"), ("GET", "/")] {
            let call = harness::client::with_body(harness::client::request(method, &format!("{SHOP}{path}")), "");
            let reply = connection.send(call).await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
            let body = if (method, path) == ("GET", "/") { "whole" } else { "" };
            assert_eq!(reply.text(), body, "{method} {path}");
        }
        assert!(server.connections() <= before + 1, "{} connections", server.connections());
    }
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_line_for_an_endpoint_of_http_1_1() {
    let (sender, mut seen) = unbounded_channel();
    let versions = Versions::play(move |call: Call| {
        sender.send(values(&call.headers, "cookie")).ok();
        call.answer(Answer::new(200, ""))
    })
    .await;

    for combination in COMBINATIONS {
        let ask = Ask::get("/");
        let ask = match combination.0 {
            Version::One => ask.header("cookie", "a=1; b=2; c=3"),
            Version::Two => ask.header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3"),
        };
        versions.answer(combination, ask).await;
        let cookies = seen.recv().await.expect("a request has come");
        if combination.1 == Version::One {
            assert_eq!(cookies, ["a=1; b=2; c=3"], "{combination:?}");
        } else {
            assert_eq!(cookies.join("; "), "a=1; b=2; c=3", "{combination:?}");
        }
    }
}

/// A gateway in front of a server of HTTP/1.1 or older that sends `answer` and closes; it tells the heads it has read.
async fn old_server(
    answer: &'static str,
) -> (Mesh, harness::gateway::Proxy, Scripted, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let mesh = Mesh::with_edge();
    let (sender, heads) = unbounded_channel();
    let server = Scripted::start(mesh.workload("reviews").declare(), move |mut raw: Raw| {
        let sender = sender.clone();
        async move {
            sender.send(raw.read_until("\r\n\r\n").await.unwrap_or_default()).ok();
            raw.send(answer).await.ok();
            raw.finish().await;
            raw.hear(Duration::from_secs(5)).await;
        }
    })
    .await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    (mesh, gateway, server, heads)
}

#[tokio::test]
async fn an_endpoint_of_http_1_0_is_understood() {
    let plain = "HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\nas long as it lasts";
    let length = "HTTP/1.0 200 OK\r\nX-Old: yes\r\nContent-Length: 19\r\n\r\nas long as it lasts";
    let kept =
        "HTTP/1.0 200 OK\r\nX-Old: yes\r\nConnection: keep-alive\r\nContent-Length: 19\r\n\r\nas long as it lasts";

    for answer in [plain, length, kept] {
        let (mesh, _gateway, server, _heads) = old_server(answer).await;
        for (number, version) in [Version::One, Version::Two].into_iter().enumerate() {
            let reply = talk::talk(&mesh.browser(), version, HOST, Ask::get("/")).await.expect("an answer");
            assert_eq!((reply.status, reply.text().as_str()), (200, "as long as it lasts"), "{version:?} {answer}");
            assert_eq!(reply.headers["x-old"], "yes", "{version:?} {answer}");
            assert_eq!(server.connections(), number + 1, "{version:?} {answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_leaves_the_clients_open() {
    let (mesh, _gateway, _server, _heads) = old_server("HTTP/1.1 200 OK\r\n\r\nas long as it lasts").await;

    for browser in [mesh.browser(), mesh.browser().h2()] {
        let mut connection = browser.connect(HOST).await.expect("HTTPS works");
        for number in 0..5 {
            let reply = connection.send(get(SHOP)).await.unwrap_or_else(|error| panic!("{number}: {error:?}"));
            assert_eq!(reply.text(), "as long as it lasts", "{number}");
        }
    }
}

#[tokio::test]
async fn a_request_from_http2_is_framed_for_http_1_1() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (mesh, _gateway, _server, mut heads) = old_server(ok).await;
    let mut send = async |ask: Ask| {
        talk::talk(&mesh.browser(), Version::Two, HOST, ask).await.expect("an answer");
        heads.recv().await.expect("a head").to_ascii_lowercase()
    };

    let get = send(Ask::get("/")).await;
    let post = send(Ask::post("/", "of a length that nobody tells")).await;
    let told = send(Ask::post("/", "four").header("content-length", "4")).await;
    let empty = send(Ask::new("POST", "/")).await;

    assert!(get.starts_with("get / http/1.1\r\n") && get.contains("\r\nhost: shop.example.com\r\n"), "{get}");
    assert!(!get.contains("content-length") && !get.contains("transfer-encoding"), "{get}");
    assert!(post.contains("\r\ntransfer-encoding: chunked\r\n") && !post.contains("content-length"), "{post}");
    assert!(told.contains("\r\ncontent-length: 4\r\n") && !told.contains("transfer-encoding"), "{told}");
    assert!(empty.contains("\r\ncontent-length: 0\r\n"), "{empty}");
}
