//! What keeps a request with its endpoint (Istio `consistentHash`).

use routing::{balance::HashKey, upstream::Balance};

use super::{exchange::Exchange, head::Head};
use crate::upstream::endpoints::Upstream;

/// Of a request that goes to a cluster with keys.
#[derive(Debug)]
pub(crate) struct Affinity {
    /// Its key; `None` = it brought none, and any endpoint will do.
    pub(crate) key: Option<u64>,
    /// The cookie that the client gets, so that its next request brings one.
    pub(crate) set_cookie: Option<Box<str>>,
}

/// Finds the key of a request, once.
pub(crate) fn find(exchange: &mut Exchange, request: &Head, upstream: &Upstream) -> Option<u64> {
    let Balance::Hash(hash) = &upstream.cluster.balance else { return None };
    let facts = &exchange.facts;
    let query = request.query().unwrap_or_default();
    let mut affinity = Affinity { key: hash.key.of(request, query, exchange.client()), set_cookie: None };
    if let (None, HashKey::Cookie(cookie)) = (affinity.key, &hash.key)
        && let Some(fresh) = cookie.fresh(facts.remote, facts.local)
    {
        affinity.key = Some(routing::balance::of_bytes(fresh.as_bytes()));
        affinity.set_cookie = Some(cookie.set(&fresh).into());
    }
    let key = affinity.key;
    exchange.affinity = Some(Box::new(affinity));
    key
}
