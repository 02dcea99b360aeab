//! A description for people: short blocks of aligned lines.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use routing::problem::Problem;

use super::{
    clients::words,
    report::{
        Carries, CheckLine, Description, Destination, Exposure, Finding, Mesh, MutualTls, Policies, Policy, PolicyLine,
        PortPolicy, Route, Service, Subset, Workload,
    },
};

/// Prints all of it.
pub(super) fn text(mut out: impl Write, description: &Description) -> io::Result<()> {
    let mut page = Page::default();
    if let Some(found) = &description.workload {
        workload(&mut page, found);
    }
    for found in &description.services {
        service(&mut page, found);
    }
    problems(&mut page, "Problems of these objects", &description.problems);
    problems(&mut page, "Not read, so missing above", &description.unread);
    out.write_all(page.text.as_bytes())?;
    out.flush()
}

fn problems(page: &mut Page, title: &str, problems: &[Problem]) {
    if !problems.is_empty() {
        page.title(title);
        problems.iter().for_each(|problem| page.line(1, &problem.to_string()));
    }
}

/// Lines so far.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Begins a block.
    fn title(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(0, title);
    }

    /// A line, two spaces deeper for each level.
    fn line(&mut self, level: usize, line: &str) {
        let text = format!("{:indent$}{line}", "", indent = level * 2);
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// `name  value`, values below each other; several values take a line each.
    fn rows<V: AsRef<str>>(&mut self, name: &str, values: impl IntoIterator<Item = V>) {
        for (index, value) in values.into_iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.line(1, &format!("{name:<12} {}", value.as_ref()));
        }
    }

    fn row(&mut self, name: &str, value: &str) {
        self.rows(name, [value]);
    }

    fn findings(&mut self, findings: &[Finding]) {
        for finding in findings {
            self.row(finding.severity, &finding.message);
        }
    }
}

fn workload(page: &mut Page, found: &Workload) {
    page.title(&format!("{} {}/{}", found.kind, found.namespace, found.name));
    if found.owner != found.name {
        page.row("owner", &found.owner);
    }
    page.row("labels", &labels(&found.labels));
    page.row("account", &found.service_account);
    page.row("address", &some(&found.addresses, "not known"));
    let sidecar = match found.sidecar {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known: the pods would tell",
    };
    page.row("sidecar", sidecar);
    let ports = found.ports.iter().map(|port| {
        let name = if port.name.is_empty() { String::new() } else { format!(" {}", port.name) };
        format!("{}{name}, {}, for {}", port.number, port.mutual_tls, some(&port.services, "no Service"))
    });
    page.rows("port", ports);
    accepts(page, std::slice::from_ref(&found.mutual_tls));
    page.rows("policy", found.authorization.iter().map(policy));
    page.rows("check", found.checks.iter().map(check));
    page.findings(&found.findings);
}

fn service(page: &mut Page, found: &Service) {
    page.title(&format!("Service {}/{}", found.namespace, found.name));
    page.row("host", &found.host);
    if found.kind != "ClusterIP" {
        page.row("type", &found.kind);
    }
    page.row("selector", &labels(&found.selector));
    let ports = found.ports.iter().map(|port| {
        let protocol = port.protocol.as_ref().map(|it| format!("{it} ")).unwrap_or_default();
        let name = if port.name.is_empty() { String::new() } else { format!(" {}", port.name) };
        let endpoints = if port.is_proxied { format!(", {}", endpoints(port.endpoints)) } else { String::new() };
        format!("{}{name} -> {}, {protocol}({}){endpoints}", port.number, port.target, port.chosen_by)
    });
    page.rows("port", ports);
    let workloads = found.workloads.iter().map(|it| {
        let sidecar = match (it.sidecar, it.kind) {
            (Some(true), _) => "",
            (Some(false), _) => ", no sidecar",
            (None, _) => ", no pod known",
        };
        format!("{} {} ({}){sidecar}", it.kind, it.name, words(&it.labels))
    });
    page.rows("workload", workloads);
    accepts(page, &found.mutual_tls);
    for held in &found.authorization {
        let who = if held.workloads.is_empty() { String::new() } else { format!(": {}", held.workloads.join(", ")) };
        page.rows("policy", held.policies.iter().map(|it| policy(it) + &who));
    }
    for held in &found.checks {
        let who = if held.workloads.is_empty() { String::new() } else { format!(": {}", held.workloads.join(", ")) };
        page.rows("check", held.checks.iter().map(|it| check(it) + &who));
    }
    page.findings(&found.findings);
    found.policies.iter().for_each(|it| policies(page, it));
    gateways(page, &found.gateways);
    found.mesh.iter().for_each(|it| mesh(page, it));
}

