//! Documents that are made into objects by another program first: templates, patches, kustomizations, values of charts.

use serde_json::{Map, Value};

use crate::api::check::{push_index, push_key};
use crate::problem::ObjectRef;

/// Why a document is not read although nothing is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skip {
    /// Where it shows; empty for the whole document.
    pub(super) field: String,
    /// A sentence.
    pub(super) message: String,
}

impl Skip {
    /// Of a template that is no YAML yet.
    pub(super) fn template() -> Self {
        Self::whole(
            "this is a template (`{{ }}`), so it is not read; check what is made of it, as `helm template` prints it",
        )
    }

    fn whole(message: &str) -> Self {
        Self { field: String::new(), message: message.to_owned() }
    }
}

/// What a document is by its content or by the name of its file, when it is no object. `None`: it should be one.
pub(super) fn of_no_object(document: &Map<String, Value>, file: &str) -> Option<Skip> {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file).to_ascii_lowercase();
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let says_kind = document.get("kind").is_some_and(|kind| !kind.is_null());
    let has = |key: &str| document.contains_key(key);
    match stem {
        // Charts have values named `kind`, too.
        _ if (stem.starts_with("values") || stem.ends_with("values")) && !has("apiVersion") && !has("metadata") => {
            let message =
                "these are the values of a Helm chart, so they are not read; check what `helm template` prints";
            Some(Skip::whole(message))
        }
        _ if says_kind => None,
        "kustomization" => Some(Skip::whole(
            "this is a kustomization, so it is not read; what it changes is not seen here, check what `kustomize build` prints",
        )),
        "chart" if has("name") => {
            Some(Skip::whole("this describes a Helm chart, so it is not read; check what `helm template` prints"))
        }
        _ => None,
    }
}

/// A list of operations on another object (RFC 6902).
pub(super) fn of_list(items: &[Value]) -> Option<Skip> {
    let operation = |item: &Value| item.get("op").is_some_and(Value::is_string) && item.get("path").is_some();
    (!items.is_empty() && items.iter().all(operation))
        .then(|| Skip::whole("this is a JSON patch, so it is not read; check what `kustomize build` prints"))
}

/// The line of a text which is no YAML because a template engine is to work on it first, from 1.
pub(super) fn line_of_template(text: &str) -> Option<u32> {
    let shows = |line: &str| {
        let line = unquoted(line.trim_start());
        let bare = |opening: &str| {
            line.starts_with(opening)
                || [": ", "- ", ":", "-"].iter().any(|before| line.contains(&format!("{before}{opening}")))
        };
        !line.starts_with('#') && (bare("{{") || line.starts_with("{%") || line.contains("{{-"))
    };
    let at = text.lines().position(shows)?;
    u32::try_from(at + 1).ok()
}

/// A line without what stands in quotes, where everything is text.
fn unquoted(line: &str) -> String {
    let mut quote = None;
    let outside = |letter: &char| match (quote, *letter) {
        (None, '"' | '\'') => {
            quote = Some(*letter);
            false
        }
        (None, _) => true,
        (Some(open), letter) => {
            quote = quote.filter(|_| open != letter);
            false
        }
    };
    line.chars().filter(outside).collect()
}

/// The first value that another program is to fill in, or the first mark of a patch.
pub(super) fn of_object(object: &Value) -> Option<Skip> {
    let mut path = String::new();
    let found = find(object, &mut path, Text::Name)?;
    let message = match found {
        Found::Placeholder(text) => format!(
            "`{text}` is a placeholder, so this is a template and not read; check what is made of it (`envsubst`, `helm template` \
             and the like)"
        ),
        Found::Patch(key) => {
            format!(
                "`{key}` makes this a patch of another document, so it is not read; check what `kustomize build` prints"
            )
        }
    };
    Some(Skip { field: path, message })
}

enum Found<'v> {
    Placeholder(&'v str),
    Patch(&'v str),
}

/// What a text may hold by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    /// A name, which has no `$`.
    Name,
    /// A path, in which `$metadata` is usual.
    Path,
}

/// Where any text is right.
const FREE: [&str; 24] = [
    "add",
    "annotations",
    "args",
    "binaryData",
    "body",
    "caBundle",
    "command",
    "data",
    "env",
    "image",
    "initContainers",
    "lifecycle",
    "livenessProbe",
    "queryParams",
    "readinessProbe",
    "regex",
    "rewrite",
    "set",
    "startupProbe",
    "status",
    "stringData",
    "uriRegexRewrite",
    "volumeMounts",
    "volumes",
];
const PATHS: [&str; 4] = ["exact", "prefix", "uri", "prefixRewrite"];
const PATCH_MARKS: [&str; 4] = ["$patch", "$retainKeys", "$setElementOrder", "$deleteFromPrimitiveList"];

