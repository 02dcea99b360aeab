//! A service that is asked whether requests may go on: Envoy's `envoy.service.auth.v3.Authorization`, with messages that hold
//! the fields of its public protos under their numbers.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::{
    endpoint::{Call, Endpoint},
    grpc::{frame, unframe},
    message::{Answer, Version},
};

/// What it says.
#[derive(Clone, Debug)]
pub enum Word {
    /// This message.
    Says(CheckResponse),
    /// This status of gRPC, and no message.
    Fails(u16),
    /// These bytes for a message.
    Babbles(Bytes),
    /// An answer that is not gRPC's.
    Http(u16),
    /// Nothing, and the stream is reset.
    HangsUp,
    /// Nothing at all.
    Waits,
}

/// A running one.
pub struct Authorizer {
    asked: Arc<Mutex<Vec<CheckRequest>>>,
    _endpoint: Endpoint,
}

impl Authorizer {
    /// Answers each question with a word.
    pub async fn start(address: SocketAddr, word: impl Fn(&CheckRequest) -> Word + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let (word, heard) = (Arc::new(word), Arc::clone(&asked));
        let play = move |mut call: Call| {
            let (word, heard) = (Arc::clone(&word), Arc::clone(&heard));
            async move {
                assert_eq!(call.path, "/envoy.service.auth.v3.Authorization/Check");
                let (body, _) = call.read().await;
                let question = unframe(&mut BytesMut::from(&body[..])).expect("a framed message");
                let question = CheckRequest::decode(question).expect("a CheckRequest");
                heard.lock().expect("no panic").push(question.clone());
                let grpc = |body: Bytes, status: &str| {
                    let answer = Answer::new(200, body).header("content-type", "application/grpc");
                    answer.trailer("grpc-status", status)
                };
                match word(&question) {
                    Word::Says(message) => call.answer(grpc(frame(&message.encode_to_vec()), "0")).await,
                    Word::Fails(status) => call.answer(grpc(Bytes::new(), &status.to_string())).await,
                    Word::Babbles(bytes) => call.answer(grpc(bytes, "0")).await,
                    Word::Http(status) => call.answer(Answer::new(status, "no gRPC")).await,
                    Word::HangsUp => call.hang_up().await,
                    Word::Waits => std::future::pending().await,
                }
            }
        };
        let endpoint = Endpoint::start(address, Version::Two, play).await;
        Self { asked, _endpoint: endpoint }
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<CheckRequest> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// A yes with nothing else.
pub fn yes() -> Word {
    Word::Says(CheckResponse::default())
}

/// A yes with changes.
pub fn yes_with(ok: OkHttpResponse) -> Word {
    Word::Says(CheckResponse { status: None, http_response: Some(HttpResponse::Ok(ok)) })
}

/// A no with this status, fields and body.
pub fn no(status: i32, headers: Vec<HeaderValueOption>, body: &str) -> Word {
    let denied = DeniedHttpResponse { status: Some(Code { code: status }), headers, body: body.into() };
    Word::Says(CheckResponse { status: Some(Code { code: 7 }), http_response: Some(HttpResponse::Denied(denied)) })
}

/// A field: set, or with `append` said.
pub fn field(key: &str, value: &str, append: Option<bool>) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: key.into(), value: value.into() }),
        append: append.map(|value| BoolValue { value }),
        append_action: 0,
    }
}

/// A message, as prost declares it.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Message)]
        pub struct $name { $(#[doc = "As in the proto."] $(#[$attr])* pub $field: $type,)* }
    };
}

