//! Label and field selectors.

use serde_json::Value;

use super::{kinds::Kind, refusal::Refusal};

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Label>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Label {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

#[derive(Clone, Debug)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// From the two query parameters; refuses what the kind cannot be selected by.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let labels = clauses(labels).into_iter().map(|clause| label(&clause)).collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|it| !it.is_empty())
            .map(|clause| field(kind, clause))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// True when it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name it asks for by `metadata.name=`.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.iter().find(|field| field.equal && field.path == "metadata.name").map(|field| field.value.as_str())
    }

    /// True when the object is selected.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|label| label.holds(labels)) && self.fields.iter().all(|field| field.holds(object))
    }
}

impl Label {
    fn holds(&self, labels: &Value) -> bool {
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        let among = |key: &str, values: &[String]| value(key).is_some_and(|it| values.iter().any(|other| other == it));
        match self {
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
            Self::In(key, values) => among(key, values),
            Self::NotIn(key, values) => !among(key, values),
        }
    }
}

impl Field {
    fn holds(&self, object: &Value) -> bool {
        let found = self.path.split('.').try_fold(object, |value, step| value.get(step));
        let text = match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None if self.path == "spec.unschedulable" => "false".to_owned(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        (text == self.value) == self.equal
    }
}

/// Splits at commas that are not inside of brackets.
fn clauses(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = found.last_mut() {
            last.push(letter);
        }
    }
    found.into_iter().map(|clause| clause.trim().to_owned()).filter(|clause| !clause.is_empty()).collect()
}

fn label(clause: &str) -> Result<Label, Refusal> {
    let wrong = || Refusal::bad_request(format!("unable to parse requirement: {clause}"));
    let key =
        |text: &str| Some(text.trim().to_owned()).filter(|it| !it.is_empty() && !it.contains(' ')).ok_or_else(wrong);
    let one = |text: &str| vec![text.trim().to_owned()];
    if let Some((left, list)) = clause.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(wrong)?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        return match left.trim().rsplit_once(' ') {
            Some((left, "in")) => Ok(Label::In(key(left)?, values)),
            Some((left, "notin")) => Ok(Label::NotIn(key(left)?, values)),
            _ => Err(wrong()),
        };
    }
    if let Some((left, right)) = clause.split_once("!=") {
        return Ok(Label::NotIn(key(left)?, one(right)));
    }
    if let Some((left, right)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
        return Ok(Label::In(key(left)?, one(right)));
    }
    match clause.strip_prefix('!') {
        Some(absent) => Ok(Label::Absent(key(absent)?)),
        None => Ok(Label::Exists(key(clause)?)),
    }
}

fn field(kind: &Kind, clause: &str) -> Result<Field, Refusal> {
    let (path, value, equal) = if let Some((path, value)) = clause.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
        (path, value, true)
    } else {
        return Err(Refusal::bad_request(format!("invalid selector: '{clause}'; can't understand '{clause}'")));
    };
    if !selectable(kind, path) {
        return Err(Refusal::bad_request(format!("field label not supported: {path}")));
    }
    Ok(Field { path: path.to_owned(), value: value.to_owned(), equal })
}

/// The fields that the real server knows, too; all others are refused.
fn selectable(kind: &Kind, path: &str) -> bool {
    let own: &[&str] = match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        (_, "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    };
    path == "metadata.name" || (path == "metadata.namespace" && kind.namespaced) || own.contains(&path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::kinds::built_in;

    fn selects(labels: &str, fields: &str, object: &Value) -> bool {
        let kinds = built_in();
        let pod = kinds.iter().find(|kind| kind.is_called("Pod")).expect("pods are built in");
        Selector::parse(pod, labels, fields).expect("a selector").selects(object)
    }

    #[test]
    fn labels_are_compared_as_by_kubectl() {
        let object = json!({"metadata": {"name": "a", "labels": {"app": "web", "tier": "x"}}});
        for yes in ["", "app", "app=web", "app==web", "app in (db, web),tier", "zone!=eu", "!zone", "zone notin (eu)"] {
            assert!(selects(yes, "", &object), "{yes}");
        }
        for no in ["zone", "app=db", "app!=web", "app notin (web)", "!app", "app in (db),tier"] {
            assert!(!selects(no, "", &object), "{no}");
        }
    }

    #[test]
    fn fields_are_compared_and_unknown_ones_refused() {
        let object = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}});
        assert!(selects("", "metadata.name=a,status.phase!=Failed", &object));
        assert!(!selects("", "spec.nodeName!=", &object));
        let kinds = built_in();
        let pod = kinds.iter().find(|kind| kind.is_called("pods")).expect("pods are built in");
        assert_eq!(Selector::parse(pod, "", "spec.color=red").expect_err("unknown field").code, 400);
    }
}
