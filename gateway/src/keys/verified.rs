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

#[cfg(test)]
mod tests {
    use routing::tokens::{KeySource, Tokens};
    use serde_json::json;

    use super::*;

    /// The key of RFC 8037, appendix A.
    const JWKS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    /// Signed by it: `{"iss":"https://issuer.test","sub":"ada","aud":"shop","exp":2000,"scope":"read write"}`.
    const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ.\
                         eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYWRhIiwiYXVkIjoic2hvcCIsImV4cCI6MjAwMCwic2NvcGUiOiJyZWFkIHdyaXRlIn0.\
                         BuzixntDEzhkSpjKhdxtykxp7ojLtWqcsPS0NSACFvJP3SWxbRK7rmSF2p4vJmHblMTUczH2-9w3KKVlhBlLBQ";
    const NOW: u64 = 1000;

    fn rule() -> TokenRule {
        TokenRule { issuer: "https://issuer.test".into(), reading: 1, ..Tokens::usual() }
    }

    fn keys() -> Keys {
        Keys::read(JWKS.as_bytes()).unwrap()
    }

    fn verify(token: &str, rule: &TokenRule, keys: &Keys, now: u64) -> Result<Arc<Verified>, Refusal> {
        super::verify(token, rule, &Slot::new(KeySource::Inline(JWKS.into())), keys, now)
    }

    fn known() -> (usize, usize) {
        MEMORY.with_borrow(|memory| (memory.all.len(), memory.size))
    }

    fn of_size(size: usize, expiry: u64) -> Arc<Verified> {
        let claims = json!({"exp": expiry}).as_object().unwrap().clone();
        Arc::new(Verified { token: Arc::new(Token { claims }), headers: Vec::new(), size })
    }

    fn numbered(number: usize) -> Key {
        (digest(&number.to_be_bytes()), 1, 1)
    }

    #[test]
    fn a_signature_is_checked_once_and_everything_else_each_time() {
        let (keys, own) = (keys(), rule());
        let first = verify(TOKEN, &own, &keys, NOW).unwrap();
        assert_eq!(first.token.subject(), "ada");
        assert!(Arc::ptr_eq(&first, &verify(TOKEN, &own, &keys, NOW).unwrap()), "it is known");
        assert_eq!(verify(TOKEN, &own, &keys, 2060).map(|_| ()), Ok(()));
        assert_eq!(verify(TOKEN, &own, &keys, 2061).map(|_| ()), Err(Refusal::Expired), "known, and old");
        let bank = TokenRule { audiences: vec!["bank".into()], ..rule() };
        assert_eq!(verify(TOKEN, &bank, &keys, NOW).map(|_| ()), Err(Refusal::WrongAudience));
        let other = TokenRule { issuer: "https://other.test".into(), ..rule() };
        assert_eq!(verify(TOKEN, &other, &keys, NOW).map(|_| ()), Err(Refusal::UnknownIssuer));
        assert_eq!(known().0, 1);
    }

    #[test]
    fn what_is_refused_is_not_known() {
        let forged = format!("{}AA", &TOKEN[..TOKEN.len() - 2]);
        assert_eq!(verify(&forged, &rule(), &keys(), NOW).map(|_| ()), Err(Refusal::Signature));
        assert_eq!(verify("a.b", &rule(), &keys(), NOW).map(|_| ()), Err(Refusal::Form));
        assert_eq!(known(), (0, 0));
    }

    /// A key that its issuer has taken back verifies nothing from then on, whatever was known.
    #[test]
    fn other_keys_ask_anew() {
        let rule = rule();
        let first = verify(TOKEN, &rule, &keys(), NOW).unwrap();
        let again = verify(TOKEN, &rule, &keys(), NOW).unwrap();
        assert!(!Arc::ptr_eq(&first, &again), "the same text, read again, has another number");
        assert_eq!(verify(TOKEN, &rule, &Keys::nobodys(), NOW).map(|_| ()), Err(Refusal::NoKey));
        let renamed = Keys::read(JWKS.replace("\"a\"", "\"b\"").as_bytes()).unwrap();
        assert_eq!(verify(TOKEN, &rule, &renamed, NOW).map(|_| ()), Err(Refusal::NoKey));
    }

    #[test]
    fn what_is_made_of_claims_is_each_rules_own() {
        let (keys, plain) = (keys(), rule());
        let claim = |name: &str| routing::tokens::ClaimHeader {
            header: HeaderName::from_static("x-user"),
            path: vec![name.into()],
        };
        let told = TokenRule { claims: vec![claim("sub")], reading: 2, ..rule() };
        assert_eq!(verify(TOKEN, &plain, &keys, NOW).unwrap().headers, []);
        let headers = [(HeaderName::from_static("x-user"), HeaderValue::from_static("ada"))];
        assert_eq!(verify(TOKEN, &told, &keys, NOW).unwrap().headers, headers);
        assert_eq!(verify(TOKEN, &plain, &keys, NOW).unwrap().token.claims["scope"], json!(["read", "write"]));
        assert_eq!(known().0, 2);
    }

    #[test]
    fn there_are_never_more_tokens_than_have_room() {
        let mut memory = Memory::default();
        for number in 0..3 * MOST {
            memory.keep(numbered(number), &of_size(600, u64::MAX), NOW);
            assert!(memory.all.len() <= MOST && memory.size == 600 * memory.all.len());
        }
        assert!(memory.all.contains_key(&numbered(3 * MOST - 1)), "the newest one is known");
        for number in 0..100 {
            memory.keep(numbered(number), &of_size(ROOM / 10, u64::MAX), NOW);
            assert!(memory.size <= ROOM, "{}", memory.size);
        }
        // The same one again takes no more.
        let before = memory.size;
        memory.keep(numbered(99), &of_size(ROOM / 10, u64::MAX), NOW);
        assert!(memory.size <= before);
    }

    #[test]
    fn those_that_are_over_make_room_and_the_others_stay() {
        let mut memory = Memory::default();
        for number in 0..MOST {
            let expiry = if number % 4 == 0 { u64::MAX } else { 1 };
            memory.keep(numbered(number), &of_size(600, expiry), 1);
        }
        memory.keep(numbered(MOST), &of_size(600, u64::MAX), NOW);
        assert_eq!(memory.all.len(), MOST / 4 + 1);
        assert_eq!(memory.size, 600 * memory.all.len());
        assert!(memory.all.contains_key(&numbered(0)) && !memory.all.contains_key(&numbered(1)));
    }
}