message! {
    /// `CheckRequest`.
    CheckRequest {
        #[prost(message, optional, tag = "1")] attributes: Option<AttributeContext>,
    }
}
message! {
    /// `AttributeContext`.
    AttributeContext {
        #[prost(message, optional, tag = "1")] source: Option<Peer>,
        #[prost(message, optional, tag = "2")] destination: Option<Peer>,
        #[prost(message, optional, tag = "4")] request: Option<Request>,
        #[prost(map = "string, string", tag = "10")] context_extensions: HashMap<String, String>,
        #[prost(message, optional, tag = "12")] tls_session: Option<TlsSession>,
    }
}
message! {
    /// `AttributeContext.Peer`.
    Peer {
        #[prost(message, optional, tag = "1")] address: Option<Address>,
        #[prost(string, tag = "2")] service: String,
        #[prost(map = "string, string", tag = "3")] labels: HashMap<String, String>,
        #[prost(string, tag = "4")] principal: String,
        #[prost(string, tag = "5")] certificate: String,
    }
}
message! {
    /// `config.core.v3.Address`.
    Address {
        #[prost(message, optional, tag = "1")] socket_address: Option<SocketAddressMessage>,
    }
}
message! {
    /// `config.core.v3.SocketAddress`.
    SocketAddressMessage {
        #[prost(int32, tag = "1")] protocol: i32,
        #[prost(string, tag = "2")] address: String,
        #[prost(uint32, tag = "3")] port_value: u32,
    }
}
message! {
    /// `AttributeContext.Request`.
    Request {
        #[prost(message, optional, tag = "1")] time: Option<Timestamp>,
        #[prost(message, optional, tag = "2")] http: Option<HttpRequest>,
    }
}
message! {
    /// `google.protobuf.Timestamp`.
    Timestamp {
        #[prost(int64, tag = "1")] seconds: i64,
        #[prost(int32, tag = "2")] nanos: i32,
    }
}
message! {
    /// `AttributeContext.HttpRequest`.
    HttpRequest {
        #[prost(string, tag = "1")] id: String,
        #[prost(string, tag = "2")] method: String,
        #[prost(map = "string, string", tag = "3")] headers: HashMap<String, String>,
        #[prost(string, tag = "4")] path: String,
        #[prost(string, tag = "5")] host: String,
        #[prost(string, tag = "6")] scheme: String,
        #[prost(string, tag = "7")] query: String,
        #[prost(string, tag = "8")] fragment: String,
        #[prost(int64, tag = "9")] size: i64,
        #[prost(string, tag = "10")] protocol: String,
        #[prost(string, tag = "11")] body: String,
        #[prost(bytes = "vec", tag = "12")] raw_body: Vec<u8>,
    }
}
message! {
    /// `AttributeContext.TLSSession`.
    TlsSession {
        #[prost(string, tag = "1")] sni: String,
    }
}
message! {
    /// `CheckResponse`.
    CheckResponse {
        #[prost(message, optional, tag = "1")] status: Option<Code>,
        #[prost(oneof = "HttpResponse", tags = "2, 3")] http_response: Option<HttpResponse>,
    }
}
message! {
    /// `google.rpc.Status` and `type.v3.HttpStatus`.
    Code {
        #[prost(int32, tag = "1")] code: i32,
    }
}
message! {
    /// `DeniedHttpResponse`.
    DeniedHttpResponse {
        #[prost(message, optional, tag = "1")] status: Option<Code>,
        #[prost(message, repeated, tag = "2")] headers: Vec<HeaderValueOption>,
        #[prost(string, tag = "3")] body: String,
    }
}
message! {
    /// `OkHttpResponse`.
    OkHttpResponse {
        #[prost(message, repeated, tag = "2")] headers: Vec<HeaderValueOption>,
        #[prost(string, repeated, tag = "5")] headers_to_remove: Vec<String>,
        #[prost(message, repeated, tag = "6")] response_headers_to_add: Vec<HeaderValueOption>,
        #[prost(message, repeated, tag = "7")] query_parameters_to_set: Vec<HeaderValue>,
        #[prost(string, repeated, tag = "8")] query_parameters_to_remove: Vec<String>,
    }
}
message! {
    /// `config.core.v3.HeaderValueOption`.
    HeaderValueOption {
        #[prost(message, optional, tag = "1")] header: Option<HeaderValue>,
        #[prost(message, optional, tag = "2")] append: Option<BoolValue>,
        #[prost(int32, tag = "3")] append_action: i32,
    }
}
message! {
    /// `google.protobuf.BoolValue`.
    BoolValue {
        #[prost(bool, tag = "1")] value: bool,
    }
}
message! {
    /// `config.core.v3.HeaderValue` and `QueryParameter`.
    HeaderValue {
        #[prost(string, tag = "1")] key: String,
        #[prost(string, tag = "2")] value: String,
    }
}

/// What a [`CheckResponse`] says besides.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HttpResponse {
    /// Of a no.
    #[prost(message, tag = "2")]
    Denied(DeniedHttpResponse),
    /// Of a yes.
    #[prost(message, tag = "3")]
    Ok(OkHttpResponse),
}
