//! Rules for DestinationRule.

use std::collections::BTreeSet;

use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, MISSING_FIELD, NO_EFFECT, names};
use crate::api::DestinationRule;
use crate::api::destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, H2UpgradePolicy, HttpPool, LoadBalancer, OutlierDetection,
    PortTrafficPolicy, TcpPool, TrafficPolicy, Tunnel,
};

impl DestinationRule {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, namespace: &str, findings: &mut Findings) {
        if self.host.is_empty() {
            findings.error_at(
                "host",
                MISSING_FIELD,
                "a DestinationRule needs the host of a service, as `reviews.shop.svc.cluster.local`",
            );
        } else if let Some(fault) = names::wildcard_host_fault(&self.host) {
            findings.error_at("host", BAD_VALUE, fault);
        }
        if let Some(policy) = &self.traffic_policy {
            findings.within("trafficPolicy", |findings| policy.check(findings));
        }
        let mut seen = BTreeSet::new();
        findings.each("subsets", &self.subsets, |findings, _, subset| {
            if subset.name.is_empty() {
                findings.error_at("name", MISSING_FIELD, "a subset needs a name, as `v1`");
            } else if !names::is_istio_label(&subset.name) {
                let message = format!("`{}` is not a subset name; letters, digits and `-` are wanted", subset.name);
                findings.error_at("name", BAD_VALUE, message);
            } else if !seen.insert(subset.name.as_str()) {
                findings.error_at(
                    "name",
                    BAD_VALUE,
                    format!("subset `{}` is listed twice; names are unique, rename or remove one", subset.name),
                );
            }
            names::labels(findings, "labels", &subset.labels);
            if let Some(policy) = &subset.traffic_policy {
                findings.within("trafficPolicy", |findings| policy.check(findings));
            }
        });
        names::export_to(findings, &self.export_to, namespace, false);
        if let Some(selector) = &self.workload_selector {
            findings.within("workloadSelector", |findings| {
                names::selector(findings, "matchLabels", &selector.match_labels)
            });
            if self.export_to.iter().any(|to| to != "." && to != namespace) {
                findings.error_at(
                    "exportTo",
                    CONFLICT,
                    "a rule with workloadSelector stays in its namespace; write `exportTo: [\".\"]` or remove it",
                );
            }
        }
    }
}

impl TrafficPolicy {
    fn check(&self, findings: &mut Findings) {
        if *self == Self::default() {
            findings.error(
                MISSING_FIELD,
                "the policy is empty; give loadBalancer, connectionPool, outlierDetection, tls or portLevelSettings",
            );
        }
        let blocks = Blocks {
            load_balancer: self.load_balancer.as_ref(),
            connection_pool: self.connection_pool.as_ref(),
            outlier_detection: self.outlier_detection.as_ref(),
            tls: self.tls.as_ref(),
        };
        blocks.check(findings);
        if self.tunnel.is_some() && self.proxy_protocol.is_some() {
            findings.error_at("proxyProtocol", CONFLICT, "tunnel and proxyProtocol exclude each other; keep one");
        }
        if let Some(tunnel) = &self.tunnel {
            findings.within("tunnel", |findings| tunnel.check(findings));
        }
        if let Some(percent) = self.retry_budget.and_then(|budget| budget.percent)
            && !(0.0..=100.0).contains(&percent)
        {
            findings.within("retryBudget", |findings| {
                findings.error_at("percent", BAD_VALUE, format!("{percent} is not a percentage; 0 to 100 is wanted"));
            });
        }
        let mut ports = BTreeSet::new();
        findings.each("portLevelSettings", &self.port_level_settings, |findings, _, settings| {
            settings.check(&mut ports, findings);
        });
    }
}

impl PortTrafficPolicy {
    fn check(&self, ports: &mut BTreeSet<u16>, findings: &mut Findings) {
        match self.port.map(|port| port.number) {
            None | Some(0) => findings.error_at("port", MISSING_FIELD, "a port is wanted, as `port: {number: 8080}`"),
            Some(number) => {
                if !ports.insert(number) {
                    // Istio takes the first.
                    findings.warn_at("port", BAD_VALUE, format!("port {number} has settings twice; keep one"));
                }
            }
        }
        let blocks = Blocks {
            load_balancer: self.load_balancer.as_ref(),
            connection_pool: self.connection_pool.as_ref(),
            outlier_detection: self.outlier_detection.as_ref(),
            tls: self.tls.as_ref(),
        };
        if blocks.are_missing() {
            let message = "the settings are empty; give loadBalancer, connectionPool, outlierDetection or tls";
            findings.error(MISSING_FIELD, message);
        }
        blocks.check(findings);
    }
}

