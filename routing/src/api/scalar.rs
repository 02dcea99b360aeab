//! Values that Istio writes in its own way: durations, string matches, percentages, base64.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

/// A duration as Istio writes it: `10s`, `1.5s`, `500ms`, `1h2m`.
///
/// Whole milliseconds, never negative. Most fields also demand at least 1 ms; see [`super::check`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtoDuration(Duration);

impl ProtoDuration {
    /// The same as std's duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// From a whole number of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl From<ProtoDuration> for Duration {
    fn from(duration: ProtoDuration) -> Self {
        duration.0
    }
}

/// Seconds with an `s`, as protobuf's JSON form writes durations.
impl fmt::Display for ProtoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        match millis {
            0 => write!(f, "{seconds}s"),
            _ => {
                let digits = format!("{millis:03}");
                write!(f, "{seconds}.{}s", digits.trim_end_matches('0'))
            }
        }
    }
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// No number with unit, or an unknown unit.
    #[error("`{0}` is not a duration; write a number with its unit (h, m, s or ms), as `10s`, `1.5s` or `500ms`")]
    Syntax(String),
    /// Below zero.
    #[error("`{0}` is negative; a duration of 1ms or more is wanted")]
    Negative(String),
    /// Finer than a millisecond.
    #[error("`{0}` is finer than a millisecond; durations are whole milliseconds, as `1ms` or `1.5s`")]
    TooFine(String),
    /// More than can be counted.
    #[error("`{0}` is too long; the longest duration is 315576000000s (10,000 years)")]
    TooLong(String),
}

impl FromStr for ProtoDuration {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let syntax = || BadDuration::Syntax(text.to_owned());
        if text.starts_with('-') {
            return Err(BadDuration::Negative(text.to_owned()));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(syntax());
        }
        if rest == "0" {
            return Ok(Self::default());
        }
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let (part, tail) = one_part(rest).ok_or_else(syntax)?;
            nanos = nanos.saturating_add(part);
            rest = tail;
        }
        if nanos > MAX_NANOS {
            return Err(BadDuration::TooLong(text.to_owned()));
        }
        if !nanos.is_multiple_of(NANOS_PER_MILLI) {
            return Err(BadDuration::TooFine(text.to_owned()));
        }
        let millis = u64::try_from(nanos / NANOS_PER_MILLI).map_err(|_| syntax())?;
        Ok(Self::from_millis(millis))
    }
}

const NANOS_PER_MILLI: u128 = 1_000_000;
/// Protobuf's limit for `google.protobuf.Duration`.
const MAX_NANOS: u128 = 315_576_000_000 * 1_000_000_000;
/// Digits of a fraction beyond which nothing changes.
const MAX_FRACTION_DIGITS: usize = 12;

/// One number with its unit in nanoseconds, and what follows it.
fn one_part(text: &str) -> Option<(u128, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    let scale: u128 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => NANOS_PER_MILLI,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(MAX_NANOS) };
    let mut nanos = whole.saturating_mul(scale);
    let mut digit_scale = scale;
    for digit in fraction.chars().take(MAX_FRACTION_DIGITS) {
        digit_scale /= 10;
        nanos = nanos.saturating_add(u128::from(digit.to_digit(10)?) * digit_scale);
    }
    Some((nanos, tail))
}

impl<'de> Deserialize<'de> for ProtoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl de::Visitor<'_> for DurationVisitor {
            type Value = ProtoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, as `10s`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ProtoDuration, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ProtoDuration, E> {
                Err(E::custom(format!("`{number}` has no unit; write `{number}s` for seconds")))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<ProtoDuration, E> {
                Err(E::custom(format!("`{number}` has no unit; write `{number}s` for seconds")))
            }
        }

        // Not `deserialize_str`: a bare number deserves a better answer than to be put in quotes.
        deserializer.deserialize_any(DurationVisitor)
    }
}

