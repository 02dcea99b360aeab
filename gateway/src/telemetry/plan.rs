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
    labels::{NAMES, STATUSES, Values},
    record::{Record, Reporter},
    standard::{OF_CONNECTIONS, OF_REQUESTS, Which},
};

/// The longest value that an expression gives a label, in bytes.
const MOST_VALUE: usize = 256;
/// A value that is not known.
const UNKNOWN: &str = "unknown";

/// What both sides of a proxy count.
#[derive(Debug)]
pub(super) struct Plan {
    client: Side,
    server: Side,
    /// What it was made of.
    rules: [Option<Arc<Rules>>; 2],
}

/// What one side counts.
#[derive(Debug)]
pub(super) struct Side {
    /// Of requests.
    pub(super) requests: Box<[Group]>,
    /// Of connections that carry none.
    pub(super) connections: Box<[Group]>,
}

/// Metrics with the same labels.
#[derive(Debug)]
pub(super) struct Group {
    /// The metrics.
    pub(super) which: Which,
    /// Their labels in order.
    labels: Box<[Label]>,
}

/// One label.
#[derive(Clone, Debug, PartialEq)]
enum Label {
    /// Istio's, by its place in [`NAMES`].
    Own(usize),
    /// With the value of an expression.
    Set(Box<str>, Arc<Expression>),
}

impl Default for Plan {
    fn default() -> Self {
        Self { client: Side::new(None), server: Side::new(None), rules: [None, None] }
    }
}

impl Plan {
    /// What Telemetry objects want.
    pub(super) fn new(telemetry: Option<&Telemetry>) -> Self {
        let rules = rules(telemetry);
        let [client, server] = rules.each_ref().map(|rules| Side::new(rules.as_deref()));
        Self { client, server, rules }
    }

    /// Whether it is what they want now.
    pub(super) fn is_of(&self, telemetry: Option<&Telemetry>) -> bool {
        // How often is told changes nothing: everything is counted as it passes.
        let counted =
            |rules: &[Option<Arc<Rules>>; 2]| rules.each_ref().map(|it| it.as_ref().map(|it| it.metrics.clone()));
        counted(&self.rules) == counted(&rules(telemetry))
    }

    /// Whether a label has what an expression says.
    pub(super) fn has_expressions(&self) -> bool {
        let sides = [&self.client, &self.server].into_iter();
        sides.flat_map(|side| side.requests.iter()).any(|group| !group.is_fixed())
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
        Self { requests: groups(rules, OF_REQUESTS), connections: groups(rules, OF_CONNECTIONS) }
    }
}

/// Metrics with the same rule are one group; what is disabled is in none.
fn groups(rules: Option<&Rules>, of: Which) -> Box<[Group]> {
    let usual = Rule::default();
    let mut groups: Vec<(&Rule, Which)> = Vec::new();
    for number in (0..METRICS.len()).filter(|number| of & 1 << number != 0) {
        let rule = rules.map_or(&usual, |rules| &rules.metrics[number]);
        if rule.disabled {
            continue;
        }
        match groups.iter_mut().find(|(known, _)| known.tags == rule.tags) {
            Some((_, which)) => *which |= 1 << number,
            None => groups.push((rule, 1 << number)),
        }
    }
    let group = |(rule, which)| Group { which, labels: labels(rule, of) };
    groups.into_iter().map(group).collect()
}

fn labels(rule: &Rule, of: Which) -> Box<[Label]> {
    let own = (0..NAMES.len()).filter(|at| of == OF_REQUESTS || !STATUSES.contains(at));
    let own = own.filter_map(|at| match rule.tags.get(NAMES[at]) {
        None => Some(Label::Own(at)),
        Some(Tag::Removed) => None,
        Some(Tag::Set(expression)) => Some(Label::Set(NAMES[at].into(), Arc::clone(expression))),
    });
    let more = rule.tags.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
    let more = more.filter_map(|(name, tag)| match tag {
        Tag::Removed => None,
        Tag::Set(expression) => Some(Label::Set(name.as_str().into(), Arc::clone(expression))),
    });
    own.chain(more).collect()
}

impl Group {
    /// Whether its labels are Istio's own, which follow from the labels of a record.
    fn is_fixed(&self) -> bool {
        self.labels.iter().all(|it| matches!(it, Label::Own(_)))
    }

    /// Its labels as they are written.
    pub(super) fn write(&self, values: &Values<'_>, record: &Record<'_>) -> String {
        let mut text = String::with_capacity(1024);
        for one in &self.labels {
            match one {
                Label::Own(at) => label(&mut text, NAMES[*at], &values[*at]),
                Label::Set(name, expression) => label(&mut text, name, &value(expression, record)),
            }
        }
        text
    }

    /// The labels of what finds no room.
    pub(super) fn overflow(&self, values: &Values<'_>) -> String {
        let mut text = String::with_capacity(1024);
        for one in &self.labels {
            match one {
                Label::Own(at) => label(&mut text, NAMES[*at], &values[*at]),
                Label::Set(name, _) => label(&mut text, name, UNKNOWN),
            }
        }
        text
    }
}

/// What an expression says of a request, as far as it fits.
fn value(expression: &Expression, record: &Record<'_>) -> String {
    let mut bytes = Vec::new();
    if !expression.write(record.told.0, &mut bytes) {
        return UNKNOWN.to_owned();
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if text.len() > MOST_VALUE {
        let end = (0..=MOST_VALUE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
