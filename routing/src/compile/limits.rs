//! RateLimits: which of them are this proxy's business, and what they say.

mod names;
pub(super) mod targets;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use http::HeaderName;

use super::{
    clusters::{self, Carries},
    conditions,
    context::Context,
    destinations::{Lookup, find},
    report::{BAD_VALUE, UNKNOWN_HOST},
    workloads::WorkloadFacts,
};
use crate::{
    api::{
        RateLimit,
        rate_limit::{self as api, HeadersOn, KeyPart, LimitMatch, LimitRule, WhenAbsent},
        virtual_service::HttpMatch,
    },
    host::HostPattern,
    limits::{Global, Key, Limit, Limits, Part, Place, Rate, Share, Target, When, claim_path},
    problem::Severity,
    resources::Object,
    upstream::UpstreamProtocol,
};
pub(super) use names::RouteNames;

/// One that cannot be read, so that it limits nothing.
pub const LIMITS_NOTHING: &str = "limits-nothing";
/// Envoy's default.
const TIMEOUT: Duration = Duration::from_millis(20);

/// `None`: nothing is limited. `workload` is that of a sidecar.
pub(super) fn compile(context: &Context<'_>, workload: Option<&WorkloadFacts>) -> Option<Limits> {
    let mut all = Vec::new();
    unread(context);
    for object in &context.resources.rate_limits {
        names::review(context, object);
        let targets = targets::of(context, object, workload);
        if targets.is_empty() {
            continue;
        }
        for (index, rule) in object.spec.rules.iter().enumerate() {
            all.extend(limit(context, object, (index, rule), &targets));
        }
    }
    Limits::new(all)
}

/// Those of which no version can be read limit nothing: to turn everybody away would be worse than what they are against.
fn unread(context: &Context<'_>) {
    for rejection in targets::unread(context).filter(|it| targets::may_hold(context, it)) {
        let message = "it cannot be read, so nothing is limited by it until it can".to_owned();
        context.report.of_rejection(rejection, (Severity::Error, LIMITS_NOTHING), message);
    }
}

/// `None`: it cannot be understood, which was told.
fn limit(
    context: &Context<'_>,
    object: &Object<RateLimit>,
    (index, rule): (usize, &LimitRule),
    targets: &[Target],
) -> Option<Limit> {
    let field = format!("spec.rules[{index}]");
    let short: Arc<str> = rule.name.clone().unwrap_or_else(|| index.to_string()).into();
    let mut when = Vec::new();
    for (number, one) in rule.matches.iter().enumerate() {
        when.push(condition(context, object, one, &format!("{field}.match[{number}]"))?);
    }
    let place = match (&rule.global, &rule.limit) {
        (Some(global), _) => Place::Global(Box::new(service(context, object, global, &field))),
        (None, Some(amount)) => Place::Local(Rate::new(amount)?),
        (None, None) => return None,
    };
    let mut identity = DefaultHasher::new();
    (&rule.limit, &rule.key, &rule.global).hash(&mut identity);
    let parts = rule.key.iter().map(|one| part(one, rule.global.is_some()));
    Some(Limit {
        name: format!("{}/{}/{short}", object.namespace(), object.name()).into(),
        short,
        identity: identity.finish(),
        targets: targets.into(),
        when: when.into(),
        key: Key(parts.collect::<Option<_>>()?),
        place,
        dry_run: rule.dry_run,
        status: rule.status.unwrap_or(429),
        tells_refused: rule.headers != HeadersOn::Never,
        tells_passed: rule.headers == HeadersOn::Always,
    })
}