/// An AuthorizationPolicy.
fn policy(found: &PolicyLine) -> String {
    let action = found.action.unwrap_or("unknown action");
    let asked = found.provider.as_ref().map(|name| format!(" by {name}")).unwrap_or_default();
    let name = format!("AuthorizationPolicy {}/{}", found.namespace, found.name);
    let tried = if found.tried { ", only tried" } else { "" };
    format!("{action}{asked} ({name}, {}): {}{tried}", found.scope, found.effect)
}

/// A RequestAuthentication, RateLimit or Telemetry.
fn check(found: &CheckLine) -> String {
    format!("{} ({} {}/{}, {})", found.effect, found.kind, found.namespace, found.name, found.scope)
}

/// What workloads accept.
fn accepts(page: &mut Page, all: &[MutualTls]) {
    for found in all {
        let who = if found.workloads.is_empty() { String::new() } else { format!(": {}", found.workloads.join(", ")) };
        page.row("accepts", &format!("{} ({}){who}", found.mode, found.set_by));
        let ports = found.ports.iter();
        page.rows("", ports.map(|it| format!("port {}: {} ({})", it.workload_port, it.mode, it.set_by)));
    }
}

fn endpoints(count: usize) -> String {
    match count {
        0 => "no endpoint ready".to_owned(),
        1 => "1 endpoint ready".to_owned(),
        many => format!("{many} endpoints ready"),
    }
}

fn policies(page: &mut Page, found: &Policies) {
    match &found.destination_rule {
        Some(rule) => {
            page.title(&format!("DestinationRule {}/{}", rule.namespace, rule.name));
            page.row("why", &format!("host {}: {}", rule.host, rule.why));
            if !rule.merged.is_empty() {
                page.row("merged with", &rule.merged.join(", "));
            }
        }
        None => page.title("No DestinationRule"),
    }
    page.rows("for", &found.clients);
    port_policies(page, &found.ports);
    for it in &found.subsets {
        subset(page, it, &found.ports);
    }
}

/// Once for all ports when they have the same.
fn port_policies(page: &mut Page, ports: &[PortPolicy]) {
    match ports {
        [] => {}
        [first, rest @ ..] if rest.iter().all(|it| it.policy == first.policy) => {
            page.row("TLS", &tls(&first.policy));
            page.row("balancing", &balancing(&first.policy));
        }
        all => {
            page.rows("TLS", all.iter().map(|it| format!("port {}: {}", it.port, tls(&it.policy))));
            page.rows("balancing", all.iter().map(|it| format!("port {}: {}", it.port, balancing(&it.policy))));
        }
    }
}

fn tls(policy: &Policy) -> String {
    let mode = match policy.tls {
        "AUTOMATIC" => "automatic, mutual TLS with endpoints that have a sidecar, else plain text",
        "DISABLE" => "DISABLE, plain text",
        other => other,
    };
    let details: String = policy.tls_details.iter().map(|detail| format!(", {detail}")).collect();
    format!("{mode}{details}")
}

fn balancing(policy: &Policy) -> String {
    let pool: String = policy.connection_pool.iter().map(|detail| format!(", {detail}")).collect();
    format!("{}{pool}", policy.load_balancer)
}

