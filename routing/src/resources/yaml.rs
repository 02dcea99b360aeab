//! The only files that name the YAML parser: values, positions, and the limits against YAML bombs.

mod tree;

use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Options};

pub(super) use tree::{Position, Tree, positions};

/// Longest document; Kubernetes itself stores no object above 1.5 MiB, but a List may hold many.
const MAX_BYTES: usize = 32 << 20;
/// Deepest nesting; Istio's deepest field is below 20.
const MAX_DEPTH: usize = 64;

/// Why a document is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Stable name for programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Line in the document and column, from 1.
    pub at: Option<(u32, u32)>,
}

/// Reads one document as plain values.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    if text.len() > MAX_BYTES {
        let message = format!("the document has {} bytes; at most {MAX_BYTES} are read, split it", text.len());
        return Err(Fault { code: TOO_LARGE, message, at: None });
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| fault(&error))
}

/// Writes one document, as Kubernetes' own tools read it.
pub(super) fn write(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| format!("it cannot be written as YAML: {error}"))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_BYTES),
            max_depth: MAX_DEPTH,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_nodes: 2_000_000,
            max_events: 4_000_000,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        ignore_binary_tag_for_string: true,
        with_snippet: false,
    }
}

fn fault(error: &Error) -> Fault {
    let error = error.without_snippet();
    let at = error
        .location()
        .and_then(|location| Some((u32::try_from(location.line()).ok()?, u32::try_from(location.column()).ok()?)));
    let (code, message) = match error {
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(String::new, |key| format!(" `{key}`"));
            (DUPLICATE_KEY, format!("the key{key} is given twice; keep one of them"))
        }
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::Budget { breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. }, .. }
        | Error::Budget { breach: BudgetBreach::AliasAnchorRatio { .. }, .. } => {
            (TOO_LARGE, "aliases (`*name`) make the document too large; write the values out".to_owned())
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            (TOO_LARGE, format!("the document is nested deeper than {MAX_DEPTH} levels; no object needs that"))
        }
        Error::Budget { .. } => (TOO_LARGE, "the document is too large; split it into several".to_owned()),
        Error::UnknownAnchor { .. } => (
            SYNTAX,
            "the alias (`*name`) has no anchor (`&name`) above; text that begins with `*` needs quotes".to_owned(),
        ),
        Error::AliasError { error, .. } => return Fault { at, ..fault(error) },
        other => (SYNTAX, syntax(&other.to_string())),
    };
    Fault { code, message, at }
}

const SYNTAX: &str = "yaml-syntax";
const TOO_LARGE: &str = "too-large";
/// Code of a key that is given twice.
pub(super) const DUPLICATE_KEY: &str = "duplicate-key";

/// The parser's words without its position, and what is usually the reason.
fn syntax(words: &str) -> String {
    const REASONS: [(&str, &str); 9] = [
        ("scanning an anchor or alias", "a text that begins with `*` or `&` needs quotes, as `\"*\"`"),
        ("mapping values are not allowed", "check the indentation, and put a value that holds `: ` in quotes"),
        ("tabs disallowed", "indent with spaces"),
        ("unclosed quote", "a quoted text must end with the same quote"),
        ("unclosed bracket", "`[` needs `]` and `{` needs `}`"),
        ("unexpected character", "text that begins with this character needs quotes"),
        ("illegal placement of ':'", "a `[` or `{` above is not closed, or a key is missing"),
        ("expected ',' or", "entries between brackets are separated by commas, and the bracket must be closed"),
        ("did not find expected", "check the indentation of this line and the one above"),
    ];
    let words = words.split(" at line ").next().unwrap_or(words);
    let reason = REASONS.iter().find(|(part, _)| words.contains(part)).map(|(_, reason)| *reason);
    let reason = reason.unwrap_or("check this line and the one above");
    format!("this is not YAML: {words}; {reason}")
}
