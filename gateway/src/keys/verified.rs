//! Tokens that were verified, by each worker: one that comes with every request costs no signature check each time.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use http::{HeaderName, HeaderValue};
use routing::{token::Token, tokens::TokenRule};
use tls::jwt::{Jwt, Keys, Refusal, digest};

use super::Slot;

/// What is known of a token whose signature is right.
#[derive(Debug)]
pub(crate) struct Verified {
    /// What it says, with its lists.
    pub(crate) token: Arc<Token>,
    /// What the workload is told of it.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Memory that it takes, roughly.
    size: usize,
}

/// Token, keys, and what is made of its claims.
type Key = ([u8; 32], u64, u64);

/// Tokens that a worker remembers.
const MOST: usize = 4096;
/// And their memory.
const ROOM: usize = 8 * 1024 * 1024;

#[derive(Default)]
struct Memory {
    all: HashMap<Key, Arc<Verified>>,
    size: usize,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Checks a token by a rule and the keys of its slot, at `now` in seconds since 1970.
///
/// # Errors
/// Why it is refused.
pub(crate) fn verify(
    token: &str,
    rule: &TokenRule,
    slot: &Slot,
    keys: &Keys,
    now: u64,
) -> Result<Arc<Verified>, Refusal> {
    let key = (digest(token.as_bytes()), keys.number, rule.reading);
    if let Some(known) = MEMORY.with_borrow(|memory| memory.all.get(&key).map(Arc::clone)) {
        check(&known.token, rule, now)?;
        return Ok(known);
    }
    let jwt = Jwt::read(token)?;
    let mut token = Token { claims: jwt.claims.clone() };
    // What costs little comes first, as in Envoy.
    check(&token, rule, now)?;
    keys.verify(&jwt).inspect_err(|why| {
        if *why == Refusal::NoKey {
            slot.miss(jwt.key_id());
        }
    })?;
    let mut headers = rule.claim_headers(&token.claims);
    headers.shrink_to_fit();
    rule.split_lists(&mut token.claims);
    let size = 512 + 4 * jwt.payload().len();
    let verified = Arc::new(Verified { token: Arc::new(token), headers, size });
    MEMORY.with_borrow_mut(|memory| memory.keep(key, &verified, now));
    Ok(verified)
}

fn check(token: &Token, rule: &TokenRule, now: u64) -> Result<(), Refusal> {
    if !rule.takes(token.issuer()) {
        return Err(Refusal::UnknownIssuer);
    }
    Jwt::check_times(&token.claims, now)?;
    if rule.admits(token.audiences()) { Ok(()) } else { Err(Refusal::WrongAudience) }
}

impl Memory {
    fn keep(&mut self, key: Key, verified: &Arc<Verified>, now: u64) {
        if self.all.len() >= MOST || self.size + verified.size > ROOM {
            self.all.retain(|_, it| Jwt::check_times(&it.token.claims, now).is_ok());
            // Where that freed little, all begin anew: a signature check each, and no bookkeeping at each request.
            if self.all.len() >= MOST / 2 {
                self.all.clear();
            }
            self.size = self.all.values().map(|it| it.size).sum();
            if self.size + verified.size > ROOM {
                self.all.clear();
                self.size = 0;
            }
        }
        self.size += verified.size;
        if let Some(before) = self.all.insert(key, Arc::clone(verified)) {
            self.size -= before.size;
        }
    }
}
