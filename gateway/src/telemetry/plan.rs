//! Which metrics have which labels, as Telemetry objects want it.

use std::sync::Arc;

use routing::{
    attributes::Expression,
    telemetry::{
        Telemetry,
        metrics::{METRICS, Rule, Rules, Tag},
    },
};

use super::{
    exposition::label,
    labels::{NAMES, SERVICE, STATUSES, Values},
    record::{Record, Reporter},
    said::{Said, cut},
    standard::{Changed, OF_CONNECTIONS, OF_REQUESTS, Which},
};

/// A value that is not known.
pub(super) const UNKNOWN: &str = "unknown";

/// What both sides of a proxy count.
#[derive(Debug)]
pub(super) struct Plan {
    /// Which one it is: series are of one plan.
    pub(super) number: u64,
    client: Side,
    server: Side,
    /// What it was made of.
    rules: [Option<Arc<Rules>>; 2],
}

/// What one side counts.
#[derive(Debug, PartialEq)]
pub(super) struct Side {
    /// What labels are set to, each expression once, those of requests first.
    pub(super) expressions: Box<[Arc<Expression>]>,
    of_requests: usize,
    /// Of requests.
    pub(super) requests: Box<[Group]>,
    /// Of connections that carry none.
    pub(super) connections: Box<[Group]>,
}

/// Metrics with the same labels.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    /// The metrics.
    pub(super) which: Which,
    /// Those that are wanted. Connections that are open may want the others later.
    pub(super) wanted: Which,
    /// Their labels in order.
    labels: Box<[Label]>,
}

/// One label.
#[derive(Clone, Debug, PartialEq)]
enum Label {
    /// Istio's, by its place in [`NAMES`].
    Own(usize),
    /// With the value of an expression, by its place among those of the side.
    Set(Box<str>, usize),
    /// With a value that is always the same.
    Fixed(Box<str>, Box<str>),
}

impl Default for Plan {
    fn default() -> Self {
        Self { number: 0, client: Side::new(None), server: Side::new(None), rules: [None, None] }
    }
}

impl Plan {
    /// What Telemetry objects want; `number` tells it from others.
    pub(super) fn new(number: u64, telemetry: Option<&Telemetry>) -> Self {
        let rules = rules(telemetry);
        let [client, server] = rules.each_ref().map(|rules| Side::new(rules.as_deref()));
        Self { number, client, server, rules }
    }

    /// Whether it is what they want now.
    pub(super) fn is_of(&self, telemetry: Option<&Telemetry>) -> bool {
        // How often is told changes nothing: everything is counted as it passes.
        let counted =
            |rules: &[Option<Arc<Rules>>; 2]| rules.each_ref().map(|it| it.as_ref().map(|it| it.metrics.clone()));
        counted(&self.rules) == counted(&rules(telemetry))
    }

    /// What of it is otherwise than it was.
    pub(super) fn changed(&self, before: &Self) -> Changed {
        let changed = |now: &Side, before: &Side| {
            let values = now.expressions != before.expressions;
            [values || now.requests != before.requests, values || now.connections != before.connections]
        };
        let wanted = |side: &Side| side.connections.iter().fold(0, |all, group| all | group.wanted);
        Changed {
            source: changed(&self.client, &before.client),
            destination: changed(&self.server, &before.server),
            wanted: [wanted(&self.client), wanted(&self.server)],
        }
    }

    /// What the side counts that reports.
    pub(super) fn side(&self, reporter: Reporter) -> &Side {
        match reporter {
            Reporter::Source => &self.client,
            Reporter::Destination => &self.server,
        }
    }
}

fn rules(telemetry: Option<&Telemetry>) -> [Option<Arc<Rules>>; 2] {
    let of = |rules: fn(&Telemetry) -> &Option<Arc<Rules>>| telemetry.and_then(|all| rules(all).clone());
    [of(|all| &all.client), of(|all| &all.server)]
}

