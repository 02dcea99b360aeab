//! How a proxy ends, as Istio's variables say it: in the environment, or in `proxyMetadata` of the pod's or the mesh's
//! configuration, from which an injected pod has it.

use std::time::Duration;

use super::scalar::ProtoDuration;

/// Istio's variables of it.
pub const VARIABLES: [&str; 3] =
    ["EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "MINIMUM_DRAIN_DURATION", "TERMINATION_DRAIN_DURATION_SECONDS"];

/// Istio's default of `MINIMUM_DRAIN_DURATION`.
const MINIMUM: Duration = Duration::from_secs(5);

/// See the module. `None`: nothing is said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ending {
    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`: not before the last connection has ended.
    at_zero: Option<bool>,
    /// `MINIMUM_DRAIN_DURATION`: how long connections are still accepted then.
    minimum: Option<Duration>,
    /// `TERMINATION_DRAIN_DURATION_SECONDS`: the same otherwise.
    pub delay: Option<Duration>,
}

impl Ending {
    /// `variable` looks one up.
    ///
    /// # Errors
    /// A sentence about the one that is wrong.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let wrong = |name: &str, text: &str, why: &str| format!("{name} cannot be `{text}`: {why}");
        let time = |name: &str| {
            let read = |text: String| {
                text.trim().parse().map_err(|why: super::scalar::BadDuration| wrong(name, &text, &why.to_string()))
            };
            given(name).map(read).transpose().map(|time: Option<ProtoDuration>| time.map(Duration::from))
        };
        let seconds = |name: &str| {
            let read =
                |text: String| text.trim().parse().map_err(|_| wrong(name, &text, "write a whole number of seconds"));
            given(name).map(read).transpose().map(|seconds| seconds.map(Duration::from_secs))
        };
        let [name, minimum, delay] = VARIABLES;
        let at_zero = given(name).map(|text| match text.trim() {
            "true" | "True" | "TRUE" | "1" => Ok(true),
            "false" | "False" | "FALSE" | "0" => Ok(false),
            _ => Err(wrong(name, &text, "write true or false")),
        });
        Ok(Self { at_zero: at_zero.transpose()?, minimum: time(minimum)?, delay: seconds(delay)? })
    }

    /// What this one does not say, the other says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            at_zero: self.at_zero.or(other.at_zero),
            minimum: self.minimum.or(other.minimum),
            delay: self.delay.or(other.delay),
        }
    }

    /// How long connections are still accepted, where the end waits for the last of them; `None`: it does not.
    pub fn at_zero(self) -> Option<Duration> {
        self.at_zero.unwrap_or_default().then(|| self.minimum.unwrap_or(MINIMUM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Ending, String> {
        Ending::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn the_end_waits_where_that_is_said() {
        let seconds = Duration::from_secs;
        assert_eq!(read(&[]).unwrap().at_zero(), None);
        assert_eq!(read(&[("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true")]).unwrap().at_zero(), Some(seconds(5)));
        let both = [("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"), ("MINIMUM_DRAIN_DURATION", "1m")];
        assert_eq!(read(&both).unwrap().at_zero(), Some(seconds(60)));
        assert_eq!(read(&[("TERMINATION_DRAIN_DURATION_SECONDS", "7")]).unwrap().delay, Some(seconds(7)));
        let off = read(&[("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "false")]).unwrap();
        assert_eq!(off.or(read(&both).unwrap()).at_zero(), None, "the nearer word counts");
        let wrong = read(&[("MINIMUM_DRAIN_DURATION", "soon")]).unwrap_err();
        assert_eq!(
            wrong,
            "MINIMUM_DRAIN_DURATION cannot be `soon`: `soon` is not a duration; write a number with its unit (h, m, s or ms), as `10s`, \
             `1.5s` or `500ms`"
        );
    }
}
