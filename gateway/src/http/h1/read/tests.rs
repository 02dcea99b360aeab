use proptest::prelude::*;

use super::*;

const HOST: &str = "Host: a.example\r\n";

fn read(text: &str) -> Result<Head, Failure> {
    let mut head = Head::default();
    let end = Scan::default().end(text.as_bytes())?.ok_or(Failure::Internal("not complete"))?;
    request(&text.as_bytes()[..end], &mut head).map(|()| head)
}

fn with(line: &str, fields: &str) -> Result<Head, Failure> {
    read(&format!("{line} HTTP/1.1\r\n{fields}\r\n"))
}

#[test]
fn a_head_is_read_as_it_is_spelled() {
    let head = with("GET /a?b=c", &format!("{HOST}X-Own: 1\r\nx-own: 2\r\n")).unwrap();
    assert_eq!((head.method(), head.target(), head.path(), head.query()), ("GET", "/a?b=c", "/a", Some("b=c")));
    assert_eq!((head.authority(), head.length), ("a.example", Length::Empty));
    let fields: Vec<&[u8]> = head.fields().map(|(_, name, _)| name).collect();
    assert_eq!(fields, [&b"X-Own"[..], b"x-own"]);
}

#[test]
fn there_is_exactly_one_way_to_tell_where_a_body_ends() {
    let framed = |fields: &str| with("POST /", &format!("{HOST}{fields}")).map(|head| head.length);
    assert_eq!(framed("Content-Length: 5\r\n"), Ok(Length::Exact(5)));
    assert_eq!(framed("Transfer-Encoding: Chunked\r\n"), Ok(Length::Unknown));
    assert_eq!(framed("Transfer-Encoding: gzip, chunked\r\n"), Err(Failure::UnknownCoding));
    for wrong in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 9999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nCONTENT-LENGTH: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        assert!(matches!(framed(wrong), Err(Failure::BadRequest(_))), "{wrong:?}");
    }
}

#[test]
fn absolute_form_and_host_name_one_host() {
    let target = |target: &str, host: &str| {
        with(&format!("GET {target}"), &format!("Host: {host}\r\n"))
            .map(|head| (head.authority().to_owned(), head.target().to_owned()))
    };
    let is = |authority: &str, target: &str| Ok((authority.to_owned(), target.to_owned()));
    assert_eq!(target("http://A.example/x?y", "a.example:80"), is("A.example", "/x?y"));
    assert_eq!(target("https://a.example:443", "a.example"), is("a.example:443", "/"));
    assert_eq!(target("http://a.example?q", "a.example"), is("a.example", "/?q"));
    for (other, host) in [("http://a.example:443/", "a.example"), ("http://a.example:443/", "a.example:80")] {
        assert!(target(other, host).is_err(), "{other} for {host}: the default port is the scheme's");
    }
    for (wrong, host) in [
        ("http://b.example/", "a.example"),
        ("http://u@a.example/", "a.example"),
        ("ftp://a.example/", "a.example"),
        ("a.example/", "a.example"),
        ("/a#b", "a.example"),
        ("*", "a.example"),
    ] {
        assert!(target(wrong, host).is_err(), "{wrong}");
    }
    assert_eq!(with("OPTIONS *", HOST).unwrap().target(), "*");
}

