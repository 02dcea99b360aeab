//! Plays one step: says something, and hands what was heard to the judge.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use http::Request;
use http_body_util::Full;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{
    case::{ClientTls, Move, Step},
    heard::{Heard, Session},
    judge, peer,
    stage::Stage,
};
use crate::{
    client::{Client, Connection, with_body},
    grpc::Grpc,
    mesh::HOST,
    peer_metadata,
    raw::Raw,
    tls_peer::{Stream, TlsClient},
};

/// Everything that was not as expected.
pub(super) async fn play(stage: &mut Stage, step: &Step) -> Vec<String> {
    let Some(patience) = step.eventually else {
        return once(stage, step).await.unwrap_or_else(|error| vec![error]);
    };
    let start = Instant::now();
    loop {
        let faults = once(stage, step).await.unwrap_or_else(|error| vec![error]);
        if faults.is_empty() || start.elapsed() > patience.0 {
            return faults;
        }
        sleep(PACE).await;
    }
}

async fn once(stage: &mut Stage, step: &Step) -> Result<Vec<String>, String> {
    if let Some(objects) = &step.apply {
        stage.apply(objects).await?;
        return Ok(Vec::new());
    }
    for (name, starts) in [(&step.stop, false), (&step.start, true)] {
        let Some(name) = name else { continue };
        let peer = stage.peers.get_mut(name).ok_or_else(|| format!("there is no endpoint `{name}`"))?;
        if starts {
            peer.resume().await
        } else {
            peer.stop().await
        }
        return Ok(Vec::new());
    }
    let before = judge::Before::of(stage, step).await?;
    let heard = match (&step.raw, &step.talk) {
        (Some(raw), _) => vec![timed(say_raw(stage, step, &stage.spelled(raw))).await],
        (_, Some(moves)) => vec![timed(converse(stage, step, moves)).await],
        _ => ask(stage, step).await?,
    };
    judge::faults(stage, step, &heard, before).await
}

async fn timed(heard: impl Future<Output = Result<Heard, String>>) -> Heard {
    let start = Instant::now();
    let heard = heard.await.unwrap_or_else(Heard::nothing);
    Heard { took: start.elapsed(), ..heard }
}

/// Who asks: a client, and the SNI that it sends.
struct Caller {
    client: Client,
    tls: Option<TlsClient>,
    address: std::net::SocketAddr,
    /// A unix socket that it connects to instead.
    through: Option<String>,
    sni: String,
    is_h2: bool,
}

impl Caller {
    fn of(stage: &Stage, step: &Step) -> Result<Self, String> {
        let running = stage.proxy(step.at.as_deref())?;
        let port = match step.port {
            None if running.is_sidecar => 15_001,
            None | Some(80) if !running.is_sidecar => 8080,
            Some(443) if !running.is_sidecar => 8443,
            Some(port) => port,
            None => 8080,
        };
        let address = std::net::SocketAddr::new(running.ip, port);
        let path = |text: &String| stage.spelled(text).trim_start_matches("unix://").to_owned();
        let through = step.through.as_ref().map(path);
        let host = step.host.as_deref().unwrap_or(HOST);
        let host_alone = host.split(':').next().unwrap_or(host);
        let is_h2 = step.version == Some(2) || step.grpc.is_some();
        let implied = (port == 8443 && !running.is_sidecar && step.port == Some(443)).then(ClientTls::default);
        let Some(wanted) = step.tls.clone().or(implied) else {
            let client = Client::plain(address);
            let client = if is_h2 { client.h2() } else { client };
            return Ok(Self { client, tls: None, address, through, sni: host_alone.into(), is_h2 });
        };
        let tls = tls_client(stage, &wanted, is_h2)?;
        let client = Client::over(address, tls.clone());
        let client = if is_h2 { client.http2() } else { client };
        let sni = wanted.sni.unwrap_or_else(|| host_alone.to_owned());
        Ok(Self { client, tls: Some(tls), address, through, sni, is_h2 })
    }

