//! A snapshot as text that people can review.

use std::fmt::{Debug, Write as _};

use crate::{
    acme::{Current, Ordered},
    compile::Compiled,
    inbound::{Application, Inbound},
    opaque::OpaqueTable,
    pattern::{Conditions, HeaderCondition, HeaderField, PathKind, RouteMatch, StringPattern},
    reach::Reach,
    retry_budget::RetryBudget,
    rule::{Action, Destination, HeaderOps, Rule},
    snapshot::{Content, Listener, Unclaimed, Workload},
    table::{RouteTable, VirtualHost},
    upstream::Cluster,
};

pub(super) fn compiled(compiled: &Compiled) -> String {
    let mut out = String::new();
    let snapshot = &compiled.snapshot;
    line(&mut out, 0, &format!("workload {}", workload(&snapshot.workload)));
    for listener in &snapshot.listeners {
        render_listener(&mut out, listener);
    }
    if let Some(inbound) = &snapshot.inbound {
        render_inbound(&mut out, inbound);
    }
    if let Some(outbound) = &snapshot.outbound {
        let mut ports: Vec<_> = outbound.by_port.iter().collect();
        ports.sort_by_key(|(port, _)| **port);
        for (port, table) in ports {
            line(&mut out, 0, &format!("outbound {port}"));
            render_table(&mut out, table);
        }
        let mut ports: Vec<_> = outbound.opaque.iter().collect();
        ports.sort_by_key(|(port, _)| **port);
        for (port, table) in ports {
            line(&mut out, 0, &format!("outbound {port} opaque"));
            render_opaque(&mut out, 1, table);
        }
        if outbound.unclaimed != Unclaimed::default() {
            line(&mut out, 0, "what no service claims is refused");
        }
        if let Some(table) = &outbound.fallback {
            line(&mut out, 0, "what no service claims");
            render_table(&mut out, table);
        }
        for door in &outbound.doors {
            line(&mut out, 0, &format!("listens on {} for port {}", door.at.ip(), door.port));
        }
    }
    for cluster in snapshot.named_clusters() {
        render_cluster(&mut out, cluster);
    }
    for ordered in &snapshot.ordered {
        render_ordered(&mut out, ordered);
    }
    for name in &snapshot.names {
        line(&mut out, 0, &format!("resolve {name}"));
    }
    for problem in &compiled.problems {
        line(&mut out, 0, &problem.to_string());
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:1$}{text}", "", depth * 2);
}

fn workload(workload: &Workload) -> String {
    let Workload { name, namespace, canonical_service, canonical_revision, principal, .. } = workload;
    format!("{namespace}/{name} {canonical_service}:{canonical_revision} {principal}").trim_end().to_owned()
}

fn render_listener(out: &mut String, listener: &Listener) {
    let bind = listener.bind.map_or("*".to_owned(), |bind| bind.to_string());
    let target =
        if listener.bind_port == listener.port { String::new() } else { format!(" -> {}", listener.bind_port) };
    line(out, 0, &format!("listener {bind}:{}{target}", listener.port));
    if let Some(tls) = &listener.tls {
        for (number, server) in tls.servers.iter().enumerate() {
            let hosts = tls.by_sni.iter().filter(|(_, index)| **index == number).map(|(host, _)| host.to_string());
            line(out, 1, &format!("tls {} for {}", server.name, hosts.collect::<Vec<_>>().join(" ")));
            let (label, table) = match &server.content {
                Content::Http => ("", None),
                Content::Bytes(table) => ("bytes", Some(table)),
                Content::Passed(table) => ("passed", Some(table)),
                Content::Mesh(table) => ("passed for the mesh", Some(table)),
            };
            if let Some(table) = table {
                line(out, 2, label);
                render_opaque(out, 3, table);
            }
            if server.content.is_passed() {
                continue;
            }
            let settings = &server.settings;
            line(out, 2, &format!("certificate {:?}", settings.certificate));
            line(out, 2, &format!("client {}", texts_for_bytes(&settings.client)));
            let (min, max, suites) = (settings.min_version, settings.max_version, &settings.cipher_suites);
            line(out, 2, format!("versions {min:?}..{max:?} {}", suites.join(":")).trim_end());
        }
    }
    if let Some(table) = &listener.bytes {
        render_opaque(out, 1, table);
    }
    render_table(out, &listener.routes);
}

