//! From a tree of plain values (YAML or JSON) to a typed object, the way protobuf's JSON form is read.
//!
//! Field names in camelCase or snake_case, `null` for unset. Numbers in quotes and enums by number, which protobuf reads
//! too, are refused as the definitions at an API server refuse them, so that files hold nothing that a cluster would not
//! take. Unknown fields are findings, all of them; a value of the wrong type ends the decoding. Every message names the field.

mod access;
pub mod nearest;

pub(crate) use access::camel_case;

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde_json::Value;

use super::check::{BAD_VALUE, Finding, Findings, push_index, push_key};
use crate::problem::Severity;

/// How strictly an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Unknown fields are errors (Istio's kinds) or ignored (Kubernetes' kinds).
    pub strict: bool,
    /// Values may appear in messages; not those of a Secret.
    pub quote_values: bool,
}

/// Decodes the value at `path`; on failure, and for unknown fields, `findings` says why.
pub fn decode<T: DeserializeOwned>(value: &Value, path: &str, reading: Reading, findings: &mut Findings) -> Option<T> {
    let unknown = RefCell::new(Vec::new());
    let trail = Trail { above: None, step: TrailStep::Root(path) };
    let decoder = Decoder { value, trail: &trail, reading, unknown: &unknown };
    let decoded = T::deserialize(decoder);
    for finding in unknown.into_inner() {
        findings.add(finding);
    }
    match decoded {
        Ok(object) => Some(object),
        Err(error) => {
            let field = error.field.unwrap_or_else(|| path.to_owned());
            findings.add(Finding { field, code: BAD_VALUE, severity: Severity::Error, message: error.message });
            None
        }
    }
}

/// The way from the object's root to a value; lives on the stack, so that a good object costs no text.
#[derive(Clone, Copy)]
struct Trail<'t> {
    above: Option<&'t Trail<'t>>,
    step: TrailStep<'t>,
}

#[derive(Clone, Copy)]
enum TrailStep<'t> {
    Root(&'t str),
    Key(&'t str),
    Index(usize),
}

impl Trail<'_> {
    fn render(&self) -> String {
        let mut path = self.above.map(Trail::render).unwrap_or_default();
        match self.step {
            TrailStep::Root(root) => path.push_str(root),
            TrailStep::Key(key) => push_key(&mut path, key),
            TrailStep::Index(index) => push_index(&mut path, index),
        }
        path
    }
}

/// Why a value could not be decoded.
#[derive(Debug)]
struct DecodeError {
    field: Option<String>,
    message: String,
}

