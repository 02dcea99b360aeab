//! Istio `accessLogFormat`: what lines of the access log hold. It is parsed once, with the mesh configuration.

use std::fmt;

use serde_json::Value;

use crate::template::{Demands, Fault, Piece, Template, Values};

/// A parsed format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Text with commands.
    Text(Template),
    /// An object, in pieces: numbers stay numbers, and what is not known is null.
    Json(Box<[Part]>),
}

/// A piece of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// As it stands.
    Plain(Box<str>),
    /// A text in quotes.
    Quoted(Template),
    /// A text in quotes, or null.
    Single(Template),
    /// A number, or null.
    Number(Template),
}

/// What is wrong with a format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// With a command, at this key of the object.
    Command(String, Fault),
    /// It is no JSON.
    Json(String),
    /// It is JSON and no object.
    NoObject,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(key, fault) if key.is_empty() => fault.fmt(f),
            Self::Command(key, fault) => write!(f, "`{key}`: {fault}"),
            Self::Json(why) => {
                write!(
                    f,
                    "accessLogEncoding is JSON, so an object is wanted, as {{\"path\": \"%REQ(:PATH)%\"}}; this is no JSON: {why}"
                )
            }
            Self::NoObject => {
                f.write_str("accessLogEncoding is JSON, so an object is wanted, as {\"path\": \"%REQ(:PATH)%\"}")
            }
        }
    }
}

/// Bytes written for what is not known.
const ABSENT: &str = "-";

/// How a format's values are written, so that no client can end a line or a text.
pub trait Escape {
    /// Appends a value within a line of text.
    fn text(value: &[u8], out: &mut Vec<u8>);
    /// Appends a value within a text of JSON.
    fn json(value: &[u8], out: &mut Vec<u8>);
}

impl LogFormat {
    /// Parses the text of a format. What Envoy would tell and is not told here is named.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn parse(text: &str, json: bool) -> Result<(Self, Vec<Fault>), Wrong> {
        if !json {
            let line = text.strip_suffix('\n').unwrap_or(text);
            let (template, passed) =
                Template::parse_for_log(line).map_err(|fault| Wrong::Command(String::new(), fault))?;
            return Ok((Self::Text(template), passed));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| Wrong::Json(error.to_string()))?;
        if !value.is_object() {
            return Err(Wrong::NoObject);
        }
        let mut object = Object::default();
        object.add(&value, "")?;
        object.end_plain();
        Ok((Self::Json(object.parts.into()), object.passed))
    }

    /// What has to be kept of a request until its line is written.
    pub fn demands(&self) -> Demands {
        match self {
            Self::Text(template) => template.demands(),
            Self::Json(parts) => Demands::of(parts.iter().map(|part| match part {
                Part::Plain(_) => Demands::default(),
                Part::Quoted(template) | Part::Single(template) | Part::Number(template) => template.demands(),
            })),
        }
    }

    /// Appends a line. `room` is used on the way.
    pub fn write<E: Escape>(&self, values: &dyn Values, room: &mut Vec<u8>, out: &mut Vec<u8>) {
        match self {
            Self::Text(template) => template.pieces(values, room, |piece| match piece {
                Piece::Written(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Told([]) => out.extend_from_slice(ABSENT.as_bytes()),
                Piece::Told(value) => E::text(value, out),
            }),
            Self::Json(parts) => parts.iter().for_each(|part| part.write::<E>(values, room, out)),
        }
        out.push(b'\n');
    }
}

impl Part {
    fn write<E: Escape>(&self, values: &dyn Values, room: &mut Vec<u8>, out: &mut Vec<u8>) {
        match self {
            Self::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Self::Quoted(template) => {
                out.push(b'"');
                template.pieces(values, room, |piece| match piece {
                    Piece::Written(text) => E::json(text.as_bytes(), out),
                    Piece::Told([]) => out.extend_from_slice(ABSENT.as_bytes()),
                    Piece::Told(value) => E::json(value, out),
                });
                out.push(b'"');
            }
            Self::Single(template) => template.pieces(values, room, |piece| match piece {
                Piece::Told(value) if !value.is_empty() => {
                    out.push(b'"');
                    E::json(value, out);
                    out.push(b'"');
                }
                _ => out.extend_from_slice(b"null"),
            }),
            Self::Number(template) => template.pieces(values, room, |piece| match piece {
                Piece::Told(value) if !value.is_empty() => out.extend_from_slice(value),
                _ => out.extend_from_slice(b"null"),
            }),
        }
    }
}

/// An object that is being taken apart.
#[derive(Default)]
struct Object {
    parts: Vec<Part>,
    plain: String,
    passed: Vec<Fault>,
}

