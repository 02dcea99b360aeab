//! Who gets a line about which requests and connections.

use std::{collections::BTreeMap, sync::Arc};

use super::{Level, tracing::Collector};
use crate::{
    api::telemetry::{AccessLogging, WorkloadMode},
    attributes::Expression,
    log_format::LogFormat,
};

/// Istio's name of the provider that everybody has: stdout.
pub const ENVOY: &str = "envoy";
/// Where lines go when nothing is said.
pub const STDOUT: &str = "/dev/stdout";

/// One log of one side.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Which requests and connections have a line; `None` = all.
    pub filter: Option<Expression>,
    /// What it holds; `None` = what the mesh configuration says, or Istio's own.
    pub format: Option<LogFormat>,
    /// Where it goes.
    pub to: To,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    /// A file, or `/dev/stdout` and `/dev/stderr`.
    File(Box<str>),
    /// A service, by OTLP.
    Otlp {
        /// Who.
        collector: Arc<Collector>,
        /// Name of the log.
        name: Box<str>,
        /// Attributes of each record: commands by name.
        attributes: Box<[(Arc<str>, crate::template::Template)]>,
    },
}

/// What is said of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// It gets no line.
    pub disabled: bool,
    /// A condition of lines.
    pub filter: Option<String>,
}

/// What levels mean together on one side, by provider; `None`: they say nothing of logs, and there is no default, so that
/// `accessLogFile` of the mesh configuration holds.
///
/// As in Istio: providers are those that the narrowest level names that names any; what holds for each is what is said last.
pub fn resolve(levels: &[Level], default: &[String], side: WorkloadMode) -> Option<BTreeMap<String, Terms>> {
    let said: Vec<&[AccessLogging]> =
        levels.iter().map(|level| &*level.spec.access_logging).filter(|entries| !entries.is_empty()).collect();
    if said.is_empty() {
        return (!default.is_empty()).then(|| default.iter().map(|name| (name.clone(), Terms::default())).collect());
    }
    let covers = |entry: &AccessLogging| entry.matches.unwrap_or_default().mode.covers(side);
    let mut chosen: Vec<&str> = default.iter().map(String::as_str).collect();
    for entries in &said {
        let all = entries.iter().filter(|entry| covers(entry)).flat_map(|entry| &entry.providers);
        let names: Vec<&str> = all.map(|one| one.name.as_str()).collect();
        if !names.is_empty() {
            chosen = names;
        }
    }
    let mut found = BTreeMap::new();
    let mut parent: Vec<&str> = default.iter().map(String::as_str).collect();
    for entry in said.iter().copied().flatten() {
        if !entry.providers.is_empty() {
            parent = entry.providers.iter().map(|one| one.name.as_str()).collect();
        }
        // Whoever names nobody, where nobody is the default, means the log that everybody has.
        let names = if parent.is_empty() { vec![ENVOY] } else { parent.clone() };
        for name in names.into_iter().filter(|name| chosen.is_empty() || chosen.contains(name)) {
            if covers(entry) {
                let filter = entry.filter.as_ref().map(|filter| filter.expression.clone());
                found.insert(name.to_owned(), Terms { disabled: entry.disabled.unwrap_or(false), filter });
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    fn levels(all: &[serde_json::Value]) -> Vec<Level> {
        let one = |logging: &serde_json::Value| {
            let spec: api::Telemetry = serde_json::from_value(serde_json::json!({"accessLogging": logging})).unwrap();
            Level { namespace: "n".into(), name: "t".into(), spec }
        };
        all.iter().map(one).collect()
    }

    fn told(found: &BTreeMap<String, Terms>) -> Vec<(&str, bool, Option<&str>)> {
        found.iter().map(|(name, terms)| (name.as_str(), terms.disabled, terms.filter.as_deref())).collect()
    }

    #[test]
    fn nothing_said_leaves_it_to_the_mesh_configuration() {
        assert_eq!(resolve(&[], &[], WorkloadMode::Client), None);
        let found = resolve(&[], &["otel".into()], WorkloadMode::Client).unwrap();
        assert_eq!(told(&found), [("otel", false, None)]);
    }

    #[test]
    fn the_narrowest_level_says_who_and_each_is_as_said_last() {
        let wide = serde_json::json!([{"providers": [{"name": "envoy"}]}]);
        let narrow =
            serde_json::json!([{"providers": [{"name": "file"}, {"name": "otel"}], "filter": {"expression": "true"}}]);
        let found = resolve(&levels(&[wide.clone(), narrow]), &[], WorkloadMode::Server).unwrap();
        assert_eq!(told(&found), [("file", false, Some("true")), ("otel", false, Some("true"))]);
        let off = serde_json::json!([{"disabled": true}]);
        let found = resolve(&levels(&[wide.clone(), off]), &[], WorkloadMode::Server).unwrap();
        assert_eq!(told(&found), [("envoy", true, None)]);
        let sided = serde_json::json!([{"match": {"mode": "CLIENT"}, "disabled": true}]);
        let found = resolve(&levels(&[wide.clone(), sided.clone()]), &[], WorkloadMode::Server).unwrap();
        assert_eq!(told(&found), [("envoy", false, None)]);
        let found = resolve(&levels(&[wide, sided]), &[], WorkloadMode::Client).unwrap();
        assert_eq!(told(&found), [("envoy", true, None)]);
    }

    #[test]
    fn whoever_names_nobody_means_the_log_that_everybody_has() {
        let filter = serde_json::json!([{"filter": {"expression": "response.code >= 400"}}]);
        let found = resolve(&levels(&[filter]), &[], WorkloadMode::Client).unwrap();
        assert_eq!(told(&found), [("envoy", false, Some("response.code >= 400"))]);
    }
}