impl DecodeError {
    /// Names the field, unless a deeper one is already named.
    fn at(mut self, trail: &Trail<'_>) -> Self {
        if self.field.is_none() {
            self.field = Some(trail.render());
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { field: None, message: message.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::custom(format_args!("{found} is not right here; {wanted} is wanted"))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::custom(format_args!("{found} is out of range; {wanted} is wanted"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format_args!("`{field}` is given twice, in camelCase and in snake_case; keep one"))
    }
}

#[derive(Clone, Copy)]
struct Decoder<'v, 't> {
    value: &'v Value,
    trail: &'t Trail<'t>,
    reading: Reading,
    unknown: &'t RefCell<Vec<Finding>>,
}

impl<'v> Decoder<'v, '_> {
    fn wrong(&self, wanted: &str) -> DecodeError {
        self.fail(format!("{} is given where {wanted} is wanted", self.describe()))
    }

    fn fail(&self, message: String) -> DecodeError {
        DecodeError { field: Some(self.trail.render()), message }
    }

    /// A number in quotes.
    fn quoted(&self, wanted: &str) -> DecodeError {
        let message = format!(
            "{} is given where {wanted} is wanted, and an API server takes no text for it; write it without quotes",
            self.describe()
        );
        self.fail(message)
    }

    fn describe(&self) -> String {
        let quoted = self.reading.quote_values;
        match self.value {
            Value::Null => "nothing (null)".to_owned(),
            Value::Bool(value) if quoted => format!("`{value}`"),
            Value::Bool(_) => "true or false".to_owned(),
            Value::Number(number) if quoted => format!("the number {number}"),
            Value::Number(_) => "a number".to_owned(),
            Value::String(text) if quoted => format!("the text `{}`", shorten(text)),
            Value::String(_) => "a text".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
        }
    }

    fn text(&self) -> Result<&'v str, DecodeError> {
        match self.value {
            Value::String(text) => Ok(text),
            Value::Number(_) | Value::Bool(_) => {
                Err(self.fail(format!("{} is given where a text is wanted; put it in quotes", self.describe())))
            }
            _ => Err(self.wrong("a text")),
        }
    }

    /// A whole number between `low` and `high`, also as `80.0`.
    fn integer(&self, low: i128, high: i128) -> Result<i128, DecodeError> {
        let number = match self.value {
            Value::Number(number) => whole(&number.to_string()),
            Value::String(text) if whole(text).is_some() => return Err(self.quoted("a whole number")),
            _ => None,
        };
        let Some(number) = number else {
            return Err(self.wrong(&format!("a whole number{}", range(low, high))));
        };
        if number < low || number > high {
            return Err(self.fail(format!(
                "{} is out of range; a whole number{} is wanted",
                self.describe(),
                range(low, high)
            )));
        }
        Ok(number)
    }

    fn float(&self) -> Result<f64, DecodeError> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if text.parse::<f64>().is_ok() => return Err(self.quoted("a number")),
            _ => None,
        };
        number.filter(|number: &f64| number.is_finite()).ok_or_else(|| self.wrong("a number"))
    }

    fn variant(&self, variants: &'static [&'static str]) -> Result<&'static str, DecodeError> {
        let found = match self.value {
            Value::String(name) => variants.iter().find(|variant| **variant == name.as_str()),
            Value::Number(number) => {
                // Variants are declared in the order of their protobuf numbers.
                let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
                if let Some(meant) = number.and_then(|number| variants.get(number)) {
                    let message =
                        format!("{} is given where an API server takes a name only; write {meant}", self.describe());
                    return Err(self.fail(message));
                }
                None
            }
            _ => None,
        };
        found.copied().ok_or_else(|| {
            let near = match self.value {
                Value::String(name) => nearest::sentence(name, variants),
                _ => String::new(),
            };
            self.fail(format!("{} is not one of {}{near}", self.describe(), variants.join(", ")))
        })
    }
}

/// Parses `80`, `-1` and, as protobuf does, `80.0` and `1e3`.
fn whole(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(i128::from(number));
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(i128::from(number));
    }
    let number: f64 = text.parse().ok()?;
    // Beyond 2^53 a float no longer counts one by one.
    #[expect(clippy::cast_possible_truncation, reason = "the bound above i128's precision was checked")]
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i128)
}

fn range(low: i128, high: i128) -> String {
    match high {
        65_535 | 255 | 4_294_967_295 => format!(" from {low} to {high}"),
        _ => String::new(),
    }
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl<'de> Deserializer<'de> for Decoder<'de, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let visited: Result<V::Value, DecodeError> = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => return Err(self.wrong("a number")),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => return self.deserialize_seq(visitor),
            Value::Object(_) => return self.deserialize_map(visitor),
        };
        visited.map_err(|error| error.at(self.trail))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.wrong("true or false (without quotes)")),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = self.integer(0, i128::from(u16::MAX))?;
        visitor.visit_u64(u64::try_from(number).unwrap_or_default())
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = self.integer(0, i128::from(u32::MAX))?;
        visitor.visit_u64(u64::try_from(number).unwrap_or_default())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = self.integer(0, i128::from(u64::MAX))?;
        visitor.visit_u64(u64::try_from(number).unwrap_or_default())
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = self.integer(i128::from(i32::MIN), i128::from(i32::MAX))?;
        visitor.visit_i64(i64::try_from(number).unwrap_or_default())
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = self.integer(i128::from(i64::MIN), i128::from(i64::MAX))?;
        visitor.visit_i64(i64::try_from(number).unwrap_or_default())
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self).map_err(|error| error.at(self.trail)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(access::Items::new(self, items)),
            _ => Err(self.wrong("a list (lines that begin with `-`)")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Object(entries) => visitor.visit_map(access::Entries::new(self, entries)),
            _ => Err(self.wrong("a mapping (`key: value` lines)")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Object(entries) => visitor.visit_map(access::Fields::new(self, entries, fields)),
            _ => Err(self.wrong("a mapping (`key: value` lines)")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(self.variant(variants)?.into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}
