//! Rules for the load balancer of a DestinationRule.

use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, MISSING_FIELD, NO_EFFECT, names};
use crate::api::destination_rule::{ConsistentHash, HttpCookie, LoadBalancer, LocalityLb, Warmup};

impl LoadBalancer {
    pub(super) fn check(&self, findings: &mut Findings) {
        if self.simple.is_some() && self.consistent_hash.is_some() {
            findings.error_at("consistentHash", CONFLICT, "simple and consistentHash exclude each other; keep one");
        }
        if let Some(hash) = &self.consistent_hash {
            findings.within("consistentHash", |findings| hash.check(findings));
        }
        if let Some(locality) = &self.locality_lb_setting {
            findings.within("localityLbSetting", |findings| locality.check(findings));
            if self.zone_aware_lb_setting.is_some() {
                findings.error_at(
                    "zoneAwareLbSetting",
                    CONFLICT,
                    "localityLbSetting and zoneAwareLbSetting exclude each other; keep one",
                );
            }
        }
        if self.warmup_duration_secs.is_some() {
            findings.warn_at(
                "warmupDurationSecs",
                DEPRECATED_FIELD,
                "warmupDurationSecs is deprecated; write `warmup: {duration: 30s}`",
            );
        }
        findings.positive("warmupDurationSecs", self.warmup_duration_secs, "remove it for no warm-up");
        if let Some(warmup) = &self.warmup {
            findings.within("warmup", |findings| warmup.check(findings));
        }
    }
}

impl Warmup {
    fn check(&self, findings: &mut Findings) {
        if self.duration.is_none() {
            findings.error_at("duration", MISSING_FIELD, "a warm-up needs its duration, as `30s`");
        }
        findings.positive("duration", self.duration, "remove warmup for none");
        if let Some(percent) = self.minimum_percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
            findings.error_at(
                "minimumPercent",
                BAD_VALUE,
                format!("{percent} is not a percentage; 0 to 100 is wanted"),
            );
        }
        if let Some(aggression) = self.aggression.filter(|aggression| *aggression <= 0.0) {
            findings.error_at("aggression", BAD_VALUE, format!("{aggression} is not above 0; 1 grows evenly"));
        }
    }
}