/// Bytes in a `Debug` form are a list of numbers: show their length.
fn texts_for_bytes(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let mut parts = text.split('[');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((list, rest)) if list.starts_with(|c: char| c.is_ascii_digit()) => {
                let _ = write!(out, "{} bytes{rest}", list.split(',').count());
            }
            _ => {
                out.push('[');
                out.push_str(part);
            }
        }
    }
    out
}

fn render_table(out: &mut String, table: &RouteTable) {
    let mut hosts: Vec<_> = table.hosts.iter().collect();
    hosts.sort_by(|a, b| a.0.cmp(b.0));
    for (_, host) in hosts {
        render_host(out, host);
    }
}

fn render_host(out: &mut String, host: &VirtualHost) {
    line(out, 1, &format!("host {}{}", host.domain, if host.https_redirect { " (redirects to https)" } else { "" }));
    for route in host.routes.routes() {
        let name = if route.rule.name.is_empty() { "default" } else { &route.rule.name };
        line(out, 2, &format!("{} [{name} of {}]", when(&route.when), route.rule.source));
        render_rule(out, &route.rule);
    }
}

fn when(when: &RouteMatch) -> String {
    let mut parts = Vec::new();
    let case = if when.path.ignore_case { " (any case)" } else { "" };
    match &when.path.kind {
        PathKind::Any => {}
        PathKind::Exact(text) => parts.push(format!("path = {text}{case}")),
        PathKind::Prefix(text) => parts.push(format!("path = {text}*{case}")),
        PathKind::Regex(regex) => parts.push(format!("path ~ {regex}")),
    }
    if let Some(conditions) = &when.conditions {
        other_conditions(&mut parts, conditions);
    }
    if parts.is_empty() { "always".to_owned() } else { parts.join(", ") }
}

fn other_conditions(parts: &mut Vec<String>, conditions: &Conditions) {
    let named = [("scheme", &conditions.scheme), ("method", &conditions.method), ("authority", &conditions.authority)];
    for (name, given) in named {
        parts.extend(given.as_ref().map(|given| format!("{name} {}", pattern(given))));
    }
    parts.extend(conditions.headers.iter().map(header));
    parts.extend(conditions.query.iter().map(|query| format!("query {} {}", query.name, pattern(&query.pattern))));
}

fn header(header: &HeaderCondition) -> String {
    let claim;
    let name = match &header.field {
        HeaderField::Claim(path) => {
            claim = format!("@{}", path.join("."));
            claim.as_str()
        }
        HeaderField::Name(name) => name.as_str(),
        HeaderField::Method => ":method",
        HeaderField::Scheme => ":scheme",
        HeaderField::Authority => ":authority",
        HeaderField::Path => ":path",
    };
    format!("{}header {name} {}", if header.inverted { "not " } else { "" }, pattern(&header.pattern))
}

fn pattern(pattern: &StringPattern) -> String {
    match pattern {
        StringPattern::Present => "present".to_owned(),
        StringPattern::Exact(text) => format!("= {text}"),
        StringPattern::Prefix(text) => format!("= {text}*"),
        StringPattern::Regex(regex) => format!("~ {regex}"),
    }
}

fn render_rule(out: &mut String, rule: &Rule) {
    match &rule.action {
        Action::Route(to) => {
            for destination in &to.all {
                render_destination(out, destination, to.total);
            }
        }
        Action::Redirect(redirect) => line(out, 3, &format!("{redirect:?}")),
        Action::Direct(direct) => {
            line(out, 3, &format!("answer {} {:?}", direct.status, String::from_utf8_lossy(&direct.body)));
        }
    }
    if let Some(timeout) = rule.timeout {
        line(out, 3, &format!("timeout {timeout:?}"));
    }
    if let Some(retries) = &rule.retries {
        line(out, 3, &format!("{retries:?}"));
    }
    for mirror in rule.mirrors.iter().flatten() {
        let shadow = if mirror.shadow { " as its shadow" } else { "" };
        line(out, 3, &format!("mirror {} {}%{shadow}", mirror.cluster_name, mirror.share.percent()));
    }
    if let Some(rewrite) = &rule.rewrite {
        line(out, 3, &format!("{rewrite:?}"));
    }
    if let Some(fault) = &rule.fault {
        line(out, 3, &format!("{fault:?}"));
    }
    if let Some(cors) = &rule.cors {
        line(out, 3, &format!("{cors:?}"));
    }
    render_ops(out, 3, "request", &rule.request_headers);
    render_ops(out, 3, "response", &rule.response_headers);
}

