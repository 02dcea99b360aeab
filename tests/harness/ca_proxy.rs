//! A CA as the network shows it: an HTTPS proxy in the test, between its clients and pebble.
//!
//! ```text
//! client --HTTPS--> hold Before -> canned answer, or ask pebble (same Host) -> count -> hold After --> client
//!                                  '-- renewal information (RFC 9773) is answered here
//! ```

mod canned;
mod hold;
mod renewal;
mod serve;
mod step;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustls::ServerConfig;
use serde_json::Value;
use tls::authority::Authority;

pub use self::{
    canned::Canned,
    hold::{Held, Moment},
    renewal::Ari,
    step::Step,
};
use self::{canned::PROBLEM, hold::Hold, renewal::Renewals};
use crate::{
    client::Client,
    listening::Listening,
    pebble::{Pebble, plain_serial},
    pki, tls_peer,
};

/// A running proxy; ends when dropped.
pub struct CaProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    authority: Authority,
    listening: Mutex<Option<Listening>>,
}

/// What connections and the story share.
pub(crate) struct Shared {
    tls: Arc<ServerConfig>,
    upstream: (SocketAddr, Client),
    seen: Mutex<Vec<Seen>>,
    holds: Mutex<Vec<Hold>>,
    canned: Mutex<Vec<(Step, usize, Canned)>>,
    renewals: Mutex<Renewals>,
}

/// An answered request. One that is still held before the CA is not among them.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was about.
    pub step: Step,
    /// Status of the answer.
    pub status: u16,
    /// Last part of the problem's URN (`badNonce`); empty = the answer is no problem document.
    pub problem: String,
    /// True when the CA itself answered.
    pub reached: bool,
    /// Body of the answer.
    pub body: Bytes,
}

impl Seen {
    fn new(step: Step, status: u16, body: Bytes, reached: bool) -> Self {
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let problem = json["type"].as_str().and_then(|urn| urn.strip_prefix(PROBLEM)).unwrap_or_default().to_owned();
        Self { step, status, problem, reached, body }
    }
}

impl CaProxy {
    /// Starts one in front of this pebble.
    pub async fn start(address: SocketAddr, pebble: &Pebble) -> Self {
        let authority = pki::authority("CA of a story's CA");
        let identity = authority.issue_server(&[&address.ip().to_string()], pki::DAY);
        let identity = identity.expect("a server certificate can be issued");
        let shared = Shared {
            tls: tls_peer::server(&identity, None, &["h2", "http/1.1"]),
            upstream: (pebble.address(), pebble.client(pebble.address())),
            seen: Mutex::default(),
            holds: Mutex::default(),
            canned: Mutex::default(),
            renewals: Mutex::default(),
        };
        let this = Self { shared: Arc::new(shared), address, authority, listening: Mutex::new(None) };
        this.start_again().await;
        this
    }

    /// URL of the directory: what clients are told.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// PEM: what the proxy's HTTPS certificate chains to.
    pub fn ca_bundle(&self) -> String {
        self.authority.root_pem().to_owned()
    }

    /// The CA is away: connections are cut, and refused from now on.
    pub async fn stop(&self) {
        let listening = lock(&self.listening).take();
        if let Some(listening) = listening {
            listening.stop().await;
        }
    }

    /// The CA is back, at the same address.
    pub async fn start_again(&self) {
        self.stop().await;
        let shared = Arc::clone(&self.shared);
        let listening = Listening::start(self.address, move |stream| serve::serve(stream, Arc::clone(&shared))).await;
        *lock(&self.listening) = Some(listening);
    }

    /// Holds the next request of this step.
    pub fn hold_next(&self, step: Step, moment: Moment) -> Held {
        let (hold, held) = Hold::pair((step, moment));
        self.shared.holds().push(hold);
        held
    }

    /// Answers the next `times` requests of this step without asking the CA; `usize::MAX` = until
    /// [`CaProxy::answer_nothing`].
    pub fn answer(&self, step: Step, times: usize, canned: Canned) {
        lock(&self.shared.canned).push((step, times, canned));
    }

    /// Every step is asked of the CA again.
    pub fn answer_nothing(&self) {
        lock(&self.shared.canned).clear();
    }

    /// Every answered request so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// Statuses of the answered requests of this step, in order, canned ones included.
    pub fn statuses(&self, step: Step) -> Vec<u16> {
        self.shared.seen().iter().filter(|seen| seen.step == step).map(|seen| seen.status).collect()
    }

    /// How many requests of this step the CA itself accepted (2xx): orders made, for instance.
    pub fn accepted(&self, step: Step) -> usize {
        let accepted = |seen: &&Seen| seen.step == step && seen.reached && (200..300).contains(&seen.status);
        self.shared.seen().iter().filter(accepted).count()
    }

    /// Tokens of the challenges of this kind (`http-01`) that the CA has offered, in order, each once.
    pub fn tokens(&self, kind: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        for seen in self.shared.seen().iter().filter(|seen| seen.step == Step::Authorization) {
            let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let offered = body["challenges"].as_array().into_iter().flatten().filter(|it| it["type"] == kind);
            tokens.extend(offered.filter_map(|it| it["token"].as_str().map(str::to_owned)));
        }
        let mut known = HashSet::new();
        tokens.retain(|token| known.insert(token.clone()));
        tokens
    }

    /// Offers renewal information (RFC 9773), this for every certificate; `None` = no more. Clients learn it from the
    /// directory.
    pub fn offer_ari(&self, usual: Option<Ari>) {
        self.shared.renewals().usual = usual;
    }

    /// Suggests this for the certificate of a serial (hexadecimal) instead.
    pub fn suggest(&self, serial: &str, ari: Ari) {
        self.shared.renewals().suggested.insert(plain_serial(serial), ari);
    }

    /// Serials of the certificates that renewal information was asked for, in order, as [`tls::facts::Facts::serial`]
    /// writes them.
    pub fn asked_to_renew(&self) -> Vec<String> {
        self.shared.renewals().asked.clone()
    }

    /// Serials of the certificates that orders said to replace, in order, written the same way.
    pub fn replaced(&self) -> Vec<String> {
        self.shared.renewals().replaced.clone()
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.seen)
    }

    fn holds(&self) -> MutexGuard<'_, Vec<Hold>> {
        lock(&self.holds)
    }

    fn renewals(&self) -> MutexGuard<'_, Renewals> {
        lock(&self.renewals)
    }

    /// Takes one of the answers that were prepared for this step.
    fn canned(&self, step: Step) -> Option<Canned> {
        let mut all = lock(&self.canned);
        let found = all.iter().position(|(of, left, _)| *of == step && *left > 0)?;
        all[found].1 = all[found].1.saturating_sub(1);
        Some(all[found].2.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
