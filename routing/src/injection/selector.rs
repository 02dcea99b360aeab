//! Kubernetes `LabelSelector` in full: labels and expressions.

use serde::Deserialize;

use super::Texts;

/// Labels and expressions, all of which must hold. One without any holds for nothing here: as `neverInjectSelector` a
/// slip of the pen would leave every pod without a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Selector {
    match_labels: Texts,
    match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether these labels are selected.
    pub(super) fn selects(&self, labels: &Texts) -> bool {
        let says_something = !(self.match_labels.is_empty() && self.match_expressions.is_empty());
        says_something
            && self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| expression.holds(labels))
    }

    /// As it is written where it is told of.
    pub(super) fn shown(&self) -> String {
        let labels = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|it| match it.operator {
            Operator::In => format!("{} in ({})", it.key, it.values.join(",")),
            Operator::NotIn => format!("{} notin ({})", it.key, it.values.join(",")),
            Operator::Exists => it.key.clone(),
            Operator::DoesNotExist => format!("!{}", it.key),
        });
        labels.chain(expressions).collect::<Vec<_>>().join(", ")
    }
}

impl Expression {
    fn holds(&self, labels: &Texts) -> bool {
        let value = labels.get(&self.key);
        let among = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => among,
            Operator::NotIn => !among,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}
