//! Real servers behind the gateway: nginx, Apache httpd and Node.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use harness::{
    client::get,
    mesh::{HOST, Mesh, SHOP},
    message::{Ask, COMBINATIONS, Version, values},
    process::Process,
    program,
};
use http_body_util::BodyExt as _;
use tempfile::TempDir;

use crate::versions::{Versions, addresses};

/// A web server with files, in HTTP/1.1 and in HTTP/2.
struct Site {
    versions: Versions,
    large: Bytes,
    _server: Process,
    _folder: TempDir,
}

impl Site {
    /// `configuration` is told the folder and both addresses; `arguments` the path of the file with it.
    async fn stand(
        name: &str,
        program: &Path,
        configuration: impl FnOnce(&str, [SocketAddr; 2]) -> String,
        arguments: impl FnOnce(&str) -> Vec<String>,
    ) -> Self {
        let mesh = Mesh::with_edge();
        let addresses = addresses(&mesh);
        let folder = TempDir::with_prefix("sluice-site-").expect("a temporary folder can be made");
        // Servers that root starts serve as somebody else.
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the mode is set");
        open(folder.path());
        let large: Bytes = (0..2_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect::<Vec<_>>().into();
        for version in ["one", "two"] {
            fs::create_dir(folder.path().join(version)).expect("a folder can be made");
            open(&folder.path().join(version));
            for file in ["large", "chunked.shtml", "close.shtml"] {
                fs::write(folder.path().join(version).join(file), &large).expect("a file can be written");
            }
        }
        let file = folder.path().join("server.conf");
        let text = configuration(&folder.path().display().to_string(), addresses);
        fs::write(&file, text).expect("the configuration can be written");
        let server = program::serve(name, program, &arguments(&file.display().to_string()), &addresses).await;
        Self { versions: Versions::stand(mesh).await, large, _server: server, _folder: folder }
    }

    /// Every way of an answer, in all combinations of HTTP versions.
    async fn serves_files(&self) {
        for combination in COMBINATIONS {
            for path in ["/large", "/chunked.shtml", "/close.shtml"] {
                let answer = self.versions.answer(combination, Ask::get(path)).await;
                let seen = (answer.status, answer.body.len(), answer.cut.as_str());
                assert_eq!(seen, (200, self.large.len(), ""), "{combination:?} {path}");
                assert!(answer.body == self.large, "{combination:?} {path}");
            }
            let head = self.versions.answer(combination, Ask::new("HEAD", "/large")).await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{combination:?}");
            assert_eq!(values(&head.headers, "content-length"), ["2000000"], "{combination:?}");
            let mut again = Ask::get("/large");
            again.headers.insert("if-none-match", head.headers["etag"].clone());
            let unchanged = self.versions.answer(combination, again).await;
            assert_eq!(
                (unchanged.status, unchanged.body.len(), unchanged.cut.as_str()),
                (304, 0, ""),
                "{combination:?}"
            );
            let part = self.versions.answer(combination, Ask::get("/large").header("range", "bytes=10-19")).await;
            assert_eq!((part.status, part.body), (206, self.large.slice(10..20)), "{combination:?}");
        }
    }

    /// It ends its connections after three requests each, and says so.
    async fn loses_no_request_of_a_server_that_ends_its_connections(&self) {
        for browser in [self.versions.mesh.browser(), self.versions.mesh.browser().h2()] {
            let mut connection = browser.connect(HOST).await.expect("HTTPS works");
            for number in 0..40 {
                let path = if number % 2 == 0 { "one" } else { "two" };
                let reply = connection.send(get(&format!("{SHOP}/{path}/large"))).await.expect("an answer");
                assert_eq!((reply.code(), reply.body.len()), (200, self.large.len()), "request {number}");
            }
        }
    }

    /// It answers an upload when it sees its length, with one of these. All of the answer arrives, whatever still comes of
    /// the upload.
    async fn answers_an_upload(&self, statuses: &[u16]) {
        for combination in COMBINATIONS {
            let mut ask = Ask { times: 64, ..Ask::post("/large", vec![b'x'; 16 * 1024]) };
            if combination.0 == Version::Two {
                ask = ask.header("content-length", "1048576");
            }
            let answer = self.versions.answer(combination, ask).await;
            assert!(statuses.contains(&answer.status), "{combination:?}: {answer:?}");
            assert_eq!(answer.cut, "", "{combination:?}: {} bytes", answer.body.len());
        }
    }
}

fn nginx(folder: &str, [one, two]: [SocketAddr; 2]) -> String {
    let temporary = |what: &str| format!("{what}_temp_path {folder}/{what};");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary).join(" ");
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n\
           access_log off; {temporary}\n\
           keepalive_requests 3; client_max_body_size 1000; root {folder};\n\
           server {{\n\
             listen {one}; listen {two} http2;\n\
             location ~ chunked {{ ssi on; ssi_types *; }}\n\
             location ~ close {{ ssi on; ssi_types *; chunked_transfer_encoding off; }}\n\
           }}\n\
         }}\n"
    )
}