/// Walks in the order of the document's keys; `path` is that of what was found.
fn find<'v>(value: &'v Value, path: &mut String, text: Text) -> Option<Found<'v>> {
    let length = path.len();
    match value {
        Value::String(content) => return placeholder(content, text).map(Found::Placeholder),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                push_index(path, index);
                if let Some(found) = find(item, path, text) {
                    return Some(found);
                }
                path.truncate(length);
            }
        }
        Value::Object(entries) => {
            for (key, below) in entries {
                push_key(path, key);
                if PATCH_MARKS.iter().any(|mark| key.starts_with(mark)) {
                    return Some(Found::Patch(key));
                }
                if let Some(text) = placeholder(key, Text::Name) {
                    return Some(Found::Placeholder(text));
                }
                // `rewrite` of a route is a mapping with a path in it, that of a regular expression is free text.
                let free = FREE.contains(&key.as_str()) && !(key == "rewrite" && below.is_object());
                let text = if PATHS.contains(&key.as_str()) { Text::Path } else { text };
                if !free && let Some(found) = find(below, path, text) {
                    return Some(found);
                }
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    None
}

/// `{{ .Values.host }}`, `${HOST}`, `$(HOST)` or `$HOST`, as a part of a text.
fn placeholder(text: &str, place: Text) -> Option<&str> {
    if let Some((begin, end)) = between(text, "{{", "}}") {
        // A path may have braces of its own; values of a chart begin with a dot.
        if place == Text::Name || text[begin + 2..].trim_start_matches(['-', ' ']).starts_with('.') {
            return Some(&text[begin..end]);
        }
    }
    for (opening, closing) in [("${", "}"), ("$(", ")")] {
        let found = between(text, opening, closing).filter(|(begin, _)| text[begin + 2..].starts_with(begins_a_name));
        if let Some((begin, end)) = found {
            return Some(&text[begin..end]);
        }
    }
    if place == Text::Path {
        return None;
    }
    let begins = text.match_indices('$').map(|(begin, _)| begin);
    begins.map(|begin| &text[begin..begin + 1 + length_of_variable(&text[begin + 1..])]).find(|found| found.len() > 2)
}

fn between(text: &str, opening: &str, closing: &str) -> Option<(usize, usize)> {
    let begin = text.find(opening)?;
    let length = text[begin + 2..].find(closing)?;
    Some((begin, begin + 2 + length + closing.len()))
}

fn begins_a_name(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_'
}

/// Of the variable of a shell that a text begins with: capitals, as in every example.
fn length_of_variable(text: &str) -> usize {
    let capital = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    let length = text.bytes().take_while(capital).count();
    let begins = text.starts_with(|letter: char| letter.is_ascii_uppercase() || letter == '_');
    let ends = !text[length..].starts_with(|letter: char| letter.is_ascii_lowercase());
    if begins && ends { length } else { 0 }
}

/// What of an object's kind, namespace and name is one already, and not to be filled in.
pub(super) fn plain(object: ObjectRef) -> ObjectRef {
    let ObjectRef { kind, mut namespace, mut name } = object;
    if placeholder(&kind, Text::Name).is_some() {
        return ObjectRef::default();
    }
    for part in [&mut namespace, &mut name] {
        if part.contains(['{', '}', '$', ' ']) || placeholder(part, Text::Name).is_some() {
            part.clear();
        }
    }
    ObjectRef { kind, namespace, name }
}

/// The files that a kustomization takes for patches, as it names them.
pub fn patch_files(kustomization: &str) -> Vec<String> {
    let Ok(Value::Object(fields)) = super::yaml::parse(kustomization) else { return Vec::new() };
    let listed = |field: &str| fields.get(field).and_then(Value::as_array).into_iter().flatten();
    let with_path = listed("patches").chain(listed("patchesJson6902")).filter_map(|patch| patch.get("path"));
    // These may also be patches themselves; no path has lines.
    let named = with_path.chain(listed("patchesStrategicMerge")).filter_map(Value::as_str);
    named.filter(|path| !path.contains('\n')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_has_a_placeholder_in_it_or_none(text in "[${}()A-Za-zü. _-]{0,24}") {
            for place in [Text::Name, Text::Path] {
                if let Some(found) = placeholder(&text, place) {
                    prop_assert!(text.contains(found) && found.len() > 2, "{found}");
                }
            }
        }
    }

    #[test]
    fn placeholders_are_told_from_text_that_only_looks_like_them() {
        let found = |text| placeholder(text, Text::Name);
        assert_eq!(found("$CREDENTIAL_NAME"), Some("$CREDENTIAL_NAME"));
        assert_eq!(found("grafana.${DOMAIN:-local}"), Some("${DOMAIN:-local}"));
        assert_eq!(found("$(GATEWAY)"), Some("$(GATEWAY)"));
        assert_eq!(found("{{ .Values.host }}.example.com"), Some("{{ .Values.host }}"));
        assert_eq!(found("a.$HOST.example.com"), Some("$HOST"));
        for plain in ["", "$", "a$", "$1", "${}", "$(", "{{", "}}{{", "$metadata", "cost $5", "US$"] {
            assert_eq!(found(plain), None, "{plain}");
        }
        assert_eq!(placeholder("/odata/$COUNT", Text::Path), None);
        assert_eq!(placeholder("/v1/${API}", Text::Path), Some("${API}"));
        assert_eq!(placeholder("/orders/{{id}}", Text::Path), None);
        assert_eq!(placeholder("/{{ .Values.path }}", Text::Path), Some("{{ .Values.path }}"));
    }

    #[test]
    fn only_a_line_that_no_yaml_has_makes_a_template() {
        assert_eq!(line_of_template("kind: X\n{{- if .Values.on }}\n"), Some(2));
        assert_eq!(line_of_template("host: {{ .Values.host }}"), Some(1));
        assert_eq!(line_of_template("- {{ . }}"), Some(1));
        assert_eq!(line_of_template("{% if on %}"), Some(1));
        assert_eq!(line_of_template("text: \"a: {{ b }}\"\nit: 'x: {{ y }}'"), None);
        assert_eq!(line_of_template("# {{ note }}\nbody: 'a {{ b }}'\nspec: ["), None);
    }

    #[test]
    fn a_kustomization_names_its_patches() {
        let text = "patches:\n- path: a.yaml\n- patch: |-\n    - op: remove\npatchesStrategicMerge: [b.yaml, \"kind: X\\nmetadata: {}\"]\npatchesJson6902: [{path: c.json}]\n";
        assert_eq!(patch_files(text), ["a.yaml", "c.json", "b.yaml"]);
        assert!(patch_files("[").is_empty());
    }
}
