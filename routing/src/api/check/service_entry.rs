//! Rules for ServiceEntry, WorkloadEntry and metadata.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, NO_EFFECT, names};
use crate::api::service_entry::Resolution;
use crate::api::{ObjectMeta, Protocol, ServiceEntry, WorkloadEntry};

impl ServiceEntry {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, namespace: &str, findings: &mut Findings) {
        self.check_hosts(findings);
        self.check_ports(findings);
        names::export_to(findings, &self.export_to, namespace, true);
        findings.each("addresses", &self.addresses, |findings, _, address| {
            if let Some(fault) = names::subnet_fault(address) {
                findings.error(BAD_VALUE, fault);
            }
            let subnet = address.contains('/');
            if subnet && !matches!(self.resolution, Resolution::None | Resolution::Static) {
                findings.error(
                    CONFLICT,
                    format!("`{address}` is a block of addresses, which needs resolution NONE or STATIC"),
                );
            }
        });
        if let Some(selector) = &self.workload_selector {
            findings.within("workloadSelector", |findings| names::selector(findings, "labels", &selector.labels));
            if !self.endpoints.is_empty() {
                findings.error_at(
                    "workloadSelector",
                    CONFLICT,
                    "endpoints and workloadSelector exclude each other; keep one",
                );
            }
        }
        self.check_resolution(findings);
        findings.each("endpoints", &self.endpoints, |findings, _, endpoint| self.check_endpoint(endpoint, findings));
    }

    fn check_hosts(&self, findings: &mut Findings) {
        if self.hosts.is_empty() {
            findings.error_at("hosts", MISSING_FIELD, "a ServiceEntry needs at least one host, as `api.example.com`");
        }
        findings.each("hosts", &self.hosts, |findings, _, host| {
            if host == "*" {
                findings.error(BAD_VALUE, "`*` would take every host; name the hosts, as `*.example.com`");
            } else if let Some(fault) = names::wildcard_host_fault(host) {
                findings.error(BAD_VALUE, fault);
            } else if names::is_partial_wildcard(host) && self.resolution != Resolution::DynamicDns {
                findings.warn(BAD_VALUE, format!("`{host}` has `*` inside a label; `*.example.com` is usual"));
            }
        });
    }

    fn check_ports(&self, findings: &mut Findings) {
        let (mut numbers, mut port_names) = (BTreeSet::new(), BTreeSet::new());
        findings.each("ports", &self.ports, |findings, _, port| {
            if port.number == 0 {
                findings.error_at("number", MISSING_FIELD, "a port number from 1 to 65535 is wanted");
            } else if !numbers.insert(port.number) {
                findings.error_at("number", BAD_VALUE, format!("port {} is listed twice; keep one", port.number));
            }
            if port.name.is_empty() {
                findings.error_at("name", MISSING_FIELD, "a port needs a name, as `https`");
            } else if !names::is_istio_label(&port.name) {
                findings.error_at("name", BAD_VALUE, port_name_fault(&port.name));
            } else if !port_names.insert(port.name.as_str()) {
                findings.error_at(
                    "name",
                    BAD_VALUE,
                    format!("port name `{}` is used twice; names are unique", port.name),
                );
            }
        });
    }

    fn check_resolution(&self, findings: &mut Findings) {
        let error = |findings: &mut Findings, field, message: &str| findings.error_at(field, CONFLICT, message);
        match self.resolution {
            Resolution::None if !self.endpoints.is_empty() => {
                error(
                    findings,
                    "endpoints",
                    "resolution NONE goes where the client meant to; remove the endpoints or use STATIC or DNS",
                );
            }
            Resolution::Dns | Resolution::DnsRoundRobin
                if self.endpoints.is_empty() && self.hosts.iter().any(|host| host.contains('*')) =>
            {
                error(findings, "hosts", "a wildcard cannot be looked up; give endpoints, or use resolution NONE");
            }
            Resolution::DnsRoundRobin if self.endpoints.len() > 1 => {
                error(findings, "endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint; use DNS for several");
            }
            Resolution::DynamicDns => self.check_dynamic(findings),
            _ => {}
        }
        if self.workload_selector.is_some() && self.resolution != Resolution::Static {
            let message = "a workloadSelector is meant for resolution STATIC; write that, or name endpoints";
            findings.warn_at("workloadSelector", NO_EFFECT, message);
        }
        let several = self.hosts.len() > 1 && self.resolution != Resolution::None;
        let opaque = |protocol: Option<Protocol>| {
            !protocol.is_some_and(|protocol| protocol.is_plain_http() || protocol.is_tls())
        };
        if several && let Some(port) = self.ports.iter().find(|port| opaque(port.protocol)) {
            let message = format!(
                "port `{}` is not HTTP or TLS, so several hosts cannot be told apart; give each its own ServiceEntry",
                port.name
            );
            error(findings, "hosts", &message);
        }
    }

    fn check_dynamic(&self, findings: &mut Findings) {
        if self.hosts.iter().any(|host| !host.starts_with("*.")) {
            findings.error_at(
                "hosts",
                CONFLICT,
                "resolution DYNAMIC_DNS is for wildcards as `*.example.com`; use DNS for one host",
            );
        }
        for (field, given) in [("addresses", !self.addresses.is_empty()), ("endpoints", !self.endpoints.is_empty())] {
            if given {
                findings.error_at(
                    field,
                    CONFLICT,
                    format!("resolution DYNAMIC_DNS looks the request's host up; remove {field}"),
                );
            }
        }
        findings.each("ports", &self.ports, |findings, _, port| {
            if port.protocol.is_none_or(|protocol| !protocol.is_plain_http() && !protocol.is_tls()) {
                findings.error_at(
                    "protocol",
                    CONFLICT,
                    "resolution DYNAMIC_DNS needs the host from the request: HTTP, HTTP2, GRPC or TLS",
                );
            }
        });
    }

    fn check_endpoint(&self, endpoint: &WorkloadEntry, findings: &mut Findings) {
        endpoint.check(findings);
        if endpoint.address.starts_with("unix://") {
            if self.ports.len() != 1 {
                findings.error_at(
                    "address",
                    CONFLICT,
                    "a unix socket serves exactly one port; keep one port in this ServiceEntry",
                );
            }
            if matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin) {
                let message = "a unix socket is no name to look up; use resolution STATIC";
                findings.error_at("address", CONFLICT, message);
            }
        } else if self.resolution == Resolution::Static
            && !endpoint.address.is_empty()
            && endpoint.address.parse::<IpAddr>().is_err()
        {
            findings.error_at(
                "address",
                BAD_VALUE,
                format!(
                    "`{}` is not an IP address, which resolution STATIC needs; use DNS for names",
                    endpoint.address
                ),
            );
        }
        findings.each_key("ports", &endpoint.ports, |findings, name, _| {
            if names::is_istio_label(name) && !self.ports.iter().any(|port| port.name == *name) {
                findings.error(BAD_VALUE, format!("`{name}` is not the name of a port of this ServiceEntry"));
            }
        });
    }
}