impl Side {
    fn new(rules: Option<&Rules>) -> Self {
        let mut expressions = Vec::new();
        let requests = groups(rules, OF_REQUESTS, &mut expressions);
        let of_requests = expressions.len();
        let connections = groups(rules, OF_CONNECTIONS, &mut expressions);
        // What only connections have stands behind, and is evaluated for them alone.
        Self { expressions: expressions.into(), of_requests, requests, connections }
    }

    /// What labels of a request are set to.
    pub(super) fn of_requests(&self) -> &[Arc<Expression>] {
        &self.expressions[..self.of_requests]
    }
}

/// Metrics with the same rule are one group. A metric of requests that is disabled is in none, nor is any of connections where
/// all of them are.
fn groups(rules: Option<&Rules>, of: Which, expressions: &mut Vec<Arc<Expression>>) -> Box<[Group]> {
    let usual = Rule::default();
    let mut groups: Vec<(&Rule, Which, Which)> = Vec::new();
    for number in (0..METRICS.len()).filter(|number| of & 1 << number != 0) {
        let rule = rules.map_or(&usual, |rules| &rules.metrics[number]);
        if rule.disabled && of == OF_REQUESTS {
            continue;
        }
        let (bit, wanted) = (1 << number, if rule.disabled { 0 } else { 1 << number });
        match groups.iter_mut().find(|(known, ..)| known.tags == rule.tags) {
            Some((_, which, all)) => (*which, *all) = (*which | bit, *all | wanted),
            None => groups.push((rule, bit, wanted)),
        }
    }
    if groups.iter().all(|(.., wanted)| *wanted == 0) {
        return Box::default();
    }
    let mut group = |(rule, which, wanted)| Group { which, wanted, labels: labels(rule, of, expressions) };
    groups.into_iter().map(&mut group).collect()
}

fn labels(rule: &Rule, of: Which, expressions: &mut Vec<Arc<Expression>>) -> Box<[Label]> {
    let mut set = |name: &str, expression: &Arc<Expression>| {
        if let Some(text) = expression.constant() {
            return Label::Fixed(name.into(), cut(&text).into());
        }
        let known = expressions.iter().position(|it| it == expression);
        let at = known.unwrap_or_else(|| {
            expressions.push(Arc::clone(expression));
            expressions.len() - 1
        });
        Label::Set(name.into(), at)
    };
    let mut all = Vec::new();
    for at in (0..NAMES.len()).filter(|at| of == OF_REQUESTS || !STATUSES.contains(at)) {
        match rule.tags.get(NAMES[at]) {
            None => all.push(Label::Own(at)),
            Some(Tag::Removed) => {}
            Some(Tag::Set(expression)) => all.push(set(NAMES[at], expression)),
        }
    }
    for (name, tag) in rule.tags.iter().filter(|(name, _)| !NAMES.contains(&name.as_str())) {
        if let Tag::Set(expression) = tag {
            all.push(set(name, expression));
        }
    }
    all.into()
}

impl Group {
    /// The service that its labels name: one that does not is of many, and does not leave with one of them.
    pub(super) fn host<'h>(&self, record: &Record<'h>) -> &'h str {
        if self.labels.contains(&Label::Own(SERVICE)) { record.labels.service_host } else { "" }
    }

    /// Its labels as they are written. `said`: what the expressions of its side say.
    pub(super) fn write(&self, values: &Values<'_>, said: &Said) -> String {
        self.text(values, |at| said.value(at))
    }

    /// The labels of what finds no room.
    pub(super) fn overflow(&self, values: &Values<'_>) -> String {
        self.text(values, |_| UNKNOWN)
    }

    fn text<'s>(&self, values: &Values<'_>, said: impl Fn(usize) -> &'s str) -> String {
        let mut text = String::with_capacity(1024);
        for one in &self.labels {
            match one {
                Label::Own(at) => label(&mut text, NAMES[*at], &values[*at]),
                Label::Set(name, at) => label(&mut text, name, said(*at)),
                Label::Fixed(name, value) => label(&mut text, name, value),
            }
        }
        text
    }
}
