//! Who asks for a certificate: by a certificate of the mesh, or by the token of a service account.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use http::{HeaderMap, header};
use tls::{identity::SpiffeId, jwt};
use tokio::time::Instant;

use super::keys::KeyFile;
use crate::{control_plane::serve::Peer, kubernetes::token_review::TokenReviews, settings::parse_name};

/// So long a token that was found good is not asked about again.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Tokens that are remembered at once.
const MOST: usize = 10_000;

/// A service account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Account {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The pod that the token was made for.
    pub(crate) pod: Option<String>,
}

impl Account {
    /// Of Kubernetes' user name, `system:serviceaccount:NAMESPACE:NAME`.
    ///
    /// # Errors
    /// It is somebody else's.
    pub(crate) fn of(user: &str, pod: Option<String>) -> Result<Self, NotKnown> {
        let parts: Vec<&str> = user.split(':').collect();
        match parts[..] {
            // A slash in a name would make an identity of another form.
            ["system", "serviceaccount", namespace, name]
                if parse_name(namespace).is_ok() && parse_name(name).is_ok() =>
            {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), pod })
            }
            _ => Err(NotKnown::Refused(format!("`{}` is no service account", user.escape_debug()))),
        }
    }
}

/// Why nobody is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NotKnown {
    /// There is no proof, or it is none.
    Refused(String),
    /// Nobody can say now.
    Silent(String),
    /// The account's name cannot stand in a certificate.
    NoIdentity(String),
}

/// Who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Caller {
    /// The identity that a certificate is for.
    pub(crate) identity: SpiffeId,
    /// `certificate` or `token`.
    pub(crate) proof: &'static str,
    /// The pod, where the token names it.
    pub(crate) pod: Option<String>,
}

/// Who knows tokens.
pub(crate) enum Judge {
    /// An API server.
    Kubernetes(Box<TokenReviews>),
    /// A file of keys.
    Keys(Arc<KeyFile>),
    /// Nobody: only certificates prove anything.
    Nobody,
}

/// Knows callers.
pub(crate) struct Callers {
    pub(crate) trust_domain: String,
    pub(crate) judge: Judge,
    /// Good tokens, by their digests.
    remembered: Mutex<HashMap<[u8; 32], (Account, Instant), RandomState>>,
}

impl Callers {
    /// Of this trust domain.
    pub(crate) fn new(trust_domain: String, judge: Judge) -> Self {
        Self { trust_domain, judge, remembered: Mutex::default() }
    }

    /// Who asks. A certificate comes first, as with Istio: whoever has one needs no token.
    pub(crate) async fn who(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, NotKnown> {
        let by_certificate = peer.proof.as_ref().map(|proof| {
            let identity = proof.now().map_err(NotKnown::Refused)?;
            self.certified(identity.spiffe.as_deref())
        });
        if let Some(Ok(caller)) = by_certificate {
            return Ok(caller);
        }
        match (bearer(headers), by_certificate) {
            (Some(token), _) => self.account(token, peer.address.ip()).await.and_then(|account| {
                let identity = SpiffeId::workload(&self.trust_domain, &account.namespace, &account.name);
                let identity = identity.map_err(|why| NotKnown::NoIdentity(why.to_string()))?;
                Ok(Caller { identity, proof: "token", pod: account.pod })
            }),
            (None, Some(Err(why))) => Err(why),
            (None, _) => Err(NotKnown::Refused("there is neither a token nor a certificate".to_owned())),
        }
    }

    /// Its certificate was verified by the mesh's roots; those may vouch for other trust domains too.
    fn certified(&self, spiffe: Option<&str>) -> Result<Caller, NotKnown> {
        let refused = |why: String| NotKnown::Refused(why);
        let spiffe =
            spiffe.ok_or_else(|| refused("the client's certificate has no SPIFFE id, or several".to_owned()))?;
        let identity = SpiffeId::parse(spiffe).map_err(|why| refused(why.to_string()))?;
        if identity.trust_domain() != self.trust_domain.replace('@', ".") {
            return Err(refused(format!("{identity} is of another trust domain than {}", self.trust_domain)));
        }
        if identity.service_account().is_none() {
            return Err(refused(format!("{identity} is no service account's")));
        }
        Ok(Caller { identity, proof: "certificate", pod: None })
    }

    async fn account(&self, token: &str, address: IpAddr) -> Result<Account, NotKnown> {
        match &self.judge {
            Judge::Nobody => Err(NotKnown::Refused(
                "tokens prove nothing here, as there are no keys for them (--token-keys)".to_owned(),
            )),
            Judge::Keys(keys) => keys.whose(token),
            Judge::Kubernetes(reviews) => {
                let digest = jwt::digest(token.as_bytes());
                if let Some(account) = self.recall(&digest) {
                    return Ok(account);
                }
                let account = reviews.whose(token, address).await?;
                self.remember(digest, &account);
                Ok(account)
            }
        }
    }

    fn recall(&self, digest: &[u8; 32]) -> Option<Account> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(digest).filter(|(_, until)| *until > Instant::now()).map(|(account, _)| account.clone())
    }

    fn remember(&self, digest: [u8; 32], account: &Account) {
        let now = Instant::now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST {
            remembered.retain(|_, (_, until)| *until > now);
        }
        if remembered.len() < MOST {
            remembered.insert(digest, (account.clone(), now + REMEMBERED));
        }
    }
}

/// The token of `authorization: Bearer ...`; the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_exactly_four_parts() {
        let account = Account::of("system:serviceaccount:shop:cart", None).unwrap();
        assert_eq!((account.namespace.as_str(), account.name.as_str()), ("shop", "cart"));
        for other in [
            "",
            "cart",
            "system:node:n1",
            "system:serviceaccount:shop",
            "system:serviceaccount:shop:",
            "system:serviceaccount::cart",
            "system:serviceaccount:a:b:c",
            "system:serviceaccount:a/sa/b:c",
            "system:serviceaccount:a:b/x",
            "system:serviceaccount:a:..",
            "System:serviceaccount:a:b",
        ] {
            assert!(matches!(Account::of(other, None), Err(NotKnown::Refused(_))), "{other}");
        }
    }

    #[test]
    fn a_token_follows_bearer() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        for other in ["Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_certificate_speaks_for_its_own_trust_domain_alone() {
        let callers = Callers::new("cluster.local".to_owned(), Judge::Nobody);
        let caller = callers.certified(Some("spiffe://cluster.local/ns/shop/sa/cart")).unwrap();
        assert_eq!((caller.identity.as_str(), caller.proof), ("spiffe://cluster.local/ns/shop/sa/cart", "certificate"));
        for other in [None, Some("spiffe://other.local/ns/shop/sa/cart"), Some("spiffe://cluster.local/x"), Some("x")] {
            assert!(callers.certified(other).is_err(), "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_token_is_remembered_for_a_while() {
        let callers = Callers::new("td".to_owned(), Judge::Nobody);
        let account = Account::of("system:serviceaccount:shop:cart", None).unwrap();
        callers.remember([1; 32], &account);
        assert_eq!(callers.recall(&[1; 32]), Some(account.clone()));
        assert_eq!(callers.recall(&[2; 32]), None);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(callers.recall(&[1; 32]), None);
        for number in 0..=u32::try_from(MOST).unwrap() + 5 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_be_bytes());
            callers.remember(digest, &account);
        }
        assert_eq!(callers.remembered.lock().unwrap().len(), MOST);
    }
}
