use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    Application,
    ask::{Told, ask},
    asked::{How, Probe, read},
    redirect::{Next, follow},
};

const HERE: Application = Application { address: IpAddr::V4(Ipv4Addr::LOCALHOST), source: None };

/// An application that gives these answers, a connection each; gives its port.
async fn application(answers: Vec<String>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.windows(4).any(|it| it == b"\r\n\r\n") {
                let mut part = [0; 1024];
                let read = stream.read(&mut part).await.unwrap();
                if read == 0 {
                    break;
                }
                seen.extend_from_slice(&part[..read]);
            }
            let answer = answer.replace("SEEN", &String::from_utf8_lossy(&seen).replace("\r\n", "|"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
}

fn probe(text: &str) -> Probe {
    read(&format!("{{\"/p\": {text}}}")).unwrap().remove("/p").unwrap()
}

async fn asked(text: &str) -> Told {
    let mut headers = HeaderMap::new();
    headers.insert("host", "10.0.0.1:15020".parse().unwrap());
    headers.insert("user-agent", "kube-probe/1.33".parse().unwrap());
    ask(&probe(text), HERE, &headers).await
}

fn body(told: &Told) -> &str {
    std::str::from_utf8(&told.body).unwrap()
}

#[test]
fn probes_are_read_as_the_injection_writes_them() {
    let told = probe(r#"{"httpGet": {"path": "live", "port": "8080", "scheme": "HTTPS"}, "timeoutSeconds": 4}"#);
    assert_eq!(told.how, How::Http { tls: true, port: 8080, path: "/live".to_owned(), headers: Vec::new() });
    assert_eq!(told.patience, Duration::from_secs(4));
    assert_eq!(probe(r#"{"tcpSocket": {"port": 9}}"#).patience, Duration::from_secs(1));
    assert_eq!(probe(r#"{"grpc": {"port": 9, "service": null}}"#).how, How::Grpc { port: 9, service: String::new() });
    assert!(read("").unwrap().is_empty());
    let hook =
        |text: &str| read(&format!("{{\"/app-lifecycle/app/prestopz\": {text}}}")).unwrap().pop_first().unwrap().1;
    assert_eq!(hook(r#"{"tcpSocket": {"port": 9}}"#).patience, Duration::from_secs(300), "a hook has its time");
    assert_eq!(hook(r#"{"tcpSocket": {"port": 9}, "timeoutSeconds": 7}"#).patience, Duration::from_secs(7));
    for broken in
        ["x", r#"{"/p": {}}"#, r#"{"/p": {"tcpSocket": {"port": "web"}}}"#, r#"{"/p": {"tcpSocket": {"port": 0}}}"#]
    {
        assert!(read(broken).is_err(), "{broken}");
    }
}

#[test]
fn redirects_stay_with_the_application_or_are_an_answer() {
    let here = |tls, port, path: &str| Next::Here { tls, port, path: path.to_owned() };
    let follow = |location: &str| follow(location, (false, 8080), "/a/b?c", &["10.0.0.1", "shop"]);
    assert_eq!(follow("/x"), here(false, 8080, "/x"));
    assert_eq!(follow("x"), here(false, 8080, "/a/x"));
    assert_eq!(follow("x/y?z=http://shop/#top"), here(false, 8080, "/a/x/y?z=http://shop/"));
    assert_eq!((follow("?d"), follow("")), (here(false, 8080, "/a/b?d"), here(false, 8080, "/a/b")));
    assert_eq!(follow("http://10.0.0.1:9/y?z"), here(false, 9, "/y?z"));
    assert_eq!(follow("https://SHOP/"), here(true, 443, "/"));
    assert_eq!(follow("//shop:8443/q"), here(false, 8443, "/q"));
    for elsewhere in ["http://example.com/", "ftp://shop/", "http://10.0.0.2/", "mailto:shop"] {
        assert_eq!(follow(elsewhere), Next::Elsewhere, "{elsewhere}");
    }
}

#[tokio::test]
async fn the_application_is_asked_as_the_kubelet_would() {
    let port = application(vec![answer("200 OK", "", "SEEN")]).await;
    let text = format!(
        r#"{{"httpGet": {{"path": "/r?x=1", "port": {port}, "httpHeaders": [{{"name": "X-Probe", "value": "1"}}]}}}}"#
    );
    let told = asked(&text).await;
    assert_eq!(told.status, 200);
    let seen = body(&told).to_ascii_lowercase();
    assert!(seen.starts_with("get /r?x=1 http/1.1|"), "{seen}");
    for header in [&format!("host: 10.0.0.1:{port}"), "user-agent: kube-probe/1.33", "x-probe: 1", "connection: close"]
    {
        assert!(seen.contains(header), "{header}: {seen}");
    }
}

#[tokio::test]
async fn nothing_that_an_unknown_client_claims_is_passed_on() {
    let port = application(vec![answer("200 OK", "", "SEEN")]).await;
    let own = r#"[{"name": "X-Forwarded-Prefix", "value": "/probe"}]"#;
    let probe = probe(&format!(r#"{{"httpGet": {{"path": "/", "port": {port}, "httpHeaders": {own}}}}}"#));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "10.0.0.1:15020"),
        ("accept", "*/*"),
        ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/a/sa/b"),
        ("x-forwarded-prefix", "/claimed"),
        ("forwarded", "for=claimed"),
        ("x-envoy-claimed", "1"),
        ("cookie", "session=claimed"),
        ("authorization", "claimed"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let told = ask(&probe, HERE, &headers).await;
    let seen = body(&told).to_ascii_lowercase();
    assert!(seen.contains("accept: */*") && seen.contains("x-forwarded-prefix: /probe"), "{seen}");
    assert!(!seen.contains("claimed") && !seen.contains("spiffe"), "{seen}");
}

#[tokio::test]
async fn the_application_is_asked_also_where_nothing_gave_us_the_address_to_ask_from() {
    let nowhere: IpAddr = "2001:db8::6".parse().unwrap();
    assert!(!super::ask::is_here(nowhere) && super::ask::is_here("127.0.0.6".parse().unwrap()));
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    let application = Application { address: "::1".parse().unwrap(), source: Some(nowhere) };
    let told = ask(&probe(&format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#)), application, &HeaderMap::new()).await;
    assert_eq!(told.status, 200, "{}", body(&told));
}

#[tokio::test]
async fn what_the_application_answers_is_passed_on_up_to_a_limit() {
    let port = application(vec![answer("503 Away", "", &"a".repeat(50_000))]).await;
    let told = asked(&format!(r#"{{"httpGet": {{"path": "/", "port": {port}}}}}"#)).await;
    assert_eq!((told.status.as_u16(), told.body.len()), (503, 10 << 10));
}

#[tokio::test]
async fn a_redirect_is_followed_and_a_ring_of_them_ends() {
    let to = |path: &str| answer("302 Found", &format!("location: {path}\r\n"), "");
    let port = application(vec![to("/there"), answer("204 No Content", "", "")]).await;
    assert_eq!(asked(&format!(r#"{{"httpGet": {{"path": "/", "port": {port}}}}}"#)).await.status, 204);

    let port = application(vec![to("http://login.example.com/")]).await;
    assert_eq!(asked(&format!(r#"{{"httpGet": {{"path": "/", "port": {port}}}}}"#)).await.status, 200);

    let port = application(vec![to("/again"); 20]).await;
    let told = asked(&format!(r#"{{"httpGet": {{"path": "/", "port": {port}}}}}"#)).await;
    assert_eq!((told.status.as_u16(), body(&told)), (500, "the application redirects more than 10 times\n"));
}

#[tokio::test]
async fn an_open_port_is_enough_for_a_tcp_probe() {
    let port = application(vec![String::new()]).await;
    assert_eq!(asked(&format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#)).await.status, 200);
    // Nobody listens where somebody has just stopped to.
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    let told = asked(&format!(r#"{{"tcpSocket": {{"port": {closed}}}}}"#)).await;
    assert_eq!(told.status, 500);
    assert!(body(&told).starts_with("connecting to the application at 127.0.0.1:"), "{}", body(&told));
}

#[tokio::test]
async fn an_application_that_is_silent_is_waited_for_as_long_as_the_probe_says() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = asked(&format!(r#"{{"httpGet": {{"path": "/", "port": {port}}}, "timeoutSeconds": 1}}"#)).await;
    assert_eq!((told.status.as_u16(), body(&told)), (500, "the application did not answer within 1s\n"));
    drop(listener);
}
