//! What a text has to be, and how long something takes, as they are written in a case.

use std::time::Duration;

use routing::re2::Expression;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// What is expected of the values of a field: of none, one or several.
#[derive(Clone, Debug)]
pub(super) enum Text {
    /// `null`: there is none.
    Absent,
    /// Exactly these, in this order.
    Are(Vec<String>),
    /// One that is none of these.
    Not(Vec<String>),
    /// One, whatever it is.
    Present,
    /// The whole of it, as RE2 reads it.
    Regex(Expression),
    /// With this in it.
    Contains(String),
}

impl Text {
    /// What is wrong with these values; `None` = nothing.
    pub(super) fn fault(&self, what: &str, values: &[String]) -> Option<String> {
        let any = |holds: &dyn Fn(&str) -> bool| values.iter().any(|value| holds(value));
        let (right, wanted) = match self {
            Self::Absent => (values.is_empty(), "nothing".into()),
            Self::Are(list) => (values == list, list.join(" | ")),
            Self::Not(list) => (
                !values.is_empty() && !any(&|value| list.iter().any(|it| it == value)),
                format!("not {}", list.join(" | ")),
            ),
            Self::Present => (!values.is_empty(), "something".into()),
            Self::Regex(regex) => (any(&|value| regex.is_match(value)), format!("regex {}", regex.as_str())),
            Self::Contains(part) => (any(&|value| value.contains(part.as_str())), format!("...{part}...")),
        };
        let found = if values.is_empty() { "nothing".to_owned() } else { values.join(" | ") };
        (!right).then(|| format!("{what}: expected {wanted}, found {found}"))
    }

    /// The same of one text that is always there.
    pub(super) fn fault_of(&self, what: &str, value: &str) -> Option<String> {
        let found = [value.to_owned()];
        let nothing = value.is_empty() && matches!(self, Self::Absent);
        self.fault(what, if nothing { &[] } else { &found })
    }

    fn read(value: &Value) -> Result<Self, String> {
        let scalar = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            other => Err(format!("`{other}` is no text")),
        };
        let list = |value: &Value| match value {
            Value::Array(list) => list.iter().map(scalar).collect::<Result<Vec<_>, _>>(),
            other => Ok(vec![scalar(other)?]),
        };
        let Value::Object(form) = value else {
            return if value.is_null() { Ok(Self::Absent) } else { list(value).map(Self::Are) };
        };
        let mut members = form.iter();
        let (Some((name, value)), None) = (members.next(), members.next()) else {
            return Err("a text has one of regex, contains, not, present".into());
        };
        match name.as_str() {
            "regex" => Expression::whole(&scalar(value)?).map(Self::Regex).map_err(|fault| fault.to_string()),
            "contains" => scalar(value).map(Self::Contains),
            "not" => list(value).map(Self::Not),
            "present" if value == &Value::Bool(true) => Ok(Self::Present),
            "present" => Ok(Self::Absent),
            other => Err(format!("`{other}` is unknown: a text has one of regex, contains, not, present")),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `250ms`, `1.5s`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 0.001),
            None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
        };
        let number: f64 =
            number.parse().map_err(|_| D::Error::custom(format!("`{text}` is no time as 250ms or 2s")))?;
        Ok(Self(Duration::from_secs_f64(number * unit)))
    }
}

/// A text that is written, `null` included, which is [`Text::Absent`] and not the same as no text at all.
pub(super) fn written<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Text>, D::Error> {
    Text::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Text;

    fn holds(form: serde_json::Value, values: &[&str]) -> bool {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        Text::read(&form).expect("a form").fault("x", &values).is_none()
    }

    #[test]
    fn each_form_takes_what_it_says_and_nothing_else() {
        for (form, good, bad) in [
            (json!(null), vec![], vec!["a"]),
            (json!("a"), vec!["a"], vec![]),
            (json!("a"), vec!["a"], vec!["a", "a"]),
            (json!(1), vec!["1"], vec!["2"]),
            (json!(["a", "b"]), vec!["a", "b"], vec!["b", "a"]),
            (json!({"regex": "a+"}), vec!["aa"], vec!["aab"]),
            (json!({"contains": "b"}), vec!["abc"], vec!["ac"]),
            (json!({"not": "a"}), vec!["b"], vec!["a"]),
            (json!({"present": true}), vec!["x"], vec![]),
        ] {
            assert!(holds(form.clone(), &good), "{form} takes {good:?}");
            assert!(!holds(form.clone(), &bad), "{form} refuses {bad:?}");
        }
        assert!(Text::read(&json!({"regexp": "a"})).is_err());
    }
}
