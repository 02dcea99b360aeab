//! Both sides of HTTP/2, with the library that judges ours.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::Poll,
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, server::SendResponse};
use harness::{client::Failure, mesh::HOST, tunnel::send_all};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::message::{Case, Content, Fields, Heard, Message};

/// Sends a request and reads its answer.
pub(super) async fn ask(sender: SendRequest<Bytes>, case: &Case) -> Result<Heard, Failure> {
    let (method, path) = case.request.start.split_once(' ').ok_or("a method and a path")?;
    let mut request = Request::builder().method(method).uri(format!("http://{HOST}{path}")).body(())?;
    *request.headers_mut() = head(&case.request, true);
    let ended = case.request.content == Content::None;
    let (mut response, mut stream) = sender.ready().await?.send_request(request, ended)?;
    let upload = async {
        if !ended {
            content(&mut stream, &case.request).await?;
        }
        Ok::<_, Failure>(())
    };
    let mut interim = Vec::new();
    let answer = async {
        let response = poll_fn(|cx| {
            while let Poll::Ready(Some(early)) = response.poll_informational(cx) {
                let (parts, ()) = early?.into_parts();
                interim.push((parts.status.as_u16(), listed(&parts.headers)));
            }
            Pin::new(&mut response).poll(cx)
        })
        .await?;
        let (parts, body) = response.into_parts();
        let (body, trailers) = read(body).await?;
        let start = parts.status.as_str().to_owned();
        Ok::<_, Failure>(Heard { start, fields: listed(&parts.headers), body, trailers, interim: Vec::new() })
    };
    let (sent, heard) = tokio::join!(upload, answer);
    sent?;
    Ok(Heard { interim, ..heard? })
}

/// Reads a request.
pub(super) async fn hear(request: Request<RecvStream>) -> Result<Heard, Failure> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let start = format!("{} {path}", parts.method);
    let (body, trailers) = read(body).await?;
    Ok(Heard { start, fields: listed(&parts.headers), body, trailers, interim: Vec::new() })
}

/// Answers it.
pub(super) async fn answer(respond: &mut SendResponse<Bytes>, case: &Case) -> Result<(), Failure> {
    for (status, fields) in &case.interim {
        let mut response = Response::builder().status(*status).body(())?;
        *response.headers_mut() = map(fields);
        respond.send_informational(response)?;
    }
    let mut response = Response::builder().status(case.answer.start.as_str()).body(())?;
    *response.headers_mut() = head(&case.answer, case.has_body());
    let ended = !case.has_body() || case.answer.content == Content::None;
    let mut stream = respond.send_response(response, ended)?;
    if !ended {
        content(&mut stream, &case.answer).await?;
    }
    Ok(())
}

async fn content(stream: &mut SendStream<Bytes>, message: &Message) -> Result<(), Failure> {
    let body = Bytes::copy_from_slice(message.content.bytes());
    send_all(stream, body).await?;
    if message.trailers.is_empty() {
        stream.send_data(Bytes::new(), true)?;
    } else {
        stream.send_trailers(map(&message.trailers))?;
    }
    Ok(())
}

async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Fields), Failure> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((all, listed(&trailers)))
}

fn head(message: &Message, framed: bool) -> HeaderMap {
    let mut headers = map(&message.fields);
    if let Content::Length(body) = &message.content
        && framed
    {
        headers.insert("content-length", body.len().into());
    }
    headers
}

fn map(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
    }
    headers
}

fn listed(headers: &HeaderMap) -> Fields {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
