//! Tokens to try a login with: an annotation of a RequestAuthentication whose issuer is nobody who could be asked for one.

use std::time::{SystemTime, UNIX_EPOCH};

use routing::{
    resources::Resources,
    snapshot::Snapshot,
    token::Token,
    tokens::{KeySource, TokenHeader},
};
use tls::jwt::{Jwt, Keys};

/// `NAME=TOKEN`, with spaces or line ends between them.
const TOKENS: &str = "demo.sluice.dev/tokens";

/// Somebody who has logged in.
pub(super) struct Bearer {
    /// Who, for people.
    pub(super) name: String,
    /// The token.
    pub(super) text: String,
    /// What it says.
    pub(super) token: Token,
}

/// Those whose token the gateway takes from `Authorization: Bearer`: a command is offered only when it works.
pub(super) fn of(resources: &Resources, snapshot: &Snapshot) -> Vec<Bearer> {
    let mut all = Vec::new();
    let rules = snapshot.guard.iter().filter_map(|guard| guard.tokens.as_ref()).flat_map(|tokens| &tokens.rules);
    for rule in rules.filter(|rule| rule.headers.contains(&TokenHeader::bearer())) {
        let object = rule
            .object
            .split_once('/')
            .and_then(|(namespace, name)| resources.request_authentications.get(namespace, name));
        let given = object.and_then(|object| object.meta.annotations.get(TOKENS));
        let KeySource::Inline(keys) = &rule.keys else { continue };
        let (Some(given), Ok(keys)) = (given, Keys::read(keys.as_bytes())) else { continue };
        for (name, text) in given.split_whitespace().filter_map(|one| one.split_once('=')) {
            let Ok(jwt) = Jwt::read(text) else { continue };
            let good = keys.verify(&jwt).is_ok() && Jwt::check_times(&jwt.claims, now()).is_ok();
            let mut token = Token { claims: jwt.claims.clone() };
            if good && rule.takes(token.issuer()) && rule.admits(token.audiences()) {
                rule.split_lists(&mut token.claims);
                all.push(Bearer { name: name.to_owned(), text: text.to_owned(), token });
            }
        }
    }
    all
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