impl Object {
    fn add(&mut self, value: &Value, path: &str) -> Result<(), Wrong> {
        match value {
            Value::Object(fields) => {
                self.plain.push('{');
                for (number, (key, value)) in fields.iter().enumerate() {
                    if number > 0 {
                        self.plain.push(',');
                    }
                    self.plain.push_str(&Value::from(key.as_str()).to_string());
                    self.plain.push(':');
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.add(value, &below)?;
                }
                self.plain.push('}');
            }
            Value::Array(items) => {
                self.plain.push('[');
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        self.plain.push(',');
                    }
                    self.add(item, &format!("{path}[{number}]"))?;
                }
                self.plain.push(']');
            }
            Value::String(text) => self.text(text, path)?,
            Value::Null | Value::Bool(_) | Value::Number(_) => self.plain.push_str(&value.to_string()),
        }
        Ok(())
    }

    fn text(&mut self, text: &str, path: &str) -> Result<(), Wrong> {
        let (template, passed) =
            Template::parse_for_log(text).map_err(|fault| Wrong::Command(path.to_owned(), fault))?;
        self.passed.extend(passed);
        if let Some(plain) = template.as_plain() {
            self.plain.push_str(&Value::from(plain).to_string());
            return Ok(());
        }
        self.end_plain();
        self.parts.push(match template.as_one_command() {
            Some(true) => Part::Number(template),
            Some(false) => Part::Single(template),
            None => Part::Quoted(template),
        });
        Ok(())
    }

    fn end_plain(&mut self) {
        if !self.plain.is_empty() {
            self.parts.push(Part::Plain(std::mem::take(&mut self.plain).into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, time::Duration};

    use super::*;
    use crate::{
        pattern::HeaderField,
        template::{Fact, ResponseField, Validity},
    };

    struct Known;

    impl Values for Known {
        fn request(&self, field: &HeaderField) -> Option<Cow<'_, [u8]>> {
            (*field == HeaderField::Path).then_some(Cow::Borrowed(b"/a\"b"))
        }

        fn response(&self, _: &ResponseField) -> Option<Cow<'_, [u8]>> {
            None
        }

        fn fact(&self, fact: Fact, out: &mut Vec<u8>) {
            if fact == Fact::ResponseCode {
                out.extend_from_slice(b"200");
            }
        }

        fn environment(&self, _: &str) -> Option<String> {
            None
        }

        fn start(&self) -> Duration {
            Duration::ZERO
        }

        fn certificate(&self, _: Validity) -> Option<i64> {
            None
        }
    }

    struct Quotes;

    impl Escape for Quotes {
        fn text(value: &[u8], out: &mut Vec<u8>) {
            out.extend_from_slice(value);
        }

        fn json(value: &[u8], out: &mut Vec<u8>) {
            let text = Value::from(String::from_utf8_lossy(value)).to_string();
            out.extend_from_slice(&text.as_bytes()[1..text.len() - 1]);
        }
    }

    fn line(text: &str, json: bool) -> String {
        let (format, _) = LogFormat::parse(text, json).unwrap();
        let (mut room, mut out) = (Vec::new(), Vec::new());
        format.write::<Quotes>(&Known, &mut room, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_of_text_ends_once_and_tells_what_is_not_known_by_a_dash() {
        for end in ["", "\n"] {
            let text = format!("%REQ(:PATH)% %RESPONSE_CODE% %REQ(X-USER)% 100%%{end}");
            assert_eq!(line(&text, false), "/a\"b 200 - 100%\n");
        }
    }

    #[test]
    fn an_object_keeps_numbers_and_says_null() {
        let text = r#"{"code": "%RESPONSE_CODE%", "user": "%REQ(X-USER)%", "path": "%REQ(:PATH)%", "bytes": "%BYTES_SENT%",
                      "both": "%REQ(:PATH)% \"%REQ(X-USER)%\"", "in\"side": {"list": [1, "x", true, "%RESPONSE_CODE%"]}}"#;
        let value: Value = serde_json::from_str(&line(text, true)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "code": 200, "user": null, "path": "/a\"b", "bytes": null, "both": "/a\"b \"-\"",
                "in\"side": {"list": [1, "x", true, 200]},
            })
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let wrong = |text: &str, json| LogFormat::parse(text, json).unwrap_err().to_string();
        assert!(wrong("%NO_SUCH%", false).starts_with("there is no command `%NO_SUCH%`"));
        assert!(wrong(r#"{"a": {"b": "%NO_SUCH%"}}"#, true).starts_with("`a.b`: there is no command"));
        assert!(wrong("[%PROTOCOL%]", true).contains("this is no JSON"));
        assert!(wrong("[]", true).ends_with(r#"an object is wanted, as {"path": "%REQ(:PATH)%"}"#));
        let (_, passed) = LogFormat::parse("%DYNAMIC_METADATA(a:b)% %PROTOCOL%", false).unwrap();
        assert_eq!(passed.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_without_panic_and_any_object_stays_one(text in ".{0,40}", key in ".{0,8}") {
            let _ = LogFormat::parse(&text, false);
            let object = Value::Object([(key, Value::from(text))].into_iter().collect()).to_string();
            if LogFormat::parse(&object, true).is_ok() {
                serde_json::from_str::<Value>(&line(&object, true)).unwrap();
            }
        }
    }
}
