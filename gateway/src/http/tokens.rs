//! The tokens of a request: found, checked, and turned into what the workload is told (Istio `RequestAuthentication`).

use std::{
    borrow::Cow,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderName,
    header::{ACCESS_CONTROL_REQUEST_METHOD, COOKIE, ORIGIN},
};
use routing::{
    request::{Headers as _, RequestView},
    rule::EditHeaders as _,
    tokens::{Place, TokenRule, Tokens, without_cookie, without_param},
};
use tls::jwt::Refusal;

use super::{admit::view, exchange::Exchange, failure::Failure, guard, head::Head};
use crate::keys::{
    Slot,
    verified::{Verified, verify},
};

/// Looks at the tokens of a request. Who has none passes, without an identity.
///
/// # Errors
/// [`Failure::Token`].
pub(crate) fn pass(exchange: &mut Exchange, request: &mut Head) -> Result<(), Failure> {
    if guard::before(exchange).is_none_or(|guard| guard.tokens.is_none()) {
        return Ok(());
    }
    let installed = Arc::clone(&exchange.installed);
    let Some(tokens) = installed.snapshot.guard.as_ref().and_then(|guard| guard.tokens.as_ref()) else { return Ok(()) };
    // Tokens have the last word on what a request says: routes are chosen by what they leave, as in Istio, and what somebody else
    // gave before them comes back only where the proxy itself would write over it.
    exchange.routed = None;
    if let Some(granted) = &mut exchange.granted {
        granted.retain_own(&tokens.cleared);
    }
    if !tokens.cleared.is_empty() {
        request.remove_if(|_, name| tokens.cleared.iter().any(|own| passes_for(name, own)));
    }
    if is_preflight(request) {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let judged = judge(tokens, &installed.keys, &view(request, exchange.scheme(), 0), now);
    match judged {
        Judged::None => {}
        Judged::Good(good) => take(exchange, request, &good),
        Judged::Bad(refusal) => return Err(refused(exchange, request, refusal)),
    }
    Ok(())
}

/// Many applications take `_` for `-`.
fn passes_for(name: &[u8], own: &HeaderName) -> bool {
    let own = own.as_str().as_bytes();
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == own.len() && name.iter().zip(own).all(|(one, other)| plain(*one) == plain(*other))
}

/// Browsers send no tokens with these.
fn is_preflight(request: &Head) -> bool {
    request.method() == "OPTIONS"
        && request.nth(&ORIGIN, 0).is_some_and(|origin| !origin.is_empty())
        && request.nth(&ACCESS_CONTROL_REQUEST_METHOD, 0).is_some()
}

enum Judged<'r> {
    None,
    Good(Good<'r>),
    Bad(Refusal),
}

struct Good<'r> {
    rule: &'r TokenRule,
    verified: Arc<Verified>,
    places: Vec<Place<'r>>,
    payload: Option<String>,
}

/// One issuer whose tokens are right is enough. All tokens in its places have to be: an application may look at another one
/// than we do.
fn judge<'r>(tokens: &'r Tokens, keys: &[Arc<Slot>], request: &RequestView<'_>, now: u64) -> Judged<'r> {
    let mut refusal = None;
    for (rule, slot) in tokens.rules.iter().zip(keys) {
        let found = rule.find(request);
        let Some(last) = found.last() else { continue };
        let keys = slot.keys();
        match found.iter().map(|found| verify(&found.token, rule, slot, &keys, now)).collect::<Result<Vec<_>, _>>() {
            Ok(mut verified) => {
                // The places are not empty.
                let Some(verified) = verified.pop() else { continue };
                let payload = rule.payload_header.as_ref().and_then(|_| payload(&last.token));
                let places = found.iter().map(|found| found.place).collect();
                return Judged::Good(Good { rule, verified, places, payload });
            }
            Err(why) => {
                // That it is not one issuer's says little when it is another's.
                if refusal.is_none_or(|known| known == Refusal::UnknownIssuer) {
                    refusal = Some(why);
                }
            }
        }
    }
    if refusal.is_none() && tokens.closed && !Tokens::usual().find(request).is_empty() {
        refusal = Some(Refusal::NoKey);
    }
    refusal.map_or(Judged::None, Judged::Bad)
}

fn payload(token: &str) -> Option<String> {
    token.split('.').nth(1).map(str::to_owned)
}

/// The request as the workload gets it.
fn take(exchange: &mut Exchange, request: &mut Head, good: &Good<'_>) {
    let rule = good.rule;
    if !rule.forward {
        good.places.iter().for_each(|place| remove(request, *place));
    }
    if let (Some(name), Some(payload)) = (&rule.payload_header, &good.payload) {
        request.push(name.as_str().as_bytes(), payload.as_bytes());
    }
    for (name, value) in &good.verified.headers {
        request.push(name.as_str().as_bytes(), value.as_bytes());
    }
    exchange.token = Some(Arc::clone(&good.verified.token));
}

fn remove(request: &mut Head, place: Place<'_>) {
    match place {
        Place::Header(name) => request.remove_all(name),
        Place::Param(name) => {
            let Some(query) = request.query() else { return };
            let (path, left) = (request.path(), without_param(query, name));
            let target = if left.is_empty() { path.to_owned() } else { format!("{path}?{left}") };
            request.set_target(target.as_bytes());
        }
        Place::Cookie(name) => {
            let lines: Vec<Vec<u8>> = request
                .fields()
                .filter(|(_, field, _)| field.eq_ignore_ascii_case(COOKIE.as_str().as_bytes()))
                .map(|(.., value)| without_cookie(value, name))
                .collect();
            request.remove_all(&COOKIE);
            for line in lines.iter().filter(|line| !line.is_empty()) {
                request.push(COOKIE.as_str().as_bytes(), line);
            }
        }
    }
}

/// Envoy names the address that was asked for; we leave out the query, which may hold the token.
fn refused(exchange: &Exchange, request: &Head, refusal: Refusal) -> Failure {
    let path: String = request.path().chars().take(256).collect();
    let realm = format!("{}://{}{path}", exchange.scheme(), request.authority());
    let realm =
        if realm.contains(['"', '\\']) { Cow::Owned(realm.replace(['"', '\\'], "_")) } else { Cow::Borrowed(&*realm) };
    Failure::Token(refusal, format!("Bearer realm=\"{realm}\", error=\"invalid_token\"").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_pass_for_ours_are_ours() {
        let own = HeaderName::from_static("x-jwt-sub");
        for name in ["x-jwt-sub", "X-Jwt_Sub", "x_jwt_sub"] {
            assert!(passes_for(name.as_bytes(), &own), "{name}");
        }
        assert!(!passes_for(b"x-jwt-su", &own) && !passes_for(b"x-jwt-sun", &own));
    }

    #[test]
    fn what_is_removed_leaves_the_rest() {
        let mut head = Head::default();
        head.set_target(b"/a?x=1&access_token=t");
        head.push(b"Cookie", b"a=b; session=t; c=\xff\xfe");
        head.push(b"cookie", b"session=u");
        head.push(b"Authorization", b"Bearer t");
        remove(&mut head, Place::Param("access_token"));
        remove(&mut head, Place::Cookie("session"));
        remove(&mut head, Place::Header(&http::header::AUTHORIZATION));
        assert_eq!(head.target(), "/a?x=1");
        let fields: Vec<_> = head.fields().map(|(_, _, value)| value).collect();
        assert_eq!(fields, [b"a=b; c=\xff\xfe"]);
    }
}
