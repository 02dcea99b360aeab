//! Cutting a file into documents, and telling which object a broken document was meant to be.

use crate::problem::ObjectRef;

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'t> {
    /// Its text, without the `---` line unless something follows on that line.
    pub text: &'t str,
    /// Line of the file that the text begins on, from 1.
    pub first_line: u32,
}

/// Cuts at `---` and `...` lines, which YAML allows nowhere else, so a broken document cannot swallow the next.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut begin = 0;
    let mut first_line = 1;
    let mut offset = 0;
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        let end = offset + content.len();
        let marker = ["---", "..."].iter().find_map(|marker| content.strip_prefix(marker));
        if let Some(rest) = marker.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            documents.push(Document { text: &text[begin..offset], first_line });
            // Content on the marker's own line belongs to the next document, with the marker, for right columns.
            let inline = !rest.trim().is_empty() && !rest.trim_start().starts_with('#');
            (begin, first_line) = if inline { (offset, line) } else { (end, line + 1) };
        }
        offset = end;
    }
    documents.push(Document { text: &text[begin..], first_line });
    documents.retain(|document| !document.is_blank());
    documents
}

impl Document<'_> {
    /// Whether there is nothing but comments and `%` directives.
    fn is_blank(&self) -> bool {
        self.text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line.starts_with('%')
        })
    }

    /// Kind, namespace and name as far as they can be told, for a document that does not parse.
    pub(super) fn guess(&self) -> ObjectRef {
        let content = self.text.strip_prefix("---").unwrap_or(self.text).trim_start();
        let mut guess = Guess::default();
        if content.starts_with('{') {
            guess.flow(content);
        } else {
            guess.block(self.text);
        }
        guess.done()
    }
}

/// What a document that does not parse may be.
#[derive(Default)]
struct Guess {
    object: ObjectRef,
    /// It may have a namespace that was not found.
    doubtful: bool,
}

impl Guess {
    /// By lines.
    fn block(&mut self, text: &str) {
        let mut section = "";
        let mut metadata_indent = None;
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            let trimmed = line.trim_start_matches([' ', '\t']);
            let indent = line.len() - trimmed.len();
            let (begin, trimmed) = (offset + indent, trimmed.trim_end());
            offset += line.len();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let within = section == "metadata" && indent > 0;
            if within && trimmed.starts_with('{') {
                self.flow_metadata(&text[begin..]);
                continue;
            }
            let own = within && *metadata_indent.get_or_insert(indent) == indent;
            self.doubtful |= within && line[..indent].contains('\t');
            let Some((key, value)) = trimmed.split_once(':') else {
                self.doubtful |= own;
                continue;
            };
            let name = scalar(key);
            if own {
                self.metadata(name, value);
            } else if indent == 0 {
                section = name;
                match name {
                    "kind" => self.kind(value),
                    "metadata" if value.trim_start().starts_with('{') => {
                        self.flow_metadata(text[begin + key.len() + 1..].trim_start());
                    }
                    _ => {}
                }
            }
        }
    }

    /// A document in braces, as JSON is.
    fn flow(&mut self, text: &str) {
        let (entries, _) = entries(text);
        for (key, value) in entries {
            match scalar(key) {
                "kind" => self.kind(value),
                "metadata" if value.trim_start().starts_with('{') => self.flow_metadata(value.trim_start()),
                _ => {}
            }
        }
    }

    fn flow_metadata(&mut self, text: &str) {
        let (entries, closed) = entries(text);
        entries.into_iter().for_each(|(key, value)| self.metadata(scalar(key), value));
        self.doubtful |= !closed;
    }

    fn kind(&mut self, value: &str) {
        if self.object.kind.is_empty() {
            scalar(value).clone_into(&mut self.object.kind);
        }
    }

    fn metadata(&mut self, key: &str, value: &str) {
        let value = scalar(value);
        match key {
            "name" if self.object.name.is_empty() => value.clone_into(&mut self.object.name),
            "namespace" if self.object.namespace.is_empty() => {
                if value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
                    value.clone_into(&mut self.object.namespace);
                } else {
                    self.doubtful = true;
                }
            }
            _ => {}
        }
    }

    fn done(self) -> ObjectRef {
        let mut object = self.object;
        if object.namespace.is_empty() && !object.name.is_empty() && !self.doubtful {
            "default".clone_into(&mut object.namespace);
        }
        object
    }
}