/// The blocks that a policy and its port settings share.
struct Blocks<'p> {
    load_balancer: Option<&'p LoadBalancer>,
    connection_pool: Option<&'p ConnectionPool>,
    outlier_detection: Option<&'p OutlierDetection>,
    tls: Option<&'p ClientTls>,
}

impl Blocks<'_> {
    fn are_missing(&self) -> bool {
        self.load_balancer.is_none()
            && self.connection_pool.is_none()
            && self.outlier_detection.is_none()
            && self.tls.is_none()
    }

    fn check(&self, findings: &mut Findings) {
        if let Some(block) = self.load_balancer {
            findings.within("loadBalancer", |findings| block.check(findings));
        }
        if let Some(block) = self.connection_pool {
            findings.within("connectionPool", |findings| block.check(findings));
        }
        if let Some(block) = self.outlier_detection {
            findings.within("outlierDetection", |findings| block.check(findings));
        }
        if let Some(block) = self.tls {
            findings.within("tls", |findings| block.check(findings));
        }
    }
}

impl Tunnel {
    fn check(&self, findings: &mut Findings) {
        if let Some(protocol) = self.protocol.as_deref().filter(|protocol| !matches!(*protocol, "CONNECT" | "POST")) {
            findings.error_at(
                "protocol",
                BAD_VALUE,
                format!("`{protocol}` is not a tunnel protocol; CONNECT or POST is wanted"),
            );
        }
        if self.target_host.is_empty() {
            findings.error_at("targetHost", MISSING_FIELD, "a tunnel needs the host that it ends at");
        } else if let Some(fault) = names::plain_host_fault(&self.target_host) {
            findings.error_at("targetHost", BAD_VALUE, fault);
        }
        if self.target_port == 0 {
            findings.error_at("targetPort", MISSING_FIELD, "a tunnel needs the port that it ends at, 1 to 65535");
        }
    }
}

impl ConnectionPool {
    fn check(&self, findings: &mut Findings) {
        if self.tcp.is_none() && self.http.is_none() {
            findings.error(MISSING_FIELD, "the pool is empty; give tcp or http");
        }
        if let Some(tcp) = &self.tcp {
            findings.within("tcp", |findings| tcp.check(findings));
        }
        if let Some(http) = &self.http {
            findings.within("http", |findings| http.check(findings));
        }
    }
}

fn not_negative(findings: &mut Findings, field: &'static str, number: i32) {
    if number < 0 {
        findings.error_at(field, BAD_VALUE, format!("{number} is below 0; leave it out for the default"));
    }
}

impl TcpPool {
    fn check(&self, findings: &mut Findings) {
        not_negative(findings, "maxConnections", self.max_connections);
        findings.positive("connectTimeout", self.connect_timeout, "leave it out for the default of 10s");
        findings.positive("maxConnectionDuration", self.max_connection_duration, "leave it out for no limit");
        if let Some(keepalive) = &self.tcp_keepalive {
            findings.within("tcpKeepalive", |findings| {
                findings.positive("time", keepalive.time, "leave it out for the system's default");
                findings.positive("interval", keepalive.interval, "leave it out for the system's default");
            });
        }
    }
}