/// A subset, with what is not as in the whole service.
fn subset(page: &mut Page, found: &Subset, whole: &[PortPolicy]) {
    let members = some(&found.workloads, "no workload");
    page.row("subset", &format!("{} ({}): {members}", found.name, labels(&found.labels)));
    for own in &found.ports {
        let whole = whole.iter().find(|it| it.port == own.port).map(|it| &it.policy);
        let differs = |say: fn(&Policy) -> String| whole.is_none_or(|whole| say(whole) != say(&own.policy));
        if differs(tls) {
            page.row("", &format!("port {}: TLS {}", own.port, tls(&own.policy)));
        }
        if differs(balancing) {
            page.row("", &format!("port {}: {}", own.port, balancing(&own.policy)));
        }
    }
}

fn gateways(page: &mut Page, all: &[Exposure]) {
    if all.is_empty() {
        page.title("Exposed on no Gateway");
    }
    for found in all {
        page.title(&format!("Exposed on Gateway {}", found.gateway));
        let tls = found.tls.as_ref().map(|mode| format!(", TLS {mode}")).unwrap_or_default();
        let secret = match found.credentials.as_slice() {
            [] => String::new(),
            names => format!(", credentialName {}", names.join(" and ")),
        };
        page.row("server", &format!("{} {}{tls}{secret}", found.port, found.protocol));
        page.row("hosts", &found.hosts.join(", "));
        if found.redirects_to_https {
            page.row("redirects", "every request, to https (httpsRedirect)");
            continue;
        }
        page.rows("check", found.checks.iter().map(check));
        found.routes.iter().for_each(|it| route(page, it));
    }
}

fn mesh(page: &mut Page, found: &Mesh) {
    page.title("Inside of the mesh");
    page.rows("for", &found.clients);
    for host in &found.hosts {
        let straight = if host.routes.is_empty() { ": straight to its endpoints, no VirtualService" } else { "" };
        let ports: Vec<String> = host.ports.iter().map(u16::to_string).collect();
        page.line(1, &format!("{} port {}{straight}", host.host, ports.join(", ")));
        host.routes.iter().for_each(|it| route(page, it));
    }
    if found.hosts.is_empty() {
        page.line(1, "no route: connections go where they were meant to go");
    }
}

fn route(page: &mut Page, found: &Route) {
    let name = if found.name.is_empty() { String::new() } else { format!(", route {}", found.name) };
    let via = match found.virtual_service.as_str() {
        "" => "for gateways of other networks".to_owned(),
        source => format!("VirtualService {source}{name}"),
    };
    let what = if found.carries == Carries::Http { "request" } else { "connection" };
    match &found.url {
        Some(url) => page.line(2, &format!("{url}  ({via})")),
        None => page.line(2, &via),
    }
    let when = match (found.when.as_slice(), found.position) {
        ([], 0) => format!("every {what}"),
        ([], _) => format!("every {what} that no earlier route takes"),
        (when, _) => when.join(", "),
    };
    let rewrite: String = found.rewrite.iter().map(|it| format!(", {it}")).collect();
    page.line(3, &format!("{when}{rewrite}"));
    for to in &found.destinations {
        page.line(3, &format!("-> {}", destination(to, found.carries)));
    }
    if let Some(answer) = &found.answer {
        page.line(3, &format!("-> {answer}"));
    }
}

fn destination(to: &Destination, carries: Carries) -> String {
    let share = if to.percent >= 100.0 { String::new() } else { format!(" {} %", to.percent) };
    let subset = to.subset.as_ref().map(|name| format!(" subset {name}")).unwrap_or_default();
    let exists = match (to.exists, carries) {
        (true, _) => "",
        (false, Carries::Http) => ": there is no such thing, so these requests get 503",
        (false, _) => ": there is no such thing, so these connections end",
    };
    if to.host.is_empty() {
        return format!("nowhere{share}{exists}");
    }
    format!("{}:{}{subset}{share}{exists}", to.host, to.port)
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() { "none".to_owned() } else { words(labels) }
}

fn some(words: &[String], none: &str) -> String {
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}
