//! DestinationRules: features that are not there yet.

use super::finding::Findings;
use crate::{
    api::{
        DestinationRule,
        destination_rule::{LoadBalancer, SimpleLb, TrafficPolicy},
    },
    compile::context::Context,
    resources::Object,
};

pub(super) fn review(context: &Context<'_>, object: &Object<DestinationRule>) {
    let mut findings = Findings::default();
    if let Some(policy) = &object.spec.traffic_policy {
        traffic_policy(&mut findings, policy, "spec.trafficPolicy");
    }
    for (index, subset) in object.spec.subsets.iter().enumerate() {
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(&mut findings, policy, &format!("spec.subsets[{index}].trafficPolicy"));
        }
    }
    if context.proxy.is_gateway() {
        passthrough(&mut findings, object);
    }
    findings.tell(context, object);
}

/// What sidecars do and gateways cannot.
fn passthrough(findings: &mut Findings, object: &Object<DestinationRule>) {
    let subsets = object.spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
    for policy in object.spec.traffic_policy.iter().chain(subsets) {
        let ports = policy.port_level_settings.iter().map(|level| level.load_balancer.as_ref());
        let mut all = ports.chain([policy.load_balancer.as_ref()]).flatten();
        let used = all.any(|balancer| balancer.simple == Some(SimpleLb::Passthrough));
        let why =
            "PASSTHROUGH is for sidecars: a gateway's clients connect to the gateway, so it balances by LEAST_REQUEST";
        findings.note(used, why, || "spec.trafficPolicy".to_owned());
    }
}

fn traffic_policy(findings: &mut Findings, policy: &TrafficPolicy, field: &str) {
    let blocks = Blocks { load_balancer: policy.load_balancer.as_ref() };
    blocks.review(findings, field);
    failover(findings, policy.load_balancer.as_ref(), policy.outlier_detection.is_some(), field);
    for (index, level) in policy.port_level_settings.iter().enumerate() {
        let blocks = Blocks { load_balancer: level.load_balancer.as_ref() };
        let field = format!("{field}.portLevelSettings[{index}]");
        blocks.review(findings, &field);
        failover(findings, level.load_balancer.as_ref(), level.outlier_detection.is_some(), &field);
    }
}

/// What a traffic policy and its port level have in common.
struct Blocks<'a> {
    load_balancer: Option<&'a LoadBalancer>,
}

impl Blocks<'_> {
    fn review(&self, findings: &mut Findings, field: &str) {
        if let Some(balancer) = self.load_balancer {
            load_balancer(findings, balancer, &format!("{field}.loadBalancer"));
        }
    }
}

/// Nobody fails where nobody is ejected.
fn failover(findings: &mut Findings, balancer: Option<&LoadBalancer>, ejects: bool, field: &str) {
    let setting = balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref());
    let wants = setting.is_some_and(|it| it.distribute.is_empty() && it.enabled != Some(false));
    let message =
        "without outlierDetection nobody fails over to another locality, and all localities share the requests";
    findings.note(wants && !ejects, message, || format!("{field}.loadBalancer.localityLbSetting"));
}

fn load_balancer(findings: &mut Findings, balancer: &LoadBalancer, field: &str) {
    let at = |name: &str| format!("{field}.{name}");
    let zone = "zoneAwareLbSetting has no effect, since no object says how many proxies each zone has; write localityLbSetting";
    findings.note(balancer.zone_aware_lb_setting.is_some(), zone, || at("zoneAwareLbSetting"));
    let known = balancer.consistent_hash.is_none()
        && !matches!(balancer.simple, Some(SimpleLb::Random | SimpleLb::Passthrough));
    let warmup = "warmup has an effect with ROUND_ROBIN and LEAST_REQUEST only";
    findings.note(balancer.warmup.is_some() && !known, warmup, || at("warmup"));
    findings.note(balancer.warmup_duration_secs.is_some() && !known, warmup, || at("warmupDurationSecs"));
    let utilization = "backendUtilization has no effect, as in Istio: load that endpoints report is not looked at";
    findings.note(balancer.backend_utilization.is_some(), utilization, || at("backendUtilization"));
}
