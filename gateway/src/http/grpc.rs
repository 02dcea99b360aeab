//! One message there and one back by gRPC over HTTP/2, to a service of the mesh that is asked about a request.

pub(crate) mod envoy;

use std::{fmt, time::Duration};

use prost::Message;

use super::{
    call::{Call, Heard, NoAnswer, Way, call},
    desk::Desk,
    head::{Head, Length},
    limits::ANSWER,
    name::Name,
    record::grpc_status,
};
use crate::grpc::{
    frame::{Broken, frame, unframe},
    status::unescape,
    timeout,
};

/// A method of a service.
#[derive(Clone, Copy)]
pub(crate) struct Method<'a> {
    /// `/package.Service/Method`.
    pub(crate) path: &'a str,
    /// Whom it is asked of, as [`authority_of`] makes it.
    pub(crate) authority: &'a str,
    /// The answer is there within this time.
    pub(crate) limit: Duration,
    /// Metadata besides.
    pub(crate) headers: &'a [(Box<str>, Box<str>)],
}

/// Why there is no message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NoMessage {
    /// There is no answer at all.
    Unanswered(NoAnswer),
    /// The answer is no HTTP 200 of gRPC.
    NotGrpc(u16),
    /// The service says no, with gRPC's status and its own words.
    Status(u16, String),
    /// What came is not the message.
    Malformed(&'static str),
}

impl fmt::Display for NoMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(why) => f.write_str(why.why()),
            Self::NotGrpc(status) => write!(f, "it answers with {status}, and not by gRPC"),
            Self::Status(status, message) => write!(f, "gRPC status {status}: {message}"),
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

/// Istio's authority of a service that is asked by gRPC: the name of its cluster, with letters that hosts may have.
pub(crate) fn authority_of(cluster: &str) -> String {
    cluster.replace('|', "_.")
}

/// Asks. The way has to speak HTTP/2.
///
/// # Errors
/// [`NoMessage`].
pub(crate) async fn unary<A: Message + Default>(
    desk: &Desk,
    way: Way<'_>,
    method: Method<'_>,
    question: impl Message,
) -> Result<A, NoMessage> {
    let body = frame(&question);
    // What is on its way is held once.
    drop(question);
    let head = head(method, body.len());
    let asked = Call { head: &head, body: &body, trailers: None, grpc: true, again: true };
    let mut heard = Heard::all(ANSWER);
    call(desk, way, asked, method.limit, &mut heard).await.map_err(NoMessage::Unanswered)?;
    read(&heard)
}

fn head(method: Method<'_>, length: usize) -> Head {
    let mut head = Head::default();
    head.set_method(b"POST");
    head.set_target(method.path.as_bytes());
    head.set_authority(method.authority.as_bytes());
    head.length = Length::Exact(length as u64);
    head.append(Name::ContentType, b"application/grpc");
    head.append(Name::Te, b"trailers");
    head.push(b"grpc-timeout", timeout::write(method.limit).as_bytes());
    for (name, value) in method.headers {
        head.push(name.as_bytes(), value.as_bytes());
    }
    head
}

fn read<A: Message + Default>(heard: &Heard) -> Result<A, NoMessage> {
    let grpc = heard.head.value(Name::ContentType).is_some_and(|it| it.starts_with(b"application/grpc"));
    if heard.head.status != 200 || !grpc {
        return Err(NoMessage::NotGrpc(heard.head.status));
    }
    // What has no message says its status in the head.
    let last = heard.trailers.as_ref().unwrap_or(&heard.head);
    match grpc_status(last) {
        Some(0) => unframe(&heard.body).map_err(|broken| NoMessage::Malformed(why(broken))),
        Some(status) => {
            let words = unescape(last.value(Name::GrpcMessage).unwrap_or_default());
            Err(NoMessage::Status(status, words))
        }
        None => Err(NoMessage::Malformed("an answer of gRPC without a status")),
    }
}

fn why(broken: Broken) -> &'static str {
    match broken {
        Broken::Missing => "an answer of gRPC without a message",
        Broken::Compressed => "an answer that is compressed, which nobody asked for",
        Broken::NotOne => "an answer of gRPC that is not one message",
        Broken::Unreadable => "a message that cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Word {
        #[prost(string, tag = "1")]
        text: String,
    }

    fn heard(status: &str, body: Vec<u8>) -> Heard {
        let mut heard = Heard::all(ANSWER);
        heard.head.status = 200;
        heard.head.append(Name::ContentType, b"application/grpc+proto");
        let mut trailers = Head::default();
        trailers.append(Name::GrpcStatus, status.as_bytes());
        trailers.append(Name::GrpcMessage, b"no%20way");
        heard.trailers = Some(trailers);
        heard.body = body;
        heard
    }

    #[test]
    fn a_message_goes_there_and_back() {
        let word = Word { text: "hello".into() };
        assert_eq!(read::<Word>(&heard("0", frame(&word))), Ok(word));
        assert_eq!(read::<Word>(&heard("7", Vec::new())), Err(NoMessage::Status(7, "no way".into())));
        let mut plain = heard("0", Vec::new());
        plain.head.status = 503;
        assert_eq!(read::<Word>(&plain), Err(NoMessage::NotGrpc(503)));
    }

    #[test]
    fn whatever_is_no_message_is_told_so() {
        let mut long = frame(&Word { text: "hello".into() });
        long.push(0);
        let broken = [&[0, 0, 0, 0, 1][..], &[0xff]].concat();
        for body in [vec![], vec![0; 4], vec![1, 0, 0, 0, 0], long, broken] {
            assert!(matches!(read::<Word>(&heard("0", body.clone())), Err(NoMessage::Malformed(_))), "{body:?}");
        }
    }
}
