//! `IstioCertificateService`: a certificate for whoever asks, in the caller's own name and no other, with Istio's codes and
//! words where there is none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use foldhash::fast::RandomState;
use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Incoming;
use tls::authority::{
    request::{BadRequest, Request as Csr},
    signer::Certificate,
};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    callers::{Caller, Callers, NotKnown},
    in_force::{Current, InForce},
    keeper::Keeper,
};
use crate::{
    control_plane::{
        serve::{Answer, Peer},
        settings::Lifetimes,
        shares::{Place, Shares},
    },
    grpc::{
        messages::istio_ca::{
            CERT_SIGNER, CREATE_CERTIFICATE, IMPERSONATED_IDENTITY, IstioCertificateRequest, IstioCertificateResponse,
        },
        server::{Limits, Reply, failure, plain, unary},
        status::{Code, Status},
    },
    telemetry::{
        ca::{Asked, CaMetrics},
        holders::{self, Holder},
    },
};

/// A request with a key of 8192 bits has 4 KiB.
const LIMITS: Limits = Limits { message: 16 << 10, time: Duration::from_secs(15) };
/// Requests that are worked on at once.
const AT_ONCE: usize = 1000;
/// Those of one address, which may be a gateway that others are behind.
const OF_ONE: usize = 200;
/// One identity that gets more certificates than this in a minute is named in the log: pods that are started again and
/// again, mostly.
const MANY: u32 = 600;
/// Identities whose pace is watched.
const MOST_WATCHED: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Service {
    callers: Callers,
    current: Arc<Current>,
    keeper: Arc<Keeper>,
    lifetimes: Lifetimes,
    metrics: Arc<CaMetrics>,
    places: Shares,
    /// By identity: how many since when.
    pace: Mutex<HashMap<Box<str>, (Instant, u32), RandomState>>,
}

impl Answer for Service {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Reply {
        if request.uri().path() == CREATE_CERTIFICATE {
            let admit = async |headers: &HeaderMap| self.admit(headers, &peer).await;
            return unary(request, LIMITS, admit, async |question, (caller, place): (Caller, Place)| {
                let answered = self.create(&question, &caller, &peer).await;
                drop(place);
                answered
            })
            .await;
        }
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            let words = "there is only istio.v1.auth.IstioCertificateService here";
            return failure(&Status::new(Code::Unimplemented, words));
        }
        plain(StatusCode::NOT_FOUND, "this is the CA of a mesh; it is asked by gRPC\n")
    }
}

impl Service {
    /// Of what signs, by what this knows of callers.
    pub(crate) fn new(callers: Callers, keeper: Arc<Keeper>) -> Self {
        Self {
            callers,
            current: Arc::clone(&keeper.current),
            lifetimes: keeper.lifetimes,
            metrics: Arc::clone(&keeper.metrics),
            keeper,
            places: Shares::new(AT_ONCE, OF_ONE),
            pace: Mutex::default(),
        }
    }

    /// Who asks, and a place for the request, before anything of it is read.
    async fn admit(&self, headers: &HeaderMap, peer: &Peer) -> Result<(Caller, Place), Status> {
        self.metrics.asked(Asked::Came);
        let place = self.places.try_take(peer.address.ip()).map_err(|_| {
            self.metrics.asked(Asked::Shed);
            Status::new(Code::ResourceExhausted, "too many requests at once; ask again")
        })?;
        let caller = self.callers.who(headers, peer).await.map_err(|why| self.unknown(why, peer))?;
        Ok((caller, place))
    }

    async fn create(
        &self,
        question: &IstioCertificateRequest,
        caller: &Caller,
        peer: &Peer,
    ) -> Result<IstioCertificateResponse, Status> {
        let told = |status: Status| {
            let words = &status.message;
            info!(identity = %caller.identity, peer = %peer.address, code = ?status.code, why = words, "no certificate");
            self.metrics.holders.refused(caller.identity.as_str(), peer.address.ip(), words);
            status
        };
        let csr = self.check(question).map_err(told)?;
        let lifetime = self.lifetime(question.validity_duration).map_err(told)?;
        let in_force = self.signer(lifetime).await.map_err(told)?;
        let signed = in_force.signer.workload(&csr, caller.identity.as_str(), lifetime, SystemTime::now());
        let signed = signed.map_err(|why| {
            self.metrics.asked(Asked::Unsigned);
            told(Status::new(Code::Internal, format!("CSR signing error ({why})")))
        })?;
        self.issued(caller, &signed, &in_force, peer);
        let mut cert_chain = vec![signed.pem];
        cert_chain.extend_from_slice(in_force.signer.chain());
        cert_chain.push(in_force.roots.clone());
        Ok(IstioCertificateResponse { cert_chain })
    }

