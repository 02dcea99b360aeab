//! From a way to a connection with an endpoint. Nothing has been sent before there is one, so every endpoint may be tried.

use std::{net::SocketAddr, sync::Arc};

use routing::{connections::Preamble, opaque::is_at, outlier::Outcome, reach::Reach, upstream::Balance};
use tokio::time::{Instant, timeout_at};

use super::{ending::Ending, passage::Passage};
use crate::{
    http::h1::body::Body,
    net::{connection::Connection, course::Way},
    telemetry::metrics::Metrics,
    upstream::{
        connect::{self, NoConnection, To},
        dial::Dial,
        endpoints::{NoEndpoint, Upstream},
        reach, tunnel,
    },
};

/// Endpoints that one connection tries at most.
const TRIES: usize = 10;

/// Connects to the endpoint that the way leads to, or to the next one that can be had.
///
/// # Errors
/// Why there is none.
pub(super) async fn connect(passage: &mut Passage, metrics: &Metrics) -> Result<Connection, Ending> {
    let direct = match &passage.way {
        Way::Rule(_) => return by_rule(passage, metrics).await,
        Way::Application { port, address } => {
            let (port, address) = (*port, *address);
            return application(passage, port, address, metrics).await;
        }
        Way::Original(address) => Some((*address, &passage.installed.direct)),
        Way::Blocked => return Err(Ending::Blocked),
        Way::Nowhere => None,
    };
    let (address, dials) = direct.ok_or(Ending::NoRoute)?;
    let dial = Arc::clone(dials.get(false, false).ok_or(Ending::NoRoute)?);
    passage.tried.push(address);
    let to = To { address, host: "", client: &passage.facts };
    connect::connect(&dial, &to, None, metrics).await.map_err(failed)
}

async fn application(
    passage: &mut Passage,
    port: u16,
    address: SocketAddr,
    metrics: &Metrics,
) -> Result<Connection, Ending> {
    passage.pool = passage.installed.pools.get(&port).cloned();
    if let Some(breaker) = passage.pool.as_ref().and_then(|pool| pool.breaker.as_ref()) {
        passage.permit = breaker.connection().map_err(|_| Ending::Overflow)?;
    }
    let dial = match &passage.pool {
        Some(pool) => pool.dial(false, false),
        None => passage.installed.application.get(false, false),
    };
    let dial = Arc::clone(dial.ok_or(Ending::NoRoute)?);
    passage.tried.push(address);
    let to = To { address, host: "", client: &passage.facts };
    connect::connect(&dial, &to, None, metrics).await.map_err(failed)
}

async fn by_rule(passage: &mut Passage, metrics: &Metrics) -> Result<Connection, Ending> {
    let upstream = choose(passage)?;
    if let Some(breaker) = &upstream.breaker {
        passage.permit = breaker.connection().map_err(|_| Ending::Overflow)?;
    }
    let host = Arc::clone(&upstream.cluster.host);
    let began = Instant::now();
    let mut last = None;
    loop {
        let (dial, address) = match upstream.cluster.reach {
            Reach::Name { .. } => named(passage, &upstream).await?,
            Reach::Endpoints | Reach::Original => endpoint(passage, &upstream)?,
        };
        // A name may have several addresses; when none of them is left, the last one's failure is the answer.
        if let Some(failed) = last.take().filter(|_| passage.tried.contains(&address)) {
            return Err(failed);
        }
        passage.tried.push(address);
        let to = To { address, host: &host, client: &passage.facts };
        let connected = reach(&dial, &to, metrics).await;
        if let Some(picked) = &passage.picked {
            let outcome = match &connected {
                Ok(_) => Outcome::Connected,
                Err(NoConnection::Failed(_)) => Outcome::Failed,
                Err(NoConnection::TimedOut) => Outcome::TimedOut,
            };
            upstream.record(picked.endpoint, outcome, metrics);
        }
        let failed = match connected {
            Ok((connection, posted)) => {
                passage.posted = posted;
                return Ok(connection);
            }
            Err(why) => failed(why),
        };
        // Whoever meant one endpoint is not served by another.
        let meant = upstream.cluster.original && passage.original().is_some();
        let left = match upstream.cluster.reach {
            Reach::Name { .. } => true,
            _ => !meant && upstream.cluster.endpoints.iter().any(|one| !passage.tried.contains(&one.address)),
        };
        // Endpoints that refuse are tried one after the other; with those that are silent nobody waits for ever.
        if !left || passage.tried.len() >= TRIES || began.elapsed() >= upstream.cluster.connect_timeout * 2 {
            return Err(failed);
        }
        last = Some(failed);
    }
}

