//! Finding a field path in a tree of positions.

use super::yaml::{Position, Tree};
use crate::api::check::{push_index, push_key};
use crate::api::decode::camel_case;

/// One step of a field path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A key of a mapping.
    Key(String),
    /// An item of a list.
    Index(usize),
}

/// Takes a path such as `spec.http[0].match[1].headers["x.y"]` apart. What cannot be read ends it.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let Some((step, tail)) = first_step(rest) else { break };
        steps.push(step);
        rest = tail;
    }
    steps
}

fn first_step(path: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = path.strip_prefix("[\"") {
        let mut key = String::new();
        let mut letters = quoted.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => return Some((Step::Key(key), quoted[at + 1..].strip_prefix(']')?)),
                '\\' => key.push(letters.next()?.1),
                _ => key.push(letter),
            }
        }
        return None;
    }
    if let Some(bracket) = path.strip_prefix('[') {
        let (index, tail) = bracket.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), tail));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (key, tail) = path.split_at(end);
    (!key.is_empty()).then(|| (Step::Key(key.to_owned()), tail))
}

/// Position of the last step that is there.
pub(super) fn find(tree: &Tree, steps: &[Step]) -> Option<Position> {
    let mut tree = tree;
    let mut found = None;
    for step in steps {
        let next = match (tree, step) {
            (Tree::Mapping(entries), Step::Key(key)) => entries
                .iter()
                .find(|(name, ..)| name == key)
                .or_else(|| entries.iter().find(|(name, ..)| camel_case(name) == *key))
                .map(|(_, position, below)| (*position, below)),
            (Tree::List(items), Step::Index(index)) => items.get(*index).map(|(position, below)| (*position, below)),
            _ => None,
        };
        let Some((position, below)) = next else { break };
        found = Some(position);
        tree = below;
    }
    found
}

/// For a key that is given twice, the second time here: its path, and the position of the first.
pub(super) fn twin(tree: &Tree, second: Position) -> Option<(String, Position)> {
    let mut path = String::new();
    let first = twin_below(tree, second, &mut path)?;
    Some((path, first))
}

fn twin_below(tree: &Tree, second: Position, path: &mut String) -> Option<Position> {
    let length = path.len();
    match tree {
        Tree::Leaf => {}
        Tree::List(items) => {
            for (index, (_, below)) in items.iter().enumerate() {
                push_index(path, index);
                if let Some(first) = twin_below(below, second, path) {
                    return Some(first);
                }
                path.truncate(length);
            }
        }
        Tree::Mapping(entries) => {
            for (name, position, below) in entries {
                push_key(path, name);
                if *position == second {
                    return entries.iter().find(|(other, ..)| other == name).map(|(_, first, _)| *first);
                }
                if let Some(first) = twin_below(below, second, path) {
                    return Some(first);
                }
                path.truncate(length);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_paths_apart() {
        let wanted = [
            Step::Key("spec".to_owned()),
            Step::Key("http".to_owned()),
            Step::Index(12),
            Step::Key("x.\"y".to_owned()),
            Step::Key("exact".to_owned()),
        ];
        assert_eq!(steps(r#"spec.http[12]["x.\"y"].exact"#), wanted);
    }

    #[test]
    fn what_cannot_be_read_ends_the_path() {
        assert_eq!(steps("spec[x].y"), [Step::Key("spec".to_owned())]);
        assert_eq!(steps(r#"["open"#), []);
    }
}
