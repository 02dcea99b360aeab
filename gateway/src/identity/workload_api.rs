//! An identity from a socket, as long as the connection lasts. SPIFFE's Workload API is asked first, which gives several
//! identities to choose from; a socket that does not know it is asked as Envoy asks: Istio's agent mounts one that speaks only
//! that.

use std::{path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderValue};
use tls::{
    identity::SpiffeId,
    workload::{WorkloadIdentity, revocation_lists_pem},
};
use tokio::{
    net::UnixStream,
    time::{Instant, timeout},
};

use super::{
    board::{Board, now, until},
    discovery,
    lists::Lists,
    schedule,
};
use crate::{
    grpc::{
        client::{Channel, Failure, Says},
        messages::workload_api::{FETCH_X509_SVID, SECURITY_HEADER, X509SvidRequest, X509SvidResponse},
    },
    telemetry::metrics::Attempt,
};

/// Until the first identity.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// A call that has lasted so long was a good one, and the next is asked for at once.
const LASTING: Duration = Duration::from_secs(30);
/// Bundles of many trust domains, each of some kilobytes.
pub(super) const LARGEST: usize = 4 * 1024 * 1024;
/// gRPC's code for a method that is not there.
const UNIMPLEMENTED: u16 = 12;

/// See the module.
pub(super) struct Api {
    socket: PathBuf,
    board: Board,
    /// Who is revoked, as it says.
    lists: Lists,
    /// Calls in a row that ended before long.
    ended: u32,
}

/// Why there is no identity, or no more of them.
pub(super) struct Refusal {
    counts: Attempt,
    text: String,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let counts = match failure {
            Failure::Status(..) => Attempt::Refused,
            Failure::Broken(_) | Failure::Silent(_) => Attempt::Unreachable,
            Failure::NotGrpc(_) | Failure::Malformed(_) => Attempt::Unfit,
        };
        Self { counts, text: failure.to_string() }
    }
}

impl Api {
    /// Has asked nobody yet.
    pub(super) fn new(socket: PathBuf, board: Board) -> Self {
        let lists = Lists::of(&socket.display());
        Self { socket, board, lists, ended: 0 }
    }

    /// Asks as long as this lives.
    pub(super) async fn run(mut self) {
        loop {
            let id = self.board.expected().await;
            let mut another = self.board.expectation();
            let begun = Instant::now();
            let refusal = tokio::select! {
                refusal = self.follow(&id) => refusal,
                // What the socket has may be for that one, too.
                Ok(()) = another.changed() => continue,
            };
            self.board.count(refusal.counts);
            self.ended = if begun.elapsed() >= LASTING { 1 } else { self.ended.saturating_add(1) };
            let left =
                self.board.identity().map(|held| held.not_after.saturating_mul(1000) - now()).filter(|it| *it > 0);
            let next = now() + schedule::pause_of_socket(self.ended, left, fastrand::f64());
            self.board.failed(&refusal.text, Some(next));
            until(next).await;
        }
    }

    /// Takes what the socket gives until it gives nothing more.
    async fn follow(&mut self, id: &SpiffeId) -> Refusal {
        match self.svids(id).await {
            Err(Failure::Status(UNIMPLEMENTED, words)) => match self.secrets(id).await {
                Err(Failure::Status(UNIMPLEMENTED, _)) => {
                    let text = format!("it speaks neither SPIFFE's Workload API nor Envoy's secret discovery: {words}");
                    Refusal { counts: Attempt::Refused, text }
                }
                other => ended(other),
            },
            other => ended(other),
        }
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        let socket = UnixStream::connect(&self.socket).await;
        Channel::over(socket.map_err(|error| Failure::Broken(error.to_string()))?, ("http", "localhost")).await
    }

