//! A forward proxy, as companies have one on the way out: it takes CONNECT, and POST with bytes as bodies.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpStream, tcp::OwnedReadHalf},
};

use crate::listening::Listening;

/// A running proxy; ends when dropped.
pub struct ForwardProxy {
    state: Arc<State>,
    _listening: Listening,
}

/// What it does with whoever asks.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Connects to where its names lead.
    Connects,
    /// Answers with this status.
    Refuses(u16),
    /// Takes the request and says nothing.
    IsSilent,
}

struct State {
    manner: Manner,
    /// `host:port` as it is asked for, and where that is.
    names: BTreeMap<String, SocketAddr>,
    asked: Mutex<Vec<String>>,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl ForwardProxy {
    /// Starts one that knows these names.
    pub async fn start(address: SocketAddr, manner: Manner, names: &[(&str, SocketAddr)]) -> Self {
        let names = names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let state = Arc::new(State { manner, names, asked: Mutex::default() });
        let shared = Arc::clone(&state);
        let listening = Listening::start(address, move |stream| serve(stream, Arc::clone(&shared))).await;
        Self { state, _listening: listening }
    }

    /// What it was asked for, as `CONNECT db.test:3306`.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().map(|asked| asked.clone()).unwrap_or_default()
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request| answer(request, Arc::clone(&state)));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await.ok();
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, Infallible> {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let target = request.uri().authority().map_or(host, ToString::to_string);
    if let Ok(mut asked) = state.asked.lock() {
        asked.push(format!("{} {target}", request.method()));
    }
    match state.manner {
        Manner::Connects => {}
        Manner::Refuses(status) => return Ok(short(StatusCode::from_u16(status).expect("a status"))),
        Manner::IsSilent => std::future::pending().await,
    }
    let Some(address) = state.names.get(&target) else { return Ok(short(StatusCode::BAD_GATEWAY)) };
    let Ok(mut target) = TcpStream::connect(address).await else { return Ok(short(StatusCode::BAD_GATEWAY)) };
    if request.method() == Method::CONNECT {
        tokio::spawn(async move {
            if let Ok(client) = hyper::upgrade::on(request).await {
                copy_bidirectional(&mut TokioIo::new(client), &mut target).await.ok();
            }
        });
        return Ok(short(StatusCode::OK));
    }
    let (read, mut write) = target.into_split();
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                write.write_all(&data).await.ok();
            }
        }
        write.shutdown().await.ok();
    });
    Ok(Response::new(StreamBody::new(stream::unfold(read, piece).boxed()).boxed_unsync()))
}

/// What comes next from the target.
async fn piece(mut read: OwnedReadHalf) -> Option<(std::io::Result<Frame<Bytes>>, OwnedReadHalf)> {
    let mut buffer = vec![0; 8 * 1024];
    match read.read(&mut buffer).await {
        Ok(0) => None,
        Ok(count) => {
            buffer.truncate(count);
            Some((Ok(Frame::data(buffer.into())), read))
        }
        Err(error) => Some((Err(error), read)),
    }
}

fn short(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}
