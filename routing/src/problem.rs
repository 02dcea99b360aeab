//! What is wrong with the configuration, told to people and to programs.

use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something that was asked for does not work.
    Error,
    /// It works, but perhaps not as meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// `error`, `warning` or `info`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which object; parts that could not be read are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// As `VirtualService`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// From its parts.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Whether kind and name are known, so that the object can be told from others.
    pub fn is_complete(&self) -> bool {
        !self.kind.is_empty() && !self.namespace.is_empty() && !self.name.is_empty()
    }
}

/// `VirtualService namespace/name`, as much of it as is known.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.kind.is_empty() { "object" } else { &self.kind })?;
        match (self.namespace.as_str(), self.name.as_str()) {
            (_, "") => Ok(()),
            ("", name) => write!(f, " {name}"),
            (namespace, name) => write!(f, " {namespace}/{name}"),
        }
    }
}

/// Where in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file as it was named.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong, or worth knowing, about one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Stable name for programs, as `unknown-field`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The object.
    pub object: ObjectRef,
    /// Path of the field, as `spec.servers[0].tls.mode`; empty when it is about the whole object.
    pub field: String,
    /// Where it is written; `None` when the object did not come from a file.
    pub place: Option<Place>,
    /// A sentence that says what is wrong and what would be right.
    pub message: String,
}

/// Most bytes of a message or of a field's path that are kept: what people write may stand in both.
const LONGEST: usize = 2048;
/// How much of the end is kept of a longer one, where what would be right often stands.
const END: usize = 256;

impl Problem {
    /// The same with a message and a field that can be read, however long what they quote is.
    pub(crate) fn clip(&mut self) {
        clip(&mut self.message);
        clip(&mut self.field);
    }

    /// As it is printed, without more than is readable of an endless name.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        if line.len() > 2 * LONGEST {
            clip(&mut line);
        }
        line
    }
}

fn clip(text: &mut String) {
    if text.len() <= LONGEST {
        return;
    }
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (begin, end) = (boundary(LONGEST - END), boundary(text.len() - END));
    *text = format!("{}... ({} bytes left out) ...{}", &text[..begin], end - begin, &text[end..]);
}

/// `file:line:column: error: VirtualService ns/name spec.http[0].route: message [code]`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        match (self.object == ObjectRef::default(), self.field.as_str()) {
            (true, "") => {}
            (true, field) => write!(f, "{field}: ")?,
            (false, "") => write!(f, "{}: ", self.object)?,
            (false, field) => write!(f, "{} {field}: ", self.object)?,
        }
        write!(f, "{} [{}]", self.message, self.code)
    }
}

/// The form of `sluice check --output json`: these ten fields, `null` where nothing is known.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn known(text: &str) -> Option<&str> {
            (!text.is_empty()).then_some(text)
        }
        let place = self.place.as_ref();
        let mut fields = serializer.serialize_struct("Problem", 10)?;
        fields.serialize_field("code", self.code)?;
        fields.serialize_field("severity", self.severity.name())?;
        fields.serialize_field("kind", &known(&self.object.kind))?;
        fields.serialize_field("namespace", &known(&self.object.namespace))?;
        fields.serialize_field("name", &known(&self.object.name))?;
        fields.serialize_field("field", &known(&self.field))?;
        fields.serialize_field("file", &place.map(|place| place.file.as_ref()))?;
        fields.serialize_field("line", &place.map(|place| place.line))?;
        fields.serialize_field("column", &place.map(|place| place.column))?;
        fields.serialize_field("message", &self.message)?;
        fields.end()
    }
}

/// Problems as they are found.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether any is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// By place, those without one last, then by object and field; the same problem told twice is kept once.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        fn key(problem: &Problem) -> impl Ord + '_ {
            (problem.place.is_none(), &problem.place, &problem.object, &problem.field, &problem.message)
        }
        self.0.sort_by(|a, b| key(a).cmp(&key(b)));
        self.0.dedup();
        self.0
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.0.extend(problems);
    }
}

impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u32) -> Problem {
        Problem {
            code: "bad-value",
            severity: Severity::Error,
            object: ObjectRef::new("VirtualService", "cargo", "web"),
            field: "spec.http[0].route".to_owned(),
            place: Some(Place { file: "web.yaml".into(), line, column: 7 }),
            message: "nothing here".to_owned(),
        }
    }

    #[test]
    fn prints_place_severity_object_field_message_and_code() {
        let text = "web.yaml:3:7: error: VirtualService cargo/web spec.http[0].route: nothing here [bad-value]";
        assert_eq!(problem(3).to_string(), text);
    }

    #[test]
    fn a_message_that_quotes_something_long_keeps_its_begin_and_its_end() {
        let mut long = problem(3);
        long.message = format!("`{}` is no host; write a name", "ä".repeat(3 << 20));
        long.clip();
        assert!(long.message.len() < LONGEST + 64, "{}", long.message.len());
        assert!(long.message.starts_with("`ää") && long.message.ends_with("ä` is no host; write a name"));
        assert!(long.message.contains(" bytes left out) ..."));
        let short = problem(3);
        let mut same = short.clone();
        same.clip();
        assert_eq!(same, short);
    }

    #[test]
    fn json_has_the_ten_promised_fields_and_null_for_missing_values() {
        let mut bare = problem(3);
        bare.place = None;
        bare.object = ObjectRef::default();
        let json = serde_json::to_string(&bare).unwrap();
        let wanted = r#"{"code":"bad-value","severity":"error","kind":null,"namespace":null,"name":null,"field":"spec.http[0].route","file":null,"line":null,"column":null,"message":"nothing here"}"#;
        assert_eq!(json, wanted);
    }

    #[test]
    fn sorts_by_place_and_keeps_placeless_problems_last() {
        let mut placeless = problem(1);
        placeless.place = None;
        let sorted = Problems::from(vec![placeless.clone(), problem(9), problem(2), problem(9)]).into_sorted();
        assert_eq!(sorted, vec![problem(2), problem(9), placeless]);
    }
}
