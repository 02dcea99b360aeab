//! Load balancing, warm-up and outlier detection of a cluster, as a DestinationRule says them.

use std::time::Duration;

use http::HeaderName;

use super::{
    context::Context,
    destination_rules::{MergedRule, Policy},
};
use crate::{
    api::destination_rule::{self as api, SimpleLb},
    balance::{ConsistentHash, HashCookie, HashKey, HashTable, Warmup},
    outlier::Outliers,
    upstream::{Balance, Cluster},
};

const NO_EFFECT: &str = "no-effect";
/// Istio's default of `outlierDetection.consecutive5xxErrors`, and of local failures.
const ERRORS: u32 = 5;
/// Istio's default of `outlierDetection.interval`.
const INTERVAL: Duration = Duration::from_secs(10);
/// Istio's default of `outlierDetection.baseEjectionTime`.
const EJECTION: Duration = Duration::from_secs(30);
/// Istio's default of `outlierDetection.maxEjectionPercent`.
const MOST_OUT: u32 = 10;

pub(super) fn balance(policy: &Policy<'_>) -> Balance {
    let Some(balancer) = policy.load_balancer else { return Balance::default() };
    if let Some(hash) = &balancer.consistent_hash {
        return Balance::Hash(Box::new(ConsistentHash { key: key(hash), table: table(hash) }));
    }
    match balancer.simple.unwrap_or_default() {
        SimpleLb::RoundRobin => Balance::RoundRobin,
        SimpleLb::Random => Balance::Random,
        SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest | SimpleLb::Passthrough => {
            Balance::LeastRequest
        }
    }
}

fn key(hash: &api::ConsistentHash) -> HashKey {
    if let Some(name) = &hash.http_header_name {
        return match HeaderName::try_from(name.as_str()) {
            Ok(name) => HashKey::Header(name),
            Err(_) => HashKey::Nothing,
        };
    }
    if let Some(cookie) = &hash.http_cookie {
        let attributes = cookie.attributes.iter().map(|it| (it.name.as_str().into(), it.value.as_str().into()));
        return HashKey::Cookie(HashCookie {
            name: cookie.name.as_str().into(),
            path: cookie.path.as_deref().unwrap_or_default().into(),
            ttl: cookie.ttl.map(Duration::from),
            attributes: attributes.collect(),
        });
    }
    match &hash.http_query_parameter_name {
        _ if hash.use_source_ip == Some(true) => HashKey::Source,
        Some(name) => HashKey::Query(name.as_str().into()),
        None => HashKey::Nothing,
    }
}

fn table(hash: &api::ConsistentHash) -> HashTable {
    if let Some(maglev) = &hash.maglev {
        return HashTable::Maglev { size: maglev.table_size.unwrap_or(HashTable::MAGLEV) };
    }
    let written = hash.ring_hash.and_then(|ring| ring.minimum_ring_size).or(hash.minimum_ring_size);
    HashTable::Ring { minimum: written.filter(|minimum| *minimum > 0).unwrap_or(HashTable::RING) }
}

/// Warm-up, which only ROUND_ROBIN and LEAST_REQUEST know.
pub(super) fn warmup(policy: &Policy<'_>, balance: &Balance) -> Option<Box<Warmup>> {
    let balancer = policy.load_balancer?;
    let written = balancer.warmup.or_else(|| {
        let duration = balancer.warmup_duration_secs;
        duration.is_some().then(|| api::Warmup { duration, ..api::Warmup::default() })
    })?;
    let known = matches!(balance, Balance::RoundRobin | Balance::LeastRequest);
    let duration = written.duration.map(Duration::from).filter(|duration| known && !duration.is_zero())?;
    let minimum = written.minimum_percent.unwrap_or(10.0) / 100.0;
    Some(Box::new(Warmup { duration, minimum, aggression: written.aggression.unwrap_or(1.0) }))
}

/// What of a rule has no effect on a cluster of so many endpoints, for this proxy.
pub(super) fn review(context: &Context<'_>, rule: &MergedRule<'_>, policy: &Policy<'_>, made: &Cluster) {
    let (count, object) = (made.endpoints.len() as u32, rule.base);
    if let Some(outliers) = &made.outliers
        && (1..100).contains(&(outliers.max_percent * count))
    {
        let needed = 100_u32.div_ceil(count);
        let message = format!(
            "maxEjectionPercent is {}, which is none of the {count} endpoints of {}: nobody is ever ejected; {needed} lets \
             one go",
            outliers.max_percent, made.name
        );
        context.report.info(object, NO_EFFECT, "spec.trafficPolicy.outlierDetection", message);
    }
    let written = policy.load_balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref());
    if written.is_some_and(|it| it.enabled != Some(false) && it.failover_priority.is_empty())
        && context.proxy.locality.is_unknown()
    {
        let message = "this proxy does not know where it is, so it prefers no locality: its Node's labels say it, its pod's \
                       label istio-locality, or --locality";
        context.report.info(object, NO_EFFECT, "spec.trafficPolicy.loadBalancer.localityLbSetting", message);
    }
}

pub(super) fn outliers(policy: &Policy<'_>) -> Option<Box<Outliers>> {
    let written = policy.outlier_detection?;
    let percent = |number: i32| u32::try_from(number).unwrap_or(0).min(100);
    let split = written.split_external_local_origin_errors;
    // 0 turns a kind of error off.
    let counted = |number: Option<u32>| number.filter(|number| *number > 0);
    let deprecated = u32::try_from(written.consecutive_errors).ok().filter(|number| *number > 0);
    let codes = written.outlier_detection_http_error_codes.iter().filter_map(|code| u16::try_from(*code).ok());
    Some(Box::new(Outliers {
        server_errors: counted(Some(written.consecutive_5xx_errors.or(deprecated).unwrap_or(ERRORS))),
        gateway_errors: counted(written.consecutive_gateway_errors),
        local_failures: counted(Some(written.consecutive_local_origin_failures.unwrap_or(ERRORS))).filter(|_| split),
        split,
        interval: written.interval.map_or(INTERVAL, Duration::from),
        base: written.base_ejection_time.map_or(EJECTION, Duration::from),
        max_percent: if written.max_ejection_percent == 0 { MOST_OUT } else { percent(written.max_ejection_percent) },
        min_health_percent: percent(written.min_health_percent),
        codes: codes.collect(),
    }))
}