/// Connects to an endpoint. Where a DestinationRule says so, that is a proxy which is asked to go on, within the same time.
async fn reach(dial: &Dial, to: &To<'_>, metrics: &Metrics) -> Result<(Connection, Option<Body>), NoConnection> {
    let by = Instant::now() + dial.connect_timeout;
    let mut connection = connect::connect(dial, to, None, metrics).await?;
    let preamble = dial.settings.as_ref().and_then(|settings| settings.preamble.as_ref());
    let Some(Preamble::Tunnel(tunnel)) = preamble else { return Ok((connection, None)) };
    let opened = timeout_at(by, tunnel::open(&mut connection.stream, tunnel)).await;
    let posted = opened.map_err(|_| NoConnection::TimedOut)?.map_err(NoConnection::Failed)?;
    Ok((connection, posted))
}

/// What the server name of the client's first bytes leads to now.
async fn named(passage: &Passage, upstream: &Upstream) -> Result<(Arc<Dial>, SocketAddr), Ending> {
    let (lookups, facts) = (&passage.installed.lookups, &passage.facts);
    let found = reach::find(lookups, &upstream.cluster, (facts, facts.sni()), &passage.tried).await;
    let address = found.map_err(|why| why.map_or(Ending::NoEndpoint, Ending::Connect))?;
    let dial = upstream.dial(upstream.cluster.tls.is_some(), false).ok_or(Ending::NoEndpoint)?;
    Ok((Arc::clone(dial), address))
}

fn choose(passage: &mut Passage) -> Result<Arc<Upstream>, Ending> {
    let Way::Rule(rule) = &passage.way else { return Err(Ending::NoRoute) };
    if rule.to.all.is_empty() {
        return Err(Ending::NoRoute);
    }
    let chosen = rule.to.pick(fastrand::u32(..));
    passage.destination = rule.to.all.iter().position(|one| std::ptr::eq(one, chosen));
    let cluster = chosen.cluster.ok_or(Ending::NoCluster)?;
    let upstream = Arc::clone(passage.installed.upstream(cluster));
    passage.cluster = Some(Arc::clone(&upstream));
    Ok(upstream)
}

/// Where the next try goes, and how.
fn endpoint(passage: &mut Passage, upstream: &Upstream) -> Result<(Arc<Dial>, SocketAddr), Ending> {
    let cluster = &upstream.cluster;
    let dial = |tls| upstream.dial(tls, false).map(Arc::clone);
    let picked = match passage.original().filter(|_| cluster.original) {
        Some(original) => match cluster.endpoints.iter().position(|one| is_at(one.address, original)) {
            Some(endpoint) => upstream.take(endpoint),
            // One that we have not heard of yet, or that nobody lists.
            None if passage.tried.is_empty() => {
                let dial = dial(false).or_else(|| dial(true)).ok_or(Ending::NoEndpoint)?;
                return Ok((dial, original));
            }
            None => return Err(Ending::NoEndpoint),
        },
        None => {
            let key = match &cluster.balance {
                Balance::Hash(hash) => hash.key.of_connection(&passage.facts.remote_ip),
                _ => None,
            };
            // A key leads to its endpoint, whatever was tried: one that is dead is left to chance.
            upstream.pick_by(key.filter(|_| passage.tried.is_empty()), &passage.tried, || fastrand::u32(..))
        }
    };
    let picked = picked.map_err(|none| match none {
        NoEndpoint::Unhealthy => Ending::NoEndpoint,
    })?;
    let endpoint = &cluster.endpoints[picked.endpoint];
    passage.picked = Some(picked);
    Ok((dial(endpoint.tls).ok_or(Ending::NoEndpoint)?, endpoint.address))
}

fn failed(why: NoConnection) -> Ending {
    match why {
        NoConnection::Failed(why) => Ending::Connect(why),
        NoConnection::TimedOut => Ending::Connect("connection timeout".to_owned()),
    }
}