impl ConsistentHash {
    fn check(&self, findings: &mut Findings) {
        let keys: Vec<&str> = [
            ("httpHeaderName", self.http_header_name.is_some()),
            ("httpCookie", self.http_cookie.is_some()),
            ("useSourceIp", self.use_source_ip.is_some()),
            ("httpQueryParameterName", self.http_query_parameter_name.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
        match keys.as_slice() {
            [] => findings.warn(
                NO_EFFECT,
                "nothing is hashed; give httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName",
            ),
            [_] => {}
            several => findings.error(CONFLICT, format!("{} exclude each other; keep one", several.join(" and "))),
        }
        if let Some(cookie) = &self.http_cookie {
            findings.within("httpCookie", |findings| cookie.check(findings));
        }
        check_ring(findings, self.minimum_ring_size);
        if let Some(ring) = &self.ring_hash {
            findings.within("ringHash", |findings| check_ring(findings, ring.minimum_ring_size));
        }
        if self.ring_hash.is_some() && self.maglev.is_some() {
            findings.error_at("maglev", CONFLICT, "ringHash and maglev exclude each other; keep one");
        }
        if self.minimum_ring_size.is_some() {
            findings.warn_at(
                "minimumRingSize",
                DEPRECATED_FIELD,
                "minimumRingSize is deprecated; write `ringHash: {minimumRingSize: 1024}`",
            );
        }
        if let Some(size) = self.maglev.and_then(|maglev| maglev.table_size)
            && !(size < 5_000_011 && is_prime(size))
        {
            findings.within("maglev", |findings| {
                findings.error_at(
                    "tableSize",
                    BAD_VALUE,
                    format!("{size} is not a prime below 5000011; 65537 is usual"),
                );
            });
        }
    }
}

impl HttpCookie {
    /// All of it goes into `Set-Cookie` (RFC 6265 section 4.1.1).
    fn check(&self, findings: &mut Findings) {
        if self.name.is_empty() {
            findings.error_at("name", MISSING_FIELD, "a cookie needs a name");
        } else if let Some(fault) = names::header_name_fault(&self.name) {
            findings.error_at("name", BAD_VALUE, format!("a cookie's name is written as a header's: {fault}"));
        }
        let is_wrong = |text: &str| text.chars().any(|letter| letter.is_control() || letter == ';');
        if self.path.as_deref().is_some_and(is_wrong) {
            findings.error_at("path", BAD_VALUE, "a path in a cookie has no control characters and no `;`");
        }
        findings.each("attributes", &self.attributes, |findings, _, attribute| {
            if names::header_name_fault(&attribute.name).is_some() {
                let message = format!("`{}` is not an attribute of a cookie, as `SameSite` is", attribute.name);
                findings.error_at("name", BAD_VALUE, message);
            }
            if is_wrong(&attribute.value) {
                let message = "a value in a cookie has no control characters and no `;`";
                findings.error_at("value", BAD_VALUE, message);
            }
        });
    }
}

/// Envoy's largest ring, in points.
const LARGEST_RING: u64 = 8 << 20;

fn check_ring(findings: &mut Findings, minimum: Option<u64>) {
    if let Some(size) = minimum.filter(|size| *size > LARGEST_RING) {
        let message = format!("a ring of {size} points is too large; {LARGEST_RING} are the most, 1024 is usual");
        findings.error_at("minimumRingSize", BAD_VALUE, message);
    }
}

fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

impl LocalityLb {
    pub(super) fn check(&self, findings: &mut Findings) {
        if !self.distribute.is_empty() && !self.failover.is_empty() {
            findings.error_at("failover", CONFLICT, "distribute and failover exclude each other; keep one");
        }
        findings.each("distribute", &self.distribute, |findings, _, distribute| {
            let sum: u64 = distribute.to.values().map(|weight| u64::from(*weight)).sum();
            if sum != 100 {
                findings.error_at("to", BAD_VALUE, format!("the weights add up to {sum}; 100 is wanted"));
            }
            findings.each_key("to", &distribute.to, |findings, _, weight| {
                if !(1..=100).contains(weight) {
                    findings.error(BAD_VALUE, format!("{weight} is not a weight; 1 to 100 is wanted"));
                }
            });
        });
        findings.each("failover", &self.failover, |findings, _, failover| {
            if failover.from == failover.to {
                findings.error_at(
                    "to",
                    BAD_VALUE,
                    format!("region `{}` fails over to itself; name another region", failover.from),
                );
            }
            for (field, region) in [("from", &failover.from), ("to", &failover.to)] {
                if region.contains(['/', '*']) {
                    findings.error_at(
                        field,
                        BAD_VALUE,
                        format!("`{region}` is more than a region; write the region alone, as `us-east`"),
                    );
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::parse_file;

    fn faults(hash: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\n\
             spec: {{host: a, trafficPolicy: {{loadBalancer: {{consistentHash: {{{hash}}}}}}}}}\n"
        );
        parse_file("a.yaml", &text).problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_cookie_can_be_sent_and_a_ring_can_be_built() {
        let hash = "spec.trafficPolicy.loadBalancer.consistentHash";
        for (given, wrong) in [
            ("httpCookie: {name: sid, ttl: 0s, path: /a, attributes: [{name: SameSite, value: Lax}]}", ""),
            ("httpCookie: {name: 'a b', ttl: 0s}", ".httpCookie.name"),
            ("httpCookie: {name: sid, path: \"/\\r\\nSet-Cookie: a=b\"}", ".httpCookie.path"),
            (
                "httpCookie: {name: sid, attributes: [{name: Domain, value: \"a; Secure\"}]}",
                ".httpCookie.attributes[0].value",
            ),
            ("useSourceIp: true, ringHash: {minimumRingSize: 8388608}", ""),
            ("useSourceIp: true, ringHash: {minimumRingSize: 1000000000000}", ".ringHash.minimumRingSize"),
        ] {
            let right: Vec<String> =
                Some(wrong).filter(|it| !it.is_empty()).map(|it| format!("{hash}{it}")).into_iter().collect();
            assert_eq!(faults(given), right, "{given}");
        }
    }
}
