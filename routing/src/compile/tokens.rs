//! RequestAuthentication to the rules by which the tokens of requests are checked.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, Uri};

use super::{
    context::Context,
    report::{BAD_VALUE, UNSUPPORTED},
    selection::Workload,
};
use crate::{
    api::{RequestAuthentication, check::LONGEST_FETCH, request_authentication::JwtRule},
    resources::{Kind, Object, Rejection},
    tokens::{ClaimHeader, KeySource, TokenHeader, TokenRule, Tokens},
};

/// Istio's default of `JWTRule.timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `None`: no token is looked at.
pub(super) fn compile(context: &Context<'_>) -> Option<Tokens> {
    let workload = Workload::of(context.proxy);
    let closing = closing(context, &workload);
    let mut tokens = Tokens { closed: !closing.is_empty(), ..Tokens::default() };
    for object in &context.resources.request_authentications {
        let spec = &object.spec;
        unfit_targets(context, object);
        lost_issuers(context, object);
        if workload.is_picked(object.namespace(), spec.selector.as_ref(), spec.targets()) {
            tokens.rules.extend(spec.jwt_rules.iter().map(|given| rule(object, given)));
        }
    }
    // As Istio does; rules of one issuer stay in the order of their objects, the oldest first.
    tokens.rules.sort_by(|one, other| one.issuer.cmp(&other.issuer));
    let outputs =
        tokens.rules.iter().flat_map(|rule| rule.payload_header.iter().chain(rule.claims.iter().map(|it| &it.header)));
    let unset = closing.iter().filter_map(|it| it.policy.as_ref()).flat_map(|policy| &policy.headers);
    let unset = unset.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    let mut cleared: Vec<HeaderName> = outputs.cloned().chain(unset).collect();
    cleared.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    cleared.dedup();
    tokens.cleared = cleared;
    (tokens.closed || !tokens.rules.is_empty()).then_some(tokens)
}

/// The objects for this workload of which no version can be understood. What is only a template is none.
fn closing<'a>(context: &Context<'a>, workload: &Workload<'_>) -> Vec<&'a Rejection> {
    let kind = Kind::RequestAuthentication.name();
    let all = context.resources.rejected().values().filter(|it| it.object.kind == kind);
    all.filter(|it| it.closes() && workload.may_be_picked(it)).collect()
}

fn unfit_targets(context: &Context<'_>, object: &Object<RequestAuthentication>) {
    if let Some(target) = object.spec.targets().find(|target| !target.is_gateway()) {
        let message = format!(
            "a {} is no proxy here, so no token is checked for it; a Gateway of gateway.networking.k8s.io or a selector is wanted",
            target.kind
        );
        context.report.error(object, UNSUPPORTED, "spec.targetRefs", message);
    }
}

/// Without keys and without their address they are looked for where the issuer says, which has to be a place.
fn lost_issuers(context: &Context<'_>, object: &Object<RequestAuthentication>) {
    for (index, rule) in object.spec.jwt_rules.iter().enumerate() {
        let is_url = |text: &str| {
            let uri: Option<Uri> = text.parse().ok();
            uri.is_some_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")))
        };
        if rule.jwks.is_none() && rule.jwks_uri.is_none() && !is_url(&rule.issuer) {
            let message = format!(
                "`{}` is no URL, so its keys cannot be looked for there and its tokens are refused with 401; write jwksUri or jwks",
                rule.issuer
            );
            context.report.error(object, BAD_VALUE, &format!("spec.jwtRules[{index}].issuer"), message);
        }
    }
}

fn rule(object: &Object<RequestAuthentication>, given: &JwtRule) -> TokenRule {
    let timeout =
        given.timeout.map(Duration::from).filter(|given| !given.is_zero()).unwrap_or(TIMEOUT).min(LONGEST_FETCH);
    let keys = match (&given.jwks, &given.jwks_uri) {
        (Some(keys), _) => KeySource::Inline(keys.as_str().into()),
        (None, Some(uri)) => KeySource::Remote { uri: uri.as_str().into(), timeout },
        (None, None) => KeySource::Discovered { issuer: given.issuer.as_str().into(), timeout },
    };
    // Names were checked when the object was read.
    let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).ok();
    let mut headers: Vec<TokenHeader> = given
        .from_headers
        .iter()
        .filter_map(|it| Some(TokenHeader { name: name(&it.name)?, prefix: it.prefix.as_str().into() }))
        .collect();
    let mut params = boxed(&given.from_params);
    let cookies = boxed(&given.from_cookies);
    if headers.is_empty() && params.is_empty() && cookies.is_empty() {
        (headers, params) = (vec![TokenHeader::bearer()], vec!["access_token".into()]);
    }
    let claims = given.output_claim_to_headers.iter();
    let claims: Vec<ClaimHeader> = claims
        .filter_map(|it| {
            Some(ClaimHeader { header: name(&it.header)?, path: it.claim.split('.').map(Into::into).collect() })
        })
        .collect();
    let lists = boxed(&given.space_delimited_claims);
    let mut id = DefaultHasher::new();
    (&claims, &lists).hash(&mut id);
    TokenRule {
        object: Arc::from(format!("{}/{}", object.namespace(), object.name())),
        issuer: given.issuer.as_str().into(),
        audiences: boxed(&given.audiences),
        keys,
        headers,
        params,
        cookies,
        forward: given.forward_original_token,
        payload_header: given.output_payload_to_header.as_deref().and_then(name),
        claims,
        lists,
        reading: id.finish(),
    }
}

fn boxed(texts: &[String]) -> Vec<Box<str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}