fn render_destination(out: &mut String, to: &Destination, total: u32) {
    let known = if to.cluster.is_some() { "" } else { " (unknown)" };
    line(out, 3, &format!("to {}{known} {}/{total}", to.cluster_name, to.weight));
    render_ops(out, 4, "request", &to.request_headers);
    render_ops(out, 4, "response", &to.response_headers);
}

fn render_opaque(out: &mut String, depth: usize, table: &OpaqueTable) {
    for route in table.routes() {
        let subnets = route.subnets.iter().map(ToString::to_string);
        let mut when: Vec<String> = subnets.chain(route.names.iter().map(|name| format!("sni {name}"))).collect();
        if route.sniffed {
            when.push("unless HTTP".to_owned());
        }
        let when = if when.is_empty() { "always".to_owned() } else { when.join(" ") };
        line(out, depth, format!("{when} [{}]", route.rule.source).trim_end_matches(" []"));
        for to in &route.rule.to.all {
            let known = if to.cluster.is_some() { "" } else { " (unknown)" };
            line(out, depth + 1, &format!("to {}{known} {}/{}", to.cluster_name, to.weight, route.rule.to.total));
        }
    }
}

fn render_ops(out: &mut String, depth: usize, which: &str, ops: &Option<Box<HeaderOps>>) {
    if let Some(ops) = ops {
        line(out, depth, &format!("{which} {ops:?}").replace(", computed: None", ""));
    }
}

fn render_cluster(out: &mut String, cluster: &Cluster) {
    let name = format!("{} ({} in {})", cluster.name, cluster.service_name, cluster.service_namespace);
    line(out, 0, &format!("cluster {name} {:?} {:?}", cluster.protocol, cluster.balance));
    let (connect, idle) = (cluster.connect_timeout, cluster.idle_timeout);
    line(out, 1, &format!("connect {connect:?}, idle {idle:?}, {:?}", cluster.limits));
    if let Some(connections) = &cluster.connections {
        line(out, 1, &format!("{connections:?}"));
    }
    if cluster.retry_budget != RetryBudget::default() {
        line(out, 1, &format!("{:?}", cluster.retry_budget));
    }
    if cluster.original {
        line(out, 1, "to the address that was meant");
    }
    if cluster.reach != Reach::Endpoints {
        line(out, 1, &format!("reached by {:?}", cluster.reach));
    }
    if let Some(tls) = &cluster.tls {
        line(out, 1, &texts_for_bytes(tls));
    }
    for endpoint in &cluster.endpoints {
        let tls = if endpoint.tls { " tls" } else { "" };
        line(out, 1, &format!("{} weight {}{tls} {}", endpoint.address, endpoint.weight, workload(&endpoint.workload)));
    }
}

fn render_ordered(out: &mut String, ordered: &Ordered) {
    let gateways: Vec<String> = ordered.gateways.iter().map(ToString::to_string).collect();
    let placeholder = if ordered.placeholder { ", placeholder until then" } else { "" };
    line(out, 0, &format!("order {} for {}{placeholder}", ordered.secret, gateways.join(", ")));
    let current = match &ordered.current {
        Current::Nothing => "nothing",
        Current::Ordered(_) => "ordered",
        Current::Foreign(_) => "foreign",
    };
    line(out, 1, &format!("holds {current}"));
    for host in &ordered.hosts {
        let ways = ordered.ways(host);
        let ways: Vec<String> = ways.iter().map(|way| format!("{} ({})", way.challenge.name(), way.reason)).collect();
        line(out, 1, &format!("host {host} by {}", ways.join(", ")));
    }
    line(out, 1, &texts_for_bytes(&ordered.issuer));
}

fn render_inbound(out: &mut String, inbound: &Inbound) {
    let (addresses, domains) = (&inbound.addresses, &inbound.trust_domains);
    line(out, 0, &format!("inbound {addresses:?} of {domains:?}, else {:?}", inbound.default_mtls));
    for port in inbound.ports.values() {
        let service = match port.service_port {
            0 => "no service".to_owned(),
            number => format!("{}:{number}", port.service_host),
        };
        let to = if port.to == Application::AsMeant { String::new() } else { format!(" to {:?}", port.to) };
        let bind = port.bind.map_or_else(String::new, |bind| format!(" at {bind}"));
        let text =
            format!("{} {:?} {:?} {:?} {service}{to}{bind}", port.port, port.mtls, port.protocol, port.application);
        line(out, 1, &text);
    }
}