/// Istio `StringMatch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "StringMatchFields")]
pub enum StringMatch {
    /// Nothing was given (`{}`): for headers and query parameters, that they are present.
    #[default]
    Present,
    /// The whole value.
    Exact(String),
    /// The beginning of the value.
    Prefix(String),
    /// An RE2 expression for the whole value.
    Regex(String),
}

/// Istio `StringMatch`: at most one of the three.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct StringMatchFields {
    /// The whole value.
    exact: Option<String>,
    /// The beginning of the value.
    prefix: Option<String>,
    /// An RE2 expression for the whole value.
    regex: Option<String>,
}

impl TryFrom<StringMatchFields> for StringMatch {
    type Error = &'static str;

    fn try_from(fields: StringMatchFields) -> Result<Self, Self::Error> {
        match (fields.exact, fields.prefix, fields.regex) {
            (None, None, None) => Ok(Self::Present),
            (Some(exact), None, None) => Ok(Self::Exact(exact)),
            (None, Some(prefix), None) => Ok(Self::Prefix(prefix)),
            (None, None, Some(regex)) => Ok(Self::Regex(regex)),
            _ => Err("more than one of `exact`, `prefix` and `regex` is given; keep one"),
        }
    }
}

/// Istio `Percent`: a share from 0 to 100, as `{value: 0.1}` for one in a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Percent {
    /// 0, or 0.0001 to 100.
    pub value: f64,
}

/// Bytes that were written as base64. `Debug` tells only their number: they may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // YAML's folded text may break base64 into lines; Kubernetes accepts that too.
        let packed: String = text.split_ascii_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed.as_bytes()).map_err(|error| {
            // The text itself may be a secret, so it is not quoted.
            de::Error::custom(format!("this is not base64 ({error}); encode the bytes with `base64 -w0`"))
        })?;
        Ok(Self(bytes))
    }
}

/// Text where the empty string means unset, as everywhere in protobuf.
pub(super) fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A list without room for more: one of ten thousand routes grows to sixteen thousand while it is read, and lists of one to
/// four.
pub(super) fn compact<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_form_that_istio_documents() {
        let millis = |text: &str| text.parse::<ProtoDuration>().map(|duration| duration.get().as_millis());
        assert_eq!(millis("10s"), Ok(10_000));
        assert_eq!(millis("1.5s"), Ok(1_500));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("1h2m"), Ok(3_720_000));
        assert_eq!(millis("1h0.5m3s4ms"), Ok(3_633_004));
        assert_eq!(millis(".5s"), Ok(500));
        assert_eq!(millis("2000us"), Ok(2));
        assert_eq!(millis("0s"), Ok(0));
        assert_eq!(millis("0"), Ok(0));
    }

    #[test]
    fn refuses_what_is_no_duration_with_a_reason() {
        for text in ["", "+", "10", "s", "ten", "1.2.3s", ".s", "5 s", "1d", "1s2"] {
            assert_eq!(text.parse::<ProtoDuration>(), Err(BadDuration::Syntax(text.to_owned())));
        }
        assert_eq!("-1s".parse::<ProtoDuration>(), Err(BadDuration::Negative("-1s".to_owned())));
        assert_eq!("1500us".parse::<ProtoDuration>(), Err(BadDuration::TooFine("1500us".to_owned())));
        let endless = "999999999999999999999999999999999999999999999h";
        assert_eq!(endless.parse::<ProtoDuration>(), Err(BadDuration::TooLong(endless.to_owned())));
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back_the_same(millis in 0u64..=315_576_000_000_000) {
            let duration = ProtoDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse::<ProtoDuration>(), Ok(duration));
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in "[-+0-9.hmsuµn ]{0,20}") {
            if let Ok(duration) = text.parse::<ProtoDuration>() {
                prop_assert_eq!(duration.get().subsec_nanos() % 1_000_000, 0);
            }
        }
    }
}