async fn nginx_site(story: &str) -> Option<Site> {
    let program = program::executable(story, "nginx")?;
    let arguments = |file: &str| ["-e", "stderr", "-c", file].map(str::to_owned).to_vec();
    Some(Site::stand("nginx", &program, nginx, arguments).await)
}

#[tokio::test]
async fn nginx_serves_files_in_every_framing() {
    let Some(site) = nginx_site("nginx_serves_files_in_every_framing").await else { return };
    site.serves_files().await;
}

#[tokio::test]
async fn nginx_ends_connections_and_no_request_is_lost() {
    let Some(site) = nginx_site("nginx_ends_connections_and_no_request_is_lost").await else { return };
    site.loses_no_request_of_a_server_that_ends_its_connections().await;
}

#[tokio::test]
async fn nginx_refuses_an_upload_that_still_comes() {
    let Some(site) = nginx_site("nginx_refuses_an_upload_that_still_comes").await else { return };
    site.answers_an_upload(&[413]).await;
}

/// The modules next to an installed httpd, or next to one that was unpacked.
fn modules(program: &Path) -> PathBuf {
    let unpacked =
        program.parent().and_then(Path::parent).map(|peers| peers.join("apache2-bin/usr/lib/apache2/modules"));
    unpacked.filter(|folder| folder.is_dir()).unwrap_or_else(|| "/usr/lib/apache2/modules".into())
}

fn apache(modules: &Path, folder: &str, [one, two]: [SocketAddr; 2]) -> String {
    let names = ["mpm_event", "authz_core", "http2", "include", "filter", "mime", "setenvif"];
    let load = |name: &str| format!("LoadModule {name}_module {}/mod_{name}.so\n", modules.display());
    format!(
        "{}ServerRoot {folder}\nServerName localhost\nPidFile {folder}/pid\nErrorLog /dev/stderr\nTypesConfig /dev/null\n\
         User nobody\nGroup nogroup\nDefaultRuntimeDir {folder}\nListen {one}\nListen {two}\nProtocols h2c http/1.1\n\
         DocumentRoot {folder}\nKeepAlive On\nMaxKeepAliveRequests 3\nLimitRequestBody 1000\n\
         <Directory {folder}>\n  Require all granted\n  Options +Includes\n</Directory>\n\
         AddType text/html .shtml\nAddOutputFilter INCLUDES .shtml\n\
         SetEnvIf Request_URI close downgrade-1.0 force-response-1.0 nokeepalive\n",
        names.map(load).concat()
    )
}

async fn apache_site(story: &str) -> Option<Site> {
    let program = program::executable(story, "apache2")?;
    let modules = modules(&program);
    let configuration = |folder: &str, addresses| apache(&modules, folder, addresses);
    let arguments = |file: &str| ["-X", "-f", file].map(str::to_owned).to_vec();
    Some(Site::stand("Apache httpd", &program, configuration, arguments).await)
}

#[tokio::test]
async fn apache_serves_files_in_every_framing_and_as_http_1_0() {
    let Some(site) = apache_site("apache_serves_files_in_every_framing_and_as_http_1_0").await else { return };
    site.serves_files().await;
}

#[tokio::test]
async fn apache_ends_connections_and_no_request_is_lost() {
    let Some(site) = apache_site("apache_ends_connections_and_no_request_is_lost").await else { return };
    site.loses_no_request_of_a_server_that_ends_its_connections().await;
}

#[tokio::test]
async fn apache_answers_an_upload_that_still_comes_without_reading_it() {
    let story = "apache_answers_an_upload_that_still_comes_without_reading_it";
    let Some(site) = apache_site(story).await else { return };
    // In HTTP/2 it answers before it has read what it would refuse.
    site.answers_an_upload(&[413, 200]).await;
}

