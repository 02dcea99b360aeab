//! What would happen to a request: the tables and rules that requests really follow, asked about one that nobody sent, with
//! every step told in words. Nothing is counted and nobody is asked.

mod asking;
mod bytes;
mod course;
mod destinations;
mod handshake;
mod inbound;
mod outbound;
mod table;
mod told;
mod words;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use http::HeaderMap;
use serde::Serialize;

pub use words::when;

use crate::{snapshot::Snapshot, token::Token};
use course::Proxy;
use told::Story;

/// A request that nobody sent.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it comes to the proxy.
    pub side: Side,
    /// The port: as the Gateway names it, of the service (outbound), of the workload (inbound).
    pub port: u16,
    /// The address that is connected to, where the port alone does not tell who takes it; `None` = any.
    pub address: Option<IpAddr>,
    /// Method.
    pub method: String,
    /// Host header or `:authority`; also the SNI where TLS is spoken.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The name in the certificate that the client shows, where TLS is spoken and somebody asks for it: a SPIFFE id in the mesh;
    /// empty = none.
    pub peer: String,
    /// Who sends it.
    pub client: IpAddr,
    /// The token that comes with it, if it is good.
    pub token: Option<Token>,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            side: Side::default(),
            port: 80,
            address: None,
            method: "GET".to_owned(),
            host: String::new(),
            target: "/".to_owned(),
            headers: HeaderMap::new(),
            peer: String::new(),
            client: Ipv4Addr::LOCALHOST.into(),
            token: None,
        }
    }
}

/// Where a request comes to a proxy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// To a listener of a gateway.
    #[default]
    Gateway,
    /// From the application to its sidecar.
    Outbound,
    /// From others to the workload of a sidecar.
    Inbound,
}

/// What would happen, step by step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// What becomes of it, as a sentence.
    pub answer: String,
    /// The same, as a word.
    pub outcome: Outcome,
    /// What the proxy itself would answer with; `None`: somebody else answers, or nobody does.
    pub status: Option<u16>,
    /// On the way there, in order.
    pub steps: Vec<Step>,
    /// The path that is looked at, in its one form.
    pub path: String,
    /// The route that is followed.
    pub route: Option<RouteTold>,
    /// Where it may go.
    pub destinations: Vec<DestinationTold>,
    /// `Location` of a redirect.
    pub location: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes on.
    Forwarded,
    /// The proxy answers that it should go elsewhere.
    Redirected,
    /// The proxy answers, as a route says: with an answer of its own, a fault on purpose, or what a page may do.
    Answered,
    /// The proxy answers with an error.
    Refused,
    /// The connection ends before there is a request.
    #[default]
    Closed,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Which: `listener`, `tls`, `method`, `host`, `path`, `client`, `tokens`, `policy`, `route`, `limits`, `fault`, `cors`,
    /// `rewrite`, `headers`, `mirror`, `destination`.
    pub stage: &'static str,
    /// How it ended.
    pub mark: Mark,
    /// What it is, in words.
    pub text: String,
    /// The object that says so, `namespace/name`; empty = none.
    pub source: String,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// It goes on.
    Passed,
    /// It ends here.
    Stopped,
    /// It goes on, and there is something to know.
    Note,
}

/// The route that is followed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteTold {
    /// Its name.
    pub name: String,
    /// `namespace/name` of the VirtualService; empty = straight to a service.
    pub source: String,
    /// Which requests it is for, in words.
    pub when: String,
    /// The domain that it belongs to.
    pub host: String,
    /// The whole request may take so long; `None` = there is no limit.
    pub timeout_ms: Option<u64>,
    /// Retries after the first try.
    pub retries: u32,
}

/// One of the places that a request may go to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DestinationTold {
    /// `outbound|8080|v1|host`.
    pub cluster: String,
    /// Of how many requests in a hundred.
    pub percent: f64,
    /// Endpoints; `None` = there is no such cluster.
    pub endpoints: Option<usize>,
    /// Whether all endpoints are known before a request comes.
    pub listed: bool,
    /// `mutual`, `tls`, `mixed` or `none`.
    pub tls: &'static str,
    /// The path and query that are sent.
    pub target: String,
    /// The host that is sent.
    pub authority: String,
}

/// What would happen to a request. `port_map`: the port that clients see for one that a Gateway names, where the two differ.
pub fn explain(snapshot: &Snapshot, port_map: &BTreeMap<u16, u16>, question: &Question) -> Explanation {
    let mut story = Story::of(question);
    match course::follow(Proxy { snapshot, port_map }, question, &mut story) {
        Ok(()) => {}
        Err(end) => story.end(end),
    }
    story.told
}
