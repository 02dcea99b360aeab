//! Walking lists, maps and structs of a value tree.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{DecodeError, Decoder, Trail, TrailStep, nearest};
use crate::api::check::{FIELD_SPELLING, Finding, UNKNOWN_FIELD, push_key};
use crate::problem::Severity;

/// Items of a list.
pub(super) struct Items<'v, 't> {
    list: Decoder<'v, 't>,
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'v, 't> Items<'v, 't> {
    pub(super) fn new(list: Decoder<'v, 't>, items: &'v [Value]) -> Self {
        Self { list, items: items.iter().enumerate() }
    }
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        below(self.list, TrailStep::Index(index), value, seed).map(Some)
    }
}

/// Entries of a map whose keys the user chose.
pub(super) struct Entries<'v, 't> {
    map: Decoder<'v, 't>,
    entries: serde_json::map::Iter<'v>,
    current: Option<(&'v String, &'v Value)>,
}

impl<'v, 't> Entries<'v, 't> {
    pub(super) fn new(map: Decoder<'v, 't>, entries: &'v Map<String, Value>) -> Self {
        Self { map, entries: entries.iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        self.current = self.entries.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        let trail = Trail { above: Some(self.map.trail), step: TrailStep::Key(key) };
        seed.deserialize(Key(key)).map(Some).map_err(|error| error.at(&trail))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        match self.current.take() {
            Some((key, value)) => below(self.map, TrailStep::Key(key), value, seed),
            None => Err(serde::de::Error::custom("a value without a key")),
        }
    }
}

/// Fields of a struct, under the names that the struct gives them.
pub(super) struct Fields<'v, 't> {
    object: Decoder<'v, 't>,
    entries: serde_json::map::Iter<'v>,
    known: &'static [&'static str],
    current: Option<(&'v String, &'v Value)>,
}

impl<'v, 't> Fields<'v, 't> {
    pub(super) fn new(
        object: Decoder<'v, 't>,
        entries: &'v Map<String, Value>,
        known: &'static [&'static str],
    ) -> Self {
        Self { object, entries: entries.iter(), known, current: None }
    }

    fn field(&self, key: &str) -> Option<&'static str> {
        let known = |name: &str| self.known.iter().find(|field| **field == name).copied();
        known(key).or_else(|| if key.contains('_') { known(&camel_case(key)) } else { None })
    }

    /// What is read in protobuf's own spelling as well, an API server with Istio's definitions does not know.
    fn report_spelling(&self, key: &str, field: &str) {
        // Istio's definitions have these.
        const ALSO_KNOWN: [&str; 2] = ["mirror_percent", "jwks_uri"];
        if !self.object.reading.strict || key == field || ALSO_KNOWN.contains(&key) {
            return;
        }
        let mut path = self.object.trail.render();
        push_key(&mut path, field);
        let message =
            format!("`{key}` is read here, but an API server with Istio's definitions drops it; write `{field}`");
        self.object.unknown.borrow_mut().push(Finding {
            field: path,
            code: FIELD_SPELLING,
            severity: Severity::Warning,
            message,
        });
    }

    fn report(&self, key: &str) {
        if !self.object.reading.strict {
            return;
        }
        let mut field = self.object.trail.render();
        push_key(&mut field, key);
        let hint = nearest::sentence(key, self.known);
        let hint = if hint.is_empty() { format!("; the fields here are {}", self.known.join(", ")) } else { hint };
        let message = format!("there is no field `{key}` here{hint}");
        self.object.unknown.borrow_mut().push(Finding {
            field,
            code: UNKNOWN_FIELD,
            severity: Severity::Error,
            message,
        });
    }
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        while let Some((key, value)) = self.entries.next() {
            let Some(field) = self.field(key) else {
                self.report(key);
                continue;
            };
            self.report_spelling(key, field);
            // In protobuf's JSON form null means unset.
            if value.is_null() {
                continue;
            }
            self.current = Some((key, value));
            return seed.deserialize(StrDeserializer::new(field)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        match self.current.take() {
            Some((key, value)) => below(self.object, TrailStep::Key(key), value, seed),
            None => Err(serde::de::Error::custom("a value without a key")),
        }
    }
}

fn below<'de, S: DeserializeSeed<'de>>(
    above: Decoder<'de, '_>,
    step: TrailStep<'_>,
    value: &'de Value,
    seed: S,
) -> Result<S::Value, DecodeError> {
    let trail = Trail { above: Some(above.trail), step };
    seed.deserialize(Decoder { value, trail: &trail, ..above }).map_err(|error| error.at(&trail))
}

/// `max_age` as `maxAge`.
pub(crate) fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut raise = false;
    for letter in name.chars() {
        match letter {
            '_' => raise = !camel.is_empty(),
            _ if raise => {
                camel.extend(letter.to_uppercase());
                raise = false;
            }
            _ => camel.push(letter),
        }
    }
    camel
}

/// A key of a map: text, or a whole number where the map is keyed by numbers.
struct Key<'d>(&'d str);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_str(self.0)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number: u16 = self.0.parse().map_err(|_| {
            serde::de::Error::custom(format_args!("the key `{}` is not a number from 0 to 65535", self.0))
        })?;
        number.into_deserializer().deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