/// `None`: it cannot be understood, and is told; the rule limits nothing then, rather than what it is not about.
fn condition(context: &Context<'_>, object: &Object<RateLimit>, one: &LimitMatch, field: &str) -> Option<When> {
    let compiled = |when: &HttpMatch, field: &str| {
        let compiled = conditions::compile(&context.expressions, when);
        compiled.map_err(|refused| {
            let message =
                format!("{}; this rule limits nothing", refused.message.split(';').next().unwrap_or_default());
            context.report.error(object, refused.code, &format!("{field}.{}", refused.field), message);
        })
    };
    let mut paths = Vec::new();
    for (number, path) in one.paths.iter().enumerate() {
        let when = HttpMatch { uri: Some(path.clone()), ..HttpMatch::default() };
        paths.push(compiled(&when, &format!("{field}.paths[{number}]")).ok()?.path);
    }
    let hosts: Result<Vec<HostPattern>, _> = one.hosts.iter().map(|host| host.parse()).collect();
    Some(When {
        hosts: hosts.ok()?.into(),
        routes: one.routes.iter().map(|name| name.as_str().into()).collect(),
        methods: one.methods.iter().map(|name| name.as_str().into()).collect(),
        paths: paths.into(),
        rest: compiled(&one.rest(), field).ok()?,
    })
}

fn part(part: &KeyPart, global: bool) -> Option<(Part, Share)> {
    let what = if let Some(address) = &part.client_address {
        // Each proxy remembers the clients it counts, and one with a network to itself has more addresses than anybody can
        // remember. A service is asked with what Envoy would ask.
        let v6 = if global { 128 } else { 64 };
        Part::Client(address.ipv4_prefix.unwrap_or(32), address.ipv6_prefix.unwrap_or(v6))
    } else if let Some(name) = &part.header {
        Part::Header(HeaderName::from_bytes(name.as_bytes()).ok()?)
    } else if let Some(name) = &part.cookie {
        Part::Cookie(name.as_str().into())
    } else if let Some(claim) = &part.claim {
        Part::Claim(claim_path(claim)?)
    } else if let Some(constant) = &part.constant {
        Part::Constant(constant.as_str().into())
    } else {
        let simple = [
            (part.principal, Part::Principal),
            (part.namespace, Part::Namespace),
            (part.method, Part::Method),
            (part.path, Part::Path),
            (part.host, Part::Host),
            (part.route, Part::Route),
        ];
        simple.into_iter().find(|(given, _)| given.is_some())?.1
    };
    let name = part.alias.as_deref().map_or_else(|| what.usual_name(), Into::into);
    Some((what, Share { name, skips: part.when_absent == WhenAbsent::Skip }))
}

/// The service that counts. One that is not there is told, and is as if it never answered.
fn service(context: &Context<'_>, object: &Object<RateLimit>, global: &api::Global, field: &str) -> Global {
    let host = context.full_host(&global.service, object.namespace());
    let listener = global.port.unwrap_or_default();
    let fail_open = global.fail_open.unwrap_or(true);
    let lost = if fail_open { ", so nothing is limited" } else { ", so these requests get 500" };
    let lookup = Lookup { host, port: global.port, subset: None, listener, carries: Carries::Http };
    let cluster = match find(context, &lookup) {
        Ok(cluster) if context.clusters.get(cluster).protocol == UpstreamProtocol::Http2 => Some(cluster),
        Ok(_) => {
            let message =
                format!("that port of `{}` does not speak HTTP/2; name it `grpc` in its Service{lost}", lookup.host);
            context.report.error(object, BAD_VALUE, &format!("{field}.global.port"), message);
            None
        }
        Err(_) if context.services.find(&lookup.host).is_some() => {
            let message = format!("`{}` has no such port, or several and none is named{lost}", lookup.host);
            context.report.error(object, BAD_VALUE, &format!("{field}.global.port"), message);
            None
        }
        Err(_) => {
            let absence = context.absent_host(object, UNKNOWN_HOST, &lookup.host);
            context.report.absent(object, &format!("{field}.global.service"), absence, lost);
            None
        }
    };
    let cluster_name = match cluster {
        Some(cluster) => Arc::clone(&context.clusters.get(cluster).name),
        None => clusters::name(listener, "", &lookup.host),
    };
    Global {
        cluster,
        cluster_name,
        domain: global.domain.as_str().into(),
        timeout: global.timeout.map_or(TIMEOUT, |timeout| timeout.get()),
        fail_open,
    }
}