fn port_name_fault(name: &str) -> String {
    format!("`{name}` is not the name of a port; letters, digits and `-` are wanted, at most 63")
}

impl WorkloadEntry {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        if self.address.starts_with("unix://") {
            if let Some(fault) = names::unix_fault(&self.address) {
                findings.error_at("address", BAD_VALUE, fault);
            }
            if !self.ports.is_empty() {
                findings.error_at("ports", CONFLICT, "a unix socket has no ports; remove them");
            }
        } else if self.address.is_empty() {
            if self.network.is_none() {
                findings.error_at(
                    "address",
                    MISSING_FIELD,
                    "an address is wanted: an IP, a DNS name or a `unix://` path",
                );
            }
        } else if let Some(fault) = names::plain_host_fault(&self.address) {
            findings.error_at("address", BAD_VALUE, fault);
        }
        findings.each_key("ports", &self.ports, |findings, name, port| {
            if !names::is_istio_label(name) {
                findings.error(BAD_VALUE, port_name_fault(name));
            }
            if *port == 0 {
                findings.error(BAD_VALUE, "0 is not a port; 1 to 65535 is wanted");
            }
        });
        names::labels(findings, "labels", &self.labels);
    }
}

impl ObjectMeta {
    /// Says what is wrong with name and namespace; some kinds allow no dots in their name.
    pub fn check(&self, name_is_label: bool, findings: &mut Findings) {
        let label = |part: &str| names::is_dns_label(part);
        findings.within("metadata", |findings| {
            if self.name.is_empty() {
                findings.error_at("name", MISSING_FIELD, "the object has no name; write `metadata: {name: my-name}`");
            } else if name_is_label && !label(&self.name) {
                let message = format!(
                    "`{}` is not a name here; lower-case letters, digits and `-` are wanted, at most 63, no dots",
                    self.name
                );
                findings.error_at("name", BAD_VALUE, message);
            } else if !names::is_object_name(&self.name) {
                let message =
                    format!("`{}` is not a name; lower-case letters, digits, `-` and `.` are wanted", self.name);
                findings.error_at("name", BAD_VALUE, message);
            }
            if !label(&self.namespace) {
                let message = format!(
                    "`{}` is not a namespace; lower-case letters, digits and `-` are wanted, at most 63",
                    self.namespace
                );
                findings.error_at("namespace", BAD_VALUE, message);
            }
        });
    }
}