    async fn svids(&mut self, id: &SpiffeId) -> Result<(), Failure> {
        let mut channel = self.channel().await?;
        let (name, value) = SECURITY_HEADER;
        let metadata = HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]);
        let begun = channel.call(FETCH_X509_SVID, metadata, &X509SvidRequest {}, Says::Once(LARGEST));
        let mut call = timeout(PATIENCE, begun).await.map_err(|_| Failure::Silent(PATIENCE))??;
        loop {
            let Some(given) = self.before_the_end(call.hear::<X509SvidResponse>()).await? else { return Ok(()) };
            let chosen = choose(&given, id).map(|identity| (identity, revocation_lists_pem(&given.crl)));
            // This API is told nothing back; the board has it.
            drop(self.take(chosen, remark(&given), id));
        }
    }

    async fn secrets(&mut self, id: &SpiffeId) -> Result<(), Failure> {
        let mut channel = self.channel().await?;
        let mut stream = discovery::Discovery::begin(&mut channel, id).await?;
        loop {
            let Some(given) = self.before_the_end(stream.next()).await? else { return Ok(()) };
            let told = self.take(given, None, id);
            stream.answer(told);
        }
    }

    /// Whatever is awaited, and not longer than what is held is good.
    async fn before_the_end<T>(&self, news: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let held = self.board.identity().map(|held| held.not_after.saturating_mul(1000)).filter(|end| *end > now());
        let end = held.unwrap_or_else(|| now() + i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX));
        tokio::select! {
            news = news => news,
            () = until(end) => Err(match held {
                Some(_) => Failure::Broken("it gave no other identity before the one that is held has ended".to_owned()),
                None => Failure::Silent(PATIENCE),
            }),
        }
    }

    /// Takes an identity when it is one, with its revocation lists (PEM); else says why not.
    fn take(
        &mut self,
        given: Result<(WorkloadIdentity, Vec<u8>), String>,
        remark: Option<String>,
        id: &SpiffeId,
    ) -> Result<(), String> {
        let checked = given.and_then(|(identity, lists)| {
            let words = |error: tls::Error| error.to_string();
            identity.check(id, now() / 1000).map_err(words)?;
            self.lists.take(Ok(lists), self.board.identity().is_some())?;
            self.lists.on(identity).map_err(words)
        });
        match checked {
            Ok(identity) => {
                self.board.count(Attempt::Given);
                let said: Vec<String> = remark.into_iter().chain(self.lists.remarks(Some(&identity))).collect();
                self.board.took(identity, None, (!said.is_empty()).then(|| said.join("; ")));
                Ok(())
            }
            Err(why) => {
                self.board.count(Attempt::Unfit);
                let why = format!("what it gave cannot be used: {why}");
                self.board.failed(&why, None);
                Err(why)
            }
        }
    }
}

fn ended(result: Result<(), Failure>) -> Refusal {
    match result {
        Ok(()) => Failure::Broken("it has ended the call".to_owned()).into(),
        Err(failure) => failure.into(),
    }
}

/// The identity that the proxy has to be, among those that it may be.
fn choose(given: &X509SvidResponse, id: &SpiffeId) -> Result<WorkloadIdentity, String> {
    let Some(svid) = given.svids.iter().find(|svid| svid.spiffe_id == id.as_str()) else {
        let names: Vec<&str> = given.svids.iter().take(4).map(|svid| svid.spiffe_id.as_str()).collect();
        let names = names.join(", ");
        return Err(format!(
            "it gives {} identities ({}), and {id} is asked for",
            given.svids.len(),
            names.escape_debug()
        ));
    };
    WorkloadIdentity::from_pem(&svid.x509_svid, &svid.x509_svid_key, &svid.bundle).map_err(|error| error.to_string())
}

/// What is given and not used.
fn remark(given: &X509SvidResponse) -> Option<String> {
    if given.federated_bundles.is_empty() {
        return None;
    }
    let mut domains: Vec<&str> = given.federated_bundles.keys().take(4).map(String::as_str).collect();
    domains.sort_unstable();
    let domains = domains.join(", ");
    Some(format!("roots of other trust domains are not used, and their peers refused: {}", domains.escape_debug()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tls::authority::Authority;

    use super::*;
    use crate::grpc::messages::workload_api::X509Svid;

    const OWN: &str = "spiffe://cluster.local/ns/shop/sa/reviews";

    fn svid(id: &str) -> X509Svid {
        let ca = Authority::new("test root").unwrap();
        let issued = ca.issue_workload(id, Duration::from_secs(3600)).unwrap();
        let der = |pem: &str| {
            let all = tls::pem::certificates(pem.as_bytes()).unwrap();
            all.iter().flat_map(|one| one.to_vec()).collect::<Vec<u8>>()
        };
        let key = tls::pem::private_key(issued.key_pem.as_bytes()).unwrap().secret_der().to_vec();
        X509Svid {
            spiffe_id: id.into(),
            x509_svid: der(&issued.chain_pem),
            x509_svid_key: key,
            bundle: der(ca.root_pem()),
        }
    }

    #[test]
    fn of_several_identities_the_one_that_the_proxy_has_to_be_is_taken() {
        let id = SpiffeId::parse(OWN).unwrap();
        let svids = vec![svid("spiffe://cluster.local/other"), svid(OWN)];
        let given = X509SvidResponse { svids, ..X509SvidResponse::default() };
        let identity = choose(&given, &id).unwrap();
        assert_eq!(identity.spiffe.as_deref(), Some(OWN));
        assert!(identity.check(&id, now() / 1000).is_ok());
        let other = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/ratings").unwrap();
        let text = format!("it gives 2 identities (spiffe://cluster.local/other, {OWN}), and {other} is asked for");
        assert_eq!(choose(&given, &other).unwrap_err(), text);
    }

    #[test]
    fn what_is_not_used_is_told() {
        assert_eq!(remark(&X509SvidResponse::default()), None);
        let federated_bundles = HashMap::from([("b".into(), vec![1]), ("a".into(), vec![1])]);
        let given = X509SvidResponse { federated_bundles, ..X509SvidResponse::default() };
        let told = "roots of other trust domains are not used, and their peers refused: a, b";
        assert_eq!(remark(&given).as_deref(), Some(told));
    }
}
