//! How commands that tell something print it.

use clap::ValueEnum;

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// For people: tables and sentences.
    #[default]
    #[value(alias = "table")]
    Text,
    /// One JSON document.
    Json,
    /// The same as YAML.
    Yaml,
}