    fn unknown(&self, why: NotKnown, peer: &Peer) -> Status {
        let (asked, code, words) = match &why {
            NotKnown::Refused(words) => (Asked::Unknown, Code::Unauthenticated, words),
            NotKnown::Silent(words) => (Asked::Unknown, Code::Unavailable, words),
            NotKnown::NoIdentity(words) => (Asked::NoIdentity, Code::Unauthenticated, words),
        };
        self.metrics.asked(asked);
        info!(peer = %peer.address, why = words, ?code, "no certificate: it is not known who asks");
        self.metrics.holders.refused("", peer.address.ip(), words);
        Status::new(code, format!("request authenticate failure: {words}"))
    }

    fn check(&self, question: &IstioCertificateRequest) -> Result<Csr, Status> {
        if question.asks(IMPERSONATED_IDENTITY) {
            self.metrics.asked(Asked::Unknown);
            let words = "request impersonation authentication failure: certificates are issued in the caller's own name alone, \
                         and not to node agents for others";
            return Err(Status::new(Code::Unauthenticated, words));
        }
        if question.asks(CERT_SIGNER) {
            self.metrics.asked(Asked::Unsigned);
            let words = "CSR signing error (there is one signer here, and CertSigner names another; leave it out)";
            return Err(Status::new(Code::InvalidArgument, words));
        }
        Csr::read(&question.csr).map_err(|why| {
            self.metrics.asked(Asked::Unreadable);
            let words = match why {
                BadRequest::Unreadable(_) | BadRequest::Signature | BadRequest::Key(_) => {
                    format!("CSR signing error ({why})")
                }
            };
            Status::new(Code::InvalidArgument, words)
        })
    }

    fn lifetime(&self, seconds: i64) -> Result<Duration, Status> {
        let lifetime = match u64::try_from(seconds) {
            Ok(0) | Err(_) => self.lifetimes.usual,
            Ok(seconds) => Duration::from_secs(seconds),
        };
        if lifetime <= self.lifetimes.longest {
            return Ok(lifetime);
        }
        self.metrics.asked(Asked::Unsigned);
        let longest = self.lifetimes.longest.as_secs();
        let words =
            format!("CSR signing error (requested TTL {seconds}s is greater than the max allowed TTL {longest}s)");
        Err(Status::new(Code::InvalidArgument, words))
    }

    /// What signs a certificate of this lifetime.
    async fn signer(&self, lifetime: Duration) -> Result<Arc<InForce>, Status> {
        let unready = |words: String| {
            self.metrics.asked(Asked::Unsigned);
            Status::new(Code::Unavailable, format!("CSR signing error ({words})"))
        };
        let current = || self.current.get().ok_or_else(|| unready("the CA is not ready".to_owned()));
        if !self.current.is_fresh() {
            return Err(unready(
                "it was not possible for too long to see whether this is still the CA of the mesh".to_owned(),
            ));
        }
        if current()?.granted(lifetime) {
            return current();
        }
        self.keeper.grant(lifetime).await.map_err(|why| {
            unready(format!("so long a lifetime has to be noted before a certificate is issued: {why}"))
        })?;
        current()
    }

    fn issued(&self, caller: &Caller, signed: &Certificate, in_force: &InForce, peer: &Peer) {
        self.metrics.issued(caller.proof);
        let end = i64::try_from(signed.not_after).ok().and_then(|end| jiff::Timestamp::from_second(end).ok());
        info!(
            identity = %caller.identity, serial = signed.serial, end = end.map(|end| end.to_string()),
            proof = caller.proof, pod = caller.pod, peer = %peer.address, signer = in_force.signer.serial(),
            "certificate issued"
        );
        self.metrics.holders.issued(Holder {
            identity: caller.identity.as_str().to_owned(),
            from: caller.pod.clone().unwrap_or_else(|| peer.address.ip().to_string()),
            proof: caller.proof,
            serial: signed.serial.clone(),
            issued: holders::now(),
            not_after: end.map(|end| end.to_string()).unwrap_or_default(),
            count: 0,
        });
        if let Some(count) = self.count(caller.identity.as_str(), Instant::now()) {
            warn!(identity = %caller.identity, count, "so many certificates in a minute for one identity");
        }
    }

    /// Counts one for an identity; the number when it is one to tell of.
    fn count(&self, identity: &str, now: Instant) -> Option<u32> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, count)) = pace.get_mut(identity) {
            if now.duration_since(*since) >= MINUTE {
                (*since, *count) = (now, 0);
            }
            *count += 1;
            return (*count == MANY).then_some(*count);
        }
        if pace.len() >= MOST_WATCHED {
            pace.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        }
        if pace.len() < MOST_WATCHED {
            pace.insert(identity.into(), (now, 1));
        }
        None
    }
}