impl HttpPool {
    fn check(&self, findings: &mut Findings) {
        for (field, number) in [
            ("http1MaxPendingRequests", self.http1_max_pending_requests),
            ("http2MaxRequests", self.http2_max_requests),
            ("maxRequestsPerConnection", self.max_requests_per_connection),
            ("maxRetries", self.max_retries),
            ("maxConcurrentStreams", self.max_concurrent_streams),
        ] {
            not_negative(findings, field, number);
        }
        findings.positive("idleTimeout", self.idle_timeout, "leave it out for the default of 1h");
        if self.use_client_protocol && self.h2_upgrade_policy == H2UpgradePolicy::Upgrade {
            findings.error_at(
                "useClientProtocol",
                CONFLICT,
                "useClientProtocol and h2UpgradePolicy UPGRADE exclude each other; keep one",
            );
        }
        if let Some(keep_alive) = &self.http2_keep_alive {
            findings.within("http2KeepAlive", |findings| {
                for (field, duration) in [("interval", keep_alive.interval), ("timeout", keep_alive.timeout)] {
                    if duration.is_none() {
                        findings.error_at(
                            field,
                            MISSING_FIELD,
                            "interval and timeout are both wanted, as `30s` and `5s`",
                        );
                    }
                    findings.positive(field, duration, "remove http2KeepAlive for none");
                }
            });
        }
    }
}

impl OutlierDetection {
    fn check(&self, findings: &mut Findings) {
        findings.positive("interval", self.interval, "leave it out for the default of 10s");
        findings.positive("baseEjectionTime", self.base_ejection_time, "leave it out for the default of 30s");
        for (field, percent) in
            [("maxEjectionPercent", self.max_ejection_percent), ("minHealthPercent", self.min_health_percent)]
        {
            if !(0..=100).contains(&percent) {
                findings.error_at(field, BAD_VALUE, format!("{percent} is not a percentage; 0 to 100 is wanted"));
            }
        }
        if self.consecutive_errors != 0 {
            findings.warn_at(
                "consecutiveErrors",
                DEPRECATED_FIELD,
                "consecutiveErrors is deprecated; use consecutive5xxErrors or consecutiveGatewayErrors",
            );
        }
        if self.consecutive_local_origin_failures.is_some_and(|failures| failures > 0)
            && !self.split_external_local_origin_errors
        {
            findings.error_at(
                "consecutiveLocalOriginFailures",
                CONFLICT,
                "it counts only with `splitExternalLocalOriginErrors: true`; add that",
            );
        }
        findings.each(
            "outlierDetectionHttpErrorCodes",
            &self.outlier_detection_http_error_codes,
            |findings, _, code| {
                if !(100..=599).contains(code) {
                    findings.error(BAD_VALUE, format!("{code} is not a status; 100 to 599 is wanted"));
                }
            },
        );
    }
}

impl ClientTls {
    fn check(&self, findings: &mut Findings) {
        let files = [
            ("clientCertificate", &self.client_certificate),
            ("privateKey", &self.private_key),
            ("caCertificates", &self.ca_certificates),
        ];
        let originates = matches!(self.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        if originates && self.credential_name.is_some() {
            for (field, _) in files.iter().chain([&("caCrl", &self.ca_crl)]).filter(|(_, path)| path.is_some()) {
                findings.error_at(field, CONFLICT, "credentialName and file paths exclude each other; keep one");
            }
        } else if self.mode == ClientTlsMode::Mutual {
            for (field, _) in files.iter().take(2).filter(|(_, path)| path.is_none()) {
                findings.error_at(
                    field,
                    MISSING_FIELD,
                    "mode MUTUAL needs clientCertificate and privateKey (paths of files) or credentialName",
                );
            }
        }
        if self.mode == ClientTlsMode::IstioMutual {
            for (field, _) in files.iter().filter(|(_, path)| path.is_some()) {
                findings.warn_at(
                    field,
                    NO_EFFECT,
                    "mode ISTIO_MUTUAL uses the workload's mesh certificate; remove the path or use MUTUAL",
                );
            }
            if self.credential_name.is_some() {
                findings.warn_at(
                    "credentialName",
                    NO_EFFECT,
                    "mode ISTIO_MUTUAL uses the workload's mesh certificate; remove it or use MUTUAL",
                );
            }
        }
        if originates && self.insecure_skip_verify == Some(true) {
            if self.ca_certificates.is_some() || !self.subject_alt_names.is_empty() {
                findings.error_at(
                    "insecureSkipVerify",
                    CONFLICT,
                    "nothing is verified, so caCertificates and subjectAltNames have no meaning; remove either",
                );
            }
            if self.mode == ClientTlsMode::Simple && self.credential_name.is_some() {
                findings.error_at(
                    "insecureSkipVerify",
                    CONFLICT,
                    "in mode SIMPLE credentialName holds the CA, which is not used; remove either",
                );
            }
        }
    }
}