    async fn dial(&self) -> Result<(Box<dyn Stream>, Session), String> {
        if let Some(path) = &self.through {
            let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
            return Ok((Box::new(stream), Session::default()));
        }
        let Some(tls) = &self.tls else {
            let stream = self.client.dial(&self.sni).await.map_err(|error| error.to_string())?;
            return Ok((stream, Session::default()));
        };
        let mut stream = tls.connect(self.address, &self.sni).await.map_err(|error| error.to_string())?;
        let session = Session::of(&stream);
        // As Istio's proxies do, which is no business of a case.
        if session.alpn.iter().any(|agreed| agreed == peer_metadata::PROTOCOL) {
            peer_metadata::meet(&mut stream, "client-v1").await.map_err(|error| error.to_string())?;
        }
        Ok((Box::new(stream), session))
    }

    async fn connect(&self) -> Result<(Connection, Session), String> {
        let (stream, session) = self.dial().await?;
        Ok((Connection::over(stream, self.is_h2).await.map_err(|error| told(&*error))?, session))
    }
}

fn tls_client(stage: &Stage, wanted: &ClientTls, is_h2: bool) -> Result<TlsClient, String> {
    let shown = wanted.certificate.as_ref().map(|name| stage.certificates.get(name)).transpose()?;
    let versions: &[&rustls::SupportedProtocolVersion] = match wanted.version.as_deref() {
        None => rustls::ALL_VERSIONS,
        Some("1.2") => &[&rustls::version::TLS12],
        Some("1.3") => &[&rustls::version::TLS13],
        Some(other) => return Err(format!("TLS `{other}` is neither 1.2 nor 1.3")),
    };
    let ca = wanted.trusts.as_deref().unwrap_or("edge");
    let root = stage.certificates.root(ca)?;
    let tls = TlsClient::with(&root, shown, versions);
    let tls = if ca == "mesh" { tls.for_any_name(&root) } else { tls };
    let http = if is_h2 { "h2" } else { "http/1.1" };
    Ok(match &wanted.alpn {
        Some(list) => tls.offering(&list.iter().map(String::as_str).collect::<Vec<_>>()),
        None if ca == "mesh" => tls.offering(&[if is_h2 { "istio-h2" } else { "istio-http/1.1" }, "istio", http]),
        None => tls.offering(&[http]),
    })
}

/// Sends the requests of a step, as often as it says.
async fn ask(stage: &Stage, step: &Step) -> Result<Vec<Heard>, String> {
    let caller = Arc::new(Caller::of(stage, step)?);
    if let Some(path) = &step.grpc {
        return Ok(vec![timed(call(&caller, step, path)).await]);
    }
    if let Some(count) = step.parallel {
        let requests: Vec<_> = (1..=count).map(|number| request_of(step, number)).collect::<Result<_, _>>()?;
        return Ok(join_all(requests.into_iter().map(|request| timed(ask_alone(&caller, request)))).await);
    }
    let count = step.times.unwrap_or(1);
    let mut heard = Vec::with_capacity(count);
    let mut kept = None;
    for number in 1..=count {
        let request = request_of(step, number)?;
        if !step.kept && count <= FEW {
            heard.push(timed(ask_alone(&caller, request)).await);
            continue;
        }
        let (mut connection, session) = match kept.take() {
            Some(kept) => kept,
            None => caller.connect().await?,
        };
        let answer = async { Ok(connection.send(request).await.map_err(|error| told(&*error))?.into()) };
        heard.push(Heard { session: session.clone(), ..timed(answer).await });
        kept = (!connection.is_closed()).then_some((connection, session));
    }
    Ok(heard)
}

async fn ask_alone(caller: &Caller, request: Request<Full<bytes::Bytes>>) -> Result<Heard, String> {
    let (mut connection, session) = caller.connect().await?;
    let reply = connection.send(request).await.map_err(|error| told(&*error))?;
    Ok(Heard { session, ..reply.into() })
}