#[test]
fn each_refusal_has_its_own_answer() {
    assert_eq!(with("GET /", "").unwrap_err(), Failure::MissingHost);
    assert_eq!(read("GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap_err(), Failure::LowVersion);
    assert_eq!(read("GET / HTTP/2.0\r\nHost: a\r\n\r\n").unwrap_err(), Failure::BadVersion);
    assert_eq!(with("CONNECT a:443", HOST).unwrap_err(), Failure::MethodNotServed);
    assert_eq!(with("CONNECT /", HOST).unwrap_err(), Failure::MethodNotServed);
    assert_eq!(read(&format!("GET /{} HTTP/1.1", "a".repeat(HEAD_BYTES))).unwrap_err(), Failure::TargetTooLong);
    let long = format!("{HOST}x: {}\r\n", "a".repeat(HEAD_BYTES));
    assert_eq!(with("GET /", &long).unwrap_err(), Failure::HeadTooLarge);
    let many = format!("{HOST}{}", "x: 1\r\n".repeat(FIELDS));
    assert_eq!(with("GET /", &many).unwrap_err(), Failure::HeadTooLarge);
    for wrong in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx: 1\n\r\n",
        "\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.11\r\nHost: a\r\n\r\n",
    ] {
        assert!(matches!(read(wrong), Err(Failure::BadRequest(_))), "{wrong:?}");
    }
}

#[test]
fn an_upgrade_is_one_when_connection_says_so() {
    let asked = |fields: &str| with("GET /", &format!("{HOST}{fields}")).unwrap().upgrade.is_some();
    assert!(asked("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"));
    assert!(!asked("Upgrade: websocket\r\n"));
    assert!(!asked("Connection: upgrade\r\nUpgrade: h2c\r\n"));
    assert!(!asked("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n"));
}

#[test]
fn an_answer_switches_to_what_was_asked_for_or_not_at_all() {
    let read = |upgrade: bool, fields: &str| {
        let text = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
        response(text.as_bytes(), Asked { head: false, upgrade }, &mut Head::default())
    };
    assert!(read(true, "Connection: upgrade\r\nUpgrade: WebSocket\r\n").is_ok());
    for wrong in ["", "Connection: upgrade\r\n", "Connection: upgrade\r\nUpgrade: h2c\r\n"] {
        assert!(read(true, wrong).is_err(), "{wrong:?}");
    }
    assert!(read(false, "Connection: upgrade\r\nUpgrade: websocket\r\n").is_err());
}

#[test]
fn what_begins_like_nothing_of_http_is_told_by_its_first_bytes() {
    for begun in ["", "G", "GET /", "-x", "~"] {
        assert_eq!(begins_request(begun.as_bytes()), Ok(()), "{begun:?}");
    }
    for wrong in ["\x16\x03\x01", "\r\n", "\n", " GET", "\0", "{", "\u{feff}GET"] {
        assert!(begins_request(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
    for begun in ["", "H", "\r\n\r", "\r\nHTTP/1", "HTTP/1.1 200 OK\r\n"] {
        assert!(may_begin_answer(begun.as_bytes()), "{begun:?}");
    }
    for wrong in ["x", "\x15\x03\x01", "HTTP/2", "HTTq", "http/1.1", "\r\n <"] {
        assert!(!may_begin_answer(wrong.as_bytes()), "{wrong:?}");
    }
}

#[test]
fn a_response_says_whether_its_connection_stays() {
    let read = |text: &str, head_asked| {
        let mut head = Head::default();
        let asked = Asked { head: head_asked, upgrade: false };
        response(text.as_bytes(), asked, &mut head).map(|after| (after, head.length))
    };
    let stays = After { keep: true, until_close: false };
    let ends = After { keep: false, until_close: true };
    assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false), Ok((stays, Length::Exact(3))));
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n", false), Ok((ends, Length::Unknown)));
    assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true), Ok((stays, Length::Empty)));
    assert_eq!(read("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false), Ok((stays, Length::Empty)));
    let closing = After { keep: false, until_close: false };
    let text = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(text, false), Ok((closing, Length::Unknown)));
    for wrong in [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 999 Odd\r\n\r\n",
    ] {
        assert!(read(wrong, false).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn where_a_head_ends_does_not_depend_on_the_reads(
        lines in prop::collection::vec("[ -~]{0,30}(\r\n|\r\n|\r\n|\n|\r)", 0..12),
        cuts in prop::collection::vec(0_usize..400, 0..6),
    ) {
        let text = lines.concat();
        let whole = Scan::default().end(text.as_bytes());
        let (mut scan, mut last) = (Scan::default(), Ok(None));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]).collect();
        cuts.sort_unstable();
        for cut in cuts {
            last = scan.end(&text.as_bytes()[..cut]);
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        prop_assert_eq!(whole, last);
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in "[\\x00-\\xff]{0,200}\r\n\r\n", line in "(GET|POST) [ -~]{1,20} HTTP/1.1\r\n") {
        let _ = read(&text);
        let _ = read(&format!("{line}{text}"));
    }
}