/// Node in HTTP/1.1 and in HTTP/2.
async fn node(story: &str) -> Option<(Versions, Process)> {
    let program = program::executable(story, "node")?;
    let mesh = Mesh::with_edge();
    let addresses = addresses(&mesh);
    let flags = addresses.map(|address| address.to_string());
    let arguments = [&[program::script("node.mjs")][..], &flags].concat();
    let server = program::serve("Node", &program, &arguments, &addresses).await;
    Some((Versions::stand(mesh).await, server))
}

#[tokio::test]
async fn node_answers_in_every_framing() {
    let Some((versions, _node)) = node("node_answers_in_every_framing").await else { return };

    for combination in COMBINATIONS {
        for _ in 0..3 {
            let pieces = "piece 1\npiece 2\npiece 3\n";
            for (path, body) in [("/length", "whole"), ("/chunked", pieces), ("/close", pieces)] {
                let answer = versions.answer(combination, Ask::get(path)).await;
                let seen = (answer.status, answer.text(), answer.cut.as_str());
                assert_eq!(seen, (200, body.to_owned(), ""), "{combination:?} {path}");
            }
        }
    }
}

#[tokio::test]
async fn node_sends_early_hints_and_trailers_and_reads_trailers() {
    let Some((versions, _node)) = node("node_sends_early_hints_and_trailers_and_reads_trailers").await else { return };

    for combination in COMBINATIONS {
        let hinted = versions.answer(combination, Ask::get("/hints")).await;
        assert_eq!((hinted.status, hinted.text().as_str()), (200, "after the hints"), "{combination:?}");
        let (status, hints) = hinted.interim.first().unwrap_or_else(|| panic!("no hints, {combination:?}: {hinted:?}"));
        let links = values(hints, "link").join(", ");
        assert_eq!(
            (*status, links.as_str()),
            (103, "</style.css>; rel=preload, </app.js>; rel=preload"),
            "{combination:?}"
        );

        let ask = Ask::post("/trailers", "a body").header("te", "trailers").trailer("x-said", "behind the body");
        let answer = versions.answer(combination, ask).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "before the trailers"), "{combination:?}");
        let trailers = ["x-sum", "x-heard"].map(|name| values(&answer.trailers, name).concat());
        assert_eq!(trailers, ["19", "behind the body"], "{combination:?}: {answer:?}");
    }
}

#[tokio::test]
async fn node_echoes_uploads_while_they_come_and_may_refuse_them() {
    let Some((versions, _node)) = node("node_echoes_uploads_while_they_come_and_may_refuse_them").await else { return };

    for combination in COMBINATIONS {
        let upload = |path| Ask { times: 100, ..Ask::post(path, vec![b'x'; 30_000]) };
        let echo = versions.answer(combination, upload("/echo")).await;
        assert_eq!((echo.status, echo.body.len(), echo.cut.as_str()), (200, 3_000_000, ""), "{combination:?}");
        let waits = versions.answer(combination, Ask { expects: true, ..Ask::post("/echo", "when asked") }).await;
        assert_eq!((waits.status, waits.text().as_str()), (200, "when asked"), "{combination:?}");
        let early = versions.answer(combination, upload("/early")).await;
        assert_eq!((early.status, early.text().as_str(), early.cut.as_str()), (413, "too much", ""), "{combination:?}");
    }
}

#[tokio::test]
async fn events_of_node_arrive_one_by_one() {
    let Some((versions, _node)) = node("events_of_node_arrive_one_by_one").await else { return };

    for browser in [versions.mesh.browser(), versions.mesh.browser().h2()] {
        for path in ["one", "two"] {
            let mut connection = browser.connect(HOST).await.expect("HTTPS works");
            let mut events = connection.open(get(&format!("{SHOP}/{path}/events"))).await.expect("an answer");
            assert_eq!(events.headers()["content-type"], "text/event-stream", "{path}");
            let first = events.body_mut().frame().await.expect("a frame").expect("an event").into_data();
            assert_eq!(first.expect("data"), "data: first\n\n", "{path}");
            assert_eq!(browser.status(&format!("{SHOP}/{path}/next")).await, 200, "{path}");
            let rest = events.into_body().collect().await.expect("the rest").to_bytes();
            assert_eq!(rest, "data: second\n\n", "{path}");
        }
    }
}
