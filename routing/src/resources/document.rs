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

    /// Kind, namespace and name as far as lines tell them, for a document that does not parse.
    pub(super) fn guess(&self) -> ObjectRef {
        let mut guess = ObjectRef::default();
        let mut section = "";
        let mut metadata_indent = None;
        for line in self.text.lines() {
            let trimmed = line.trim_start_matches([' ', '\t']);
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let indent = line.len() - trimmed.len();
            let Some((key, value)) = trimmed.split_once(':') else { continue };
            let value = scalar(value);
            if indent == 0 {
                section = key;
                if key == "kind" {
                    value.clone_into(&mut guess.kind);
                }
            } else if section == "metadata" && *metadata_indent.get_or_insert(indent) == indent {
                match key {
                    "name" => value.clone_into(&mut guess.name),
                    "namespace" => value.clone_into(&mut guess.namespace),
                    _ => {}
                }
            }
        }
        if guess.namespace.is_empty() && !guess.name.is_empty() {
            "default".clone_into(&mut guess.namespace);
        }
        guess
    }
}

/// A plain or quoted value, without its comment.
fn scalar(text: &str) -> &str {
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
}