/// The request of this number, from 1.
fn request_of(step: &Step, number: usize) -> Result<Request<Full<bytes::Bytes>>, String> {
    let line = match (&step.get, &step.request) {
        (Some(path), _) => format!("GET {path}"),
        (None, Some(line)) => line.clone(),
        (None, None) => return Err("nothing is asked".into()),
    };
    let (method, target) = line.split_once(' ').ok_or("a request is METHOD /path")?;
    let scheme = if step.tls.is_some() || step.port == Some(443) { "https" } else { "http" };
    let host = step.host.as_deref().unwrap_or(HOST);
    let mut builder = Request::builder().method(method).uri(format!("{scheme}://{host}{target}"));
    if let Some(headers) = builder.headers_mut() {
        headers.extend(peer::fields(&step.headers, Some(number)).map_err(|error| error.to_string())?);
    }
    Ok(with_body(builder, step.body.clone().unwrap_or_default()))
}

async fn call(caller: &Caller, step: &Step, path: &str) -> Result<Heard, String> {
    let scheme = if caller.tls.is_some() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", step.host.as_deref().unwrap_or(HOST));
    let grpc = Grpc::connect(&caller.client, &origin).await.map_err(|error| told(&*error))?;
    let message = step.body.as_deref().unwrap_or("hello");
    Ok(grpc.unary(path, message).await.map_err(|error| told(&*error))?.into())
}

async fn say_raw(stage: &Stage, step: &Step, bytes: &str) -> Result<Heard, String> {
    let (stream, session) = Caller::of(stage, step)?.dial().await?;
    let mut raw = Raw::over(stream);
    raw.send(bytes).await.map_err(|error| error.to_string())?;
    let heard = raw.hear(SHORT).await;
    if heard.text.is_empty() && heard.closed {
        return Err("closed".into());
    }
    Ok(Heard { status: heard.status(), body: heard.text, session, ..Heard::default() })
}

async fn converse(stage: &Stage, step: &Step, moves: &[Move]) -> Result<Heard, String> {
    let (stream, session) = match Caller::of(stage, step)?.dial().await {
        Ok(dialled) => dialled,
        // So soon that not even the connecting saw it open.
        Err(why) if matches!(moves, [Move::Closed]) && why.contains("reset by peer") => return Ok(Heard::default()),
        Err(why) => return Err(why),
    };
    let mut raw = Raw::over(stream);
    let mut body = String::new();
    for one in moves {
        match one {
            Move::Say(text) => raw.send(stage.spelled(text)).await.map_err(|error| format!("say {text}: {error}"))?,
            Move::Hear(text) => {
                let bytes = raw.read(text.len()).await.map_err(|error| format!("hear {text}: {error}"))?;
                let heard = String::from_utf8_lossy(&bytes).into_owned();
                if heard != *text {
                    return Err(format!("heard `{heard}` and not `{text}`"));
                }
                body.push_str(&heard);
            }
            Move::End => raw.finish().await,
            Move::Quiet(span) => silence(&mut raw, span.0, false).await?,
            Move::Closed => silence(&mut raw, PATIENCE, true).await?,
        }
    }
    Ok(Heard { body, session, ..Heard::default() })
}

async fn silence(raw: &mut Raw, span: Duration, to_the_end: bool) -> Result<(), String> {
    let heard = raw.hear(span).await;
    match (heard.text.as_str(), heard.closed) {
        ("", closed) if closed == to_the_end => Ok(()),
        ("", true) => Err("closed".into()),
        ("", false) => Err(format!("still open after {span:?}")),
        (text, _) => Err(format!("heard `{text}`, too")),
    }
}

/// An error with its causes.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Between two tries of a step that becomes true at some time.
const PACE: Duration = Duration::from_millis(50);

/// More requests than these share a connection.
const FEW: usize = 20;

const PATIENCE: Duration = Duration::from_secs(10);

/// An answer to bytes comes at once.
const SHORT: Duration = Duration::from_secs(3);