/// Keys and values of a mapping in braces, as they are written, and whether the closing brace is there.
fn entries(text: &str) -> (Vec<(&str, &str)>, bool) {
    let mut entries = Vec::new();
    let (mut depth, mut begin, mut quote, mut escaped) = (0_usize, 0, None, false);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), _) => quote = quote.filter(|_| open != letter),
            (None, '"' | '\'') => quote = Some(letter),
            (None, '{' | '[') => {
                depth += 1;
                if depth == 1 {
                    begin = at + 1;
                }
            }
            (None, '}' | ']' | ',') if depth == 1 => {
                entries.extend(text[begin..at].split_once(':'));
                begin = at + 1;
                if letter != ',' {
                    return (entries, letter == '}');
                }
            }
            (None, '}' | ']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    entries.extend(text[begin..].split_once(':'));
    (entries, false)
}

/// A plain or quoted value of one line, without its comment.
fn scalar(text: &str) -> &str {
    let text = text.trim().lines().next().unwrap_or_default();
    let text = text.split(" #").next().unwrap_or(text).trim();
    text.trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_markers_and_counts_lines() {
        let documents = split("# only a comment\n---\na: 1\n---\n\n...\n--- # next\nb: 2\n--- {c: 3}\n");
        let seen: Vec<(&str, u32)> = documents.iter().map(|document| (document.text, document.first_line)).collect();
        assert_eq!(seen, [("a: 1\n", 3), ("b: 2\n", 8), ("--- {c: 3}\n", 9)]);
    }

    #[test]
    fn a_longer_line_of_dashes_is_no_marker() {
        assert_eq!(split("a: |\n  text\n----\n").len(), 1);
    }

    #[test]
    fn guesses_the_identity_of_a_broken_document() {
        let text = "apiVersion: v1\nkind: Secret # here\nmetadata:\n  labels:\n    name: no\n  name: \"key\"\n  namespace: 'cargo'\nspec: [\n  name: x\n";
        let document = Document { text, first_line: 1 };
        assert_eq!(document.guess(), ObjectRef::new("Secret", "cargo", "key"));
    }

    #[test]
    fn guesses_it_from_braces() {
        for (text, namespace, name) in [
            ("kind: A\nmetadata: {name: b, namespace: c}\nspec: [\n", "c", "b"),
            ("kind: A\nmetadata: {name: b}\nspec: [\n", "default", "b"),
            (
                "kind: A\nmetadata: { # it\n  labels: {name: x, namespace: y},\n  name: \"b\", namespace: 'c' }\nspec: [\n",
                "c",
                "b",
            ),
            ("kind: A\nmetadata:\n  {name: b, namespace: c}\nspec: [\n", "c", "b"),
            ("{\"kind\": \"A\", \"metadata\": {\"name\": \"b\", \"namespace\": \"c\"}, \"spec\": {\"x\": [1", "c", "b"),
            (
                "{\n  \"kind\": \"A\",\n  \"metadata\": {\n    \"name\": \"b\",\n    \"namespace\": \"c\"\n  },\n  \"spec\": [\n}\n",
                "c",
                "b",
            ),
            ("--- {kind: A, metadata: {name: b, namespace: c}, spec: [}", "c", "b"),
            // Whatever else there is, it cannot be told from this.
            ("kind: A\nmetadata: {name: b, labels: {x: y}\nspec: []\n", "", "b"),
        ] {
            assert_eq!(Document { text, first_line: 1 }.guess(), ObjectRef::new("A", namespace, name), "{text}");
        }
    }

    #[test]
    fn a_namespace_that_may_be_there_is_not_the_default_one() {
        for metadata in ["  name: b\n  namespace c\n", "  name: b\n\tnamespace: c\n", "  name: b\n  namespace: {c\n"] {
            let text = format!("kind: A\nmetadata:\n{metadata}spec: [\n");
            assert_eq!(Document { text: &text, first_line: 1 }.guess(), ObjectRef::new("A", "", "b"), "{text}");
        }
    }
}
