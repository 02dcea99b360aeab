//! Whether a token is a service account's: the API server knows.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Api, Client, api::PostParams};
use serde_json::Value;
use tls::jwt::Jwt;
use tokio::time::timeout;

use crate::control_plane::{
    ca::callers::{Account, NotKnown},
    shares::Shares,
};

/// Longest wait for one answer, and for the turn to ask.
const ANSWER: Duration = Duration::from_secs(5);
/// Questions that are open at once.
const AT_ONCE: usize = 64;
/// Those for one address: the others of it wait.
const OF_ONE: usize = 8;
/// In what every service account is.
const ACCOUNTS: &str = "system:serviceaccounts";
/// Which pod a token was made for.
const POD: &str = "authentication.kubernetes.io/pod-name";

/// Asks about tokens.
pub(crate) struct TokenReviews {
    reviews: Api<TokenReview>,
    audiences: Vec<String>,
    places: Shares,
}

impl TokenReviews {
    /// For tokens that have one of these audiences.
    pub(crate) fn new(client: Client, audiences: Vec<String>) -> Self {
        Self { reviews: Api::all(client), audiences, places: Shares::new(AT_ONCE, OF_ONE) }
    }

    /// Whose token this is, which somebody at this address has shown.
    pub(crate) async fn whose(&self, token: &str, address: IpAddr) -> Result<Account, NotKnown> {
        if !plausible(token, &self.audiences) {
            return Err(NotKnown::Refused("the token is for another audience".to_owned()));
        }
        let spec = TokenReviewSpec { audiences: Some(self.audiences.clone()), token: token.to_owned() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let asked = timeout(ANSWER, async {
            let _place = self.places.take(address).await;
            self.reviews.create(&PostParams::default(), &review).await
        });
        let silent = |why: String| NotKnown::Silent(format!("the API server cannot be asked about the token: {why}"));
        let review = match asked.await {
            Ok(Ok(review)) => review,
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                return Err(silent(format!("{}; the chart sluice-control grants it", status.message)));
            }
            Ok(Err(error)) => return Err(silent(error.to_string())),
            Err(_) => return Err(silent("it is silent".to_owned())),
        };
        let status = review.status.unwrap_or_default();
        let refused = |why: &str| Err(NotKnown::Refused(why.to_owned()));
        if status.authenticated != Some(true) {
            return refused(status.error.as_deref().unwrap_or("the token is not good"));
        }
        // An API server that knows nothing of audiences gives none back, and has not looked at them.
        let audiences = status.audiences.unwrap_or_default();
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return refused("the token is for another audience");
        }
        account(status.user.unwrap_or_default())
    }
}

/// Whether the API server could find it good: one that names other audiences alone is not worth a question. Times are judged by the
/// API server's clock, and what cannot be read here may be of an algorithm or a form that it knows.
fn plausible(token: &str, audiences: &[String]) -> bool {
    let Ok(jwt) = Jwt::read(token) else { return true };
    let ours = |audience: &str| audiences.iter().any(|own| own == audience);
    match jwt.claims.get("aud") {
        Some(Value::String(one)) => ours(one),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).any(ours),
        // Tokens of Secrets name none, and are for the API server's own.
        _ => true,
    }
}

fn account(user: UserInfo) -> Result<Account, NotKnown> {
    if !user.groups.unwrap_or_default().iter().any(|group| group == ACCOUNTS) {
        return Err(NotKnown::Refused(format!("the token is not of the group {ACCOUNTS}")));
    }
    let pod = user.extra.and_then(|mut extra| extra.remove(POD)?.into_iter().next());
    Account::of(&user.username.unwrap_or_default(), pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        let extra = [(POD.to_owned(), vec!["cart-1".to_owned()])];
        UserInfo {
            username: Some(name.to_owned()),
            groups: Some(groups.iter().map(|group| (*group).to_owned()).collect()),
            extra: Some(extra.into()),
            ..UserInfo::default()
        }
    }

    #[test]
    fn what_is_meant_for_others_alone_is_not_asked_about() {
        use base64::Engine as _;
        let coded = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let judged = |algorithm: &str, claims: &str| {
            let header = format!(r#"{{"alg":"{algorithm}"}}"#);
            plausible(&format!("{}.{}.AA", coded(&header), coded(claims)), &["istio-ca".to_owned()])
        };
        for good in [r#"{"aud":["x","istio-ca"],"exp":2000}"#, r#"{"aud":"istio-ca"}"#, r#"{"sub":"a"}"#] {
            assert!(judged("RS256", good), "{good}");
        }
        assert!(judged("ES512", r#"{"aud":"istio-ca"}"#) && plausible("another form", &["istio-ca".to_owned()]));
        for other in [r#"{"aud":["x"]}"#, r#"{"aud":[]}"#, r#"{"aud":"x"}"#] {
            assert!(!judged("RS256", other), "{other}");
        }
    }

    #[test]
    fn a_service_account_is_in_its_group_and_has_its_name() {
        let known = account(user("system:serviceaccount:shop:cart", &["x", ACCOUNTS])).unwrap();
        assert_eq!(
            (known.namespace.as_str(), known.name.as_str(), known.pod.as_deref()),
            ("shop", "cart", Some("cart-1"))
        );
        assert!(account(user("system:serviceaccount:shop:cart", &["system:authenticated"])).is_err());
        assert!(account(user("kubernetes-admin", &[ACCOUNTS])).is_err());
        assert!(account(UserInfo::default()).is_err());
    }
}
